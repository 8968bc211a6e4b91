//! Labs in real namespaces, driven through the `trunkline` command.
//!
//! These tests need root. Without it each says so and counts as skipped.

mod apply;
mod bench;
mod bench_compare;
mod bench_diff;
mod cases;
mod control;
mod datagrams;
mod doctor;
mod fused;
mod jumbo;
mod kill;
mod netns_scripts;
mod poll;
mod queues;
mod readme;
mod scenarios;
mod support;
mod syscalls;
mod up_down;
