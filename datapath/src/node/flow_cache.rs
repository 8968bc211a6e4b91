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

use std::net::Ipv4Addr;
use std::ops::ControlFlow::{self, Break, Continue};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Node;
use super::config::HOST0;
use super::conntrack::Tracked;
use super::ipvs::Watch;
use super::passage::{Framed, Passage};
use crate::element::{Output, Place};
use crate::port::Buffer;
use crate::table::{Direction, Handle, Index};
use crate::time::Time;
use crate::wire::tcp::Flags;
use crate::wire::{
    Deltas, Mac, Packet, Protocol, Translation, Tuple, Vid, ZeroChecksum, ethernet, ipv4,
};

/// What the cache has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheCounters {
    /// Packets sent without a walk.
    pub hits: u64,
    /// Paths learned, those that replace an older one included.
    pub learned: u64,
}

/// The way of a flow's packets in one direction, with what it depends on. What they are rewritten
/// to is what the flow's other tuple answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct LearnedPath {
    path: Path,
    connection: Option<Handle>,
}

/// What of it is a direction's own.
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
    pub(super) fn get(&self, direction: Direction) -> LearnedPath {
        let path = match direction {
            Direction::Original => self.original,
            Direction::Reply => self.reply,
        };
        let connection = (self.connection != NOBODY).then_some(self.connection);
        LearnedPath { path, connection }
    }

    /// Keeps the way in one direction. What was learned with another connection holds no more.
    pub(super) fn set(
        &mut self,
        direction: Direction,
        LearnedPath { path, connection }: LearnedPath,
    ) {
        if let Some(connection) = connection
            && self.connection != connection
        {
            *self = Self { connection, ..Self::default() };
        }
        match direction {
            Direction::Original => self.original = path,
            Direction::Reply => self.reply = path,
        }
    }
}

/// Where packets come in and where they leave, and as what their connection has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Way {
    /// Where the packets come in; on the trunk, the queue of their VID.
    came: Place,
    /// The largest packet that fits every exit the walk looked at, in bytes.
    mtu: u16,
    next_hop: Mac,
    own: Mac,
    vid: Option<Vid>,
    exit: Place,
    /// The direction they have in their connection, if they have one.
    within: Option<Direction>,
}

/// How many ways are known at once (spec FLOW-7).
const WAYS: u32 = 4_096;

/// The ways that learned paths lead: a few for each pod, whatever the number of flows. All are
/// forgotten together, and every path with them, when a neighbour has got another MAC or when one
/// more would be too many.
#[derive(Debug)]
pub(super) struct Ways {
    ways: Vec<Way>,
    index: Index,
    /// The number of the first; that of each other is one more.
    first: u32,
    /// The neighbours' epoch in which they hold.
    epoch: u32,
}

impl Ways {
    /// No ways yet; `seed` keys their hashes.
    pub(super) fn new(seed: u64) -> Self {
        let index = Index::with_capacity(WAYS as usize, seed);
        Self { ways: Vec::with_capacity(WAYS as usize), index, first: 1, epoch: 0 }
    }

    fn get(&self, number: u32, epoch: u32) -> Option<&Way> {
        let place = number.checked_sub(self.first)? as usize;
        self.ways.get(place).filter(|_| self.epoch == epoch)
    }

    /// The number of a way, from 1 on; `None` once all numbers have been given.
    fn number_of(&mut self, way: Way, epoch: u32) -> Option<u32> {
        let hash = self.index.hash_of(&way);
        let is = |place: u32| self.ways.get(place as usize) == Some(&way);
        if self.epoch == epoch
            && let Some(known) = self.index.find(hash, is)
        {
            return self.first.checked_add(known);
        }
        if self.epoch != epoch || self.ways.len() == WAYS as usize {
            self.forget();
            self.epoch = epoch;
        }
        let place = u32::try_from(self.ways.len()).ok()?;
        let number = self.first.checked_add(place).filter(|number| *number < u32::MAX)?;
        // There is room: what was too much has just been forgotten.
        self.index.insert(hash, place).ok()?;
        self.ways.push(way);
        Some(number)
    }

    /// Forgets all ways; their numbers mean nothing from now on.
    fn forget(&mut self) {
        for (place, way) in (0..).zip(&self.ways) {
            self.index.remove(self.index.hash_of(way), place);
        }
        self.first = self.first.saturating_add(self.ways.len() as u32);
        self.ways.clear();
    }
}

/// What a walk notes down on its way for the path to be learned from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lesson {
    /// The packet's tuple as it arrived.
    arrived: Tuple<Ipv4Addr>,
    flow: (Handle, Direction),
    mtu: u16,
    connection: Option<(Handle, Direction)>,
    watch: Option<Watch>,
}

impl Lesson {
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
}

/// Whether the packet neither opens nor ends a flow, and has a checksum to be kept right.
fn is_plain(packet: &Packet<Ipv4Addr>, ip: &[u8]) -> bool {
    match packet.tuple.proto {
        Protocol::TCP => {
            let decisive = Flags::SYN | Flags::FIN | Flags::RST | Flags::ACK;
            packet.tcp_flags() & decisive == Flags::ACK
        }
        // Without a checksum ipvs makes one and conntrack's NAT does not: a matter for the walk.
        Protocol::UDP => packet.has_checksum(ip),
        _ => false,
    }
}

impl<B: Buffer> Node<B> {
    /// Begins a lesson where the packet's flow is established; to be called in PREROUTING, before
    /// anything has changed the packet.
    pub(super) fn begin_lesson(&self, p: &mut Passage<B>) {
        let wanted = self.config.switches.flow_cache && p.framed.hop.is_none();
        if let Tracked::Known(handle, direction) = p.tracked
            && wanted
            && p.iif.is_some_and(|port| port != HOST0)
            && is_plain(&p.packet, p.ip())
            && self.conntrack.is_established(handle)
        {
            let (arrived, flow) = (p.packet.tuple, (handle, direction));
            let (mtu, connection, watch) = (u16::MAX, None, None);
            p.lesson = Some(Lesson { arrived, flow, mtu, connection, watch });
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
        let Some(watch) = lesson.watch else { return };
        let (handle, direction) = lesson.flow;
        if p.tracked != Tracked::Known(handle, direction) {
            return;
        }
        if self.conntrack.destined(handle, direction) != Some(p.packet.tuple) {
            return;
        }
        let way = Way {
            came: Place { port, queue: p.member_queue.unwrap_or(0) },
            mtu: lesson.mtu.min(self.mtu(exit.port)),
            next_hop,
            own,
            vid,
            exit,
            within: lesson.connection.map(|(_, direction)| direction),
        };
        let Some(way) = self.ways.number_of(way, self.neighbours.epoch()) else { return };
        let Translation { deltas, .. } = Translation::new(&lesson.arrived, &p.packet.tuple);
        let connection = lesson.connection.map(|(handle, _)| handle);
        let path = LearnedPath { path: Path { way, watch, deltas }, connection };
        self.cache.learned += 1;
        self.conntrack.learn(handle, direction, path);
    }

    /// Sends a packet by its flow's learned path. Gives the frame back, untouched, where there is
    /// none that holds.
    #[inline(always)]
    pub(super) fn take_learned_path(
        &mut self,
        mut framed: Framed<B>,
        packet: &Packet<Ipv4Addr>,
        came: Place,
        now: Time,
        out: &mut Output<B>,
    ) -> ControlFlow<(), Framed<B>> {
        let wanted = self.config.switches.flow_cache && framed.hop.is_none();
        if !wanted || packet.ttl <= 1 {
            return Continue(framed);
        }
        let Some(exit) = self.follow(&mut framed.frame, packet, came, now) else {
            return Continue(framed);
        };
        self.cache.hits += 1;
        self.depart(framed, exit, None, out);
        Break(())
    }

    /// Does to a packet what its flow's learned path says, where that holds for this packet at this
    /// moment, and says where it leaves. Otherwise nothing is changed.
    #[inline(always)]
    fn follow(
        &mut self,
        frame: &mut B,
        packet: &Packet<Ipv4Addr>,
        came: Place,
        now: Time,
    ) -> Option<Place> {
        let ip = frame.bytes().get(ethernet::HEADER_LEN..)?;
        if !is_plain(packet, ip) {
            return None;
        }
        let (path, mut flow) = self.conntrack.learned(&packet.tuple, now)?;
        let LearnedPath { path: Path { way, watch, deltas }, connection } = path;
        let way = self.ways.get(way, self.neighbours.epoch())?;
        let connection = connection.zip(way.within);
        let connections = self.ipvs.connections();
        let holds = way.came == came
            && packet.total_len <= way.mtu
            && connections.is_unchanged(watch)
            && connection.is_none_or(|(handle, _)| connections.lives(handle, now))
            && packet.checksum_holds(ip);
        if !holds {
            return None;
        }
        let translation = Translation { to: flow.destined()?, deltas };
        let rules = &self.config.switches.conntrack;
        let before = flow.entry();
        let moved = flow.move_on(packet, ip, rules, now);
        // Without room for a tag it is the walk's to drop.
        if !moved || !way.vid.is_none_or(|vid| ethernet::push(frame, vid)) {
            flow.put(before);
            return None;
        }
        if let Some((handle, direction)) = connection {
            self.ipvs.pass(handle, packet.tcp_flags(), direction, packet.total_len, now);
        }
        let bytes = frame.bytes_mut();
        ethernet::set_macs(bytes, way.next_hop, way.own);
        let header = ethernet::HEADER_LEN + way.vid.map_or(0, |_| ethernet::TAG_LEN);
        if let Some(ip) = bytes.get_mut(header..) {
            packet.write_translated(ip, &translation, ZeroChecksum::Keep);
            // One for the node, however the packet goes (spec EGR-1).
            ipv4::decrement_ttl(ip);
        }
        Some(way.exit)
    }
}
