//! Virtual services: what kube-proxy writes with `ipvsadm -A` and `-a`.

use std::net::Ipv4Addr;

use super::endpoints;
use crate::lab::{Lab, Scheduler, SchedulerFlags, Service};
use crate::wire::{Protocol, Tuple};

/// What kind of address a virtual service listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VipKind {
    /// spec.clusterIP.
    ClusterIp,
    /// spec.externalIPs.
    External,
    /// status.loadBalancer.ingress.
    LoadBalancer,
    /// The node's own, with the ports of services of type NodePort or LoadBalancer.
    NodePort,
}

/// What names a virtual service: protocol, virtual address and port.
pub type ServiceKey = (Protocol, Ipv4Addr, u16);

/// A key in one piece, which is compared at once.
#[inline]
pub(super) fn bits((proto, vip, port): ServiceKey) -> u64 {
    u64::from(proto.0) << 48 | u64::from(vip.to_bits()) << 16 | u64::from(port)
}

/// A real server behind a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Its weight; 0 takes no new connections.
    pub weight: u32,
    /// Connections at which it takes no more; 0 is no limit.
    pub upper: u32,
    /// Connections below which it takes new ones again; 0 is three quarters of `upper`.
    pub lower: u32,
}

impl Destination {
    /// Its address and port, which name it within its service.
    #[must_use]
    pub const fn address(&self) -> (Ipv4Addr, u16) {
        (self.ip, self.port)
    }
}

/// Affinity of clients to a destination (`ipvsadm -p -M`; spec IPVS-22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// How long it lasts after the client's last new connection, in seconds.
    pub timeout: u32,
    /// Addresses that share these bits are one client.
    pub mask: Ipv4Addr,
}

impl Persistence {
    /// Affinity of each address by itself, as kube-proxy asks for it.
    #[must_use]
    pub const fn of_client(timeout: u32) -> Self {
        Self { timeout, mask: Ipv4Addr::BROADCAST }
    }
}

/// One virtual service of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualService {
    /// The Kubernetes service, an index into the lab's services.
    pub service: usize,
    /// The virtual address.
    pub vip: Ipv4Addr,
    /// TCP or UDP.
    pub proto: Protocol,
    /// The virtual port.
    pub port: u16,
    /// What kind of address it is.
    pub kind: VipKind,
    /// Whether the traffic policy that applies to this address is Local.
    pub local_policy: bool,
    /// How a destination is picked.
    pub scheduler: Scheduler,
    /// What the scheduler does beside.
    pub flags: SchedulerFlags,
    /// How requests get a local address for their source; `None` in mode nat.
    pub fnat: Option<Fnat>,
    /// Affinity of its clients to a destination.
    pub persistence: Option<Persistence>,
    /// One-packet scheduling: every datagram is scheduled by itself (`ipvsadm -o`).
    pub one_packet: bool,
    /// Destinations in order of addition.
    pub destinations: Vec<Destination>,
}

/// Mode fnat of a virtual service on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fnat {
    /// The node's local addresses that the service may use, in order.
    pub local_addresses: Vec<Ipv4Addr>,
    /// TCP requests carry the client's address and port.
    pub toa: bool,
}

/// Every virtual service of a node, found by protocol, address and port.
#[derive(Debug, Default)]
pub struct VirtualServices {
    /// Sorted by the key.
    services: Vec<VirtualService>,
    /// Sorted.
    vips: Vec<Ipv4Addr>,
}

impl VirtualServices {
    /// The virtual services of node `node` (spec IPVS-1 to IPVS-6).
    #[must_use]
    pub fn new(lab: &Lab, node: usize) -> Self {
        let mut all = Self::default();
        let node_ip = lab.nodes.get(node).and_then(|node| lab.enis.get(node.primary));
        for (number, service) in lab.services.iter().enumerate() {
            let bound = service
                .cluster_ip
                .iter()
                .map(|ip| (*ip, VipKind::ClusterIp))
                .chain(service.external_ips.iter().map(|ip| (*ip, VipKind::External)))
                .chain(service.load_balancer.iter().map(|ip| (*ip, VipKind::LoadBalancer)));
            all.vips.extend(bound.clone().map(|(vip, _)| vip));
            // The node's address is on its own devices, not on kube-ipvs0.
            let own = node_ip.map(|eni| (eni.ip, VipKind::NodePort));
            for (vip, kind) in bound.chain(own) {
                all.add(lab, node, number, service, vip, kind);
            }
        }
        all.services.sort_by_key(VirtualService::key);
        all.vips.sort_unstable();
        all.vips.dedup();
        all
    }

    fn add(
        &mut self,
        lab: &Lab,
        node: usize,
        number: usize,
        service: &Service,
        vip: Ipv4Addr,
        kind: VipKind,
    ) {
        let local_policy = match kind {
            VipKind::ClusterIp => service.internal_local,
            VipKind::External | VipKind::LoadBalancer | VipKind::NodePort => service.external_local,
        };
        let fnat = service
            .fnat
            .as_ref()
            .zip(lab.nodes.get(node))
            .map(|(fnat, node)| Fnat { local_addresses: fnat.addresses_of(node), toa: fnat.toa });
        let chosen = endpoints::destinations(lab, node, service, local_policy);
        for port in &service.ports {
            let listens = match kind {
                VipKind::NodePort => port.node_port,
                VipKind::ClusterIp | VipKind::External | VipKind::LoadBalancer => Some(port.port),
            };
            let Some(listens) = listens else { continue };
            let at_port = |to: &Destination| Destination { port: port.target_port, ..*to };
            self.services.push(VirtualService {
                service: number,
                vip,
                proto: port.proto,
                port: listens,
                kind,
                local_policy,
                scheduler: service.scheduler,
                flags: service.scheduler_flags,
                fnat: fnat.clone(),
                persistence: service.affinity.map(Persistence::of_client),
                one_packet: service.one_packet,
                destinations: chosen.iter().map(at_port).collect(),
            });
        }
    }

    /// The virtual services, by protocol, address and port.
    #[must_use]
    pub fn all(&self) -> &[VirtualService] {
        &self.services
    }

    /// Every virtual address, in order.
    pub fn vips(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.vips.iter().copied()
    }

    /// Whether the address is one of a service.
    #[must_use]
    pub fn is_vip(&self, ip: Ipv4Addr) -> bool {
        self.vips.binary_search(&ip).is_ok()
    }

    /// The place of the virtual service that listens on this address and port.
    #[must_use]
    pub fn find(&self, proto: Protocol, vip: Ipv4Addr, port: u16) -> Option<usize> {
        let key = (proto, vip, port);
        self.services.binary_search_by_key(&key, VirtualService::key).ok()
    }

    /// Whether a packet is for a virtual service in mode fnat.
    #[must_use]
    pub fn is_fnat(&self, tuple: &Tuple<Ipv4Addr>) -> bool {
        let service = self.get((tuple.proto, tuple.dst, tuple.dst_port));
        service.is_some_and(|service| service.fnat.is_some())
    }

    /// The virtual service of that name.
    #[must_use]
    pub fn get(&self, (proto, vip, port): ServiceKey) -> Option<&VirtualService> {
        self.services.get(self.find(proto, vip, port)?)
    }
}

impl VirtualService {
    /// What names it.
    #[must_use]
    pub const fn key(&self) -> ServiceKey {
        (self.proto, self.vip, self.port)
    }

    /// Whether ipvs would have nothing to change to make this service the other, but for its
    /// destinations.
    #[must_use]
    pub fn is_set_up_as(&self, other: &Self) -> bool {
        (self.scheduler, self.flags) == (other.scheduler, other.flags)
            && self.persistence == other.persistence
            && self.one_packet == other.one_packet
            && self.fnat == other.fnat
    }
}
