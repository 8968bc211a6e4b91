//! What is measured: the node as it forwards in a lab, and the least that forwards at all. Both
//! have the same devices, packet memory, ring sizes, batch and core.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use datapath::link::Socket;
use datapath_io::{LiveLink, PortView, Waiter, XskPort};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bed::{self, Bed, CALI, PRIMARY};
use super::frames::Frames;
use super::fused;
use super::l2fwd::L2fwd;
use super::machine::pin;
use crate::live::worker::{Poll, Seat, Worker};

/// A forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Two ports and nothing between them but other MAC addresses.
    L2fwd,
    /// The node, with everything it does to a packet.
    Node,
    /// Two nodes and the VPC, their links fused.
    Fused,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L2fwd => "l2fwd",
            Self::Node => "node",
            Self::Fused => "fused",
        }
    }

    /// What a request of a flow has become where it leaves.
    #[must_use]
    pub fn expected(self, frames: &Frames, flow: u16) -> Vec<u8> {
        match self {
            Self::L2fwd => frames.passed_on(flow),
            Self::Node | Self::Fused => frames.forwarded(flow),
        }
    }

    /// Starts it on a core.
    ///
    /// # Errors
    /// Where a port cannot be opened; nothing is left open then.
    pub fn start(self, bed: &Bed, frames: &Frames, core: usize) -> anyhow::Result<Forwarder> {
        match self {
            Self::L2fwd => Ok(Forwarder::L2fwd(L2fwd::start(bed, frames, core)?)),
            Self::Node => {
                let (lab, memory) = (bed.lab.clone(), bed.memory.clone());
                let sites = bed.ground.places.sites.clone();
                let open = move || {
                    let link = LiveLink::open(lab, &memory, None, &sites, bed::enter)?;
                    pin(core)?;
                    Ok(link)
                };
                let seat = Seat::new(Waiter::new()?, open);
                Ok(Forwarder::Node(Worker::start(vec![seat], Poll::Busy)?))
            }
            Self::Fused => Ok(Forwarder::Fused(fused::start(bed, core)?, bed.exit)),
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

/// A running forwarder. It is stopped and its ports are closed when dropped.
#[derive(Debug)]
pub enum Forwarder {
    /// See [`Kind::L2fwd`].
    L2fwd(L2fwd),
    /// See [`Kind::Node`].
    Node(Worker),
    /// See [`Kind::Fused`], with where requests leave.
    Fused(Worker, Socket),
}

impl Forwarder {
    /// Stops it and closes its ports.
    ///
    /// # Errors
    /// Where it had stopped by itself.
    pub fn stop(self) -> anyhow::Result<Books> {
        match self {
            Self::L2fwd(l2fwd) => l2fwd.stop(),
            Self::Node(worker) => closed(&worker, worker.call(|link, _| node_books(link))??),
            Self::Fused(worker, exit) => {
                closed(&worker, worker.call(|link, _| fused::books(link, exit))??)
            }
        }
    }
}

/// Stops a worker, and adds what its checks have found to its books.
fn closed(worker: &Worker, mut books: Books) -> anyhow::Result<Books> {
    worker.stop();
    books.imbalances.extend(worker.imbalances());
    Ok(books)
}

fn node_books(link: &LiveLink) -> anyhow::Result<Books> {
    let (id, node) = link.elements().into_iter().next().context("the link has no node")?;
    let ports = link.ports(id);
    let port = |at: Socket| match ports.get(usize::from(at.port.0)) {
        Some((_, PortView::Device(port))) => Ok(*port),
        _ => Err(anyhow!("the node has no such device")),
    };
    let mut books = wires(port(CALI)?, port(PRIMARY)?)?;
    let drops = node.ledger().dropped.nonzero();
    books.dropped.extend(drops.map(|(reason, count)| (reason.name().to_owned(), count)));
    books.imbalances = link.imbalances();
    Ok(books)
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
