//! A batch of frames. What their flows' tables will be asked is fetched for all of them first, so that
//! tables larger than the cache make a batch wait about once, where each of its packets waited several
//! times. Then each goes its way, by what its flow has learned or through the hooks. Fetching changes
//! nothing, and nothing depends on it.

use std::net::Ipv4Addr;
use std::ops::ControlFlow::Continue;

use super::Node;
use super::config::ETH1;
use super::passage::Framed;
use crate::element::{Departure, Output, Place};
use crate::journey::PortId;
use crate::port::Buffer;
use crate::time::Time;
use crate::wire::{Mac, Plain, Protocol, Tuple, ethernet};

/// Flows from which on tables are larger than the cache.
const LARGE: u32 = 8_192;

/// Frames that the trunk's queues give up at once.
const BATCH: usize = 64;

/// Room for frames that the trunk's queues give up at once, and for a batch's tuples with their hashes.
#[derive(Debug)]
pub(super) struct Batch<B> {
    frames: Vec<B>,
    queues: Vec<u16>,
    ahead: Vec<Ahead>,
}

/// The tuple of a packet, with its hash, where it was read ahead and could be told.
type Ahead = Option<(Tuple<Ipv4Addr>, u64)>;

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

    /// Takes frames that came in by `port`, which is not the trunk.
    pub(super) fn take(
        &mut self,
        frames: &mut Vec<B>,
        port: PortId,
        now: Time,
        out: &mut Output<B>,
    ) {
        self.ledger.received += frames.len() as u64;
        let mut batch = std::mem::take(&mut self.batch);
        self.handle(frames, &[], &mut batch.ahead, port, now, out);
        self.batch = batch;
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
                if ethernet::tag(frame.bytes()).is_some() {
                    ethernet::pop(&mut frame);
                }
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
        ahead: &mut Vec<Ahead>,
        port: PortId,
        now: Time,
        out: &mut Output<B>,
    ) {
        let mac = self.config.interface(port).map_or(Mac::BROADCAST, |interface| interface.mac);
        if self.conntrack.len() >= LARGE {
            self.look_ahead(frames, queues, ahead, port);
        }
        let mut ahead = ahead.drain(..);
        let mut queues = queues.iter();
        for mut frame in frames.drain(..) {
            let place = Place { port, queue: queues.next().copied().unwrap_or(0) };
            let ahead = ahead.next().flatten();
            let Some(packet) = Plain::read(frame.bytes(), mac) else {
                self.accept(Framed { frame, hop: None }, place, now, out);
                continue;
            };
            let hash = match ahead {
                Some((_, hash)) => hash,
                None => self.conntrack.hash_of(&packet.tuple),
            };
            if let Some(exit) = self.hit(&mut frame, &packet, hash, place, now) {
                self.cache.hits += 1;
                self.ledger.sent += 1;
                out.departures.push(Departure { place: exit, frame });
            } else if let Continue(frame) = self.open(frame, &packet, hash, place, now, out) {
                self.accept(Framed { frame, hop: None }, place, now, out);
            }
        }
    }

    /// Has fetched what the packets of a batch will look up: the lines of the indexes, then the flows
    /// that these name or what will be asked about new ones, then the connections that flows have.
    fn look_ahead(&self, frames: &[B], queues: &[u16], ahead: &mut Vec<Ahead>, port: PortId) {
        ahead.extend(frames.iter().map(|frame| {
            let tuple = peek(frame.bytes())?;
            let hash = self.conntrack.hash_of(&tuple);
            self.conntrack.prefetch(hash);
            Some((tuple, hash))
        }));
        for (at, ahead) in ahead.iter().enumerate() {
            let Some((tuple, hash)) = ahead else { continue };
            if !self.conntrack.prefetch_flow(*hash) {
                // A flow to be: ipvs will be asked both ways.
                self.connections().prefetch(*hash);
                let queue = queues.get(at).copied().unwrap_or(0);
                self.prefetch_opening(tuple, Place { port, queue });
            }
        }
        for (_, hash) in ahead.iter().flatten() {
            if let Some(connection) = self.conntrack.connection_of(*hash) {
                self.connections().prefetch_record(connection);
            }
        }
    }
}

/// The tuple of an ordinary packet, unchecked: whatever this takes for one, handling looks closely.
#[inline]
fn peek(frame: &[u8]) -> Option<Tuple<Ipv4Addr>> {
    let ip = frame.get(ethernet::HEADER_LEN..)?;
    let [0x45, _, _, _, _, _, _, _, _, proto, _, _, s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, q0, q1] =
        *ip.first_chunk()?
    else {
        return None;
    };
    Some(Tuple {
        src: Ipv4Addr::new(s0, s1, s2, s3),
        dst: Ipv4Addr::new(d0, d1, d2, d3),
        src_port: u16::from_be_bytes([p0, p1]),
        dst_port: u16::from_be_bytes([q0, q1]),
        proto: Protocol(proto),
    })
}
