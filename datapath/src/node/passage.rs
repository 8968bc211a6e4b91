//! One packet on its way through a node: its frame and what the hooks have found out about it.

use std::net::Ipv4Addr;

use smallvec::SmallVec;

use super::config::ETH1;
use super::conntrack::Tracked;
use super::flow_cache::Lesson;
use super::ipvs::Picked;
use crate::element::Place;
use crate::fragment::Whole;
use crate::journey::{Fate, Hook, Hop, PortId, Rewriter, Sighting, Step};
use crate::port::Buffer;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Packet, Tuple, ZeroChecksum, ethernet, tcp, toa};

/// Why a packet's walk ends before it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Dropped without a word.
    Drop(DropReason),
    /// Dropped, and the sender is told.
    Refuse(DropReason, Refusal),
    /// The node itself answers this echo request.
    Echo,
}

/// What the sender of a refused packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A TCP reset, from the packet's destination.
    Reset,
    /// ICMP protocol unreachable, from the packet's destination.
    ProtocolUnreachable,
    /// ICMP port unreachable, from the packet's destination.
    PortUnreachable,
    /// ICMP host unreachable.
    HostUnreachable,
    /// ICMP net unreachable.
    NetUnreachable,
    /// ICMP time exceeded.
    TimeExceeded,
    /// ICMP time exceeded: not all fragments have come.
    ReassemblyTimeExceeded,
    /// ICMP fragmentation needed, with the MTU that would fit.
    FragmentationNeeded(u16),
}

/// Where the routing decision sends a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    /// By this port.
    pub(super) port: PortId,
    /// To this neighbour.
    pub(super) next_hop: Ipv4Addr,
}

/// A frame, untagged, with the journal's record of it.
#[derive(Debug)]
pub(super) struct Framed<B> {
    /// From its Ethernet header to its last byte.
    pub(super) frame: B,
    /// The journal's record, while the journal is open.
    pub(super) hop: Option<Box<Hop>>,
}

impl<B: Buffer> Framed<B> {
    /// A frame as it arrived at `place`, tag and all.
    pub(super) fn arrived(frame: B, place: Place, now: Time, recorded: bool) -> Self {
        let hop = recorded.then(|| {
            let sighting = Sighting::new(frame.bytes(), place.port, None);
            Box::new(Self::blank_hop(now, Some(sighting)))
        });
        Self { frame, hop }
    }

    /// A frame of the node's own.
    pub(super) fn made(frame: B, now: Time, recorded: bool) -> Self {
        Self { frame, hop: recorded.then(|| Box::new(Self::blank_hop(now, None))) }
    }

    fn blank_hop(at: Time, arrival: Option<Sighting>) -> Hop {
        Hop {
            at,
            arrival,
            flags: tcp::Flags::empty(),
            payload_len: 0,
            steps: SmallVec::new(),
            fate: Fate::Delivered,
        }
    }

    /// Records a step; free of charge while the journal is closed.
    pub(super) fn step(&mut self, step: Step) {
        if let Some(hop) = &mut self.hop {
            hop.steps.push(step);
        }
    }
}

/// A packet that no frame holds.
#[derive(Debug)]
pub(super) struct Assembled<B> {
    /// The packet.
    pub(super) whole: Whole,
    /// Frames that its fragments came in and that hold nothing any more.
    pub(super) spare: Vec<B>,
}

/// A parsed packet on its way.
#[derive(Debug)]
pub(super) struct Passage<B> {
    /// The frame and its record.
    pub(super) framed: Framed<B>,
    /// The packet, where the frame holds only a part of it.
    pub(super) whole: Option<Box<Assembled<B>>>,
    /// The packet's headers, as they are now.
    pub(super) packet: Packet<Ipv4Addr>,
    /// Where it came in; `None` for what the node makes.
    pub(super) iif: Option<PortId>,
    /// The trunk queue it came by.
    pub(super) member_queue: Option<u16>,
    /// What conntrack knows of it.
    pub(super) tracked: Tracked,
    /// Its mark.
    pub(super) mark: u32,
    /// Whether ipvs has sent or restored it; it then leaves the packet alone (ipvs_property).
    pub(super) ipvs: bool,
    /// Where it will leave.
    pub(super) exit: Option<Exit>,
    /// What the flow cache is to learn from its walk.
    pub(super) lesson: Option<Lesson>,
    /// What a scheduler has said about it before its walk.
    pub(super) picked: Option<Picked>,
}

impl<B: Buffer> Passage<B> {
    /// A packet that nothing has looked at yet.
    pub(super) fn new(
        mut framed: Framed<B>,
        packet: Packet<Ipv4Addr>,
        came: Option<Place>,
    ) -> Self {
        if let Some(hop) = &mut framed.hop {
            hop.flags = packet.tcp_flags();
            hop.payload_len = packet.payload_len();
            if let Some(arrival) = &mut hop.arrival {
                arrival.tuple = Some(packet.tuple);
            }
            let ip = framed.frame.bytes().get(ethernet::HEADER_LEN..).unwrap_or_default();
            if let Some((ip, port)) = toa::find(ip, &packet) {
                hop.steps.push(Step::ToaSeen(ip, port));
            }
        }
        let tracked = Tracked::Invalid;
        Self {
            framed,
            whole: None,
            packet,
            iif: came.map(|place| place.port),
            member_queue: came.filter(|place| place.port == ETH1).map(|place| place.queue),
            tracked,
            mark: 0,
            ipvs: false,
            exit: None,
            lesson: None,
            picked: None,
        }
    }

    /// The frame, and what is known of the packet without it.
    pub(super) fn split(self) -> (Framed<B>, Passage<()>) {
        let rest = Passage {
            framed: Framed { frame: (), hop: None },
            whole: None,
            packet: self.packet,
            iif: self.iif,
            member_queue: self.member_queue,
            tracked: self.tracked,
            mark: self.mark,
            ipvs: self.ipvs,
            exit: self.exit,
            lesson: None,
            picked: None,
        };
        (self.framed, rest)
    }

    /// Records a step.
    pub(super) fn step(&mut self, step: Step) {
        self.framed.step(step);
    }

    /// Records a step that takes work to tell.
    pub(super) fn step_with(&mut self, step: impl FnOnce() -> Step) {
        if self.framed.hop.is_some() {
            self.step(step());
        }
    }

    /// Records the entry into a hook.
    pub(super) fn hook(&mut self, hook: Hook) {
        self.framed.step(Step::Hook(hook));
    }

    /// Size of the largest frame it came in: its own, or that of its largest fragment.
    pub(super) fn largest(&self) -> u16 {
        let largest = self.whole.as_ref().and_then(|assembled| assembled.whole.largest());
        largest.unwrap_or(self.packet.total_len)
    }

    /// The IP packet.
    pub(super) fn ip(&self) -> &[u8] {
        if let Some(assembled) = &self.whole {
            return assembled.whole.bytes();
        }
        self.framed.frame.bytes().get(ethernet::HEADER_LEN..).unwrap_or_default()
    }

    /// The IP packet, to change.
    pub(super) fn ip_mut(&mut self) -> &mut [u8] {
        if let Some(assembled) = &mut self.whole {
            return assembled.whole.bytes_mut();
        }
        self.framed.frame.bytes_mut().get_mut(ethernet::HEADER_LEN..).unwrap_or_default()
    }

    /// Gives the packet another tuple.
    pub(super) fn rewrite(&mut self, to: Tuple<Ipv4Addr>, by: Rewriter, zero: ZeroChecksum) {
        let from = self.packet.tuple;
        if from == to {
            return;
        }
        let mut packet = self.packet;
        packet.rewrite(self.ip_mut(), to, zero);
        self.packet = packet;
        self.step(Step::Rewritten { by, from, to });
    }

    /// Takes one from the TTL.
    pub(super) fn decrement_ttl(&mut self) {
        crate::wire::ipv4::decrement_ttl(self.ip_mut());
        self.packet.ttl = self.packet.ttl.saturating_sub(1);
    }
}

impl Passage<()> {
    /// A passage with what is known of this one, a frame of its own and the packet in it.
    pub(super) fn joined<B>(&self, framed: Framed<B>, packet: Packet<Ipv4Addr>) -> Passage<B> {
        let Self { iif, member_queue, tracked, mark, ipvs, exit, lesson, .. } = *self;
        let (whole, picked) = (None, None);
        Passage {
            framed,
            whole,
            packet,
            iif,
            member_queue,
            tracked,
            mark,
            ipvs,
            exit,
            lesson,
            picked,
        }
    }
}
