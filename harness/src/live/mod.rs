//! Labs that live in namespaces: one daemon a lab, which forwards, and the commands that talk to
//! it (spec LAB-16 to LAB-21).

pub mod bed;
pub mod client;
pub mod daemon;
pub mod private;
pub mod protocol;
pub mod report;
pub mod session;
pub mod state;
pub mod takeover;
pub mod topology;
pub mod worker;
