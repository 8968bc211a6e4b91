//! The Terway ENI-Trunking data link, sans-IO.
#![forbid(unsafe_code)]

pub mod port;
pub mod table;
pub mod time;
