//! The forwarders of others that the node is measured beside, each in a file of its own.

pub mod devmap;
pub mod kernel;
mod napi;
pub mod ovs;
mod process;
pub mod testpmd;
pub mod tools;
