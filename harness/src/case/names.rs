//! What a case calls the hosts, services and ports of its lab.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use datapath::lab::Lab;
use datapath::link::{ElementId, HostId, Peer, Socket, peer_of};
use datapath::node::{ETH0, ETH1, HOST0};
use datapath::vpc::{Ports, VpcPort};

/// The names of a lab's hosts in a case: those the case declares, and for every other host the
/// part of its own name behind the last `/`, where that is one host's only.
#[derive(Clone, Debug, Default)]
pub struct Names {
    hosts: BTreeMap<String, HostId>,
    services: BTreeMap<String, Ipv4Addr>,
}

impl Names {
    /// The names in a lab; `declared` are those of the case.
    ///
    /// # Errors
    /// A declared name of a host that the lab does not have.
    pub fn new(lab: &Lab, declared: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut names = Self::default();
        for (name, host) in declared {
            let id = HostId::named(lab, host).ok_or_else(|| host.clone())?;
            names.hosts.insert(name.clone(), id);
        }
        for host in HostId::all(lab) {
            if names.hosts.values().any(|known| *known == host) {
                continue;
            }
            let own = own_name(lab, host);
            let short = own.rsplit('/').next().unwrap_or(own);
            let name = if names.hosts.contains_key(short) { own } else { short };
            names.hosts.insert(name.to_owned(), host);
        }
        for service in &lab.services {
            let addresses = service.cluster_ip.iter();
            let mut addresses =
                addresses.chain(&service.external_ips).chain(&service.load_balancer);
            let short = service.name.rsplit('/').next().unwrap_or(&service.name);
            if let Some(vip) = addresses.next() {
                names.services.entry(short.to_owned()).or_insert(*vip);
            }
        }
        Ok(names)
    }

    /// The host of that name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<HostId> {
        self.hosts.get(name).copied()
    }

    /// The name of a host.
    #[must_use]
    pub fn of(&self, host: HostId) -> &str {
        self.hosts.iter().find(|(_, known)| **known == host).map_or("?", |(name, _)| name)
    }

    /// An address as written, or that of a service or host by name.
    #[must_use]
    pub fn address(&self, lab: &Lab, text: &str) -> Option<Ipv4Addr> {
        let written = text.parse().ok();
        let service = || self.services.get(text).copied();
        written.or_else(service).or_else(|| address_of(lab, self.host(text)?))
    }

    /// All hosts' names, for messages.
    #[must_use]
    pub fn hosts(&self, lab: &Lab) -> String {
        let named = HostId::all(lab).map(|host| self.of(host));
        named.collect::<Vec<_>>().join(", ")
    }

    /// The names of all that has an address, for messages.
    #[must_use]
    pub fn all_names(&self, lab: &Lab) -> String {
        let services = self.services.keys().map(String::as_str);
        let hosts = HostId::all(lab).map(|host| self.of(host));
        hosts.chain(services).collect::<Vec<_>>().join(", ")
    }

    /// Where a frame is when it has left an element by a port: the host it has reached, or the
    /// port.
    #[must_use]
    pub fn place(&self, lab: &Lab, socket: Socket) -> String {
        if let Some(Peer::Host(host)) = peer_of(lab, socket) {
            return self.of(host).to_owned();
        }
        let node = |node: usize| lab.nodes.get(node).map_or("?", |node| node.name.as_str());
        match socket.element {
            ElementId::Node(n) => {
                let port = match socket.port {
                    ETH0 => "eth0",
                    ETH1 => "eth1",
                    HOST0 => "host0",
                    _ => "?",
                };
                format!("{}.{port}", node(n))
            }
            ElementId::Vpc => match Ports::of(lab).at(socket.port) {
                Some(VpcPort::Primary(n)) => format!("vpc>{}.eth0", node(n)),
                Some(VpcPort::Trunk(n)) => format!("vpc>{}.eth1", node(n)),
                _ => "vpc>?".to_owned(),
            },
        }
    }
}

/// The first address of a host.
#[must_use]
pub fn address_of(lab: &Lab, host: HostId) -> Option<Ipv4Addr> {
    match host {
        HostId::Pod(pod) => Some(lab.pods.get(pod)?.ip),
        HostId::NodeHost(node) => Some(lab.enis.get(lab.nodes.get(node)?.primary)?.ip),
        HostId::Outside(host) => lab.outside.get(host)?.ips.first().copied(),
    }
}

fn own_name(lab: &Lab, host: HostId) -> &str {
    match host {
        HostId::Pod(pod) => lab.pods.get(pod).map_or("?", |pod| &pod.name),
        HostId::NodeHost(node) => lab.nodes.get(node).map_or("?", |node| &node.name),
        HostId::Outside(host) => lab.outside.get(host).map_or("?", |host| &host.name),
    }
}
