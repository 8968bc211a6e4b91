//! Learned paths: where the packets of a flow go is kept in the session at their sender, and the
//! next one goes there without the walk (spec LAW-4, VPC-25).
//!
//! A hit does to frame, sessions and counters what the walk does. It is allowed only where the
//! walk's decisions would come out as before: sessions let the packet pass at both ends, no load
//! balancer has a part in it, and its size and TTL allow it. Owners and routes never change, and what
//! else a path depends on only with the epoch in which it was learned (spec LAB-6). While the journal is
//! open every packet walks, since a hop is the record of a walk.

use std::net::Ipv4Addr;

use super::Vpc;
use super::ingress::Entry;
use super::network::End;
use super::session::{Holds, Key, Learned};
use crate::element::Place;
use crate::journey::{PortId, SgDecision, SgDirection};
use crate::port::Buffer;
use crate::time::Time;
use crate::wire::{Packet, Plain, Protocol, Tuple, Vid, ethernet, ipv4};

/// How many packets lie between those of which something is fetched at the same time.
const APART: usize = 4;
/// How many packets before a packet's turn the first of it is fetched.
pub(super) const AHEAD: usize = 3 * APART;

/// Whether paths are learned of such packets.
fn is_plain(tuple: &Tuple<Ipv4Addr>) -> bool {
    matches!(tuple.proto, Protocol::TCP | Protocol::UDP)
}

/// What is known of a packet before its turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    /// Of its session at the sender, with the hash of that, and the slot where it most likely is.
    key: Key,
    hash: u64,
    slot: Option<u32>,
    /// The ENI that sends it.
    sender: usize,
    /// Where it begins in its frame.
    start: usize,
    total_len: u16,
    ttl: u8,
}

impl<B: Buffer> Vpc<B> {
    /// Keeps where a packet went that came in as `arrived` and leaves for `receiver`.
    pub(super) fn learn(
        &mut self,
        entry: &Entry,
        arrived: &Tuple<Ipv4Addr>,
        packet: &Packet<Ipv4Addr>,
        receiver: End,
        now: Time,
    ) {
        let End::Eni(sender) = entry.end else { return };
        let source = self.network.owner_eni(arrived.src).and_then(|eni| self.network.eni(eni));
        // Answers of a backend may be the load balancer's from one packet to the next.
        let balanced = *arrived != packet.tuple || source.is_some_and(|eni| eni.backend);
        // An untagged frame on a trunk may be a member's, by its source.
        let certain = entry.sender(&self.network, arrived.src) == entry.end;
        if !self.network.learns || balanced || !certain || !is_plain(arrived) {
            return;
        }
        let inbound = match receiver {
            End::Eni(eni) => {
                let key = Key::eni(eni, SgDirection::In, *arrived);
                let Some(session) = self.sessions.alive(&key, now) else { return };
                Some(session)
            }
            End::Outside(_) => None,
        };
        let holds = Holds::new(self.network.epoch, entry.vid.is_some());
        let learned = Learned::new(receiver, inbound, holds);
        let key = Key::eni(sender, SgDirection::Out, *arrived);
        self.cache.learned += u64::from(self.sessions.learn(&key, learned, now));
    }

    /// What is known of a frame that came in at `port` before anything is looked up, if it is an
    /// ordinary one.
    #[inline(always)]
    pub(super) fn sight(&self, frame: &[u8], port: PortId) -> Option<Sight> {
        let (header, vid, start) = ethernet::read(frame)?;
        if header.dst != self.network.gateway || header.ethertype != ethernet::IPV4 {
            return None;
        }
        let Plain { tuple, total_len, ttl, .. } = Plain::parse(frame.get(start..)?)?;
        let sender = self.sending_eni(port, vid)?;
        let key = Key::eni(sender, SgDirection::Out, tuple);
        let hash = self.sessions.hash_of(&key);
        Some(Sight { key, hash, slot: None, sender, start, total_len, ttl })
    }

    /// Has fetched what looking for the session of a packet so many before its turn reads first, the
    /// session of one that comes earlier, and of an earlier one that at its receiver: each long enough
    /// after the one before.
    #[inline(always)]
    pub(super) fn fetch(&self, sights: &mut [Option<Sight>], at: usize) {
        if let Some(Some(sight)) = sights.get(at) {
            self.sessions.prefetch(sight.hash);
        }
        if let Some(Some(sight)) = sights.get_mut(at.wrapping_sub(APART)) {
            sight.slot = self.sessions.prefetch_session(sight.hash);
        }
        if let Some(Some(Sight { slot: Some(slot), .. })) = sights.get(at.wrapping_sub(2 * APART)) {
            self.sessions.prefetch_inbound(*slot);
        }
    }

    /// Sends a frame by its flow's learned path and says where it leaves. Otherwise the frame is
    /// untouched, and so is everything that the walk would not do the same to.
    #[inline(always)]
    pub(super) fn follow(&mut self, frame: &mut B, sight: &Sight, now: Time) -> Option<Place> {
        let Sight { key, hash, slot, sender, start, total_len, ttl } = sight;
        let holds = Holds::new(self.network.epoch, *start > ethernet::HEADER_LEN);
        let learned = self.sessions.renew_learned(key, *hash, *slot, holds, now)?;
        let receiver = learned.receiver();
        let exit = self.network.exit(receiver)?;
        let ttl_allows = !self.network.decrement_ttl || *ttl > 1;
        if *total_len > exit.mtu || !ttl_allows {
            return None;
        }
        if let Some(inbound) = learned.inbound()
            && !self.sessions.renew_at(inbound, now)
        {
            return None;
        }
        let end = start + usize::from(*total_len);
        // A shorter frame always fits.
        let _ = end < frame.bytes().len() && frame.set_len(end);
        let header = ethernet::HEADER_LEN + exit.link.room();
        if header < *start {
            frame.shrink_front(start - header);
        } else if header > *start && !frame.grow_front(header - start) {
            return None;
        }
        let (link, ip) = frame.bytes_mut().split_at_mut_checked(header)?;
        exit.link.put(link);
        if self.network.decrement_ttl {
            ipv4::decrement_ttl(ip);
        }
        self.counters.came_from(*sender);
        self.counters.judged(*sender, SgDirection::Out, true, SgDecision::Session);
        if let End::Eni(eni) = receiver {
            self.counters.judged(eni, SgDirection::In, true, SgDecision::Session);
            self.counters.sent_to(eni);
        }
        Some(exit.place)
    }

    /// The ENI that sends by a port with a tag, where it is one (spec VPC-1).
    fn sending_eni(&self, port: PortId, vid: Option<Vid>) -> Option<usize> {
        let (end, trunk) = self.network.port(port)?;
        match (vid, end) {
            (Some(vid), _) => self.network.member(trunk?, vid),
            (None, End::Eni(eni)) => Some(eni),
            (None, End::Outside(_)) => None,
        }
    }
}
