//! The forwarders that are measured, each in a file of its own.

pub mod devmap;
pub mod kernel;
pub mod l2fwd;
mod napi;
pub mod node;
pub mod ovs;
mod process;
pub mod testpmd;
pub mod tools;
