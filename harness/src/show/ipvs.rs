//! Virtual servers and connections, as `ipvsadm -Ln` and `ipvsadm -Lnc` print them.

use std::fmt;
use std::net::SocketAddrV4;

use datapath::lab::Lab;
use datapath::node::Node;
use datapath::node::ipvs;
use datapath::port::Buffer;
use datapath::time::Time;
use schemars::JsonSchema;
use serde::Serialize;

/// What `ipvsadm -Ln` prints first; 4096 is the kernel's default size of the connection table.
pub(super) const SERVERS_HEADER: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
";

/// What `ipvsadm -Lnc` prints first.
pub(super) const CONNECTIONS_HEADER: &str = "\
IPVS connection entries
pro expire state       source             virtual            destination
";

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
    /// Its real servers by address, as ipvsadm sorts them; the scheduler's order is another one.
    pub destinations: Vec<RealServer>,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RealServer {
    /// Address and port.
    pub address: SocketAddrV4,
    /// Its weight.
    pub weight: u32,
    /// Connections in SYN_RECV and ESTABLISHED.
    pub active_connections: u32,
    /// All others.
    pub inactive_connections: u32,
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
    /// The real server.
    pub destination: SocketAddrV4,
}

/// The virtual servers of a node, by protocol and address.
pub(super) fn virtual_servers<B: Buffer>(lab: &Lab, node: &Node<B>, _: Time) -> Vec<VirtualServer> {
    node.ipvs().services().map(|service| virtual_server(lab, node, service)).collect()
}

fn virtual_server<B: Buffer>(lab: &Lab, node: &Node<B>, service: &ipvs::Service) -> VirtualServer {
    let real_server = |server: &ipvs::Server| RealServer {
        address: SocketAddrV4::new(server.destination.ip, server.destination.port),
        weight: server.destination.weight,
        active_connections: server.active,
        inactive_connections: server.inactive,
    };
    let servers = service.servers.iter().filter_map(|handle| node.ipvs().server(*handle));
    let mut destinations: Vec<_> = servers.map(real_server).collect();
    destinations.sort_by_key(|destination| destination.address);
    let setup = &service.setup;
    VirtualServer {
        service: service_name(lab, setup.service),
        protocol: setup.proto.to_string(),
        address: SocketAddrV4::new(setup.vip, setup.port),
        scheduler: setup.scheduler.name(),
        destinations,
    }
}

/// The connections of a node, in the order of their records.
pub(super) fn connections<B: Buffer>(lab: &Lab, node: &Node<B>, now: Time) -> Vec<Connection> {
    let name_of = |key| {
        let service = node.config().services.get(key);
        service.map_or_else(|| "?".to_owned(), |service| service_name(lab, service.service))
    };
    let of = |connection: &ipvs::Connection| {
        let request = connection.request;
        let address = |(ip, port)| SocketAddrV4::new(ip, port);
        Connection {
            service: name_of(connection.service()),
            protocol: request.proto.to_string(),
            expires: connection.deadline.since(now).as_secs(),
            state: connection.state.name(),
            source: address((request.src, request.src_port)),
            virtual_address: address(connection.vip()),
            destination: address(connection.destination()),
        }
    };
    node.connections().iter(now).map(of).collect()
}

fn service_name(lab: &Lab, service: usize) -> String {
    lab.services.get(service).map_or("?", |service| &service.name).to_owned()
}

impl fmt::Display for VirtualServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.to_uppercase();
        write!(f, "{protocol}  {} {}", self.address, self.scheduler)?;
        for RealServer { address, weight, active_connections, inactive_connections } in
            &self.destinations
        {
            let address = address.to_string();
            write!(
                f,
                "\n  -> {address:<28} Masq    {weight:<6} {active_connections:<10} \
                 {inactive_connections:<10}"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.to_uppercase();
        let expires = format!("{:02}:{:02}", self.expires / 60, self.expires % 60);
        let (source, virtual_address) = (self.source.to_string(), self.virtual_address.to_string());
        write!(
            f,
            "{protocol:<3} {expires:<6} {:<11} {source:<18} {virtual_address:<18} {}",
            self.state, self.destination
        )
    }
}
