//! IPVS in NAT mode as kube-proxy programs it: virtual services, schedulers, connections
//! (kernel: net/netfilter/ipvs; spec IPVS).

mod change;
mod connection;
pub(super) mod endpoints;
mod live;
mod load;
mod scheduler;
mod service;
mod stats;
mod tcp_state;

pub use change::{Change, changes};
pub use connection::{Connection, ConnectionTable, NewConnection, Watch};
pub use live::{Ipvs, Server, Service};
pub(super) use live::{NotScheduled, Reuse};
pub use service::{Destination, Persistence, ServiceKey, VipKind, VirtualService, VirtualServices};
pub use stats::Stats;
pub use tcp_state::State;
