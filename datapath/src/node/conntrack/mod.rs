//! Connection tracking: one entry a flow, which carries both NATs (kernel:
//! net/netfilter/nf_conntrack_core.c; spec CT).

mod entry;
mod segment;
mod tcp;
mod track;
mod window;

use std::net::Ipv4Addr;

pub use entry::{Entry, Status};
pub use tcp::TcpState;

use super::flow_cache::{LearnedPath, LearnedPaths};
use crate::lab::ConntrackSwitches;
use crate::table::{Direction, FlowTable, Handle, InsertError, Met, Patrol};
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Packet, Plain, Protocol, Tuple};
use entry::Update;
pub(super) use segment::First;

/// How many entries of a full table are looked at for one to evict (spec CT-19).
const EVICTION_RANGE: u32 = 16;

/// A flow whose first packet is still on its way; it enters the table when confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewFlow {
    /// The first packet as it came.
    pub original: Tuple<Ipv4Addr>,
    /// The answer as it will come; ipvs and masquerade change it.
    pub reply: Tuple<Ipv4Addr>,
    /// The entry to be.
    entry: Entry,
}

impl NewFlow {
    /// Notes that the source is translated.
    pub fn set_src_nat(&mut self) {
        self.entry.status |= Status::SRC_NAT;
    }
}

/// What conntrack knows of the packet at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// First packet of a flow.
    New(NewFlow),
    /// A packet of a flow in the table.
    Known(Handle, Direction),
    /// An ICMP error about a packet of a flow, which it does not renew; in which direction the
    /// answer to the quoted packet goes.
    Related(Handle, Direction),
    /// Belongs to no flow.
    Invalid,
    /// Kept out of conntrack by ipvs.
    Untracked,
}

/// The record of a flow: its entry, and the ways its packets go, once learned.
#[derive(Debug)]
struct Flow {
    entry: Entry,
    paths: LearnedPaths,
}

/// A living flow that both sides have used, met by a packet.
#[derive(Debug)]
pub(super) struct Established<'a> {
    entry: &'a mut Entry,
    direction: Direction,
    /// The tuple of what will answer the packet.
    answer: &'a Tuple<Ipv4Addr>,
}

impl Established<'_> {
    /// The tuple with which the packet leaves.
    #[inline]
    pub(super) const fn destined(&self) -> Tuple<Ipv4Addr> {
        self.answer.turned()
    }

    /// Moves the flow on by the packet; whether the packet lies in the flow's window and renews it.
    /// Otherwise the walk is to judge it, and the entry is as it was before.
    #[must_use]
    #[inline(always)]
    pub(super) fn renew(
        &mut self,
        packet: &Plain,
        ip: &[u8],
        rules: &ConntrackSwitches,
        now: Time,
    ) -> bool {
        self.entry.renew(self.direction, packet, ip, rules, now)
    }
}

/// The table of flows, bounded.
#[derive(Debug)]
pub struct Conntrack {
    flows: FlowTable<Tuple<Ipv4Addr>, Flow>,
    patrol: Patrol,
    evicted: u64,
}

impl Conntrack {
    /// Bytes of memory each flow takes: tuples, entry, learned paths, index and timer.
    pub const BYTES_PER_FLOW: usize =
        FlowTable::<Tuple<Ipv4Addr>, Flow>::BYTES_PER_FLOW + Patrol::BYTES_PER_SLOT;

    /// An empty table for `limit` flows; `seed` keys its hashes.
    #[must_use]
    pub fn new(limit: u32, seed: u64) -> Self {
        Self { flows: FlowTable::with_limit(limit, seed), patrol: Patrol::new(limit), evicted: 0 }
    }

    /// Touches all its memory.
    pub(super) fn populate(&mut self) {
        self.flows.populate();
    }

    /// Flows held, ended ones that wait for their timer included.
    pub(super) const fn len(&self) -> u32 {
        self.flows.len()
    }

    /// The hash of a tuple.
    #[inline]
    pub(super) fn hash_of(&self, tuple: &Tuple<Ipv4Addr>) -> u64 {
        self.flows.hash_of(tuple)
    }

    /// Has fetched what a look-up of the tuple with this hash reads first.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        self.flows.prefetch(hash);
    }

    /// Has the flow fetched that this look-up most likely finds. Its slot, if there is one.
    #[inline]
    pub(super) fn prefetch_flow(&self, hash: u64) -> Option<u32> {
        self.flows.prefetch_flow(hash)
    }

    /// Has the memory fetched for a flow that is confirmed after `ahead` others.
    #[inline]
    pub(super) fn prefetch_vacant(&self, ahead: u32) {
        self.flows.prefetch_vacant(ahead);
    }

    /// The connection that the flow in a slot has learned of.
    #[inline]
    pub(super) fn connection_at(&self, slot: u32) -> Option<Handle> {
        Some(self.flows.at(slot)?.paths.connection())
    }

    /// Finds the packet's flow and moves its state, or begins a new one (nf_conntrack_in). The
    /// packet is in `ip`.
    ///
    /// # Errors
    /// [`DropReason::FlowTableFull`] for a new flow where the table is full and none of the
    /// entries looked at may be evicted.
    pub fn track(
        &mut self,
        packet: &Packet<Ipv4Addr>,
        ip: &[u8],
        rules: &ConntrackSwitches,
        now: Time,
    ) -> Result<Tracked, DropReason> {
        if let Some((handle, direction)) = self.find(&packet.tuple, now) {
            let Some(Flow { entry, .. }) = self.flows.get_mut(handle) else {
                return Ok(Tracked::Invalid);
            };
            match entry.update(direction, packet, ip, rules, now) {
                Update::Accept { .. } => return Ok(Tracked::Known(handle, direction)),
                Update::Invalid => return Ok(Tracked::Invalid),
                Update::Reopen => self.remove(handle),
            }
        }
        let reply = packet.tuple.inverse();
        let entry = Entry::begin(packet, ip, rules, now);
        let (Some(reply), Some(entry)) = (reply, entry) else { return Ok(Tracked::Invalid) };
        self.make_room(&packet.tuple, now)?;
        Ok(Tracked::New(NewFlow { original: packet.tuple, reply, entry }))
    }

    /// What an ordinary packet in `ip` says that begins a flow, where the table has room for that
    /// without giving up another and no flow, living or not, has its tuple, whose hash is `hash`.
    #[inline(always)]
    pub(super) fn first(&self, hash: u64, packet: &Plain, ip: &[u8]) -> Option<First> {
        let room = self.flows.len() < self.flows.limit();
        if room && self.is_free(hash, &packet.tuple) { First::of(packet, ip) } else { None }
    }

    /// Whether no flow, living or not, has this tuple, whose hash is `hash`.
    #[inline]
    pub(super) fn is_free(&self, hash: u64, tuple: &Tuple<Ipv4Addr>) -> bool {
        !self.flows.has(hash, tuple)
    }

    /// Evicts an entry of a full table that is not assured, for a flow with this tuple: of the few
    /// looked at, which the tuple names, the first. One past its deadline is as good.
    fn make_room(&mut self, tuple: &Tuple<Ipv4Addr>, now: Time) -> Result<(), DropReason> {
        let limit = self.flows.limit();
        if self.flows.len() < limit {
            return Ok(());
        }
        let first = self.flows.place_of(tuple);
        let slots = (0..EVICTION_RANGE.min(limit)).map(|at| (first + at) % limit);
        let given_up = slots.filter_map(|slot| self.flows.handle_at(slot)).find(|handle| {
            let entry = self.get(*handle);
            entry.is_some_and(|e| !e.lives(now) || !e.status.contains(Status::ASSURED))
        });
        let handle = given_up.ok_or(DropReason::FlowTableFull)?;
        self.remove(handle);
        self.evicted += 1;
        Ok(())
    }

    /// How many entries were given up for others since the table was made.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Finds the flow of the packet that an ICMP error to `receiver` quotes
    /// (nf_conntrack_inet_error). It is told to the quoted packet's sender and to nobody else.
    pub fn relate(&mut self, quoted: &Tuple<Ipv4Addr>, receiver: Ipv4Addr, now: Time) -> Tracked {
        let found = quoted.inverse().and_then(|answer| self.find(&answer, now));
        match found.filter(|_| quoted.src == receiver) {
            Some((handle, direction)) => Tracked::Related(handle, direction),
            None => Tracked::Invalid,
        }
    }

    /// The living flow that has this tuple.
    pub fn find(&mut self, tuple: &Tuple<Ipv4Addr>, now: Time) -> Option<(Handle, Direction)> {
        let (handle, direction) = self.flows.find(tuple)?;
        if self.flows.get(handle)?.entry.lives(now) {
            return Some((handle, direction));
        }
        self.remove(handle);
        None
    }

    /// A flow's entry.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<&Entry> {
        self.flows.get(handle).map(|flow| &flow.entry)
    }

    /// Whether both sides have used the flow and it is not about to end.
    pub(super) fn is_established(&self, handle: Handle) -> bool {
        self.get(handle).is_some_and(Entry::is_established)
    }

    /// Keeps the way of a flow's packets in one direction.
    pub(super) fn learn(&mut self, handle: Handle, direction: Direction, path: LearnedPath) {
        if let Some(flow) = self.flows.get_mut(handle) {
            flow.paths.set(direction, path);
        }
    }

    /// The living, established flow that has this tuple, with the way learned for it; `likely` is the
    /// slot where that most likely is.
    #[inline(always)]
    pub(super) fn learned(
        &mut self,
        hash: u64,
        likely: Option<u32>,
        tuple: &Tuple<Ipv4Addr>,
        now: Time,
    ) -> Option<(LearnedPath, Established<'_>)> {
        let Met { direction, original, reply, value: Flow { entry, paths } } =
            self.flows.meet(hash, likely, tuple)?;
        let holds = entry.lives(now) && entry.is_established();
        let answer = match direction {
            Direction::Original => reply,
            Direction::Reply => original,
        };
        holds.then(|| (paths.get(direction), Established { entry, direction, answer }))
    }

    /// A flow's original and reply tuple.
    #[must_use]
    pub fn tuples(&self, handle: Handle) -> Option<(Tuple<Ipv4Addr>, Tuple<Ipv4Addr>)> {
        self.flows.keys(handle).map(|(original, reply)| (*original, *reply))
    }

    /// The tuple with which a flow's packets of a direction leave: the inverse of the answer's.
    pub(super) fn destined(&self, handle: Handle, from: Direction) -> Option<Tuple<Ipv4Addr>> {
        let (original, reply) = self.flows.keys(handle)?;
        match from {
            Direction::Original => reply.inverse(),
            Direction::Reply => original.inverse(),
        }
    }

    /// Whether a flow other than the one at hand has this tuple.
    pub fn is_taken(&mut self, tuple: &Tuple<Ipv4Addr>, now: Time) -> bool {
        self.find(tuple, now).is_some()
    }

    /// Puts a new flow into the table, from where its next packets find it (spec CT-4).
    ///
    /// # Errors
    /// The reason for dropping the packet.
    pub fn confirm(&mut self, flow: &NewFlow, now: Time) -> Result<Handle, DropReason> {
        let value = Flow { entry: flow.entry, paths: LearnedPaths::default() };
        let stored = self.flows.insert(flow.original, flow.reply, value);
        let handle = stored.map_err(|e| match e {
            InsertError::Full => DropReason::FlowTableFull,
            InsertError::Clash(_) => DropReason::FlowClash,
        })?;
        self.patrol.watch(handle.slot, flow.entry.deadline.at(now), now);
        Ok(handle)
    }

    /// Puts the flow that an ordinary packet begins into the table. Its tuples, each behind its hash,
    /// no other flow has, as the caller has seen; whether the table had room.
    #[inline(always)]
    #[must_use]
    pub(super) fn confirm_first(
        &mut self,
        first: &First,
        original: (u64, Tuple<Ipv4Addr>),
        reply: (u64, Tuple<Ipv4Addr>),
        status: Status,
        rules: &ConntrackSwitches,
        now: Time,
    ) -> bool {
        let mut entry = Entry::of_first(first, rules, now);
        entry.status = status;
        let deadline = entry.deadline.at(now);
        let stored =
            self.flows.add(original, reply, Flow { entry, paths: LearnedPaths::default() });
        if let Some(handle) = stored {
            self.patrol.watch(handle.slot, deadline, now);
        }
        stored.is_some()
    }

    /// Ends a flow.
    pub fn remove(&mut self, handle: Handle) {
        self.flows.remove(handle);
    }

    /// The next moment at which a flow may end.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        self.patrol.poll_at()
    }

    /// Removes flows past their deadline, at most `budget` looked at.
    pub fn expire(&mut self, now: Time, mut budget: usize) {
        while let Some(slot) = self.patrol.next_due(now, &mut budget) {
            let Some(handle) = self.flows.handle_at(slot) else { continue };
            match self.flows.get(handle) {
                Some(flow) if flow.entry.lives(now) => {
                    self.patrol.watch(slot, flow.entry.deadline.at(now), now);
                }
                _ => self.remove(handle),
            }
        }
    }

    /// Living flows with their tuples, in a fixed order.
    pub fn iter(
        &self,
        now: Time,
    ) -> impl Iterator<Item = (&Tuple<Ipv4Addr>, &Tuple<Ipv4Addr>, &Entry)> + '_ {
        self.flows
            .iter()
            .map(|(_, original, reply, flow)| (original, reply, &flow.entry))
            .filter(move |(.., entry)| entry.lives(now))
    }
}

/// Whether the protocol has ports or an identifier that a clash of tuples can move.
#[must_use]
pub(super) const fn has_port(proto: Protocol) -> bool {
    matches!(proto, Protocol::TCP | Protocol::UDP | Protocol::ICMP)
}
