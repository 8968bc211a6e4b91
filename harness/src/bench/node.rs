//! The node as it is measured: by itself between veths, or with the VPC and the endpoint's node
//! behind fused links, where one thread runs all three. It forwards as in a lab: the same thread and
//! loop.

use anyhow::{Context, anyhow};
use crossbeam::channel::bounded;
use datapath::link::Socket;
use datapath_io::{LiveLink, PortView, Site, Waiter, XskPort};

use super::bed::{self, Bed, NODE, cali};
use super::clock::Clock;
use super::forwarder::{Books, Kind};
use super::machine::pin;
use crate::live::worker::{Poll, Seat, Worker, defer_interrupts, restore_interrupts};

/// A node that forwards. It is stopped and its ports are closed when dropped.
#[derive(Debug)]
pub struct Node {
    worker: Worker,
    clock: Clock,
    /// Where requests leave.
    exit: Socket,
    _deferral: Option<Deferral>,
}

impl Node {
    /// Starts it on a core, in the way in which it is measured as `kind`.
    ///
    /// # Errors
    /// Where a port cannot be opened or the kernel refuses; nothing is left then.
    pub fn start(bed: &Bed, kind: Kind, poll: Poll, core: usize) -> anyhow::Result<Self> {
        let (lab, memory) = match kind {
            Kind::Fused => bed.fused()?,
            Kind::Trunk => (bed.trunked(), bed.memory.clone()),
            _ => (bed.lab.clone(), bed.memory.clone()),
        };
        let sites = bed.ground.places.sites.clone();
        let deferral = match poll {
            Poll::KernelBusy => Some(Deferral::of(bed)?),
            Poll::Busy | Poll::Adaptive => None,
        };
        let (tell, told) = bounded(1);
        let open = move || {
            let link = LiveLink::open(lab, &memory, None, &sites, bed::enter)?;
            pin(core)?;
            let _ = tell.send(Clock::this_thread());
            Ok(link)
        };
        let worker = Worker::start(vec![Seat::new(Waiter::new()?, open)], poll)?;
        let clock = told.recv().context("the forwarder has no thread")?;
        Ok(Self { worker, clock, exit: kind.exit(), _deferral: deferral })
    }
}

/// Looking at it.
impl Node {
    /// Its thread.
    #[must_use]
    pub const fn worker(&self) -> &Worker {
        &self.worker
    }

    /// The time of that.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// What it has counted so far.
    ///
    /// # Errors
    /// Where it has stopped by itself.
    pub fn books(&self, clients: u16) -> anyhow::Result<Books> {
        let mut books = self.worker.call(|link, _| books(link, clients, self.exit))??;
        books.imbalances.extend(self.worker.imbalances());
        Ok(books)
    }
}

/// The node's devices, whose interrupts wait while somebody polls, until this is dropped.
#[derive(Debug)]
struct Deferral(Vec<Site>);

impl Deferral {
    fn of(bed: &Bed) -> anyhow::Result<Self> {
        // At the far ends of its wires nobody polls.
        let sites = bed.ground.places.sites.iter().filter(|site| site.socket.element == NODE);
        let deferral = Self(sites.cloned().collect());
        defer_interrupts(&deferral.0)?;
        Ok(deferral)
    }
}

impl Drop for Deferral {
    fn drop(&mut self) {
        if let Err(error) = restore_interrupts(&self.0) {
            tracing::warn!(%error, "a setting of a device stays");
        }
    }
}

/// What was counted at the pods' ports and the one by which requests leave, and dropped anywhere.
fn books(link: &LiveLink, clients: u16, exit: Socket) -> anyhow::Result<Books> {
    let device = |socket: Socket| {
        let ports = link.ports(socket.element);
        match ports.into_iter().find(|(other, _)| *other == socket) {
            Some((_, PortView::Device(port))) => Ok(port),
            _ => Err(anyhow!("the link has no such device")),
        }
    };
    let pods = (0..clients).map(|pod| device(cali(pod))).collect::<anyhow::Result<Vec<_>>>()?;
    let mut books = wires(&pods, device(exit)?)?;
    for (id, element) in link.elements() {
        for (reason, count) in element.ledger().dropped.nonzero() {
            *books.dropped.entry(reason.name().to_owned()).or_default() += count;
        }
        for (_, port) in link.ports(id) {
            let PortView::Fused(queues) = port else { continue };
            let lost: u64 = queues.iter().map(|queue| queue.counters.full + queue.no_frame).sum();
            if lost > 0 {
                *books.dropped.entry("fusedLink".to_owned()).or_default() += lost;
            }
        }
    }
    books.imbalances = link.imbalances();
    Ok(books)
}

/// What the ports of the way have counted: those of the pods, and the one by which requests leave.
pub(super) fn wires(pods: &[&XskPort<'_>], exit: &XskPort<'_>) -> anyhow::Result<Books> {
    let refused = exit.counters().map(|q| q.tx_full + q.tx_invalid + q.tx_gone + q.tx_no_frame);
    let refused = refused.sum::<u64>();
    let mut books = Books {
        sent: exit.counters().map(|queue| queue.tx).sum(),
        dropped: (refused > 0).then(|| ("port".to_owned(), refused)).into_iter().collect(),
        ..Books::default()
    };
    for pod in pods {
        let kernel = pod.kernel_counters().context("read the kernel's counters")?;
        for queue in pod.counters() {
            books.received += queue.rx;
            books.no_memory += queue.rx_no_memory;
        }
        books.ring_full += kernel.iter().map(|queue| queue.rx_ring_full).sum::<u64>();
        books.rx_dropped += kernel.iter().map(|queue| queue.rx_dropped).sum::<u64>();
    }
    Ok(books)
}
