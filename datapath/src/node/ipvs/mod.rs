//! IPVS in NAT mode as kube-proxy programs it: virtual services, schedulers, connections
//! (kernel: net/netfilter/ipvs; spec IPVS).

mod change;
mod connection;
mod connection_table;
mod defence;
pub(super) mod endpoints;
mod live;
mod load;
mod local_address;
mod scheduler;
mod service;
mod stats;
mod tcp_state;

pub use change::{Change, changes};
pub use connection::{Connection, NewConnection, Toa};
pub use connection_table::{ConnectionTable, Watch};
pub use live::{Ipvs, Server, Service};
pub(super) use live::{NotScheduled, Picked, Reuse};
pub use local_address::{LocalAddresses, LocalPorts, ServiceAddress};
pub use service::{
    Destination, Fnat, Persistence, ServiceKey, VipKind, VirtualService, VirtualServices,
};
pub use stats::Stats;
pub use tcp_state::State;
