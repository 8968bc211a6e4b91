//! The first packet of a flow, where the first packets of others from the same client to the same
//! virtual service have walked: routes and rules would say again what they said then. What the walk
//! does to tables, schedulers and ports is done by the same calls.

use std::hash::BuildHasher;
use std::net::Ipv4Addr;
use std::ops::ControlFlow::{self, Break, Continue};

use foldhash::fast::FixedState;

use super::super::Node;
use super::super::balance::FTP_DATA;
use super::super::conntrack::{First, Status};
use super::super::ingress::trim;
use super::super::ipvs::{NotScheduled, Picked};
use super::super::passage::{Framed, Passage};
use super::super::postrouting::with_source;
use super::ways::Way;
use crate::element::{Departure, Output, Place};
use crate::port::Buffer;
use crate::table::Handle;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::ethernet::{HEADER_LEN, Link};
use crate::wire::{Packet, Plain, Translation, Tuple};

/// Openings kept at once, each in the one place that its hash names.
const PLACES: usize = 1_024;
/// Destinations of one opening whose way is kept, each in the place that its slot names.
const ENDINGS: usize = 8;

/// What the first packets of flows from one client to one virtual service have in common, as bits:
/// client, virtual address and port, protocol, and where they come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening(u128);

impl Opening {
    /// The opening of a packet that came in at a place.
    #[inline]
    pub(super) fn new(tuple: &Tuple<Ipv4Addr>, came: Place) -> Self {
        let addresses = u64::from(tuple.src.to_bits()) << 32 | u64::from(tuple.dst.to_bits());
        let came = u64::from(came.port.0) << 24 | u64::from(came.queue) << 40;
        let rest = came | u64::from(tuple.dst_port) << 8 | u64::from(tuple.proto.0);
        Self(u128::from(addresses) << 64 | u128::from(rest))
    }
}

/// Whether flows that begin so are masqueraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Masquerade {
    /// No.
    No,
    /// Yes, from their own port where that is free.
    Yes,
    /// Yes, from a random port.
    Random,
}

/// How an opening ends once the scheduler has picked a destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// The destination.
    pub(super) server: Handle,
    /// The number of the way to it.
    pub(super) way: u32,
    /// What happens to the source.
    pub(super) masquerade: Masquerade,
}

/// Endings by destination.
type Endings = [Option<Ending>; ENDINGS];

/// An opening as it was learned.
#[derive(Clone, Copy, Debug)]
struct Known {
    opening: Opening,
    /// The neighbours' epoch in which it holds: in which packets that open so meet a scheduler.
    epoch: u32,
    endings: Endings,
}

/// The latest openings with their endings.
#[derive(Debug)]
pub(in crate::node) struct Openings {
    places: Vec<Known>,
    hasher: FixedState,
}

impl Openings {
    /// None yet; `seed` keys the hashes.
    pub(in crate::node) fn new(seed: u64) -> Self {
        let none = Known { opening: Opening(0), epoch: 0, endings: [None; ENDINGS] };
        Self { places: vec![none; PLACES], hasher: FixedState::with_seed(seed) }
    }

    #[inline]
    fn place_of(&self, opening: Opening) -> usize {
        self.hasher.hash_one(opening.0) as usize % PLACES
    }

    /// The endings of an opening, if it is known in this epoch.
    #[inline]
    fn get(&self, opening: Opening, epoch: u32) -> Option<&Endings> {
        let known = self.places.get(self.place_of(opening))?;
        (known.opening == opening && known.epoch == epoch).then_some(&known.endings)
    }

    /// Keeps an ending, in place of another's.
    pub(super) fn learn(&mut self, opening: Opening, epoch: u32, ending: Ending) {
        let place = self.place_of(opening);
        let Some(known) = self.places.get_mut(place) else { return };
        if (known.opening, known.epoch) != (opening, epoch) {
            *known = Known { opening, epoch, endings: [None; ENDINGS] };
        }
        if let Some(kept) = known.endings.get_mut(ending.server.slot as usize % ENDINGS) {
            *kept = Some(ending);
        }
    }
}

impl<B: Buffer> Node<B> {
    /// Sends the first packet of a flow where its opening is known. Gives the frame back, untouched,
    /// where the packet is not one or has to walk before anything is decided about it; `hash` is that of
    /// its tuple.
    #[inline]
    pub(in crate::node) fn open(
        &mut self,
        mut frame: B,
        packet: &Plain,
        hash: u64,
        came: Place,
        now: Time,
        out: &mut Output<B>,
    ) -> ControlFlow<(), B> {
        let switches = &self.config.switches;
        if !packet.may_open() || packet.ttl <= 1 || switches.ipvs.nat_icmp_send {
            return Continue(frame);
        }
        let (tuple, epoch) = (packet.tuple, self.neighbours.epoch());
        let opening = Opening::new(&tuple, came);
        if self.openings.get(opening, epoch).is_none() {
            return Continue(frame);
        }
        let ip = frame.bytes().get(HEADER_LEN..).unwrap_or_default();
        let Some(first) = self.conntrack.first(hash, packet, ip) else {
            return Continue(frame);
        };
        if tuple.src_port == FTP_DATA || !self.ipvs.connections().is_new(hash, &tuple, now) {
            return Continue(frame);
        }
        trim(&mut frame, packet.total_len);
        // A service that has an opening keeps no clients: its scheduler alone picks.
        let key = (tuple.proto, tuple.dst, tuple.dst_port);
        let Some(server) = self.ipvs.schedule(key, &tuple, now) else {
            return self.walk_on(frame, Err(NotScheduled::NoDestination), came, now, out);
        };
        let Some((ending, way)) = self.ending(opening, server, epoch) else {
            return self.walk_on(frame, Ok((server, None)), came, now, out);
        };
        let room = way.link.room();
        if packet.total_len > way.mtu || (room > 0 && !frame.grow_front(room)) {
            return self.walk_on(frame, Ok((server, None)), came, now, out);
        }
        match self.conclude(&mut frame, packet, (hash, &first), (ending, way.link), now) {
            Ok(()) => {
                self.cache.hits += 1;
                self.cache.openings += 1;
                self.ledger.sent += 1;
                out.departures.push(Departure { place: way.exit, frame });
            }
            Err(reason) => self.lose(Framed { frame, hop: None }, reason, out),
        }
        Break(())
    }

    /// Has fetched what will be asked about the answers of a flow to be, where its opening has a
    /// single known destination: which of several the scheduler picks nobody knows yet.
    #[inline]
    pub(in crate::node) fn prefetch_opening(&self, tuple: &Tuple<Ipv4Addr>, came: Place) {
        let opening = Opening::new(tuple, came);
        let Some(endings) = self.openings.get(opening, self.neighbours.epoch()) else { return };
        let mut known = endings.iter().flatten();
        if let (Some(ending), None) = (known.next(), known.next())
            && let Some(server) = self.ipvs.server(ending.server)
        {
            let (src, src_port) = server.destination.address();
            let dst = match ending.masquerade {
                Masquerade::No => tuple.src,
                Masquerade::Yes | Masquerade::Random => self.config.ip,
            };
            let answer = Tuple { src, dst, src_port, dst_port: tuple.src_port, proto: tuple.proto };
            self.conntrack.prefetch(self.conntrack.hash_of(&answer));
            let restored = Tuple { dst: tuple.src, ..answer };
            self.ipvs.connections().prefetch(self.conntrack.hash_of(&restored));
        }
    }

    /// How an opening ends at a destination, and the way there, where both are known.
    #[inline(always)]
    fn ending(&self, opening: Opening, server: Handle, epoch: u32) -> Option<(Ending, Way)> {
        let endings = self.openings.get(opening, epoch)?;
        let ending = endings.get(server.slot as usize % ENDINGS)?.as_ref()?;
        if ending.server != server {
            return None;
        }
        Some((*ending, *self.ways.get(ending.way, epoch)?))
    }

    /// Has a packet walk for which a scheduler has picked already: it is not asked again.
    fn walk_on(
        &mut self,
        frame: B,
        picked: Picked,
        came: Place,
        now: Time,
        out: &mut Output<B>,
    ) -> ControlFlow<(), B> {
        let ip = frame.bytes().get(HEADER_LEN..).unwrap_or_default();
        let Ok(packet) = Packet::parse(ip) else { return Continue(frame) };
        let mut passage = Passage::new(Framed { frame, hop: None }, packet, Some(came));
        passage.picked = Some(picked);
        self.admit(passage, now, out);
        Break(())
    }

    /// What ipvs, masquerade and conntrack do to the first packet of a flow, and the packet's rewrite.
    ///
    /// # Errors
    /// Why the packet is dropped.
    #[inline(always)]
    fn conclude(
        &mut self,
        frame: &mut B,
        packet: &Plain,
        (hash, first): (u64, &First),
        (ending, link): (Ending, Link),
        now: Time,
    ) -> Result<(), DropReason> {
        let (dst, dst_port) = self.ipvs.connect_plain(packet, ending.server, now)?;
        let sent = Tuple { dst, dst_port, ..packet.tuple };
        let source = match ending.masquerade {
            Masquerade::No => sent.src,
            Masquerade::Yes | Masquerade::Random => self.config.ip,
        };
        let mut bound = with_source(sent, source, sent.src_port);
        let mut reply_hash = self.conntrack.hash_of(&bound.turned());
        let random = ending.masquerade == Masquerade::Random;
        if random || !self.conntrack.is_free(reply_hash, &bound.turned()) {
            bound = self.unique_source(bound, random, now).ok_or(DropReason::NoFreePort)?;
            reply_hash = self.conntrack.hash_of(&bound.turned());
        }
        let status = if bound == sent { Status::empty() } else { Status::SRC_NAT };
        let (original, reply) = ((hash, packet.tuple), (reply_hash, bound.turned()));
        let rules = &self.config.switches.conntrack;
        if !self.conntrack.confirm_first(first, original, reply, status, rules, now) {
            return Err(DropReason::FlowTableFull);
        }
        let at = HEADER_LEN + link.room();
        if let Some((head, ip)) = frame.bytes_mut().split_at_mut_checked(at) {
            link.put(head);
            let deltas = Translation::new(&packet.tuple, &bound).deltas.and_hop();
            packet.forward(ip, &bound, deltas);
        }
        Ok(())
    }
}
