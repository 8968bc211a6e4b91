//! What is measured: the node as it forwards in a lab, and the least that forwards at all. Both
//! have the same devices, packet memory, ring sizes, batch and core.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow};
use datapath::link::Socket;
use datapath_io::{LiveLink, PortView, Waiter, XskPort};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bed::{self, Bed, PRIMARY, cali};
use super::frames::Frames;
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
}

impl Kind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L2fwd => "l2fwd",
            Self::Node => "node",
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
                Ok(Forwarder::Node(Worker::start(
                    vec![Seat::new(Waiter::new()?, open)],
                    Poll::Busy,
                )?))
            }
        }
    }
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

/// A running forwarder. It is stopped and its ports are closed when dropped.
#[derive(Debug)]
pub enum Forwarder {
    /// See [`Kind::L2fwd`].
    L2fwd(L2fwd),
    /// See [`Kind::Node`].
    Node(Worker),
}

impl Forwarder {
    /// What it has counted so far.
    ///
    /// # Errors
    /// Where it has stopped by itself.
    pub fn books(&self, clients: u16) -> anyhow::Result<Books> {
        match self {
            Self::L2fwd(l2fwd) => l2fwd.books(),
            Self::Node(worker) => {
                let mut books = worker.call(move |link, _| node_books(link, clients))??;
                books.imbalances.extend(worker.imbalances());
                Ok(books)
            }
        }
    }

    /// The node's thread, where it is a node.
    #[must_use]
    pub const fn worker(&self) -> Option<&Worker> {
        match self {
            Self::L2fwd(_) => None,
            Self::Node(worker) => Some(worker),
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
