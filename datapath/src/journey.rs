//! The journey of a packet: what every hook, rule and table did to it, as a typed record.
//!
//! An element writes one [`Hop`] for each frame that passes it while its [`Journal`] is open.
//! Hops of the same packet in neighbouring elements are joined by the fingerprint of the frame
//! that went from one to the other, which the wire does not change.

use std::hash::Hasher;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::toa::NoToa;
use crate::wire::{Mac, Tuple, Vid, ethernet, tcp};

/// A port of an element: an index into its list of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortId(pub u16);

/// Where the kernel lets its modules look at a packet, in the order a node has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hook {
    /// Before anything else: MACs, VLAN tag.
    Ingress,
    /// Conntrack, then nat: kube-proxy's marks or the reply's de-SNAT.
    Prerouting,
    /// For the node or a virtual address: ipvs schedules and translates.
    LocalIn,
    /// Passing through: ipvs restores the virtual address in replies.
    Forward,
    /// Sent by the node or by ipvs: nat looks the route up again.
    LocalOut,
    /// Masquerade and conntrack's confirmation.
    Postrouting,
    /// Neighbour, MACs, VLAN tag.
    Egress,
}

impl Hook {
    /// The hook's name as netfilter spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Prerouting => "PREROUTING",
            Self::LocalIn => "LOCAL_IN",
            Self::Forward => "FORWARD",
            Self::LocalOut => "LOCAL_OUT",
            Self::Postrouting => "POSTROUTING",
            Self::Egress => "egress",
        }
    }
}

/// What conntrack knows of a packet's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlowState {
    /// First packet of a flow.
    New,
    /// A packet in the direction of the first one.
    Original,
    /// A packet of the answer.
    Reply,
    /// An ICMP error about a packet of a flow.
    Related,
    /// Belongs to no flow and can begin none.
    Invalid,
    /// ipvs keeps the packet out of conntrack.
    Untracked,
}

/// Which of kube-proxy's nat rules decided on a masquerade mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MarkRule {
    /// The destination is a load-balancer address with policy Cluster.
    LoadBalancer,
    /// The destination is an external IP with policy Cluster.
    ExternalIp,
    /// The destination is a port of the node with policy Cluster.
    NodePort,
    /// The destination is a ClusterIP, and masqueradeAll is on.
    MasqueradeAll,
    /// The destination is a ClusterIP, and the source is outside clusterCIDR.
    OutsideClusterCidr,
    /// The destination is a ClusterIP, and the source is itself a virtual address.
    FromVip,
}

impl MarkRule {
    /// The rule as kube-proxy writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LoadBalancer => "KUBE-LOAD-BALANCER",
            Self::ExternalIp => "KUBE-EXTERNAL-IP",
            Self::NodePort => "KUBE-NODE-PORT",
            Self::MasqueradeAll => "KUBE-CLUSTER-IP masqueradeAll",
            Self::OutsideClusterCidr => "KUBE-CLUSTER-IP ! -s clusterCIDR",
            Self::FromVip => "KUBE-CLUSTER-IP src VIP",
        }
    }
}

/// Why a packet is masqueraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MasqueradeRule {
    /// It carries the mark 0x4000.
    Marked,
    /// It goes back to the pod it came from (set KUBE-LOOP-BACK).
    LoopBack,
    /// Not masqueraded: its tuple was taken, so its port moved.
    Clash,
}

/// What ends a look-up of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// One of the node's own addresses.
    Local,
    /// Out by a port.
    Port(PortId),
}

/// A route look-up that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteHit {
    /// The rule that named the table, an index into the node's rules.
    pub rule: u16,
    /// Priority of that rule.
    pub priority: u32,
    /// The table.
    pub table: u32,
    /// The prefix that matched.
    pub prefix: (Ipv4Addr, u8),
    /// The gateway, if the route has one.
    pub via: Option<Ipv4Addr>,
    /// Where it leads.
    pub target: Target,
}

/// What changed a packet's tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rewriter {
    /// ipvs: virtual address to destination.
    IpvsDnat,
    /// ipvs: destination back to virtual address.
    IpvsUnDnat,
    /// ipvs in mode fnat: client and virtual address to local address and destination.
    IpvsFnat,
    /// ipvs in mode fnat: destination and local address back to virtual address and client.
    IpvsUnFnat,
    /// conntrack: source to the node's address.
    Masquerade,
    /// conntrack: the masquerade undone in a reply.
    UnMasquerade,
    /// A kernel's node, of which nothing more is known.
    Kernel,
    /// The cloud's load balancer: its address to a backend.
    Slb,
    /// The cloud's load balancer: a backend back to its address.
    UnSlb,
}

/// Direction in which a security group judges, seen from the ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SgDirection {
    /// Out of the ENI.
    Out,
    /// Into the ENI.
    In,
}

/// What decided in a security-group check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SgDecision {
    /// A session of this ENI that began earlier.
    Session,
    /// Rule `index` of group `group` in this direction (indices into the lab).
    Rule {
        /// The group.
        group: usize,
        /// The rule's place in the group's list.
        index: usize,
    },
    /// Both ends share basic group `group`, whose members may talk.
    Inner {
        /// The group.
        group: usize,
    },
    /// No rule matched.
    Default,
    /// The cloud's own range 100.64.0.0/10 is exempt.
    Exempt,
}

/// One thing that happened to a packet inside an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The packet entered a hook.
    Hook(Hook),
    /// The trunk's ingress filter took the tag off.
    TagPopped(u16),
    /// The frame waited in this member ENI's queue (0 for untagged and unknown).
    MemberQueue(u16),
    /// The packet came in this many fragments.
    Gathered(u16),
    /// The packet leaves in this many fragments.
    Cut(u16),
    /// conntrack's view of the packet.
    Flow(FlowState),
    /// kube-proxy's nat rules marked the packet for masquerade.
    Marked(MarkRule),
    /// A route was looked up.
    Route(RouteHit),
    /// A route was looked up again with the packet's source.
    Reroute(RouteHit),
    /// ipvs chose a destination for a new connection of a virtual service.
    Scheduled {
        /// The service, an index into the lab's services.
        service: usize,
        /// Virtual address and port.
        vip: (Ipv4Addr, u16),
        /// Destination address and port.
        destination: (Ipv4Addr, u16),
    },
    /// ipvs found the packet's connection.
    Connection {
        /// The service, an index into the lab's services.
        service: usize,
        /// Virtual address and port.
        vip: (Ipv4Addr, u16),
        /// Destination address and port.
        destination: (Ipv4Addr, u16),
    },
    /// The segment tells who its client is (TCP option 254).
    ToaSeen(Ipv4Addr, u16),
    /// ipvs has put the client's address and port into the segment.
    ToaInserted(Ipv4Addr, u16),
    /// The client's address and port should be in the segment, but for this.
    ToaLeftOut(NoToa),
    /// A masquerade was set up for the flow.
    Masqueraded(MasqueradeRule),
    /// The packet's tuple changed.
    Rewritten {
        /// What changed it.
        by: Rewriter,
        /// Before.
        from: Tuple<Ipv4Addr>,
        /// After.
        to: Tuple<Ipv4Addr>,
    },
    /// The next hop and its MAC.
    Neighbour(Ipv4Addr, Mac),
    /// The next hop's MAC is asked for; the frame waits.
    Resolving(Ipv4Addr),
    /// The trunk's egress filter pushed a tag, chosen by the packet's source.
    TagPushed(Vid),
    /// The fabric attributes the frame to this ENI (index into the lab's ENIs).
    SendingEni(usize),
    /// A security group judged.
    SecurityGroup {
        /// The ENI, an index into the lab's ENIs.
        eni: usize,
        /// Out of it or into it.
        direction: SgDirection,
        /// Verdict.
        accept: bool,
        /// What decided.
        decision: SgDecision,
    },
    /// The VPC's route: the destination is in this vSwitch (index into the lab's vSwitches).
    VSwitchRoute(usize),
    /// The VPC's custom route (index into the lab's routes).
    CustomRoute(usize),
    /// The destination is this outside host (index into the lab's outside hosts).
    OutsideRoute(usize),
    /// A listener of a load balancer took the packet (indices into the lab's SLBs).
    SlbListener {
        /// The load balancer.
        slb: usize,
        /// Its listener.
        listener: usize,
    },
    /// The packet belongs to a session of a load balancer.
    SlbSession {
        /// The load balancer.
        slb: usize,
        /// Its listener.
        listener: usize,
    },
    /// The fabric delivers to this ENI (index into the lab's ENIs).
    ReceivingEni(usize),
}

/// A frame at a port: where, how tagged, and its fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The port.
    pub port: PortId,
    /// The tag's VID field on the wire; `None` for an untagged frame.
    pub vid: Option<u16>,
    /// Fingerprint of the whole frame as on the wire.
    pub fingerprint: u64,
    /// The packet's tuple; `None` where it is not IPv4.
    pub tuple: Option<Tuple<Ipv4Addr>>,
}

impl Sighting {
    /// A frame as it is on the wire of a port, and the packet in it.
    #[must_use]
    pub fn new(frame: &[u8], port: PortId, tuple: Option<Tuple<Ipv4Addr>>) -> Self {
        let vid = ethernet::tag(frame).map(|tag| tag.id);
        Self { port, vid, fingerprint: fingerprint(frame), tuple }
    }
}

/// How a frame's way through an element ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Out by a port.
    Sent(Sighting),
    /// Consumed by the element itself.
    Delivered,
    /// A fragment that became part of the packet it belongs to.
    Absorbed,
    /// Dropped.
    Dropped(DropReason),
}

/// One frame's way through one element.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// When the frame came in or was made.
    pub at: Time,
    /// Where it came in; `None` for a frame the element made.
    pub arrival: Option<Sighting>,
    /// Control bits of a TCP segment.
    pub flags: tcp::Flags,
    /// Bytes of data behind the transport header.
    pub payload_len: u16,
    /// What happened, in order.
    pub steps: SmallVec<[Step; 16]>,
    /// How it ended.
    pub fate: Fate,
}

/// The record of hops an element writes while it is open; closed, it costs one test per step.
#[derive(Debug, Default)]
pub struct Journal {
    limit: usize,
    hops: Vec<Hop>,
    lost: u64,
}

impl Journal {
    /// Opens the journal for up to `limit` hops; what it held is forgotten.
    pub fn open(&mut self, limit: usize) {
        *self = Self { limit, hops: Vec::new(), lost: 0 };
    }

    /// Closes the journal and takes out its hops.
    pub fn close(&mut self) -> Vec<Hop> {
        self.limit = 0;
        std::mem::take(&mut self.hops)
    }

    /// Whether hops are being recorded.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.limit > 0
    }

    /// The hops recorded so far.
    #[must_use]
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// Hops that came after the limit was reached.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Writes one hop.
    pub fn write(&mut self, hop: Hop) {
        if self.hops.len() < self.limit {
            self.hops.push(hop);
        } else {
            self.lost += 1;
        }
    }
}

/// The fingerprint by which two elements know a frame to be the same.
#[must_use]
pub fn fingerprint(frame: &[u8]) -> u64 {
    let mut hasher = foldhash::fast::FoldHasher::with_seed(0, foldhash::SharedSeed::global_fixed());
    hasher.write(frame);
    hasher.finish()
}
