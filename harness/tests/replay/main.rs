//! Captures in, captures out.

#[path = "../replay_captures/mod.rs"]
mod replay_captures;
#[path = "../replay_trace/mod.rs"]
mod replay_trace;

mod command;
mod interfaces;
mod pcap;
mod traces;
