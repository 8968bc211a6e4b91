//! IPVS in NAT mode as kube-proxy programs it: virtual services, schedulers, connections
//! (kernel: net/netfilter/ipvs; spec IPVS).

mod connection;
mod service;
mod tcp_state;

pub use connection::{Connection, ConnectionTable, NewConnection, Watch};
pub use service::{Destination, VipKind, VirtualService, VirtualServices};
pub use tcp_state::State;
