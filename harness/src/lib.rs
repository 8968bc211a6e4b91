//! The `trunkline` command: labs in namespaces, scenarios, replay, journeys.
#![forbid(unsafe_code)]

pub mod bench;
pub mod case;
pub mod commands;
pub mod doctor;
pub mod journey;
pub mod kernel;
pub mod lab_file;
pub mod live;
pub mod memory;
pub mod net;
pub mod oracle;
pub mod pcap;
pub mod replay;
pub mod scenario;
pub mod show;
