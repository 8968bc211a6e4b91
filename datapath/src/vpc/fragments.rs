//! Fragments in the fabric: they wait until the last has come, are judged as the packet they make,
//! and go on as they came (spec VPC-22, VPC-23).

use std::net::Ipv4Addr;

use super::ingress::{Entry, ip, ip_mut};
use super::network::End;
use super::trace::Trace;
use super::{Vpc, unparsed};
use crate::element::{Departure, Output};
use crate::fragment::{Gathering, Taken, Whole};
use crate::journey::Step;
use crate::port::Buffer;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::Packet;
use crate::wire::ipv4::{Fragment, Header};

/// A fragment that waits for the others, untagged.
#[derive(Debug)]
pub(super) struct Waiting<B> {
    frame: B,
    trace: Trace,
}

impl<B: Buffer> Vpc<B> {
    /// Takes a fragment. With the last one all of them go on, or none.
    pub(super) fn gather(
        &mut self,
        frame: B,
        trace: Trace,
        (entry, header): (&Entry, &Header),
        now: Time,
        out: &mut Output<B>,
    ) {
        let fragment = Fragment::of(ip(&frame));
        let waiting = Waiting { frame, trace };
        match self.fragments.take(entry.end.number(), header, fragment, waiting, now) {
            Taken::Held => {}
            Taken::Lost(lost, reason) => self.lose_fragments(lost, reason, out),
            Taken::Complete(gathering) => self.pass_gathered(gathering, entry, now, out),
        }
    }

    fn pass_gathered(
        &mut self,
        gathering: Gathering<Waiting<B>>,
        entry: &Entry,
        now: Time,
        out: &mut Output<B>,
    ) {
        let whole = gathering.whole(|waiting| ip(&waiting.frame));
        let mut waiting: Vec<_> = gathering.into_items().collect();
        let routed = whole.and_then(|mut whole| {
            let (packet, receiver) = self.route_gathered(&mut whole, &mut waiting, entry, now)?;
            Ok((whole, packet, receiver))
        });
        match routed {
            Ok((whole, packet, receiver)) => {
                let mut sent = false;
                for (piece, mut waiting) in whole.pieces_as_came().into_iter().zip(waiting) {
                    piece.update(&whole, ip_mut(&mut waiting.frame));
                    sent |= self.send_fragment(waiting, receiver, &packet, out);
                }
                if sent {
                    self.count_received(receiver);
                }
            }
            Err(reason) => self.lose_fragments(waiting, reason, out),
        }
    }

    /// The way of the packet that fragments make; the first of them records it.
    fn route_gathered(
        &mut self,
        whole: &mut Whole,
        waiting: &mut [Waiting<B>],
        entry: &Entry,
        now: Time,
    ) -> Result<(Packet<Ipv4Addr>, End), DropReason> {
        let mut packet = Packet::parse(whole.bytes()).map_err(unparsed)?;
        let count = u16::try_from(waiting.len()).unwrap_or(u16::MAX);
        let first = waiting.first_mut().ok_or(DropReason::FragmentInvalid)?;
        first.trace.packet(&packet);
        first.trace.step(Step::Gathered(count));
        let largest = whole.largest().unwrap_or(packet.total_len);
        let trace = &mut first.trace;
        let receiver = self.route(whole.bytes_mut(), &mut packet, entry, largest, now, trace)?;
        Ok((packet, receiver))
    }

    /// Sends one fragment; false where it cannot go.
    fn send_fragment(
        &mut self,
        waiting: Waiting<B>,
        receiver: End,
        packet: &Packet<Ipv4Addr>,
        out: &mut Output<B>,
    ) -> bool {
        let Waiting { mut frame, mut trace } = waiting;
        let left = self.leave(&mut frame, receiver, packet, &mut trace);
        let sent = left.is_ok();
        match left {
            Ok(place) => {
                self.ledger.sent += 1;
                trace.sent(&mut out.journal, frame.bytes(), place.port);
                out.departures.push(Departure { place, frame });
            }
            Err(reason) => self.lose_fragments([Waiting { frame, trace }], reason, out),
        }
        sent
    }

    fn lose_fragments(
        &mut self,
        lost: impl IntoIterator<Item = Waiting<B>>,
        reason: DropReason,
        out: &mut Output<B>,
    ) {
        for waiting in lost {
            self.ledger.dropped.add(reason);
            waiting.trace.dropped(&mut out.journal, reason);
        }
    }

    /// Gives up on packets whose time is up. Nobody is told (spec VPC-23).
    pub(super) fn expire_fragments(&mut self, now: Time, out: &mut Output<B>) {
        while let Some(gathering) = self.fragments.pop_due(now) {
            self.lose_fragments(gathering.into_items(), DropReason::FragmentTimeout, out);
        }
    }
}
