//! The node as it forwards in a lab: the same thread, loop and pipeline (spec BENCH-2).

use anyhow::Context;
use crossbeam::channel::bounded;
use datapath_io::LiveLink;

use crate::bench::bed::{self, Bed, CALI, PRIMARY};
use crate::bench::clock::Clock;
use crate::bench::forwarder::{Books, Forwarder, wires};
use crate::bench::machine::pin;
use crate::live::worker::{Poll, Worker};

/// A running node.
#[derive(Debug)]
pub struct Node {
    worker: Worker,
    clock: Clock,
}

impl Node {
    /// Starts it on a core, spinning.
    ///
    /// # Errors
    /// Where a port cannot be opened; nothing is left open then.
    pub fn start(bed: &Bed, core: usize) -> anyhow::Result<Self> {
        Self::start_polling(bed, core, Poll::Busy)
    }

    /// Starts it on a core, waiting for frames in a given way.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_polling(bed: &Bed, core: usize, poll: Poll) -> anyhow::Result<Self> {
        let (lab, memory) = (bed.lab.clone(), bed.memory.clone());
        let sites = bed.ground.places.sites.clone();
        let (tell, told) = bounded(1);
        let open = move || {
            pin(core)?;
            let _ = tell.send(Clock::Thread(nix::unistd::gettid().as_raw()));
            Ok(LiveLink::open(lab, &memory, &sites, bed::enter)?)
        };
        let worker = Worker::start(open, poll)?;
        Ok(Self { worker, clock: told.recv().context("the forwarder has no thread")? })
    }
}

impl Forwarder for Node {
    fn clock(&self) -> Option<Clock> {
        Some(self.clock)
    }

    fn stop(self: Box<Self>) -> anyhow::Result<Option<Books>> {
        let mut books = self.worker.call(|link, _| books(link))??;
        self.worker.stop();
        books.imbalances.extend(self.worker.imbalances());
        Ok(Some(books))
    }
}

fn books(link: &LiveLink) -> anyhow::Result<Books> {
    let (_, node, ports) = link.elements().next().context("the link has no node")?;
    let port = |at: datapath::link::Socket| {
        ports.get(usize::from(at.port.0)).context("the node has no such port")
    };
    let mut books = wires(port(CALI)?, port(PRIMARY)?)?;
    let drops = node.ledger().dropped.nonzero();
    books.dropped.extend(drops.map(|(reason, count)| (reason.name().to_owned(), count)));
    books.imbalances = link.imbalances();
    Ok(books)
}
