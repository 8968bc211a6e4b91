//! The Terway ENI-Trunking data link, sans-IO.
#![forbid(unsafe_code)]

pub mod lab;
pub mod port;
pub mod time;
pub mod wire;
