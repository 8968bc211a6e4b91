//! What is measured, and what it is held against: each stands on the same veths, between the
//! same far ends.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use anyhow::Context;
use datapath::link::Socket;
use datapath_io::XskPort;

use super::bed::{Bed, PRIMARY, TRUNK};
use super::clock::Clock;
use super::frames::Frames;
use super::generator::Input;
use super::machine::Cores;
use super::peer::devmap::Devmap;
use super::peer::kernel::Kernel;
use super::peer::l2fwd::L2fwd;
use super::peer::node::Node;
use super::peer::ovs::Ovs;
use super::peer::testpmd::Testpmd;

/// What forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The node, with everything it does to a packet.
    Node,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spread {
    /// The sender's does it all, as it is without settings.
    Sender,
    /// Receive packet steering to the forwarder's processor.
    Rps,
    /// A threaded NAPI on the forwarder's processor.
    Threaded,
}

/// A row of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// What forwards.
    pub kind: Kind,
    /// Where, if it is the kernel.
    pub spread: Spread,
}

/// Everything there is, with its name and in how many ways it spreads.
const KINDS: [(Kind, &str, &[Spread]); 10] = {
    use Spread::{Rps, Sender, Threaded};
    [
        (Kind::Node, "node", &[Sender]),
        (Kind::L2fwd, "l2fwd", &[Sender]),
        (Kind::Testpmd, "testpmd", &[Sender]),
        (Kind::Ovs, "ovs", &[Sender]),
        (Kind::Devmap, "devmap", &[Sender, Threaded]),
        (Kind::Forward, "kernel-forward", &[Sender, Rps, Threaded]),
        (Kind::Rules, "kernel-rules", &[Sender, Rps, Threaded]),
        (Kind::Rules200, "kernel-200-rules", &[Sender, Rps, Threaded]),
        (Kind::Nat, "kernel-nft", &[Sender, Rps, Threaded]),
        (Kind::Ipvs, "kernel-ipvs", &[Sender, Rps, Threaded]),
    ]
};

impl Row {
    /// The node.
    pub const NODE: Self = Self { kind: Kind::Node, spread: Spread::Sender };
    /// The reference.
    pub const L2FWD: Self = Self { kind: Kind::L2fwd, spread: Spread::Sender };

    /// Every row, in the order in which reports show them.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().flat_map(|(kind, _, ways)| {
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
            Kind::Node => "one node wired, the full pipeline, scenario S8",
            Kind::L2fwd => "bare AF_XDP forwarder, MAC addresses only",
            Kind::Devmap => "XDP redirect by a devmap, MAC addresses only",
            Kind::Forward => "kernel router, one route, no NAT",
            Kind::Rules => "kernel router, the ip rules of the lab's node, no NAT",
            Kind::Rules200 => "kernel router, 200 ip rules, no NAT",
            Kind::Nat => "kernel router, nftables as kube-proxy's: vmap, numgen, DNAT, masquerade",
            Kind::Ipvs => "kernel router, ipvs as kube-proxy's, DNAT",
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

    /// Processors that forward and send, together.
    #[must_use]
    pub const fn cores(self) -> usize {
        match (self.kind, self.spread) {
            (Kind::Node | Kind::L2fwd | Kind::Testpmd | Kind::Ovs, _) => 2,
            (_, Spread::Sender) => 1,
            (_, Spread::Rps | Spread::Threaded) => 2,
        }
    }

    /// Why it takes no frames that come in this way; `None` where it does.
    #[must_use]
    pub fn refuses(self, input: Input) -> Option<&'static str> {
        let is_kernel = matches!(
            self.kind,
            Kind::Forward | Kind::Rules | Kind::Rules200 | Kind::Nat | Kind::Ipvs
        );
        match (input, self.kind) {
            (Input::Live, _) if is_kernel => {
                Some("a veth takes XDP frames only where a NAPI is at its other end")
            }
            (Input::Live, Kind::Ovs) => Some("the XDP generator sends no tags"),
            _ => None,
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// Where a port cannot be opened or a tool refuses; nothing is left then.
    pub fn start(
        self,
        bed: &Bed,
        frames: &Frames,
        cores: Cores,
    ) -> anyhow::Result<Box<dyn Forwarder>> {
        Ok(match self.kind {
            Kind::Node => Box::new(Node::start(bed, cores.forwarder)?),
            Kind::L2fwd => Box::new(L2fwd::start(bed, frames, cores.forwarder)?),
            Kind::Devmap => Box::new(Devmap::start(bed, frames, self.spread, cores)?),
            Kind::Testpmd => Box::new(Testpmd::start(bed, frames, cores)?),
            Kind::Ovs => Box::new(Ovs::start(bed, frames, cores)?),
            Kind::Forward | Kind::Rules | Kind::Rules200 | Kind::Nat | Kind::Ipvs => {
                Box::new(Kernel::start(self, bed, frames, cores)?)
            }
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|(kind, ..)| *kind == self.kind);
        f.write_str(name.map_or("", |(_, name, _)| name))?;
        f.write_str(match self.spread {
            Spread::Sender => "",
            Spread::Rps => "-rps",
            Spread::Threaded => "-threaded",
        })
    }
}

impl Kind {
    /// What the pod sends.
    #[must_use]
    pub fn request(self, frames: &Frames, flow: u32) -> Vec<u8> {
        match self {
            Self::Ovs => frames.tagged_request(flow),
            _ => frames.request(flow),
        }
    }

    /// What a request of a flow has become where it leaves.
    #[must_use]
    pub fn expected(self, frames: &Frames, flow: u32) -> Vec<u8> {
        match self {
            Self::L2fwd | Self::Devmap | Self::Testpmd => frames.passed_on(flow),
            Self::Node | Self::Ovs | Self::Ipvs => frames.forwarded(flow),
            Self::Forward | Self::Rules | Self::Rules200 => frames.routed(flow),
            Self::Nat => frames.masqueraded(flow),
        }
    }

    /// Where answers come in, for what keeps flows.
    #[must_use]
    pub const fn answered_at(self) -> Option<Socket> {
        match self {
            Self::Node => Some(TRUNK),
            Self::Nat | Self::Ipvs | Self::Ovs => Some(PRIMARY),
            Self::L2fwd | Self::Devmap | Self::Testpmd => None,
            Self::Forward | Self::Rules | Self::Rules200 => None,
        }
    }

    /// The answer to a request of a flow, and what the pod gets of it.
    #[must_use]
    pub fn answer(self, frames: &Frames, flow: u32) -> [Vec<u8>; 2] {
        match self {
            Self::Node => [frames.answer(flow), frames.answered(flow)],
            Self::Nat => [frames.masqueraded_answer(flow), frames.answered(flow)],
            Self::Ovs => [frames.plain_answer(flow), frames.tagged_answered(flow)],
            Self::Ipvs => [frames.plain_answer(flow), frames.answered(flow)],
            _ => [frames.routed_answer(flow), frames.answered(flow)],
        }
    }
}

/// What a forwarder has counted, in frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Taken from the pod's wire.
    pub received: u64,
    /// Handed to eth0's wire.
    pub sent: u64,
    /// Lost on the pod's wire because the forwarder was too slow.
    pub ring_full: u64,
    /// Lost there for other reasons.
    pub rx_dropped: u64,
    /// Dropped by the forwarder, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// What does not add up; empty when all is well.
    pub imbalances: Vec<String>,
}

/// A running forwarder. It is stopped, and what it has changed is as before, when dropped.
pub trait Forwarder: Debug {
    /// Whose time its work takes; `None` where it is the sender's.
    fn clock(&self) -> Option<Clock>;

    /// Stops it. `None` of one that does not tell what it has counted.
    ///
    /// # Errors
    /// Where it had stopped by itself.
    fn stop(self: Box<Self>) -> anyhow::Result<Option<Books>>;
}

/// What two ports have counted.
pub(super) fn wires(pod: &XskPort<'_>, eth0: &XskPort<'_>) -> anyhow::Result<Books> {
    let kernel = pod.kernel_counters().context("read the kernel's counters")?;
    let refused: u64 = eth0.counters().map(|q| q.tx_full + q.tx_invalid + q.tx_gone).sum();
    Ok(Books {
        received: pod.counters().map(|queue| queue.rx).sum(),
        sent: eth0.counters().map(|queue| queue.tx).sum(),
        ring_full: kernel.iter().map(|queue| queue.rx_ring_full).sum(),
        rx_dropped: kernel.iter().map(|queue| queue.rx_dropped).sum(),
        dropped: (refused > 0).then(|| ("port".to_owned(), refused)).into_iter().collect(),
        imbalances: Vec::new(),
    })
}
