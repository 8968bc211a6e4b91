//! A lab that has been checked: what the lab file says, with every derived value filled in and
//! every name resolved to an index. A value of type [`Lab`] can be run (spec LAW-7).

pub use super::conntrack::{ConntrackSwitches, TcpTimeouts};
pub use super::ipvs::{IpvsSwitches, IpvsTimeouts};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::wire::{Mac, Protocol, Vid};

/// A whole lab: VPC, nodes, pods, services and the switches of the emulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lab {
    /// Which generation of Terway programs the nodes.
    pub profile: Profile,
    /// Behaviours that differ between versions and configurations.
    pub switches: Switches,
    /// Sizes of every bounded table.
    pub limits: Limits,
    /// Seed of everything that is random in the lab.
    pub seed: u64,
    /// How the nodes' ENIs are joined to the VPC in namespaces.
    pub links: Links,
    /// The fabric: vSwitches, routes, security groups.
    pub vpc: Vpc,
    /// Every ENI: for each node its primary and its trunk, for each pod its member.
    pub enis: Vec<Eni>,
    /// The ECS instances, in file order.
    pub nodes: Vec<Node>,
    /// The pods, in file order.
    pub pods: Vec<Pod>,
    /// The services, in file order.
    pub services: Vec<Service>,
    /// The load balancers of the cloud, in file order.
    pub slbs: Vec<Slb>,
    /// Hosts outside the VPC, in file order.
    pub outside: Vec<Outside>,
}

impl Lab {
    /// Whether the other lab differs in its profile, switches and services at most, so that the
    /// elements of this one can take it over while they run (spec LAB-29).
    #[must_use]
    pub fn has_machines_of(&self, other: &Self) -> bool {
        self.other_machines(other).is_none()
    }

    /// The first key of the lab file, of those that a running lab cannot take over, in which the
    /// other lab differs (spec LAB-29).
    #[must_use]
    pub fn other_machines(&self, other: &Self) -> Option<&'static str> {
        let keys = [
            ("limits", self.limits == other.limits),
            ("seed", self.seed == other.seed),
            ("links", self.links == other.links),
            ("vpc", self.vpc == other.vpc),
            ("pods", self.pods == other.pods),
            ("nodes", self.nodes == other.nodes && self.enis == other.enis),
            ("slbs", self.slbs == other.slbs),
            ("outside", self.outside == other.outside),
        ];
        keys.into_iter().find(|(_, same)| !same).map(|(key, _)| key)
    }
}

/// How the nodes' ENIs are joined to the VPC in namespaces (spec LINK-1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// By veths: tagged frames really cross the trunk.
    #[default]
    Wired,
    /// In memory: the next element gets the frame in its buffer.
    Fused,
}

/// A generation of node programming (spec SCN profiles).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// `terway-1.3`: rule 2048 with iif, no VLAN push.
    P0,
    /// `terway-1.4.0`, the article: rule 2048 with iif, VLAN push by pod source.
    #[default]
    P1,
    /// `terway-1.4.2` and later: rule 2048 without iif, VLAN push by pod source.
    P2,
}

/// Behaviours of node and kube-proxy that a lab can set; the profile gives the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Rule 2048 carries `iif caliX` (P0, P1) or not (P2).
    pub from_rule_iif: bool,
    /// The trunk's egress filter pushes the pod's VID by IP source (P1, P2).
    pub vlan_push: bool,
    /// net.ipv4.vs.conntrack: ipvs keeps conntrack entries up to date (kube-proxy sets it).
    pub vs_conntrack: bool,
    /// net.ipv4.vs.snat_reroute: look the route up again after ipvs restored the VIP as source.
    pub snat_reroute: bool,
    /// Which generation of kube-proxy programs the nodes.
    pub kube_proxy: KubeProxyVersion,
    /// kube-proxy's clusterCIDR: traffic to a ClusterIP from outside it is masqueraded.
    pub cluster_cidr: Option<Ipv4Net>,
    /// kube-proxy's masqueradeAll: all traffic to a ClusterIP is masqueraded.
    pub masquerade_all: bool,
    /// MASQUERADE --random-fully: always a random source port.
    pub masquerade_random_fully: bool,
    /// net.ipv4.icmp_ratelimit in milliseconds; 0 means unlimited.
    pub icmp_ratelimit_ms: u32,
    /// What a Local policy without a local endpoint does.
    pub local_no_endpoint: LocalNoEndpoint,
    /// What an echo request to a VIP meets.
    pub vip_ping: VipPing,
    /// kube-proxy's strictARP (arp_ignore=1, arp_announce=2).
    pub strict_arp: bool,
    /// net.ipv4.conf.*.rp_filter on every interface of a node.
    pub rp_filter: RpFilter,
    /// Nodes are given their neighbours instead of asking for them by ARP.
    pub permanent_neighbours: bool,
    /// Packets of established flows take the way their flow has learned (spec FLOW). Off, every
    /// packet walks all hooks: slower, and the same in every other respect.
    pub flow_cache: bool,
    /// ipvs.
    pub ipvs: IpvsSwitches,
    /// Connection tracking.
    pub conntrack: ConntrackSwitches,
}

/// A generation of kube-proxy: that of the article's clusters, and today's (spec MARK-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KubeProxyVersion {
    /// v1.20: ready endpoints only; source ranges by a mark in nat that the kubelet drops.
    V1_20,
    /// v1.28: terminating endpoints where nothing else is left; source ranges in filter.
    V1_28,
}

/// What a service with policy Local does on a node without a local endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalNoEndpoint {
    /// No destination: the node refuses (kube-proxy before 1.22).
    Fail,
    /// All endpoints are used (kube-proxy since 1.22).
    Fallback,
}

/// What an echo request to a VIP meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VipPing {
    /// The node answers (kube-proxy before mid-2022).
    Answer,
    /// Port unreachable (KUBE-IPVS-FILTER).
    Reject,
}

/// Reverse-path filter of RFC 3704 as Linux has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpFilter {
    /// 0: no check (Terway's setting).
    Off,
    /// 1: the best reverse route must leave by the interface the packet came in by.
    Strict,
    /// 2: some reverse route must exist.
    Loose,
}

/// Sizes of the bounded tables (spec LAW-6), each at least 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Flows (conntrack entries, ipvs connections) a node holds.
    pub flows: u32,
    /// Sessions (security groups and SLB) the VPC holds.
    pub sessions: u32,
    /// Neighbour entries a node holds.
    pub neighbours: u32,
    /// Frames waiting for one neighbour.
    pub neighbour_queue: u32,
    /// Frames waiting in one member ENI's queue of a trunk.
    pub member_queue: u32,
    /// Fragments that wait for the rest of their packets, at each node and in the VPC.
    pub fragments: u32,
    /// Frames in one queue of a memory link, as a veth ring has 256.
    pub link_queue: u32,
}

impl Limits {
    /// Frames waiting for neighbours on one node, all neighbours together: four full queues.
    #[must_use]
    pub const fn neighbours_held(&self) -> u32 {
        self.neighbour_queue.saturating_mul(4)
    }
}

/// The fabric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpc {
    /// Address range of the VPC; every vSwitch lies in it.
    pub cidr: Ipv4Net,
    /// MAC of the gateway, with which the VPC answers every ARP request.
    pub gateway_mac: Mac,
    /// Whether the fabric takes one from the TTL (the real one is not documented; default no).
    pub decrement_ttl: bool,
    /// vSwitches, in file order.
    pub vswitches: Vec<VSwitch>,
    /// Custom routes beside the system routes of the vSwitches.
    pub routes: Vec<VpcRoute>,
    /// Security groups, in file order.
    pub groups: Vec<SecurityGroup>,
}

/// A vSwitch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VSwitch {
    /// Its id, as `vsw-...`.
    pub id: String,
    /// Its range.
    pub cidr: Ipv4Net,
    /// Its zone; empty when the file names none.
    pub zone: String,
}

impl VSwitch {
    /// The gateway: the third address from the end of the range (spec VPC).
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.cidr.broadcast()).saturating_sub(2))
    }
}

/// A custom route of the VPC: packets for `cidr` go to an ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcRoute {
    /// Destination range.
    pub cidr: Ipv4Net,
    /// Next hop, an index into [`Lab::enis`].
    pub eni: usize,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Its id, as `sg-...`.
    pub id: String,
    /// Basic or advanced.
    pub kind: GroupKind,
    /// Basic groups only: whether members reach each other whatever the rules say.
    pub inner_accept: bool,
    /// Rules for traffic to an ENI of the group, in file order.
    pub ingress: Vec<GroupRule>,
    /// Rules for traffic from an ENI of the group, in file order.
    pub egress: Vec<GroupRule>,
}

/// The two kinds of security group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Inbound closed but within the group, outbound open.
    Basic,
    /// Closed both ways.
    Advanced,
}

/// One rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRule {
    /// True for accept, false for drop.
    pub accept: bool,
    /// Protocol; `None` for all.
    pub proto: Option<Protocol>,
    /// First and last destination port, both included; `None` for all.
    pub ports: Option<(u16, u16)>,
    /// The other side.
    pub peer: Peer,
    /// 1 (first) to 100.
    pub priority: u8,
}

/// The other side of a security-group rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address range.
    Cidr(Ipv4Net),
    /// The members of a group, an index into [`Vpc::groups`].
    Group(usize),
}

/// What an ENI is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EniKind {
    /// A node's eth0.
    Primary,
    /// A node's eth1, which carries the members' frames tagged.
    Trunk,
    /// A pod's own ENI, bound to a VID of its node's trunk.
    Member {
        /// The VID the fabric binds to it.
        vid: Vid,
        /// The pod that owns it, an index into [`Lab::pods`].
        pod: usize,
    },
}

/// An elastic network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eni {
    /// Its id, as `eni-...`.
    pub id: String,
    /// Primary, trunk or member.
    pub kind: EniKind,
    /// The node it is attached to, an index into [`Lab::nodes`].
    pub node: usize,
    /// Its private address.
    pub ip: Ipv4Addr,
    /// The MAC with which frames to and from it travel: a member has its trunk's.
    pub mac: Mac,
    /// Its vSwitch, an index into [`Vpc::vswitches`].
    pub vswitch: usize,
    /// Its security groups, indices into [`Vpc::groups`], all of one kind; never empty.
    pub groups: Vec<usize>,
    /// Source/destination check.
    pub src_dst_check: bool,
}

/// One ECS instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// eth0's ENI, an index into [`Lab::enis`]; its address is the node's.
    pub primary: usize,
    /// eth1's ENI, an index into [`Lab::enis`].
    pub trunk: usize,
    /// MTU of eth0.
    pub primary_mtu: u16,
    /// MTU of eth1.
    pub trunk_mtu: u16,
    /// MAC of host0's forwarder end.
    pub host0_mac: Mac,
    /// MAC of host0's other end, in the node's own stack.
    pub host_mac: Mac,
    /// Secondary addresses of eth0's ENI that fnat sends from, in order (spec FNAT-1).
    pub local_addresses: Vec<Ipv4Addr>,
    /// First and last port fnat sends from, both included (spec FNAT-2).
    pub local_ports: (u16, u16),
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name, as `NS/NAME`.
    pub name: String,
    /// Its node, an index into [`Lab::nodes`].
    pub node: usize,
    /// Its address: the primary address of its member ENI.
    pub ip: Ipv4Addr,
    /// MAC of its eth0.
    pub mac: Mac,
    /// Name of its host-side veth.
    pub cali: String,
    /// MAC of its host-side veth.
    pub cali_mac: Mac,
    /// MTU of both ends.
    pub mtu: u16,
    /// Its member ENI, an index into [`Lab::enis`].
    pub member: usize,
    /// VID of its member ENI.
    pub vid: Vid,
}

/// A Kubernetes service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name, as `NS/NAME`.
    pub name: String,
    /// Its ClusterIP, if it has one.
    pub cluster_ip: Option<Ipv4Addr>,
    /// spec.externalIPs.
    pub external_ips: Vec<Ipv4Addr>,
    /// status.loadBalancer.ingress addresses.
    pub load_balancer: Vec<Ipv4Addr>,
    /// externalTrafficPolicy is Local.
    pub external_local: bool,
    /// internalTrafficPolicy is Local.
    pub internal_local: bool,
    /// Session affinity ClientIP: for how many seconds a client keeps its endpoint.
    pub affinity: Option<u32>,
    /// One-packet scheduling of its UDP ports.
    pub one_packet: bool,
    /// loadBalancerSourceRanges, in file order; without any, everybody may.
    pub source_ranges: Vec<Ipv4Net>,
    /// How a destination is picked.
    pub scheduler: Scheduler,
    /// What the scheduler does beside.
    pub scheduler_flags: SchedulerFlags,
    /// Both addresses are translated by ipvs (`mode: fnat`); `None` for kube-proxy's NAT.
    pub fnat: Option<Fnat>,
    /// Its ports, in file order.
    pub ports: Vec<ServicePort>,
    /// Its endpoints, in order of addition.
    pub endpoints: Vec<Endpoint>,
}

/// How a service with `mode: fnat` is translated (spec FNAT).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fnat {
    /// The local addresses it may use, each some node's; empty for all of the node that serves it.
    pub local_addresses: Vec<Ipv4Addr>,
    /// Requests tell the endpoint who the client is, in a TCP option (spec FNAT-20).
    pub toa: bool,
}

impl Fnat {
    /// Those of a node's local addresses that the service may use, in the order in which it does.
    #[must_use]
    pub fn addresses_of(&self, node: &Node) -> Vec<Ipv4Addr> {
        let own = |ip: &&Ipv4Addr| node.local_addresses.contains(ip);
        match self.local_addresses.is_empty() {
            true => node.local_addresses.clone(),
            false => self.local_addresses.iter().filter(own).copied().collect(),
        }
    }
}

/// Destinations that the virtual services of a lab may have together (spec LAW-6): an endpoint is
/// one for each address and port of its service.
pub const MOST_DESTINATIONS: u32 = 65_536;

/// An ipvs scheduler (spec IPVS-10 to IPVS-13, IPVS-71 to IPVS-78).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduler {
    /// Round robin.
    #[default]
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connection.
    Lc,
    /// Weighted least connection.
    Wlc,
    /// Source hashing.
    Sh,
    /// Maglev hashing.
    Mh,
    /// Destination hashing.
    Dh,
    /// Shortest expected delay.
    Sed,
    /// Never queue.
    Nq,
    /// Locality-based least connection.
    Lblc,
    /// Locality-based least connection with replication.
    Lblcr,
    /// Weighted failover.
    Fo,
    /// Weighted overflow.
    Ovf,
    /// Power of two choices.
    Twos,
}

impl Scheduler {
    /// Every scheduler, in the order of the manual.
    pub const ALL: [Self; 14] = [
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Sh,
        Self::Mh,
        Self::Dh,
        Self::Sed,
        Self::Nq,
        Self::Lblc,
        Self::Lblcr,
        Self::Fo,
        Self::Ovf,
        Self::Twos,
    ];

    /// Its name, as ipvsadm knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sh => "sh",
            Self::Mh => "mh",
            Self::Dh => "dh",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Twos => "twos",
        }
    }
}

/// What sh and mh do beside; other schedulers have no flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerFlags {
    /// `sh-fallback`, `mh-fallback`: a client whose destination takes no connections gets another.
    pub fallback: bool,
    /// `sh-port`, `mh-port`: the client's port is hashed too.
    pub port: bool,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// TCP or UDP.
    pub proto: Protocol,
    /// The port of the VIP.
    pub port: u16,
    /// The port of the endpoints.
    pub target_port: u16,
    /// The port of the nodes, if it has one.
    pub node_port: Option<u16>,
}

impl Service {
    /// Whether something other than a ClusterIP leads to the service.
    #[must_use]
    pub fn is_external(&self) -> bool {
        !self.external_ips.is_empty()
            || !self.load_balancer.is_empty()
            || self.ports.iter().any(|port| port.node_port.is_some())
    }
}

/// One endpoint of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod, an index into [`Lab::pods`].
    pub pod: usize,
    /// ipvs weight; 0 takes no new connections.
    pub weight: u32,
    /// Connections at which it takes no more; 0 is no limit.
    pub upper: u32,
    /// Connections below which it takes new ones again; 0 is three quarters of `upper`.
    pub lower: u32,
    /// What its EndpointSlice says of it.
    pub condition: Condition,
}

/// What the conditions of an EndpointSlice come to for kube-proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// ready.
    #[default]
    Ready,
    /// Not ready, but serving and terminating: a pod that is being deleted and works still.
    ServingTerminating,
    /// Any other that is not ready.
    NotReady,
}

/// A load balancer of the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slb {
    /// Its id, as `lb-...`.
    pub id: String,
    /// Its address.
    pub vip: Ipv4Addr,
    /// Its listeners, in file order.
    pub listeners: Vec<Listener>,
}

/// A layer-4 listener with a group of ENIs behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// TCP or UDP.
    pub proto: Protocol,
    /// Its port.
    pub port: u16,
    /// Port of the backends.
    pub backend_port: u16,
    /// Backends, indices into [`Lab::enis`], in file order.
    pub backends: Vec<usize>,
}

/// A host outside the VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Its name.
    pub name: String,
    /// Its addresses; the first is the one it sends from.
    pub ips: Vec<Ipv4Addr>,
    /// Its MAC.
    pub mac: Mac,
}
