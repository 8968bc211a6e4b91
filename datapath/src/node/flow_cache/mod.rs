//! The flow cache: what a walk did to a packet of an established flow is kept in the flow's own
//! record, and done to the next one without the walk (spec LAW-4, FLOW).
//!
//! A hit does to the tables what the walk does to them, by the same calls; it saves the walk's
//! look-ups and decisions. It is allowed only where each of them would come out as before:
//!
//! - the packet belongs to a conntrack entry that both sides have used, lies in the window kept
//!   there, and opens or ends nothing;
//! - neighbours, and the connections that share its tuple, are as they were ([`Watch`]);
//! - what depends on the packet itself, its size and TTL, lies within what the walk allowed.
//!
//! Everything else walks. While the journal is open every packet does, since a hop is the record
//! of a walk.

mod hit;
mod opening;
mod ways;

use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Node;
use super::config::HOST0;
use super::conntrack::Tracked;
use super::ipvs::Watch;
use super::passage::Passage;
use crate::element::Place;
use crate::port::Buffer;
use crate::table::{Direction, Handle};
use crate::wire::ethernet::Link;
use crate::wire::tcp::Flags;
use crate::wire::{Deltas, Mac, Packet, Protocol, Translation, Tuple, Vid};
pub(super) use opening::Openings;
use opening::{Ending, Masquerade, Opening};
use ways::Way;
pub(super) use ways::Ways;

/// What the cache has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheCounters {
    /// Packets sent without a walk.
    pub hits: u64,
    /// First packets of flows among them.
    pub openings: u64,
    /// Paths learned, those that replace an older one included.
    pub learned: u64,
}

/// The way of a flow's packets in one direction, with what it depends on. What they are rewritten
/// to is what the flow's other tuple answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct LearnedPath {
    path: Path,
    /// Its connection, or [`NOBODY`].
    connection: Handle,
}

/// What of it is a direction's own; what happens to the packet's checksums includes the TTL.
#[derive(Clone, Copy, Debug, Default)]
struct Path {
    /// The number of its way; 0 where none is learned.
    way: u32,
    watch: Watch,
    deltas: Deltas,
}

/// The ways of a flow's packets in both directions, as the flow's record keeps them.
#[derive(Clone, Copy, Debug)]
pub(super) struct LearnedPaths {
    original: Path,
    reply: Path,
    /// The connection of those that have one, or [`NOBODY`]: a million flows' options would take
    /// four bytes more each.
    connection: Handle,
}

/// Names no connection.
const NOBODY: Handle = Handle { slot: u32::MAX, generation: 0 };

impl Default for LearnedPaths {
    fn default() -> Self {
        Self { original: Path::default(), reply: Path::default(), connection: NOBODY }
    }
}

impl LearnedPaths {
    /// The way in one direction, if it is known.
    #[inline(always)]
    pub(super) fn get(&self, direction: Direction) -> LearnedPath {
        let path = match direction {
            Direction::Original => self.original,
            Direction::Reply => self.reply,
        };
        LearnedPath { path, connection: self.connection }
    }

    /// The connection of the flow, or [`NOBODY`].
    pub(super) const fn connection(&self) -> Handle {
        self.connection
    }

    /// Keeps the way in one direction. What was learned with another connection holds no more.
    pub(super) fn set(
        &mut self,
        direction: Direction,
        LearnedPath { path, connection }: LearnedPath,
    ) {
        if connection != NOBODY && self.connection != connection {
            *self = Self { connection, ..Self::default() };
        }
        match direction {
            Direction::Original => self.original = path,
            Direction::Reply => self.reply = path,
        }
    }
}

/// What a walk notes down on its way, for a path to be learned from it: that of the packet's flow, or
/// where the packet is the first, the way of flows that begin like it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lesson {
    /// The packet's tuple as it arrived.
    arrived: Tuple<Ipv4Addr>,
    /// Its flow; `None` where it is the first.
    flow: Option<(Handle, Direction)>,
    mtu: u16,
    connection: Option<(Handle, Direction)>,
    watch: Option<Watch>,
    /// The destination that its flow was given.
    server: Option<Handle>,
    masquerade: Masquerade,
}

impl Lesson {
    const fn new(arrived: Tuple<Ipv4Addr>, flow: Option<(Handle, Direction)>) -> Self {
        let (mtu, masquerade) = (u16::MAX, Masquerade::No);
        Self { arrived, flow, mtu, connection: None, watch: None, server: None, masquerade }
    }

    /// Notes that the packet was held against an exit's MTU.
    pub(super) fn measured(&mut self, mtu: u16) {
        self.mtu = self.mtu.min(mtu);
    }

    /// Notes which connection the packet turned out to belong to, if any, when its tuple was as
    /// `watch` has it.
    pub(super) fn met(&mut self, connection: Option<(Handle, Direction)>, watch: Watch) {
        self.connection = connection;
        self.watch = Some(watch);
    }

    /// Notes the destination that a scheduler alone has picked for the packet's flow.
    pub(super) const fn scheduled(&mut self, server: Handle) {
        self.server = Some(server);
    }

    /// Notes that the packet's flow is masqueraded, always from a random port or not.
    pub(super) const fn masqueraded(&mut self, random: bool) {
        self.masquerade = if random { Masquerade::Random } else { Masquerade::Yes };
    }
}

/// Control bits that move a flow from state to state.
const DECISIVE: Flags = Flags::SYN.union(Flags::FIN).union(Flags::RST).union(Flags::ACK);
/// A datagram's.
const NONE: Flags = Flags::empty();

/// Whether the packet has a checksum to be kept right. Where a datagram has none, ipvs makes one and
/// conntrack's NAT does not: a matter for the walk.
fn has_sum(packet: &Packet<Ipv4Addr>, ip: &[u8]) -> bool {
    match packet.tuple.proto {
        Protocol::TCP => true,
        Protocol::UDP => packet.has_checksum(ip),
        _ => false,
    }
}

impl<B: Buffer> Node<B> {
    /// Begins a lesson where the packet's flow is established; to be called in PREROUTING, before
    /// anything has changed the packet.
    pub(super) fn begin_lesson(&self, p: &mut Passage<B>) {
        let wanted = self.config.switches.flow_cache && p.framed.hop.is_none();
        if !wanted || p.iif.is_none_or(|port| port == HOST0) || !has_sum(&p.packet, p.ip()) {
            return;
        }
        let decisive = p.packet.tcp_flags() & DECISIVE;
        match p.tracked {
            Tracked::Known(handle, direction)
                if matches!(decisive, Flags::ACK | NONE)
                    && self.conntrack.is_established(handle) =>
            {
                p.lesson = Some(Lesson::new(p.packet.tuple, Some((handle, direction))));
            }
            Tracked::New(_) if matches!(decisive, Flags::SYN | NONE) => {
                p.lesson = Some(Lesson::new(p.packet.tuple, None));
            }
            _ => {}
        }
    }

    /// Keeps the way of a packet that is about to be sent by `exit`, tagged with `vid`.
    pub(super) fn learn(
        &mut self,
        p: &Passage<B>,
        exit: Place,
        (next_hop, own): (Mac, Mac),
        vid: Option<Vid>,
    ) {
        let (Some(lesson), Some(port)) = (&p.lesson, p.iif) else { return };
        let (Some(watch), Tracked::Known(handle, direction)) = (lesson.watch, p.tracked) else {
            return;
        };
        let same = lesson.flow.unwrap_or((handle, Direction::Original)) == (handle, direction);
        if !same || self.conntrack.destined(handle, direction) != Some(p.packet.tuple) {
            return;
        }
        let way = Way {
            came: Place { port, queue: p.member_queue.unwrap_or(0) },
            mtu: lesson.mtu.min(self.mtu(exit.port)),
            link: Link::new(next_hop, own, vid),
            exit,
            within: lesson.connection.map(|(_, direction)| direction),
        };
        if lesson.flow.is_none() && lesson.server.is_none() {
            return;
        }
        let (came, epoch) = (way.came, self.neighbours.epoch());
        let Some(way) = self.ways.number_of(way, epoch) else { return };
        if let Some(server) = lesson.server {
            let ending = Ending { server, way, masquerade: lesson.masquerade };
            return self.openings.learn(Opening::new(&lesson.arrived, came), epoch, ending);
        }
        let Translation { deltas, .. } = Translation::new(&lesson.arrived, &p.packet.tuple);
        let connection = lesson.connection.map_or(NOBODY, |(handle, _)| handle);
        let deltas = deltas.and_hop();
        let path = LearnedPath { path: Path { way, watch, deltas }, connection };
        self.cache.learned += 1;
        self.conntrack.learn(handle, direction, path);
    }
}
