//! Virtual servers, connections and timeouts of ipvs; [`ipvsadm`](super::ipvsadm) prints them.

use std::net::{Ipv4Addr, SocketAddrV4};

use datapath::lab::Lab;
use datapath::node::Node;
use datapath::node::ipvs;
use datapath::port::Buffer;
use datapath::time::Time;
use schemars::JsonSchema;
use serde::Serialize;

use super::query::IpvsOptions;

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualServer {
    /// The Kubernetes service.
    pub service: String,
    /// tcp or udp.
    pub protocol: String,
    /// Virtual address and port.
    pub address: SocketAddrV4,
    /// The scheduler's name.
    pub scheduler: &'static str,
    /// The scheduler's flags, as `sh-port`.
    pub scheduler_flags: Vec<String>,
    /// How clients keep to a real server, where they do.
    pub persistence: Option<Persistence>,
    /// Every datagram is scheduled by itself.
    pub one_packet: bool,
    /// What it has counted.
    pub stats: Stats,
    /// Its real servers by address, as ipvsadm sorts them; the scheduler's order is another one.
    pub destinations: Vec<RealServer>,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RealServer {
    /// Address and port.
    pub address: SocketAddrV4,
    /// How packets are sent to it: Masq, or FullNat in mode fnat.
    pub forward: &'static str,
    /// Its weight.
    pub weight: u32,
    /// Connections in SYN_RECV and ESTABLISHED.
    pub active_connections: u32,
    /// All others.
    pub inactive_connections: u32,
    /// Clients that keep to it.
    pub persistent_connections: u32,
    /// Connections at which it takes no more; 0 is no limit.
    pub upper_threshold: u32,
    /// Connections below which it takes new ones again; 0 is three quarters of the upper threshold.
    pub lower_threshold: u32,
    /// What it has counted.
    pub stats: Stats,
}

/// How clients keep to a real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Persistence {
    /// For so many seconds after their last new connection.
    pub timeout: u32,
    /// Addresses that share these bits are one client.
    pub mask: Ipv4Addr,
}

/// What a virtual or a real server has counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets of clients.
    pub in_packets: u64,
    /// Answers.
    pub out_packets: u64,
    /// Bytes of the clients' IP packets.
    pub in_bytes: u64,
    /// Bytes of the answers' IP packets.
    pub out_bytes: u64,
}

/// Seconds that connections live without a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// In ESTABLISHED.
    pub tcp: u32,
    /// In FIN_WAIT.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

/// What the text of virtual servers tells of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// `ipvsadm -Ln`: forwarding, weight and connections.
    Connections,
    /// `--stats`: what was counted.
    Stats,
    /// `--persistent-conn`: weight, persistent and other connections.
    Persistent,
    /// `--thresholds`: thresholds and connections.
    Thresholds,
    /// `ipvsadm -Sn`: the calls that make them.
    Calls,
}

impl Columns {
    /// What these options ask for.
    pub(super) const fn of(options: IpvsOptions) -> Self {
        match options {
            IpvsOptions { stats: true, .. } => Self::Stats,
            IpvsOptions { persistent_conn: true, .. } => Self::Persistent,
            IpvsOptions { thresholds: true, .. } => Self::Thresholds,
            IpvsOptions { save: true, .. } => Self::Calls,
            _ => Self::Connections,
        }
    }
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The Kubernetes service.
    pub service: String,
    /// tcp or udp.
    pub protocol: String,
    /// Seconds it lives without a packet.
    pub expires: u64,
    /// Its state's name.
    pub state: &'static str,
    /// The client.
    pub source: SocketAddrV4,
    /// Virtual address and port.
    pub virtual_address: SocketAddrV4,
    /// What stands in for the client in mode fnat.
    pub local_address: Option<SocketAddrV4>,
    /// The real server.
    pub destination: SocketAddrV4,
}

/// The virtual servers of a node, by protocol and address.
pub fn virtual_servers<B: Buffer>(lab: &Lab, node: &Node<B>, _: Time) -> Vec<VirtualServer> {
    node.ipvs().services().map(|service| virtual_server(lab, node, service)).collect()
}

fn virtual_server<B: Buffer>(lab: &Lab, node: &Node<B>, service: &ipvs::Service) -> VirtualServer {
    let servers = service.servers.iter().filter_map(|handle| node.ipvs().server(*handle));
    let mut destinations: Vec<_> =
        servers.map(|server| real_server(server, service.setup.fnat.is_some())).collect();
    destinations.sort_by_key(|destination| destination.address);
    let setup = &service.setup;
    let scheduler = setup.scheduler.name();
    let flags = [("fallback", setup.flags.fallback), ("port", setup.flags.port)];
    let flags = flags.iter().filter(|(_, set)| *set);
    let persistence = |ipvs::Persistence { timeout, mask }| Persistence { timeout, mask };
    VirtualServer {
        service: service_name(lab, setup.service),
        protocol: setup.proto.to_string(),
        address: SocketAddrV4::new(setup.vip, setup.port),
        scheduler,
        scheduler_flags: flags.map(|(flag, _)| format!("{scheduler}-{flag}")).collect(),
        persistence: setup.persistence.map(persistence),
        one_packet: setup.one_packet,
        stats: stats(node.ipvs().stats(service)),
        destinations,
    }
}

fn real_server(server: &ipvs::Server, fnat: bool) -> RealServer {
    let ipvs::Destination { ip, port, weight, upper, lower } = server.destination;
    RealServer {
        address: SocketAddrV4::new(ip, port),
        forward: if fnat { "FullNat" } else { "Masq" },
        weight,
        active_connections: server.active,
        inactive_connections: server.inactive,
        persistent_connections: server.persistent,
        upper_threshold: upper,
        lower_threshold: lower,
        stats: stats(server.stats),
    }
}

const fn stats(counted: ipvs::Stats) -> Stats {
    let ipvs::Stats { connections, in_packets, out_packets, in_bytes, out_bytes } = counted;
    Stats { connections, in_packets, out_packets, in_bytes, out_bytes }
}

/// The timeouts of a node's connections.
pub(super) fn timeouts<B: Buffer>(_: &Lab, node: &Node<B>, _: Time) -> Vec<Timeouts> {
    let ipvs = node.config().switches.ipvs;
    let datapath::lab::IpvsTimeouts { tcp, tcp_fin, udp, .. } = ipvs.timeouts;
    vec![Timeouts { tcp, tcp_fin, udp }]
}

/// The connections of a node, in the order of their records.
pub fn connections<B: Buffer>(lab: &Lab, node: &Node<B>, now: Time) -> Vec<Connection> {
    let name_of = |key| {
        let service = node.config().services.get(key);
        service.map_or_else(|| "?".to_owned(), |service| service_name(lab, service.service))
    };
    let of = |connection: ipvs::Connection| {
        let request = connection.request;
        let address = |(ip, port)| SocketAddrV4::new(ip, port);
        Connection {
            service: name_of(connection.service()),
            protocol: request.proto.to_string(),
            expires: connection.deadline.left(now).as_secs(),
            state: connection.state.name(),
            source: address((request.src, request.src_port)),
            virtual_address: address(connection.vip()),
            local_address: connection.local().map(address),
            destination: address(connection.destination()),
        }
    };
    node.connections().iter(now).map(of).collect()
}

fn service_name(lab: &Lab, service: usize) -> String {
    lab.services.get(service).map_or("?", |service| &service.name).to_owned()
}
