//! What takes frames and gives verdicts: the three calls that drive a node and the VPC.

use crate::counters::Ledger;
use crate::journey::{Journal, PortId};
use crate::port::Buffer;
use crate::time::Time;

/// Frames that most batches have at most: for so many there is room from the start.
pub(crate) const BATCH: usize = 64;

/// A port and one of its queues.
// So that a copy is one move: pieces, written and read again at once, stall.
#[repr(align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The port.
    pub port: PortId,
    /// The queue; 0 on a port that has only one.
    pub queue: u16,
}

/// A frame that leaves an element.
#[derive(Debug)]
pub struct Departure<B> {
    /// By which port and queue.
    pub place: Place,
    /// The frame as it goes on the wire.
    pub frame: B,
}

/// Where an element puts what it sends, and where it takes buffers and keeps its journal.
#[derive(Debug)]
pub struct Output<B> {
    /// Frames to send, in order. The caller takes them out after each call.
    pub departures: Vec<Departure<B>>,
    /// Empty buffers for frames that the element makes. The caller keeps some here; where none is
    /// left, such a frame is dropped as [`NoBuffer`](crate::verdict::DropReason::NoBuffer).
    pub blanks: Vec<B>,
    /// The record of hops.
    pub journal: Journal,
}

impl<B> Default for Output<B> {
    fn default() -> Self {
        Self { departures: Vec::new(), blanks: Vec::new(), journal: Journal::default() }
    }
}

/// A node or the VPC. Nothing but these calls drives it (spec LAW-1).
pub trait Element<B: Buffer> {
    /// Takes every frame out of `batch`, all of which came in at `place`, and puts what is to be
    /// sent into `out`.
    fn process(&mut self, batch: &mut Vec<B>, place: Place, now: Time, out: &mut Output<B>);

    /// The next moment at which [`on_time`](Self::on_time) has something to do.
    fn poll_at(&self) -> Option<Time>;

    /// Does what is due: expires flows, repeats ARP requests, gives up on neighbours.
    fn on_time(&mut self, now: Time, out: &mut Output<B>);

    /// The terms of the conservation law so far.
    fn ledger(&self) -> &Ledger;

    /// Frames that wait inside the element.
    fn held(&self) -> u64;
}
