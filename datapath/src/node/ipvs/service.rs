//! Virtual services: what kube-proxy writes with `ipvsadm -A` and `-a`, and its ipsets.

use std::net::Ipv4Addr;

use crate::journey::MarkRule;
use crate::lab::{Lab, LocalNoEndpoint, Scheduler, SchedulerFlags, Service, Switches};
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
}

/// What names a virtual service: protocol, virtual address and port.
pub type ServiceKey = (Protocol, Ipv4Addr, u16);

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
    /// Affinity of its clients to a destination.
    pub persistence: Option<Persistence>,
    /// One-packet scheduling: every datagram is scheduled by itself (`ipvsadm -o`).
    pub one_packet: bool,
    /// Destinations in order of addition.
    pub destinations: Vec<Destination>,
}

/// Every virtual service of a node, found by protocol, address and port.
#[derive(Debug, Default)]
pub struct VirtualServices {
    /// Sorted by the key.
    services: Vec<VirtualService>,
    /// Sorted.
    vips: Vec<Ipv4Addr>,
    /// The set KUBE-LOOP-BACK: endpoints of this node, sorted.
    loop_back: Vec<(Ipv4Addr, Protocol, u16)>,
}

impl VirtualServices {
    /// The virtual services of node `node` (spec IPVS-1 to IPVS-6).
    #[must_use]
    pub fn new(lab: &Lab, node: usize) -> Self {
        let mut all = Self::default();
        for (number, service) in lab.services.iter().enumerate() {
            let addresses = service
                .cluster_ip
                .iter()
                .map(|ip| (*ip, VipKind::ClusterIp))
                .chain(service.external_ips.iter().map(|ip| (*ip, VipKind::External)))
                .chain(service.load_balancer.iter().map(|ip| (*ip, VipKind::LoadBalancer)));
            for (vip, kind) in addresses {
                all.vips.push(vip);
                all.add(lab, node, number, service, vip, kind);
            }
            all.add_loop_back(lab, node, service);
        }
        all.services.sort_by_key(VirtualService::key);
        all.vips.sort_unstable();
        all.vips.dedup();
        all.loop_back.sort_unstable();
        all.loop_back.dedup();
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
            VipKind::External | VipKind::LoadBalancer => service.external_local,
        };
        let endpoint = |e: &crate::lab::Endpoint| {
            lab.pods.get(e.pod).map(|pod| (pod.node == node, pod.ip, *e))
        };
        let all: Vec<_> = service.endpoints.iter().filter_map(endpoint).collect();
        let some_local = all.iter().any(|(local, ..)| *local);
        let fallback = lab.switches.local_no_endpoint == LocalNoEndpoint::Fallback;
        let only_local = local_policy && (some_local || !fallback);
        for port in &service.ports {
            let destinations = all
                .iter()
                .filter(|(local, ..)| *local || !only_local)
                .map(|(_, ip, endpoint)| Destination {
                    ip: *ip,
                    port: port.target_port,
                    weight: endpoint.weight,
                    upper: endpoint.upper,
                    lower: endpoint.lower,
                })
                .collect();
            self.services.push(VirtualService {
                service: number,
                vip,
                proto: port.proto,
                port: port.port,
                kind,
                local_policy,
                scheduler: service.scheduler,
                flags: service.scheduler_flags,
                persistence: None,
                one_packet: false,
                destinations,
            });
        }
    }

    fn add_loop_back(&mut self, lab: &Lab, node: usize, service: &Service) {
        let pods = service.endpoints.iter().filter_map(|e| lab.pods.get(e.pod));
        for pod in pods.filter(|pod| pod.node == node) {
            let ports = service.ports.iter().map(|p| (pod.ip, p.proto, p.target_port));
            self.loop_back.extend(ports);
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

    /// The virtual service of that name.
    #[must_use]
    pub fn get(&self, (proto, vip, port): ServiceKey) -> Option<&VirtualService> {
        self.services.get(self.find(proto, vip, port)?)
    }

    /// Whether KUBE-LOOP-BACK matches: a pod of this node reaches itself (spec MARK-9).
    #[must_use]
    pub fn loops_back(&self, tuple: &Tuple<Ipv4Addr>) -> bool {
        tuple.src == tuple.dst
            && self.loop_back.binary_search(&(tuple.dst, tuple.proto, tuple.dst_port)).is_ok()
    }

    /// kube-proxy's nat rules for the first packet of a flow: which of them marks it for
    /// masquerade, in their order (spec MARK-2 to MARK-6).
    #[must_use]
    pub fn mark(&self, tuple: &Tuple<Ipv4Addr>, switches: &Switches) -> Option<MarkRule> {
        if tuple.src.is_loopback() {
            return None;
        }
        let at = self.find(tuple.proto, tuple.dst, tuple.dst_port)?;
        let service = self.services.get(at)?;
        match service.kind {
            VipKind::LoadBalancer => (!service.local_policy).then_some(MarkRule::LoadBalancer),
            VipKind::External => (!service.local_policy).then_some(MarkRule::ExternalIp),
            VipKind::ClusterIp if switches.masquerade_all => Some(MarkRule::MasqueradeAll),
            VipKind::ClusterIp => match switches.cluster_cidr {
                Some(cidr) => (!cidr.contains(&tuple.src)).then_some(MarkRule::OutsideClusterCidr),
                None => {
                    let from = self.find(tuple.proto, tuple.src, tuple.src_port);
                    let from = from.and_then(|at| self.services.get(at));
                    from.filter(|s| s.kind == VipKind::ClusterIp).map(|_| MarkRule::FromVip)
                }
            },
        }
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
    }
}
