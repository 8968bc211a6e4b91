//! The Terway ENI-Trunking data link, sans-IO.
#![forbid(unsafe_code)]

pub mod counters;
pub mod element;
pub mod journey;
pub mod lab;
pub mod port;
pub mod table;
pub mod time;
pub mod verdict;
pub mod vpc;
pub mod wire;
