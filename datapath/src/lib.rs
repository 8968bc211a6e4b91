//! The Terway ENI-Trunking data link, sans-IO.
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod counters;
pub mod element;
mod fragment;
pub mod journey;
pub mod lab;
pub mod link;
pub mod node;
pub mod port;
mod random;
pub mod table;
pub mod time;
pub mod verdict;
pub mod vpc;
pub mod wire;
