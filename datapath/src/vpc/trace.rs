//! The record of one frame's way, while the journal is open.

use std::net::Ipv4Addr;

use smallvec::SmallVec;

use crate::journey::{Fate, Hop, Journal, PortId, Rewriter, Sighting, Step};
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Packet, Tuple, tcp};

/// A hop being written; nothing at all while the journal is closed.
#[derive(Debug)]
pub(super) struct Trace {
    /// In a box, so that a closed journal costs no moving of it.
    hop: Option<Box<Hop>>,
    /// The packet's tuple as it is now.
    tuple: Option<Tuple<Ipv4Addr>>,
}

impl Trace {
    /// Begins the record of a frame that came in by `port`.
    pub(super) fn arrival(journal: &Journal, frame: &[u8], port: PortId, now: Time) -> Self {
        let hop = journal.is_open().then(|| hop(now, Some(Sighting::new(frame, port, None))));
        Self { hop, tuple: None }
    }

    /// Begins the record of a frame the VPC made.
    pub(super) fn made(journal: &Journal, now: Time) -> Self {
        Self { hop: journal.is_open().then(|| hop(now, None)), tuple: None }
    }

    /// Notes what the packet is.
    pub(super) fn packet(&mut self, packet: &Packet<Ipv4Addr>) {
        let Some(hop) = &mut self.hop else { return };
        self.tuple = Some(packet.tuple);
        hop.flags = packet.tcp_flags();
        hop.payload_len = packet.payload_len();
        if let Some(arrival) = &mut hop.arrival {
            arrival.tuple = self.tuple;
        }
    }

    /// Notes one step.
    #[inline]
    pub(super) fn step(&mut self, step: Step) {
        if let Some(hop) = &mut self.hop {
            hop.steps.push(step);
        }
    }

    /// Notes that the packet's tuple changed.
    pub(super) fn rewritten(&mut self, by: Rewriter, from: Tuple<Ipv4Addr>, to: Tuple<Ipv4Addr>) {
        if self.hop.is_some() {
            self.tuple = Some(to);
            self.step(Step::Rewritten { by, from, to });
        }
    }

    /// Ends the record of a frame that leaves by `port`.
    pub(super) fn sent(self, journal: &mut Journal, frame: &[u8], port: PortId) {
        if let Some(mut hop) = self.hop {
            hop.fate = Fate::Sent(Sighting::new(frame, port, self.tuple));
            journal.write(*hop);
        }
    }

    /// Ends the record of a frame the VPC consumed.
    pub(super) fn delivered(self, journal: &mut Journal) {
        if let Some(hop) = self.hop {
            journal.write(*hop);
        }
    }

    /// Ends the record of a dropped frame.
    pub(super) fn dropped(self, journal: &mut Journal, reason: DropReason) {
        if let Some(mut hop) = self.hop {
            hop.fate = Fate::Dropped(reason);
            journal.write(*hop);
        }
    }
}

fn hop(at: Time, arrival: Option<Sighting>) -> Box<Hop> {
    let (flags, steps, fate) = (tcp::Flags::empty(), SmallVec::new(), Fate::Delivered);
    Box::new(Hop { at, arrival, flags, payload_len: 0, steps, fate })
}
