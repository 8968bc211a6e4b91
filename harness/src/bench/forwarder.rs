//! What is measured: the node as it forwards in a lab, the least that forwards at all, and other
//! forwarders. Each stands on the same veths, between the same far ends; the node and the reference
//! have the same packet memory, ring sizes, batch and core besides.

use std::collections::BTreeMap;
use std::fmt;

use datapath::link::Socket;

use super::bed::{Bed, PRIMARY, SERVER, TRUNK};
use super::clock::Clock;
use super::frames::Frames;
use super::generator::Input;
use super::l2fwd::L2fwd;
use super::load::Load;
use super::machine::Cores;
use super::node::Node;
use super::peer::devmap::Devmap;
use super::peer::kernel::Kernel;
use super::peer::ovs::Ovs;
use super::peer::testpmd::Testpmd;
use crate::live::worker::{Poll, Worker};

/// What forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The node, with everything it does to a packet.
    Node,
    /// The same where rule 2048 has no iif, as from Terway 1.4.2 on: requests leave by the trunk,
    /// with the pod's VID.
    Trunk,
    /// The node, the kernel receiving when the node asks it to.
    Busy,
    /// Two nodes and the VPC between them, their links fused: from a pod's veth to another pod's.
    Fused,
    /// Two AF_XDP ports and nothing between them but other MAC addresses: the reference.
    L2fwd,
    /// An XDP program that redirects to the other device and writes MAC addresses.
    Devmap,
    /// The kernel as a router with one route.
    Forward,
    /// The same with the rules and tables of the lab's node.
    Rules,
    /// The same with the rules of a node of a hundred pods.
    Rules200,
    /// The kernel with kube-proxy's nftables: destination and source translated.
    Nat,
    /// The kernel with kube-proxy's ipvs, destination translated.
    Ipvs,
    /// DPDK's testpmd on net_af_xdp: other MAC addresses.
    Testpmd,
    /// Open vSwitch in user space on afxdp: takes a tag off, tracks, translates.
    Ovs,
}

/// Which processors the kernel uses where it forwards itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The sender's does it all, as it is without settings.
    Sender,
    /// Receive packet steering to the forwarder's processor.
    Rps,
    /// A threaded NAPI on the forwarder's processor.
    Threaded,
}

/// A row of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What forwards.
    pub kind: Kind,
    /// Where, if it is the kernel.
    pub spread: Spread,
}

/// Everything there is, and in how many ways it spreads.
const KINDS: [(Kind, &[Spread]); 13] = {
    use Spread::{Rps, Sender, Threaded};
    [
        (Kind::Node, &[Sender]),
        (Kind::Trunk, &[Sender]),
        (Kind::Busy, &[Sender]),
        (Kind::Fused, &[Sender]),
        (Kind::L2fwd, &[Sender]),
        (Kind::Testpmd, &[Sender]),
        (Kind::Ovs, &[Sender]),
        (Kind::Devmap, &[Sender, Threaded]),
        (Kind::Forward, &[Sender, Rps, Threaded]),
        (Kind::Rules, &[Sender, Rps, Threaded]),
        (Kind::Rules200, &[Sender, Rps, Threaded]),
        (Kind::Nat, &[Sender, Rps, Threaded]),
        (Kind::Ipvs, &[Sender, Rps, Threaded]),
    ]
};

impl Kind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Trunk => "node-trunk",
            Self::Busy => "node-busy",
            Self::Fused => "node-fused",
            Self::L2fwd => "l2fwd",
            Self::Testpmd => "testpmd",
            Self::Ovs => "ovs",
            Self::Devmap => "devmap",
            Self::Forward => "kernel-forward",
            Self::Rules => "kernel-rules",
            Self::Rules200 => "kernel-200-rules",
            Self::Nat => "kernel-nft",
            Self::Ipvs => "kernel-ipvs",
        }
    }

    /// Where answers come in, for what keeps flows.
    #[must_use]
    pub const fn answered_at(self) -> Option<Socket> {
        match self {
            Self::Node | Self::Trunk | Self::Busy => Some(TRUNK),
            Self::Fused => Some(SERVER),
            Self::Nat | Self::Ipvs | Self::Ovs => Some(PRIMARY),
            Self::L2fwd | Self::Devmap | Self::Testpmd => None,
            Self::Forward | Self::Rules | Self::Rules200 => None,
        }
    }

    /// Where requests leave.
    #[must_use]
    pub const fn exit(self) -> Socket {
        match self {
            Self::Fused => SERVER,
            Self::Trunk => TRUNK,
            _ => PRIMARY,
        }
    }

    /// Whether it is the project's own, so that a failure is the bench's.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Node | Self::Trunk | Self::Busy | Self::Fused | Self::L2fwd)
    }

    const fn is_kernel(self) -> bool {
        matches!(self, Self::Forward | Self::Rules | Self::Rules200 | Self::Nat | Self::Ipvs)
    }
}

impl From<Kind> for Row {
    fn from(kind: Kind) -> Self {
        Self { kind, spread: Spread::Sender }
    }
}

impl Row {
    /// The node.
    pub const NODE: Self = Self { kind: Kind::Node, spread: Spread::Sender };
    /// The reference.
    pub const L2FWD: Self = Self { kind: Kind::L2fwd, spread: Spread::Sender };

    /// Every row, in the order in which reports show them.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().flat_map(|(kind, ways)| {
            ways.iter().map(|spread| Self { kind: *kind, spread: *spread })
        })
    }

    /// The row of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|row| row.to_string() == name)
    }

    /// What it is, in a line.
    #[must_use]
    pub fn about(self) -> String {
        let what = match self.kind {
            Kind::Node => "one node wired, the full pipeline",
            Kind::Trunk => "the same, requests tagged and by the trunk, as of Terway 1.4.2",
            Kind::Busy => "one node with --poll kernel-busy",
            Kind::Fused => "two nodes and the VPC, links fused, pod to pod",
            Kind::L2fwd => "bare AF_XDP forwarder, MAC addresses only",
            Kind::Devmap => "XDP redirect by a devmap, MAC addresses only",
            Kind::Forward => "kernel router, one route, no NAT",
            Kind::Rules => "kernel router, the ip rules of the lab's node, no NAT",
            Kind::Rules200 => "kernel router, 200 ip rules, no NAT",
            Kind::Nat => {
                "kernel router, the same rules, nftables as kube-proxy's: vmap, numgen, DNAT, masquerade"
            }
            Kind::Ipvs => "kernel router, the same rules, ipvs as kube-proxy's, DNAT",
            Kind::Testpmd => "DPDK testpmd on net_af_xdp, MAC addresses only",
            Kind::Ovs => "Open vSwitch userspace on afxdp: VLAN pop, conntrack, DNAT",
        };
        let spread = match self.spread {
            Spread::Sender => "",
            Spread::Rps => "; RPS to the other core",
            Spread::Threaded => "; threaded NAPI on the other core",
        };
        format!("{what}{spread}")
    }

    /// Why it does not take a load; `None` where it does.
    #[must_use]
    pub fn refuses(self, load: &Load) -> Option<&'static str> {
        match (load.input, self.kind) {
            (Input::Live, kind) if kind.is_kernel() => {
                Some("a veth takes XDP frames only where a NAPI is at its other end")
            }
            (Input::Live, Kind::Ovs) => Some("the XDP generator sends no tags"),
            (Input::Sockets, Kind::Ovs) => Some("a pod's stack sends no tags"),
            (_, Kind::Testpmd | Kind::Ovs) if load.sizes.is_jumbo() => {
                Some("its ports take no packets of several buffers")
            }
            (_, Kind::Fused) if load.services > 1 => {
                Some("its requests are counted at one endpoint, which has 50,000 flows")
            }
            (_, Kind::Nat | Kind::Ipvs | Kind::Ovs) if load.services > 1 => {
                Some("it is set up for one service, which has 50,000 flows")
            }
            _ => None,
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// Where a port cannot be opened or a tool refuses; nothing is left then.
    pub fn start(self, bed: &Bed, frames: &Frames, cores: Cores) -> anyhow::Result<Forwarder> {
        Ok(match self.kind {
            Kind::L2fwd => Forwarder::L2fwd(L2fwd::start(bed, frames, cores.forwarder)?),
            Kind::Node | Kind::Trunk | Kind::Fused => {
                Forwarder::Node(Node::start(bed, self.kind, Poll::Busy, cores.forwarder)?)
            }
            Kind::Busy => {
                Forwarder::Node(Node::start(bed, self.kind, Poll::KernelBusy, cores.forwarder)?)
            }
            Kind::Devmap => {
                Forwarder::Peer(Box::new(Devmap::start(bed, frames, self.spread, cores)?))
            }
            Kind::Testpmd => Forwarder::Peer(Box::new(Testpmd::start(bed, frames, cores)?)),
            Kind::Ovs => Forwarder::Peer(Box::new(Ovs::start(bed, frames, cores)?)),
            Kind::Forward | Kind::Rules | Kind::Rules200 | Kind::Nat | Kind::Ipvs => {
                Forwarder::Peer(Box::new(Kernel::start(self, bed, frames, cores)?))
            }
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        f.write_str(match self.spread {
            Spread::Sender => "",
            Spread::Rps => "-rps",
            Spread::Threaded => "-threaded",
        })
    }
}

/// What a forwarder has counted, in frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Taken from the pods' wires.
    pub received: u64,
    /// Handed to the wire by which requests leave.
    pub sent: u64,
    /// Lost on the pods' wires because the forwarder was too slow.
    pub ring_full: u64,
    /// Lost there for other reasons.
    pub rx_dropped: u64,
    /// Lost there because they took several frames and there was no memory to put them together in.
    pub no_memory: u64,
    /// Dropped by the forwarder, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// What does not add up; empty when all is well.
    pub imbalances: Vec<String>,
}

/// A forwarder that does not tell what it has counted. It is stopped, and what it has changed is as
/// before, when dropped.
pub trait Peer: fmt::Debug {
    /// Whose time its work takes; `None` where it is the sender's.
    fn clock(&self) -> Option<Clock>;
}

/// A running forwarder. It is stopped and its ports are closed when dropped.
#[derive(Debug)]
pub enum Forwarder {
    /// See [`Kind::L2fwd`].
    L2fwd(L2fwd),
    /// See [`Kind::Node`].
    Node(Node),
    /// Any other.
    Peer(Box<dyn Peer>),
}

impl Forwarder {
    /// What it has counted so far; `None` of one that does not tell.
    ///
    /// # Errors
    /// Where it has stopped by itself.
    pub fn books(&self, clients: u16) -> anyhow::Result<Option<Books>> {
        match self {
            Self::L2fwd(l2fwd) => l2fwd.books().map(Some),
            Self::Node(node) => node.books(clients).map(Some),
            Self::Peer(_) => Ok(None),
        }
    }

    /// Whose time its work takes; `None` where it is the sender's.
    #[must_use]
    pub fn clock(&self) -> Option<Clock> {
        match self {
            Self::L2fwd(l2fwd) => Some(l2fwd.clock()),
            Self::Node(node) => Some(node.clock()),
            Self::Peer(peer) => peer.clock(),
        }
    }

    /// The node's thread, where it is a node.
    #[must_use]
    pub const fn worker(&self) -> Option<&Worker> {
        match self {
            Self::Node(node) => Some(node.worker()),
            Self::L2fwd(_) | Self::Peer(_) => None,
        }
    }
}
