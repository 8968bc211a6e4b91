//! What is measured: the node as it forwards in a lab, the least that forwards at all, and other
//! forwarders. Each stands on the same veths, between the same far ends; the node and the reference
//! have the same packet memory, ring sizes, batch and core besides.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, anyhow};
use crossbeam::channel::bounded;
use datapath::link::Socket;
use datapath_io::{LiveLink, PortView, Waiter, XskPort};

use super::bed::{self, Bed, PRIMARY, TRUNK, cali};
use super::clock::Clock;
use super::frames::Frames;
use super::generator::Input;
use super::l2fwd::L2fwd;
use super::load::Load;
use super::machine::{Cores, pin};
use super::peer::devmap::Devmap;
use super::peer::kernel::Kernel;
use super::peer::ovs::Ovs;
use super::peer::testpmd::Testpmd;
use crate::live::worker::{Poll, Seat, Worker};

/// What forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
const KINDS: [(Kind, &[Spread]); 10] = {
    use Spread::{Rps, Sender, Threaded};
    [
        (Kind::Node, &[Sender]),
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
            Self::Node => Some(TRUNK),
            Self::Nat | Self::Ipvs | Self::Ovs => Some(PRIMARY),
            Self::L2fwd | Self::Devmap | Self::Testpmd => None,
            Self::Forward | Self::Rules | Self::Rules200 => None,
        }
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

    /// Why it does not take a load; `None` where it does.
    #[must_use]
    pub fn refuses(self, load: &Load) -> Option<&'static str> {
        match (load.input, self.kind) {
            (Input::Live, kind) if kind.is_kernel() => {
                Some("a veth takes XDP frames only where a NAPI is at its other end")
            }
            (Input::Live, Kind::Ovs) => Some("the XDP generator sends no tags"),
            (Input::Sockets, Kind::Ovs) => Some("a pod's stack sends no tags"),
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
            Kind::Node => start_node(bed, cores.forwarder)?,
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

fn start_node(bed: &Bed, core: usize) -> anyhow::Result<Forwarder> {
    let (lab, memory) = (bed.lab.clone(), bed.memory.clone());
    let sites = bed.ground.places.sites.clone();
    let (tell, told) = bounded(1);
    let open = move || {
        let link = LiveLink::open(lab, &memory, None, &sites, bed::enter)?;
        pin(core)?;
        let _ = tell.send(Clock::this_thread());
        Ok(link)
    };
    let worker = Worker::start(vec![Seat::new(Waiter::new()?, open)], Poll::Busy)?;
    let clock = told.recv().context("the forwarder has no thread")?;
    Ok(Forwarder::Node { worker, clock })
}

/// What a forwarder has counted, in frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Taken from the pods' wires.
    pub received: u64,
    /// Handed to eth0's wire.
    pub sent: u64,
    /// Lost on the pods' wires because the forwarder was too slow.
    pub ring_full: u64,
    /// Lost there for other reasons.
    pub rx_dropped: u64,
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
    Node {
        /// Its thread.
        worker: Worker,
        /// The time of that.
        clock: Clock,
    },
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
            Self::Node { worker, .. } => {
                let mut books = worker.call(move |link, _| node_books(link, clients))??;
                books.imbalances.extend(worker.imbalances());
                Ok(Some(books))
            }
            Self::Peer(_) => Ok(None),
        }
    }

    /// Whose time its work takes; `None` where it is the sender's.
    #[must_use]
    pub fn clock(&self) -> Option<Clock> {
        match self {
            Self::L2fwd(l2fwd) => Some(l2fwd.clock()),
            Self::Node { clock, .. } => Some(*clock),
            Self::Peer(peer) => peer.clock(),
        }
    }

    /// The node's thread, where it is a node.
    #[must_use]
    pub const fn worker(&self) -> Option<&Worker> {
        match self {
            Self::Node { worker, .. } => Some(worker),
            Self::L2fwd(_) | Self::Peer(_) => None,
        }
    }
}

fn node_books(link: &LiveLink, clients: u16) -> anyhow::Result<Books> {
    let (id, node) = link.elements().into_iter().next().context("the link has no node")?;
    let ports = link.ports(id);
    let port = |at: Socket| match ports.get(usize::from(at.port.0)) {
        Some((_, PortView::Device(port))) => Ok(*port),
        _ => Err(anyhow!("the node has no such device")),
    };
    let pods = (0..clients).map(|pod| port(cali(pod))).collect::<anyhow::Result<Vec<_>>>()?;
    let mut books = wires(&pods, port(PRIMARY)?)?;
    let drops = node.ledger().dropped.nonzero();
    books.dropped.extend(drops.map(|(reason, count)| (reason.name().to_owned(), count)));
    books.imbalances = link.imbalances();
    Ok(books)
}

/// What the ports of the way have counted: those of the pods, and eth0.
pub(super) fn wires(pods: &[&XskPort<'_>], eth0: &XskPort<'_>) -> anyhow::Result<Books> {
    let refused: u64 = eth0.counters().map(|q| q.tx_full + q.tx_invalid + q.tx_gone).sum();
    let mut books = Books {
        sent: eth0.counters().map(|queue| queue.tx).sum(),
        dropped: (refused > 0).then(|| ("port".to_owned(), refused)).into_iter().collect(),
        ..Books::default()
    };
    for pod in pods {
        let kernel = pod.kernel_counters().context("read the kernel's counters")?;
        books.received += pod.counters().map(|queue| queue.rx).sum::<u64>();
        books.ring_full += kernel.iter().map(|queue| queue.rx_ring_full).sum::<u64>();
        books.rx_dropped += kernel.iter().map(|queue| queue.rx_dropped).sum::<u64>();
    }
    Ok(books)
}
