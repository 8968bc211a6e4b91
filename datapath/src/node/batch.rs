//! A batch of frames. Tables larger than the cache would make every packet wait several times, so that
//! what a packet will look up is fetched while those before it are handled: first the line of the
//! index, then the flow that this names, then the flow's connection. Then each goes its way, by what
//! its flow or others before have learned, or through the hooks. Fetching changes nothing, and nothing
//! depends on it.

use std::net::Ipv4Addr;
use std::ops::ControlFlow::Continue;

use super::Node;
use super::config::ETH1;
use super::passage::Framed;
use crate::element::{BATCH, Departure, Output, Place};
use crate::journey::PortId;
use crate::port::Buffer;
use crate::time::Time;
use crate::wire::ethernet::{self, Tag};
use crate::wire::{Mac, Plain, Protocol, Tuple};

/// Flows from which on tables are larger than what of the cache the kernel leaves, whose work for the
/// batch before went through it. In memory, where nothing does, a thousand flows would be fitting.
const LARGE: u32 = 512;

/// How many packets before its turn the line of a packet's index is fetched, its flow, and its
/// connection: each long enough after the one before, all of them no more than the processor fetches
/// at a time.
const AHEAD: [usize; 3] = [12, 8, 4];

/// Room for frames that the trunk's queues give up at once, and for what is seen of a batch ahead.
#[derive(Debug)]
pub(super) struct Batch<B> {
    frames: Vec<B>,
    queues: Vec<u16>,
    ahead: Vec<Sight>,
}

/// What is known of a packet before its turn: its tuple with the hash of that, and the slot where its
/// flow most likely is.
#[derive(Clone, Copy, Debug)]
struct Sight {
    tuple: Tuple<Ipv4Addr>,
    hash: u64,
    slot: Option<u32>,
}

impl<B> Batch<B> {
    /// Room for a batch.
    pub(super) fn new() -> Self {
        let (frames, queues) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        Self { frames, queues, ahead: Vec::with_capacity(BATCH) }
    }
}

/// Without room: what stands in for it while it is used.
impl<B> Default for Batch<B> {
    fn default() -> Self {
        Self { frames: Vec::new(), queues: Vec::new(), ahead: Vec::new() }
    }
}

impl<B: Buffer> Node<B> {
    /// Whether packets may take learned paths: not while each has to be recorded.
    pub(super) fn uses_cache(&self, out: &Output<B>) -> bool {
        self.config.switches.flow_cache && !out.journal.is_open()
    }

    /// Takes frames that came in at `place`. On the trunk, those that are not of one member ENI, or find
    /// others waiting, are left to wait in their queues.
    pub(super) fn take(
        &mut self,
        frames: &mut Vec<B>,
        Place { port, queue: arrived_on }: Place,
        now: Time,
        out: &mut Output<B>,
    ) {
        let mut batch = std::mem::take(&mut self.batch);
        let passes = port != ETH1 || self.pass_trunk(frames, arrived_on, &mut batch.queues);
        if passes {
            self.ledger.received += frames.len() as u64;
            self.handle(frames, &batch.queues, &mut batch.ahead, port, now, out);
            batch.queues.clear();
        }
        self.batch = batch;
    }

    /// Takes the tags off frames that need not wait in a queue of the trunk, and notes which one for
    /// each.
    fn pass_trunk(&mut self, frames: &mut [B], arrived_on: u16, queues: &mut Vec<u16>) -> bool {
        let Some(queue) = self.common_queue(frames) else { return false };
        let passes = self.trunk.pass(queue, arrived_on, frames.len());
        if passes {
            frames.iter_mut().for_each(untag);
            queues.resize(frames.len(), queue);
        }
        passes
    }

    /// The queue that the tags of all these frames name.
    fn common_queue(&self, frames: &[B]) -> Option<u16> {
        let tags = frames.iter().map(|frame| ethernet::tag(frame.bytes()));
        let mut queues = tags.map(|tag| self.trunk.queue_of(tag.and_then(Tag::vid)));
        let first = queues.next()?;
        queues.all(|queue| queue == first).then_some(first)
    }

    /// Serves the trunk's queues in turn until they are empty. Nobody wants the record any more that
    /// a frame may have from before the journal was closed.
    pub(super) fn take_from_trunk(&mut self, now: Time, out: &mut Output<B>) {
        let mut batch = std::mem::take(&mut self.batch);
        let Batch { frames, queues, ahead } = &mut batch;
        loop {
            while frames.len() < BATCH
                && let Some((queue, Framed { mut frame, .. })) = self.trunk.pop()
            {
                untag(&mut frame);
                frames.push(frame);
                queues.push(queue);
            }
            if frames.is_empty() {
                break;
            }
            self.handle(frames, queues, ahead, ETH1, now, out);
            queues.clear();
        }
        self.batch = batch;
    }

    /// Handles frames that came in by `port`, on these queues of it or on its only one.
    fn handle(
        &mut self,
        frames: &mut Vec<B>,
        queues: &[u16],
        ahead: &mut Vec<Sight>,
        port: PortId,
        now: Time,
        out: &mut Output<B>,
    ) {
        let mac = self.config.interface(port).map_or(Mac::BROADCAST, |interface| interface.mac);
        let place = |at: usize| Place { port, queue: queues.get(at).copied().unwrap_or(0) };
        if self.conntrack.len() >= LARGE {
            ahead.extend(frames.iter().map(|frame| self.sight(peek(frame.bytes()))));
            let [index, flow, connection] = AHEAD;
            (0..index).for_each(|at| self.fetch_index(ahead.get(at)));
            (0..flow).for_each(|at| self.fetch_flow(ahead.get_mut(at), place(at)));
            (0..connection).for_each(|at| self.fetch_connection(ahead.get(at)));
        }
        for (at, mut frame) in frames.drain(..).enumerate() {
            if !ahead.is_empty() {
                let [index, flow, connection] = AHEAD.map(|distance| at + distance);
                self.fetch_index(ahead.get(index));
                self.fetch_flow(ahead.get_mut(flow), place(flow));
                self.fetch_connection(ahead.get(connection));
            }
            let Some(packet) = Plain::read(frame.bytes(), mac) else {
                self.accept(Framed { frame, hop: None }, place(at), now, out);
                continue;
            };
            let sight = ahead.get(at).copied().unwrap_or_else(|| self.sight(packet.tuple));
            let Sight { hash, slot, .. } = sight;
            if let Some(exit) = self.hit(&mut frame, &packet, hash, slot, place(at), now) {
                self.cache.hits += 1;
                self.ledger.sent += 1;
                out.departures.push(Departure { place: exit, frame });
            } else if let Continue(frame) = self.open(frame, &packet, hash, place(at), now, out) {
                self.accept(Framed { frame, hop: None }, place(at), now, out);
            }
        }
        ahead.clear();
    }

    /// What is known of a packet with this tuple while nothing has been looked up.
    #[inline(always)]
    fn sight(&self, tuple: Tuple<Ipv4Addr>) -> Sight {
        Sight { tuple, hash: self.conntrack.hash_of(&tuple), slot: None }
    }

    /// Has fetched what looking for a packet's flow reads first.
    #[inline(always)]
    fn fetch_index(&self, ahead: Option<&Sight>) {
        if let Some(sight) = ahead {
            self.conntrack.prefetch(sight.hash);
        }
    }

    /// Has a packet's flow fetched, and remembers where it is; of a flow to be, what it will need.
    #[inline(always)]
    fn fetch_flow(&self, ahead: Option<&mut Sight>, place: Place) {
        let Some(sight) = ahead else { return };
        sight.slot = self.conntrack.prefetch_flow(sight.hash);
        if sight.slot.is_none() {
            self.fetch_newcomer(sight, place);
        }
    }

    /// Has fetched what ipvs will be asked about the first packet of a flow, and where both tables will
    /// remember one that begins so many packets later.
    #[inline(never)]
    fn fetch_newcomer(&self, Sight { tuple, hash, .. }: &Sight, place: Place) {
        let [_, distance, _] = AHEAD;
        self.connections().prefetch(*hash);
        self.connections().prefetch_vacant(distance as u32);
        self.conntrack.prefetch_vacant(distance as u32);
        self.prefetch_opening(tuple, place);
    }

    /// Has the connection of a packet's flow fetched.
    #[inline(always)]
    fn fetch_connection(&self, ahead: Option<&Sight>) {
        if let Some(Sight { slot: Some(slot), .. }) = ahead
            && let Some(connection) = self.conntrack.connection_at(*slot)
        {
            self.connections().prefetch_record(connection);
        }
    }
}

/// Takes the tag off a frame that has one.
fn untag<B: Buffer>(frame: &mut B) {
    if ethernet::tag(frame.bytes()).is_some() {
        ethernet::pop(frame);
    }
}

/// The tuple of an ordinary packet, unchecked. Any other has some tuple too: what is fetched for that
/// changes nothing.
#[inline(always)]
fn peek(frame: &[u8]) -> Tuple<Ipv4Addr> {
    let ip = frame.get(ethernet::HEADER_LEN..).and_then(<[u8]>::first_chunk);
    let [_, _, _, _, _, _, _, _, _, proto, _, _, s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, q0, q1] =
        ip.copied().unwrap_or_default();
    Tuple {
        src: Ipv4Addr::new(s0, s1, s2, s3),
        dst: Ipv4Addr::new(d0, d1, d2, d3),
        src_port: u16::from_be_bytes([p0, p1]),
        dst_port: u16::from_be_bytes([q0, q1]),
        proto: Protocol(proto),
    }
}
