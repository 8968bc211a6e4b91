//! A lab in memory with hosts at its ends: real TCP (smoltcp), virtual time, no root.
//!
//! [`Memory`] runs scenarios; [`SmallHost`] is one host, for whoever drives a
//! [`MemoryLink`](datapath::link::MemoryLink) himself.

mod device;
mod hosts;
mod http;
mod probe;
mod session;
mod small_host;
mod stack;

pub use hosts::{HostLink, Hosts};
pub use probe::{Probe, probe};
pub use session::{Hosted, Memory};
pub use small_host::{Services, SmallHost};
pub use stack::{Stack, Unreachable};
