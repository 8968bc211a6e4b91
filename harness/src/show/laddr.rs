//! Local addresses of services in mode fnat, as DPVS's `ipvsadm -G` prints them, and their ports,
//! as its `dpip addr show -s` does.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use datapath::lab::Lab;
use datapath::node::Node;
use datapath::node::ipvs;
use datapath::port::Buffer;
use datapath::time::Time;
use schemars::JsonSchema;
use serde::Serialize;

/// What `ipvsadm -G` prints first, here with the protocol in front.
pub(super) const HEADER: &str = "\
Prot VIP:VPORT            TOTAL    SNAT_IP              CONFLICTS  CONNS
";

/// A service's local addresses, or a node's with their ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "of", rename_all = "camelCase")]
pub enum LocalEntry {
    /// Those that a virtual server may use.
    Service {
        /// tcp or udp.
        protocol: String,
        /// Virtual address and port.
        address: SocketAddrV4,
        /// Whether requests tell endpoints who the client is.
        toa: bool,
        /// In the order in which they take turns.
        addresses: Vec<LocalAddress>,
    },
    /// One of the node.
    Node {
        /// The address.
        ip: Ipv4Addr,
        /// Ports that connections hold.
        used: u32,
        /// Ports that none holds; a port counts once for each of the 16 pools of destinations.
        free: u32,
        /// How often a new connection found no port of it.
        missed: u64,
    },
}

/// A local address as a virtual server has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LocalAddress {
    /// The address.
    pub ip: Ipv4Addr,
    /// Connections that it stands in for.
    pub connections: u32,
    /// How often a new connection found no port of it.
    pub missed: u64,
}

/// The services of a node by protocol and address, then the node's own addresses.
pub(super) fn entries<B: Buffer>(_: &Lab, node: &Node<B>, _: Time) -> Vec<LocalEntry> {
    let locals = node.ipvs().local_addresses();
    let service = |service: &ipvs::Service| {
        let setup = &service.setup;
        let fnat = setup.fnat.as_ref()?;
        let addresses = locals.of_service(setup.key(), &fnat.local_addresses);
        let address = |ipvs::ServiceAddress { ip, connections, missed }| LocalAddress {
            ip,
            connections,
            missed,
        };
        Some(LocalEntry::Service {
            protocol: setup.proto.to_string(),
            address: SocketAddrV4::new(setup.vip, setup.port),
            toa: fnat.toa,
            addresses: addresses.map(address).collect(),
        })
    };
    let own =
        |ipvs::LocalPorts { ip, used, free, missed }| LocalEntry::Node { ip, used, free, missed };
    node.ipvs().services().filter_map(service).chain(locals.ports().map(own)).collect()
}

impl fmt::Display for LocalEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { protocol, address, addresses, .. } => {
                let (protocol, address) = (protocol.to_uppercase(), address.to_string());
                write!(f, "{protocol:<4} {address:<20} {}", addresses.len())?;
                addresses.iter().try_for_each(|LocalAddress { ip, connections, missed }| {
                    let ip = ip.to_string();
                    write!(f, "\n{:34} {ip:<20} {missed:<10} {connections}", "")
                })
            }
            Self::Node { ip, used, free, missed } => write!(
                f,
                "inet {ip}/32 scope global eth0\n     sa_used {used} sa_free {free} sa_miss {missed}"
            ),
        }
    }
}
