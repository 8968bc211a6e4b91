//! The sets that kube-proxy's rules look into, as ipset holds them
//! (kube-proxy: pkg/proxy/ipvs/ipset.go, pkg/proxy/ipvs/proxier.go).

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::super::ipvs::endpoints::looping;
use super::super::ipvs::{VipKind, VirtualService, VirtualServices};
use super::rules::Question;
use crate::lab::Lab;
use crate::wire::Protocol;

/// One of kube-proxy's sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Set {
    /// Endpoints of this node, for what comes back to the pod that sent it.
    LoopBack,
    /// ClusterIPs.
    ClusterIp,
    /// External IPs with policy Cluster.
    ExternalIp,
    /// External IPs with policy Local.
    ExternalIpLocal,
    /// Load balancers' addresses.
    LoadBalancer,
    /// Those with policy Local.
    LoadBalancerLocal,
    /// Those with source ranges.
    LoadBalancerFw,
    /// With their source ranges.
    LoadBalancerSourceCidr,
    /// With the node's own way to them, where its address is in a range.
    LoadBalancerSourceIp,
    /// TCP ports of the nodes.
    NodePortTcp,
    /// Those with policy Local.
    NodePortLocalTcp,
    /// UDP ports of the nodes.
    NodePortUdp,
    /// Those with policy Local.
    NodePortLocalUdp,
    /// Every address of kube-ipvs0.
    IpvsIps,
}

/// An entry of a set, by the set's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// hash:ip.
    Ip(Ipv4Addr),
    /// bitmap:port.
    Port(u16),
    /// hash:ip,port.
    Socket(Ipv4Addr, Protocol, u16),
    /// hash:ip,port,ip, and hash:ip,port,net.
    SocketFrom(Ipv4Addr, Protocol, u16, Ipv4Net),
}

/// What of a packet is looked up in a set, by ipset's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimensions {
    /// `dst`.
    Dst,
    /// `dst,dst`.
    DstDst,
    /// `src,dst`: the source's address with the destination's port.
    SrcDst,
    /// `dst,dst,src`.
    DstDstSrc,
}

impl Set {
    /// Every set.
    pub const ALL: [Self; 14] = [
        Self::LoopBack,
        Self::ClusterIp,
        Self::ExternalIp,
        Self::ExternalIpLocal,
        Self::LoadBalancer,
        Self::LoadBalancerLocal,
        Self::LoadBalancerFw,
        Self::LoadBalancerSourceCidr,
        Self::LoadBalancerSourceIp,
        Self::NodePortTcp,
        Self::NodePortLocalTcp,
        Self::NodePortUdp,
        Self::NodePortLocalUdp,
        Self::IpvsIps,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LoopBack => "KUBE-LOOP-BACK",
            Self::ClusterIp => "KUBE-CLUSTER-IP",
            Self::ExternalIp => "KUBE-EXTERNAL-IP",
            Self::ExternalIpLocal => "KUBE-EXTERNAL-IP-LOCAL",
            Self::LoadBalancer => "KUBE-LOAD-BALANCER",
            Self::LoadBalancerLocal => "KUBE-LOAD-BALANCER-LOCAL",
            Self::LoadBalancerFw => "KUBE-LOAD-BALANCER-FW",
            Self::LoadBalancerSourceCidr => "KUBE-LOAD-BALANCER-SOURCE-CIDR",
            Self::LoadBalancerSourceIp => "KUBE-LOAD-BALANCER-SOURCE-IP",
            Self::NodePortTcp => "KUBE-NODE-PORT-TCP",
            Self::NodePortLocalTcp => "KUBE-NODE-PORT-LOCAL-TCP",
            Self::NodePortUdp => "KUBE-NODE-PORT-UDP",
            Self::NodePortLocalUdp => "KUBE-NODE-PORT-LOCAL-UDP",
            Self::IpvsIps => "KUBE-IPVS-IPS",
        }
    }

    /// Its type, as `ipset create` wants it.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::LoopBack | Self::LoadBalancerSourceIp => "hash:ip,port,ip",
            Self::LoadBalancerSourceCidr => "hash:ip,port,net",
            Self::NodePortTcp
            | Self::NodePortLocalTcp
            | Self::NodePortUdp
            | Self::NodePortLocalUdp => "bitmap:port range 0-65535",
            Self::IpvsIps => "hash:ip",
            Self::ClusterIp
            | Self::ExternalIp
            | Self::ExternalIpLocal
            | Self::LoadBalancer
            | Self::LoadBalancerLocal
            | Self::LoadBalancerFw => "hash:ip,port",
        }
    }
}

/// As `ipset restore` reads them.
impl fmt::Display for Sets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for set in Set::ALL {
            writeln!(f, "create {} {}", set.name(), set.kind())?;
            for entry in self.entries(set) {
                writeln!(f, "add {} {entry}", set.name())?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::Socket(ip, proto, port) => write!(f, "{ip},{proto}:{port}"),
            Self::SocketFrom(ip, proto, port, from) if from.prefix_len() == 32 => {
                write!(f, "{ip},{proto}:{port},{}", from.addr())
            }
            Self::SocketFrom(ip, proto, port, from) => write!(f, "{ip},{proto}:{port},{from}"),
        }
    }
}

impl Dimensions {
    /// As a rule names them.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dst => "dst",
            Self::DstDst => "dst,dst",
            Self::SrcDst => "src,dst",
            Self::DstDstSrc => "dst,dst,src",
        }
    }
}

/// The sets of one node.
#[derive(Debug, Default)]
pub struct Sets([Vec<Entry>; Set::ALL.len()]);

impl Sets {
    /// The sets of node `node` of a lab, which has these virtual services.
    pub(super) fn new(lab: &Lab, node: usize, services: &VirtualServices) -> Self {
        let mut sets = Self::default();
        for vip in services.vips() {
            sets.add(Set::IpvsIps, Entry::Ip(vip));
        }
        for service in services.all() {
            sets.add_service(lab, node, service);
        }
        for service in &lab.services {
            for endpoint in looping(lab, node, service) {
                let Some(pod) = lab.pods.get(endpoint.pod) else { continue };
                for port in &service.ports {
                    let from = Ipv4Net::from(pod.ip);
                    let entry = Entry::SocketFrom(pod.ip, port.proto, port.target_port, from);
                    sets.add(Set::LoopBack, entry);
                }
            }
        }
        for entries in &mut sets.0 {
            entries.sort_unstable();
            entries.dedup();
        }
        sets
    }

    fn add(&mut self, set: Set, entry: Entry) {
        if let Some(entries) = self.0.get_mut(set as usize) {
            entries.push(entry);
        }
    }

    fn add_service(&mut self, lab: &Lab, node: usize, service: &VirtualService) {
        let VirtualService { vip, proto, port, kind, local_policy: local, .. } = *service;
        let socket = Entry::Socket(vip, proto, port);
        match kind {
            VipKind::ClusterIp => self.add(Set::ClusterIp, socket),
            VipKind::External if local => self.add(Set::ExternalIpLocal, socket),
            VipKind::External => self.add(Set::ExternalIp, socket),
            VipKind::LoadBalancer => {
                self.add(Set::LoadBalancer, socket);
                if local {
                    self.add(Set::LoadBalancerLocal, socket);
                }
                self.add_source_ranges(lab, node, service);
            }
            VipKind::NodePort => {
                let (every, only_local) = match proto {
                    Protocol::UDP => (Set::NodePortUdp, Set::NodePortLocalUdp),
                    _ => (Set::NodePortTcp, Set::NodePortLocalTcp),
                };
                self.add(every, Entry::Port(port));
                if local {
                    self.add(only_local, Entry::Port(port));
                }
            }
        }
    }

    /// ipset takes no range with the prefix length 0, so that such a range lets nobody in
    /// (spec MARK-15).
    fn add_source_ranges(&mut self, lab: &Lab, node: usize, service: &VirtualService) {
        let VirtualService { vip, proto, port, .. } = *service;
        let Some(ranges) = lab.services.get(service.service).map(|s| &s.source_ranges) else {
            return;
        };
        let node_ip = lab.nodes.get(node).and_then(|node| lab.enis.get(node.primary));
        for range in ranges {
            self.add(Set::LoadBalancerFw, Entry::Socket(vip, proto, port));
            if range.prefix_len() > 0 {
                let entry = Entry::SocketFrom(vip, proto, port, *range);
                self.add(Set::LoadBalancerSourceCidr, entry);
            }
            if node_ip.is_some_and(|eni| range.contains(&eni.ip)) {
                let entry = Entry::SocketFrom(vip, proto, port, vip.into());
                self.add(Set::LoadBalancerSourceIp, entry);
            }
        }
    }

    /// The entries of a set, in order.
    #[must_use]
    pub fn entries(&self, set: Set) -> &[Entry] {
        self.0.get(set as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether a set has an entry for a packet.
    #[must_use]
    pub(super) fn contains(&self, set: Set, dimensions: Dimensions, packet: &Question) -> bool {
        let entries = self.entries(set);
        let Question { src, dst, dst_port, proto, .. } = *packet;
        let has = |entry| entries.binary_search(&entry).is_ok();
        match dimensions {
            Dimensions::Dst if set == Set::IpvsIps => has(Entry::Ip(dst)),
            Dimensions::Dst => has(Entry::Port(dst_port)),
            Dimensions::DstDst => has(Entry::Socket(dst, proto, dst_port)),
            Dimensions::SrcDst => has(Entry::Socket(src, proto, dst_port)),
            Dimensions::DstDstSrc => {
                let least = Entry::SocketFrom(dst, proto, dst_port, Ipv4Net::default());
                let first = entries.partition_point(|entry| *entry < least);
                let ours = entries.iter().skip(first).map_while(|entry| match entry {
                    Entry::SocketFrom(ip, p, port, from)
                        if (*ip, *p, *port) == (dst, proto, dst_port) =>
                    {
                        Some(from)
                    }
                    _ => None,
                });
                ours.into_iter().any(|from| from.contains(&src))
            }
        }
    }
}
