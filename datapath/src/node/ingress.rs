//! Ingress: from a frame on a port to a parsed packet (spec ING), and ARP.

use std::net::Ipv4Addr;
use std::ops::ControlFlow::{self, Break, Continue};

use super::Node;
use super::config::{ETH1, InterfaceKind};
use super::passage::{Framed, Passage, Stop};
use crate::element::{Departure, Output, Place};
use crate::journey::{Fate, Hook, PortId, Sighting, Step};
use crate::port::Buffer;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::arp::{Arp, Operation};
use crate::wire::{Mac, Packet, Tuple, Unparsed, ethernet};

impl<B: Buffer> Node<B> {
    /// Takes a frame as it came: the trunk's ones go through their member ENI's queue.
    pub(super) fn receive(&mut self, frame: B, place: Place, now: Time, out: &mut Output<B>) {
        self.ledger.received += 1;
        let mut framed = Framed::arrived(frame, place, now, out.journal.is_open());
        framed.step(Step::Hook(Hook::Ingress));
        if place.port != ETH1 {
            return self.accept(framed, Place { queue: 0, ..place }, now, out);
        }
        let vid = ethernet::tag(framed.frame.bytes()).and_then(ethernet::Tag::vid);
        let queue = self.trunk.queue_of(vid);
        if let Err(framed) = self.trunk.push(queue, place.queue, framed) {
            self.lose(framed, DropReason::MemberQueueFull, out);
        }
    }

    /// Serves the trunk's queues in turn until they are empty.
    pub(super) fn serve_trunk(&mut self, now: Time, out: &mut Output<B>) {
        if self.uses_cache(out) {
            return self.take_from_trunk(now, out);
        }
        while let Some((queue, mut framed)) = self.trunk.pop() {
            framed.step(Step::MemberQueue(queue));
            if let Some(tag) = ethernet::tag(framed.frame.bytes()) {
                ethernet::pop(&mut framed.frame);
                framed.step(Step::TagPopped(tag.id));
            }
            self.accept(framed, Place { port: ETH1, queue }, now, out);
        }
    }

    /// An untagged frame: ARP is answered or learned from, a packet goes its way. `place` is its
    /// port, and on the trunk the queue of its VID.
    pub(super) fn accept(
        &mut self,
        mut framed: Framed<B>,
        place: Place,
        now: Time,
        out: &mut Output<B>,
    ) {
        let port = place.port;
        // A tag with VID 0 names no VLAN, only a priority (spec ING-5).
        if ethernet::tag(framed.frame.bytes()).is_some_and(|tag| tag.id == 0) {
            ethernet::pop(&mut framed.frame);
        }
        let payload = match self.classify(framed.frame.bytes(), port) {
            Continue(Payload::Arp(arp)) => return self.receive_arp(framed, arp, port, now, out),
            Continue(Payload::Packet(ip)) => ip,
            Break(reason) => return self.lose(framed, reason, out),
        };
        match Packet::parse(payload) {
            Ok(packet) => {
                trim(&mut framed.frame, packet.total_len);
                self.admit(Passage::new(framed, packet, Some(place)), now, out);
            }
            Err(Unparsed::Fragment(header)) => {
                trim(&mut framed.frame, header.total_len);
                self.gather(framed, &header, place, now, out);
            }
            Err(unparsed) => self.lose(framed, drop_of(unparsed), out),
        }
    }

    /// A whole packet that has come in: it goes through the hooks.
    pub(super) fn admit(&mut self, mut passage: Passage<B>, now: Time, out: &mut Output<B>) {
        let ended = self.walk(&mut passage, now);
        self.finish(passage, ended, now, out);
    }

    /// What a frame is, or why the node does not take it.
    #[inline(always)]
    fn classify<'a>(&self, frame: &'a [u8], port: PortId) -> ControlFlow<DropReason, Payload<'a>> {
        let Some(header) = ethernet::Header::parse(frame) else { return Break(DropReason::Runt) };
        let Some(interface) = self.config.interface(port) else {
            return Break(DropReason::OtherHost);
        };
        if header.dst != interface.mac && !header.dst.is_group() {
            return Break(DropReason::OtherHost);
        }
        let payload = frame.get(ethernet::HEADER_LEN..).unwrap_or_default();
        match header.ethertype {
            ethernet::ARP => match Arp::parse(payload) {
                Some(arp) => Continue(Payload::Arp(arp)),
                None => Break(DropReason::BadArp),
            },
            ethernet::IPV4 if header.dst.is_group() => Break(DropReason::Multicast),
            ethernet::IPV4 => Continue(Payload::Packet(payload)),
            ethernet::VLAN | ethernet::QINQ => Break(DropReason::UnexpectedTag),
            ethernet::IPV6 => Break(DropReason::Ipv6),
            _ => Break(DropReason::UnknownEtherType),
        }
    }

    /// ARP: requests for one of the node's addresses are answered with the interface's own MAC
    /// (spec NEIGH-1 to NEIGH-3), replies complete neighbours.
    fn receive_arp(
        &mut self,
        framed: Framed<B>,
        arp: Arp,
        port: PortId,
        now: Time,
        out: &mut Output<B>,
    ) {
        self.end(framed, Fate::Delivered, out);
        let asks_us = arp.operation == Operation::Request && self.answers_arp(&arp, port);
        if asks_us && let Some(interface) = self.config.interface(port) {
            let mac = interface.mac;
            self.send_arp(arp.answer(mac), arp.sender_mac, mac, port, now, out);
        }
        let learns = asks_us || arp.operation == Operation::Reply;
        if learns && !arp.sender_ip.is_unspecified() && !arp.sender_mac.is_group() {
            let waiting = self.neighbours.learn(port, arp.sender_ip, arp.sender_mac, asks_us);
            for passage in waiting {
                self.send_to(passage, arp.sender_mac, out);
            }
        }
    }

    fn answers_arp(&self, arp: &Arp, port: PortId) -> bool {
        let strict = self.config.switches.strict_arp;
        let kind = self.config.interface(port).map(|i| i.kind);
        let addresses = &self.config.local_addresses;
        let own = arp.target_ip == self.config.ip || addresses.contains(&arp.target_ip);
        match kind {
            Some(InterfaceKind::Primary | InterfaceKind::Trunk) => {
                own || (!strict && self.config.is_local(arp.target_ip))
            }
            // arp_ignore=1 answers only for addresses of the interface itself: a cali has none.
            Some(InterfaceKind::Cali { .. }) => !strict && self.config.is_local(arp.target_ip),
            Some(InterfaceKind::Host0) | None => false,
        }
    }

    /// Sends an ARP message of the node's own.
    pub(super) fn send_arp(
        &mut self,
        arp: Arp,
        to: Mac,
        from: Mac,
        port: PortId,
        now: Time,
        out: &mut Output<B>,
    ) {
        let bytes = arp.frame(to, from);
        let Some(framed) = self.make(&bytes, now, out) else { return };
        // ARP leaves the trunk untagged, by queue 0 (spec NEIGH-5, EGR-8).
        self.depart(framed, Place { port, queue: 0 }, None, out);
    }

    /// A frame of the node's own, in a blank buffer; counted as a drop where there is none.
    pub(super) fn make(
        &mut self,
        bytes: &[u8],
        now: Time,
        out: &mut Output<B>,
    ) -> Option<Framed<B>> {
        self.ledger.made += 1;
        let frame = out.blanks.pop().and_then(|mut frame| {
            frame.reset();
            let fits = frame.set_len(bytes.len());
            frame.bytes_mut().copy_from_slice(if fits { bytes } else { &[] });
            fits.then_some(frame)
        });
        if frame.is_none() {
            self.ledger.dropped.add(DropReason::NoBuffer);
        }
        frame.map(|frame| Framed::made(frame, now, out.journal.is_open()))
    }

    /// Sends a finished frame.
    pub(super) fn depart(
        &mut self,
        framed: Framed<B>,
        place: Place,
        tuple: Option<Tuple<Ipv4Addr>>,
        out: &mut Output<B>,
    ) {
        let Framed { frame, hop } = framed;
        self.ledger.sent += 1;
        if let Some(mut hop) = hop {
            hop.fate = Fate::Sent(Sighting::new(frame.bytes(), place.port, tuple));
            out.journal.write(*hop);
        }
        out.departures.push(Departure { place, frame });
    }

    /// Drops a frame for a reason.
    pub(super) fn lose(&mut self, framed: Framed<B>, reason: DropReason, out: &mut Output<B>) {
        self.ledger.dropped.add(reason);
        close(framed, Fate::Dropped(reason), out);
    }

    /// Ends a frame that the node has consumed.
    fn end(&mut self, framed: Framed<B>, fate: Fate, out: &mut Output<B>) {
        self.ledger.delivered += 1;
        close(framed, fate, out);
    }

    /// What becomes of a packet after its walk.
    pub(super) fn finish(
        &mut self,
        mut passage: Passage<B>,
        ended: ControlFlow<Stop>,
        now: Time,
        out: &mut Output<B>,
    ) {
        match ended {
            Continue(()) => self.output(passage, now, out),
            Break(Stop::Drop(reason)) => self.lose(passage.framed, reason, out),
            Break(Stop::Refuse(reason, refusal)) => {
                self.refuse(&passage, refusal, now, out);
                self.lose(passage.framed, reason, out);
            }
            Break(Stop::Echo) => {
                // The reply is as large as the request: it needs as many frames.
                if let Some(assembled) = &mut passage.whole {
                    out.blanks.append(&mut assembled.spare);
                }
                self.echo(&passage, now, out);
                self.end(passage.framed, Fate::Delivered, out);
            }
        }
    }
}

/// What a frame carries that the node takes.
enum Payload<'a> {
    Arp(Arp),
    /// IPv4, not looked at yet.
    Packet(&'a [u8]),
}

/// The drop that a packet which cannot be handled becomes.
pub(super) const fn drop_of(unparsed: Unparsed) -> DropReason {
    match unparsed {
        Unparsed::Header => DropReason::BadHeader,
        Unparsed::Checksum => DropReason::BadChecksum,
        Unparsed::Options => DropReason::IpOptions,
        // Fragments are gathered before; what they become is whole.
        Unparsed::Fragment(_) => DropReason::FragmentInvalid,
        Unparsed::Transport => DropReason::BadTransport,
    }
}

/// Cuts off what lies behind the packet: Ethernet padding (spec ING-8).
#[inline]
pub(super) fn trim<B: Buffer>(frame: &mut B, total_len: u16) {
    let len = ethernet::HEADER_LEN + usize::from(total_len);
    // Shorter than it is, so it fits.
    let _ = len < frame.bytes().len() && frame.set_len(len);
}

/// Closes a frame's record.
fn close<B>(framed: Framed<B>, fate: Fate, out: &mut Output<B>) {
    if let Some(mut hop) = framed.hop {
        hop.fate = fate;
        out.journal.write(*hop);
    }
}
