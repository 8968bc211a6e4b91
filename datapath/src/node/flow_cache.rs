//! The flow cache: what a walk did to a packet of an established flow is kept in the flow's own
//! record, and done to the next one without the walk (spec LAW-4, FLOW).
//!
//! A hit does to the tables what the walk does to them, by the same calls; it saves the walk's
//! look-ups and decisions. It is allowed only where each of them would come out as before:
//!
//! - the packet belongs to a conntrack entry that both sides have used and opens or ends nothing;
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
use crate::table::{Direction, Handle};
use crate::time::Time;
use crate::wire::tcp::Flags;
use crate::wire::{Mac, Packet, Protocol, Translation, Tuple, Vid, ZeroChecksum, ethernet, ipv4};

/// What the cache has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheCounters {
    /// Packets sent without a walk.
    pub hits: u64,
    /// Paths learned, those that replace an older one included.
    pub learned: u64,
}

/// The way of a flow's packets in one direction, with what it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LearnedPath {
    /// Where the packets come in; on the trunk, the queue of their VID.
    came: Place,
    /// The largest packet that fits every exit the walk looked at, in bytes.
    mtu: u16,
    /// The neighbours' epoch in which it was learned.
    epoch: u32,
    /// The connection it belongs to, and in which direction.
    connection: Option<(Handle, Direction)>,
    watch: Watch,
    translation: Translation<Ipv4Addr>,
    next_hop: Mac,
    own: Mac,
    vid: Option<Vid>,
    exit: Place,
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
        let path = LearnedPath {
            came: Place { port, queue: p.member_queue.unwrap_or(0) },
            mtu: lesson.mtu.min(self.mtu(exit.port)),
            epoch: self.neighbours.epoch(),
            connection: lesson.connection,
            watch,
            translation: Translation::new(&lesson.arrived, &p.packet.tuple),
            next_hop,
            own,
            vid,
            exit,
        };
        self.cache.learned += 1;
        self.conntrack.learn(handle, direction, path);
    }

    /// Sends a packet by its flow's learned path. Gives the frame back, untouched, where there is
    /// none that holds.
    pub(super) fn take_learned_path(
        &mut self,
        mut framed: Framed<B>,
        mut packet: Packet<Ipv4Addr>,
        came: Place,
        now: Time,
        out: &mut Output<B>,
    ) -> ControlFlow<(), Framed<B>> {
        let Some((flow, path)) = self.path_of(&framed, &packet, came, now) else {
            return Continue(framed);
        };
        // The push comes first: it alone can fail, and then nothing has been changed.
        if path.vid.is_some_and(|vid| !ethernet::push(&mut framed.frame, vid)) {
            return Continue(framed);
        }
        self.conntrack.pass(flow, &packet, now);
        if let Some((handle, direction)) = path.connection {
            self.ipvs.pass(handle, packet.tcp_flags(), direction, now);
            self.ipvs.count(handle, direction, packet.total_len);
        }
        let bytes = framed.frame.bytes_mut();
        ethernet::set_macs(bytes, path.next_hop, path.own);
        let header = ethernet::HEADER_LEN + path.vid.map_or(0, |_| ethernet::TAG_LEN);
        if let Some(ip) = bytes.get_mut(header..) {
            packet.translate(ip, &path.translation, ZeroChecksum::Keep);
            // One for the node, however the packet goes (spec EGR-1).
            ipv4::decrement_ttl(ip);
        }
        self.cache.hits += 1;
        self.depart(framed, path.exit, None, out);
        Break(())
    }

    /// The learned path of the packet's flow, where it holds for this packet at this moment.
    fn path_of(
        &self,
        framed: &Framed<B>,
        packet: &Packet<Ipv4Addr>,
        came: Place,
        now: Time,
    ) -> Option<((Handle, Direction), LearnedPath)> {
        let wanted = self.config.switches.flow_cache && framed.hop.is_none();
        let ip = framed.frame.bytes().get(ethernet::HEADER_LEN..)?;
        if !wanted || packet.ttl <= 1 || !is_plain(packet, ip) {
            return None;
        }
        let (flow, path) = self.conntrack.learned(&packet.tuple, now)?;
        let holds = path.came == came
            && packet.total_len <= path.mtu
            && path.epoch == self.neighbours.epoch()
            && self.connections().is_unchanged(path.watch)
            && path.connection.is_none_or(|(handle, _)| self.connections().lives(handle, now))
            && packet.checksum_holds(ip);
        holds.then_some((flow, *path))
    }
}
