//! Learned paths: where the packets of a flow go is kept in the session at their sender, and the
//! next one goes there without the walk (spec LAW-4, VPC-25).
//!
//! A hit does to frame, sessions and counters what the walk does. It is allowed only where the
//! walk's decisions would come out as before: sessions let the packet pass at both ends, no load
//! balancer has a part in it, and its size and TTL allow it. Owners and routes never change (spec
//! LAB-6). While the journal is open every packet walks, since a hop is the record of a walk.

use std::net::Ipv4Addr;

use super::Vpc;
use super::ingress::Entry;
use super::network::End;
use super::session::{Key, Learned};
use crate::element::Place;
use crate::journey::{PortId, SgDecision, SgDirection};
use crate::port::Buffer;
use crate::time::Time;
use crate::wire::{Packet, Protocol, Tuple, Vid, ethernet, ipv4};

/// Whether paths are learned of such packets.
fn is_plain(tuple: &Tuple<Ipv4Addr>) -> bool {
    matches!(tuple.proto, Protocol::TCP | Protocol::UDP)
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
        let learned = Learned::new(receiver, inbound, entry.vid.is_some());
        let key = Key::eni(sender, SgDirection::Out, *arrived);
        self.cache.learned += u64::from(self.sessions.learn(&key, learned, now));
    }

    /// Sends a frame by its flow's learned path and says where it leaves. Otherwise the frame is
    /// untouched, and so is everything that the walk would not do the same to.
    #[inline]
    pub(super) fn follow(&mut self, frame: &mut B, port: PortId, now: Time) -> Option<Place> {
        let bytes = frame.bytes();
        let header = ethernet::Header::parse(bytes)?;
        if header.dst != self.network.gateway {
            return None;
        }
        let (vid, ethertype, start) = match ethernet::tag(bytes) {
            None => (None, header.ethertype, ethernet::HEADER_LEN),
            Some(tag) => {
                let [.., t0, t1] = *bytes.first_chunk::<{ ethernet::HEADER_LEN + 4 }>()?;
                let inner = u16::from_be_bytes([t0, t1]);
                (Some(tag.vid()?), inner, ethernet::HEADER_LEN + ethernet::TAG_LEN)
            }
        };
        if ethertype != ethernet::IPV4 {
            return None;
        }
        let packet = Packet::<Ipv4Addr>::parse(bytes.get(start..)?).ok()?;
        if !is_plain(&packet.tuple) {
            return None;
        }
        let sender = self.sending_eni(port, vid)?;
        let key = Key::eni(sender, SgDirection::Out, packet.tuple);
        let learned = self.sessions.renew_learned(&key, now)?;
        let exit = self.network.exit(learned.receiver()?)?;
        let ttl_allows = !self.network.decrement_ttl || packet.ttl > 1;
        if learned.tagged() != vid.is_some() || packet.total_len > exit.mtu || !ttl_allows {
            return None;
        }
        if let Some(inbound) = learned.inbound()
            && !self.sessions.renew_at(inbound, now)
        {
            return None;
        }
        let end = start + usize::from(packet.total_len);
        if !retag(frame, vid, exit.vid, end) {
            return None;
        }
        let bytes = frame.bytes_mut();
        ethernet::set_macs(bytes, exit.mac, self.network.gateway);
        if self.network.decrement_ttl {
            let header = ethernet::HEADER_LEN + exit.vid.map_or(0, |_| ethernet::TAG_LEN);
            if let Some(ip) = bytes.get_mut(header..) {
                ipv4::decrement_ttl(ip);
            }
        }
        self.counters.came_from(sender);
        self.counters.judged(sender, SgDirection::Out, true, SgDecision::Session);
        if let Some(End::Eni(eni)) = learned.receiver() {
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

/// Gives a frame another tag, or takes or gives it one, and cuts off what is behind `end`. False
/// where it has no room for a tag; nothing is changed then.
fn retag<B: Buffer>(frame: &mut B, from: Option<Vid>, to: Option<Vid>, end: usize) -> bool {
    let (had, has) = (from.map_or(0, |_| ethernet::TAG_LEN), to.map_or(0, |_| ethernet::TAG_LEN));
    match (from, to) {
        (Some(_), Some(vid)) => ethernet::set_tag(frame.bytes_mut(), vid),
        (Some(_), None) => ethernet::pop(frame),
        (None, Some(vid)) if !ethernet::push(frame, vid) => return false,
        (None, _) => {}
    }
    let len = end - had + has;
    if len < frame.bytes().len() {
        // A shorter frame always fits.
        let _ = frame.set_len(len);
    }
    true
}
