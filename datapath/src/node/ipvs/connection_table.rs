//! The bounded table of a node's connections and templates (kernel: net/netfilter/ipvs/ip_vs_conn.c;
//! spec IPVS-4, IPVS-8, IPVS-22).

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::State;
use super::connection::{Connection, NewConnection, Role, Toa};
use super::defence::Worth;
use crate::lab::IpvsTimeouts;
use crate::table::{Direction, Handle, Index, Patrol, Slab};
use crate::time::{Deadline, Time};
use crate::wire::{Tuple, tcp::Flags};

/// How much longer a template stays whose time has come while connections follow it.
const TEMPLATE_STAYS: Duration = Duration::from_secs(60);
/// Address port of a template that no client follows any more.
const INVALID_PORT: u16 = 0xffff;

/// What the table keeps of every connection and template.
#[derive(Debug)]
struct Record {
    request: Tuple<Ipv4Addr>,
    destination: (Ipv4Addr, u16),
    server: u32,
    state: State,
    /// How often the client has sent something, up to 255.
    requests: u8,
    deadline: Deadline,
    role: Role,
}

/// What it keeps beside of a connection in mode fnat.
#[derive(Clone, Copy, Debug)]
struct Fnat {
    local: (Ipv4Addr, u16),
    toa: Toa,
}

impl Record {
    /// Whether it is within its time.
    fn lives(&self, now: Time) -> bool {
        !self.deadline.is_over(now) || self.role.has_followers()
    }
}

/// How many connections had been made whose request or answer falls into the same class as a
/// tuple, at some moment. While the number stays, no packet with that tuple meets another
/// connection than then, as long as that one lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    class: u16,
    made: u32,
}

/// Classes of tuples that a [`Watch`] tells apart.
const CLASSES: usize = 4_096;

/// What a packet changed about its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed {
    /// The slot of the destination.
    pub(super) server: u32,
    /// Whether the connection was active.
    pub(super) was_active: bool,
    /// Whether it is now.
    pub(super) is_active: bool,
}

/// Every connection and template of a node, bounded.
#[derive(Debug)]
pub struct ConnectionTable {
    records: Slab<Record>,
    /// By slot; empty where the node has no local addresses.
    fnat: Vec<Option<Fnat>>,
    /// By the tuples of requests and of answers.
    index: Index,
    patrol: Patrol,
    serial: u32,
    /// Connections made, by class of their request and of their answer.
    made: Vec<u32>,
}

impl ConnectionTable {
    /// Bytes of memory each connection takes: its record, both indexes and its timer.
    pub const BYTES_PER_CONNECTION: usize =
        Slab::<Record>::BYTES_PER_VALUE + Index::BYTES_PER_PAIR + Patrol::BYTES_PER_SLOT;
    /// Bytes that a connection in mode fnat takes beside.
    pub const BYTES_OF_FNAT: usize = size_of::<Option<Fnat>>();

    /// An empty table for `limit` connections, with room for what those in mode fnat have beside where
    /// there may be such; `seed` keys its hashes.
    #[must_use]
    pub fn new(limit: u32, may_be_fnat: bool, seed: u64) -> Self {
        let keys = (limit as usize).saturating_mul(2);
        Self {
            records: Slab::with_capacity(limit),
            fnat: vec![None; if may_be_fnat { limit as usize } else { 0 }],
            index: Index::with_capacity(keys, seed),
            patrol: Patrol::new(limit),
            serial: 0,
            made: vec![0; CLASSES],
        }
    }

    /// Touches all its memory.
    pub(super) fn populate(&mut self) {
        self.records.populate();
        self.index.populate();
    }

    /// Has fetched what looking for the connection of a packet whose tuple has this hash reads first,
    /// as a request and as an answer.
    #[inline]
    pub(in crate::node) fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Has the memory fetched for a connection that is made after `ahead` others.
    #[inline]
    pub(in crate::node) fn prefetch_vacant(&self, ahead: u32) {
        self.records.prefetch_vacant(ahead);
    }

    /// Has the record of a connection fetched.
    #[inline]
    pub(in crate::node) fn prefetch_record(&self, handle: Handle) {
        self.records.prefetch(handle.slot);
    }

    /// The state of things for packets with this tuple.
    #[must_use]
    pub fn watch(&self, tuple: &Tuple<Ipv4Addr>) -> Watch {
        let class = class_of(self.index.hash_of(tuple));
        Watch { class, made: self.made.get(usize::from(class)).copied().unwrap_or(0) }
    }

    /// Whether no connection has been made since that could concern the watch's tuple.
    #[must_use]
    #[inline]
    pub fn is_unchanged(&self, watch: Watch) -> bool {
        self.made.get(usize::from(watch.class)) == Some(&watch.made)
    }

    /// Whether the connection is there and within its time.
    #[must_use]
    #[inline]
    pub fn lives(&self, handle: Handle, now: Time) -> bool {
        self.records.get(handle).is_some_and(|record| record.lives(now))
    }

    /// Counts a new connection under one of its tuples.
    fn count_made(&mut self, hash: u64) {
        if let Some(made) = self.made.get_mut(usize::from(class_of(hash))) {
            *made = made.wrapping_add(1);
        }
    }

    /// Whether a packet with this tuple, whose hash is `hash`, belongs to no living connection, neither
    /// as a request nor as an answer.
    #[inline]
    pub(in crate::node) fn is_new(&self, hash: u64, tuple: &Tuple<Ipv4Addr>, now: Time) -> bool {
        let is = |slot| {
            self.requests(slot, tuple, now, false) || self.answers(slot, tuple, now).is_some()
        };
        self.index.find(hash, is).is_none()
    }

    /// The serial number of the connection in a slot, where it lives and the tuple is of its answers.
    #[inline]
    fn answers(&self, slot: u32, tuple: &Tuple<Ipv4Addr>, now: Time) -> Option<u32> {
        let record = self.records.at(slot)?;
        let Role::Flow { serial, .. } = record.role else { return None };
        (self.reply_of(slot, record) == *tuple && record.lives(now)).then_some(serial)
    }

    /// The answers of the connection in a slot as they come.
    #[inline]
    fn reply_of(&self, slot: u32, record: &Record) -> Tuple<Ipv4Addr> {
        let (src, src_port) = record.destination;
        let local = self.fnat.get(slot as usize).and_then(|fnat| Some(fnat.as_ref()?.local));
        let Tuple { src: client, src_port: port, proto, .. } = record.request;
        let (dst, dst_port) = local.unwrap_or((client, port));
        Tuple { src, dst, src_port, dst_port, proto }
    }

    /// The living connection that a packet belongs to as a request.
    #[must_use]
    pub fn find_request(&self, tuple: &Tuple<Ipv4Addr>, now: Time) -> Option<Handle> {
        self.find(tuple, now, false)
    }

    /// The living template with this tuple.
    pub(super) fn find_template(&self, tuple: &Tuple<Ipv4Addr>, now: Time) -> Option<Handle> {
        self.find(tuple, now, true)
    }

    fn find(&self, tuple: &Tuple<Ipv4Addr>, now: Time, template: bool) -> Option<Handle> {
        let hash = self.index.hash_of(tuple);
        let slot = self.index.find(hash, |slot| self.requests(slot, tuple, now, template))?;
        self.records.handle_at(slot)
    }

    /// Whether the connection or template in a slot lives, and the tuple is of its requests.
    #[inline]
    fn requests(&self, slot: u32, tuple: &Tuple<Ipv4Addr>, now: Time, template: bool) -> bool {
        self.records.at(slot).is_some_and(|record| {
            record.request == *tuple && record.role.is_template() == template && record.lives(now)
        })
    }

    /// The newest living connection that a packet belongs to as an answer.
    #[must_use]
    pub fn find_reply(&self, tuple: &Tuple<Ipv4Addr>, now: Time) -> Option<Handle> {
        let hash = self.index.hash_of(tuple);
        let newest: Cell<Option<(u32, u32)>> = Cell::new(None);
        // Two connections of one client port to one destination through different virtual
        // addresses share this tuple. The visitor sees each and never says yes.
        let _ = self.index.find(hash, |slot| {
            if let Some(serial) = self.answers(slot, tuple, now)
                && newest.get().is_none_or(|(other, _)| is_newer(serial, other))
            {
                newest.set(Some((serial, slot)));
            }
            false
        });
        newest.get().and_then(|(_, slot)| self.records.handle_at(slot))
    }

    /// Makes a connection that is in a state and has had so many requests, and follows `template`;
    /// `None` where the table is full.
    #[inline]
    pub(super) fn insert(
        &mut self,
        new: &NewConnection,
        (state, requests): (State, u8),
        template: Option<Handle>,
        timeouts: &IpvsTimeouts,
        now: Time,
    ) -> Option<Handle> {
        let deadline = Deadline::after_secs(now, state.timeout(timeouts));
        let NewConnection { request, destination, server, local, toa } = *new;
        let role = Role::Flow { serial: self.serial, template: template.map(|t| t.slot) };
        let server = server.slot;
        let record = Record { request, destination, server, state, requests, deadline, role };
        let handle = self.records.insert(record)?;
        self.serial = self.serial.wrapping_add(1);
        self.set_fnat(handle.slot, local.map(|local| Fnat { local, toa }));
        // Slab and indexes have the same limit; what the slab took, they take too.
        let reply = self.reply_of(handle.slot, self.records.get(handle)?);
        let (request_hash, reply_hash) = (self.index.hash_of(&request), self.index.hash_of(&reply));
        let _ = self.index.insert(request_hash, handle.slot);
        let _ = self.index.insert(reply_hash, handle.slot);
        self.count_made(request_hash);
        self.count_made(reply_hash);
        self.patrol.watch(handle.slot, deadline.at(now), now);
        if let Some(template) = template {
            self.follow(template, now);
        }
        Some(handle)
    }

    /// Keeps what mode fnat has of the connection in a slot.
    fn set_fnat(&mut self, slot: u32, fnat: Option<Fnat>) {
        if let Some(kept) = self.fnat.get_mut(slot as usize) {
            *kept = fnat;
        }
    }

    /// A connection follows the template from now on, whose time begins anew.
    fn follow(&mut self, template: Handle, now: Time) {
        let Some(entry) = self.records.get_mut(template) else { return };
        if let Role::Template { followers, timeout } = &mut entry.role {
            *followers += 1;
            entry.deadline = Deadline::after_secs(now, *timeout);
            self.patrol.watch(template.slot, entry.deadline.at(now), now);
        }
    }

    /// Makes a template that lives for `timeout` seconds after each connection that follows it;
    /// `None` where the table is full.
    pub(super) fn insert_template(
        &mut self,
        new: &NewConnection,
        timeout: u32,
        now: Time,
    ) -> Option<Handle> {
        let NewConnection { request, destination, server, .. } = *new;
        let deadline = Deadline::after_secs(now, timeout);
        let role = Role::Template { followers: 0, timeout };
        let (state, requests, server) = (State::None, 0, server.slot);
        let template = Record { request, destination, server, state, requests, deadline, role };
        let handle = self.records.insert(template)?;
        self.set_fnat(handle.slot, None);
        let _ = self.index.insert(self.index.hash_of(&request), handle.slot);
        self.patrol.watch(handle.slot, deadline.at(now), now);
        Some(handle)
    }

    /// No client finds the template any more; it is there until its time is over
    /// (ip_vs_check_template).
    pub(super) fn invalidate(&mut self, template: Handle) {
        let Some(entry) = self.records.get_mut(template) else { return };
        self.index.remove(self.index.hash_of(&entry.request), template.slot);
        entry.request.dst_port = INVALID_PORT;
        entry.destination.1 = INVALID_PORT;
    }

    /// A connection.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<Connection> {
        self.records.get(handle).map(|record| self.whole(handle.slot, record))
    }

    /// All that is known of the connection in a slot.
    fn whole(&self, slot: u32, record: &Record) -> Connection {
        let Record { request, destination, server, state, requests: _, deadline, role } = *record;
        let fnat = self.fnat.get(slot as usize).copied().flatten();
        let (local, toa) = fnat.map(|fnat| (fnat.local, fnat.toa)).unzip();
        let toa = toa.unwrap_or_default();
        Connection { request, destination, local, toa, server, state, deadline, role }
    }

    /// Notes which requests tell the destination who the client is.
    pub fn set_toa(&mut self, handle: Handle, toa: Toa) {
        if self.records.get(handle).is_some()
            && let Some(Some(fnat)) = self.fnat.get_mut(handle.slot as usize)
        {
            fnat.toa = toa;
        }
    }

    /// Moves the connection to the state that a packet with these TCP flags leads to and renews
    /// its time.
    #[inline(always)]
    pub(super) fn pass(
        &mut self,
        handle: Handle,
        flags: Flags,
        direction: Direction,
        timeouts: &IpvsTimeouts,
        now: Time,
    ) -> Option<Passed> {
        let record = self.records.get_mut(handle)?;
        let was = record.state;
        let is = was.after(flags, direction);
        record.state = is;
        record.requests = record.requests.saturating_add((direction == Direction::Original).into());
        let deadline = Deadline::after_secs(now, is.timeout(timeouts));
        let before = std::mem::replace(&mut record.deadline, deadline);
        let Record { server, role, .. } = *record;
        if deadline.is_before(before) {
            self.patrol.watch(handle.slot, deadline.at(now), now);
        }
        let answered = match is {
            State::Udp => direction == Direction::Reply,
            _ => is == State::Established && was != is,
        };
        if let Role::Flow { template: Some(template), .. } = role
            && answered
        {
            self.assure(template);
        }
        Some(Passed { server, was_active: was.is_active(), is_active: is.is_active() })
    }

    /// How many slots connections and templates have been in so far.
    pub(super) const fn slots(&self) -> u32 {
        self.records.slots()
    }

    /// The connection in a slot, and how much it is worth to the defence.
    pub(super) fn worth(
        &self,
        slot: u32,
        timeouts: &IpvsTimeouts,
        now: Time,
    ) -> Option<(Handle, Worth)> {
        let Record { state, requests, deadline, role, .. } = self.records.at(slot)?;
        let worth = Worth::of(*state, *requests, deadline.left(now), timeouts);
        (!role.is_template()).then_some((self.records.handle_at(slot)?, worth))
    }

    /// The template that a connection follows.
    pub(super) fn template_of(&self, connection: Handle) -> Option<Handle> {
        let Role::Flow { template, .. } = self.records.get(connection)?.role else { return None };
        self.records.handle_at(template?)
    }

    /// A connection that follows the template in a slot has been answered.
    #[cold]
    fn assure(&mut self, template: u32) {
        if let Some(template) = self.template_at(template) {
            template.state = State::Assured;
        }
    }

    /// The template in a slot where one is that a connection follows.
    fn template_at(&mut self, slot: u32) -> Option<&mut Record> {
        let handle = self.records.handle_at(slot)?;
        self.records.get_mut(handle)
    }

    /// Removes a connection; its template has one follower less.
    pub(super) fn remove(&mut self, handle: Handle) -> Option<Connection> {
        let c = self.get(handle)?;
        self.records.remove(handle);
        self.index.remove(self.index.hash_of(&c.request), handle.slot);
        if let Role::Flow { template, .. } = c.role {
            self.index.remove(self.index.hash_of(&c.reply()), handle.slot);
            if let Some(template) = template.and_then(|slot| self.template_at(slot))
                && let Role::Template { followers, .. } = &mut template.role
            {
                *followers -= 1;
            }
        }
        Some(c)
    }

    /// The next moment at which a connection may end.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        self.patrol.poll_at()
    }

    /// Removes the next connection past its deadline; `budget` says how many are looked at. A
    /// template that connections follow stays (ip_vs_conn_expire).
    pub(super) fn next_ended(&mut self, now: Time, budget: &mut usize) -> Option<Connection> {
        while let Some(slot) = self.patrol.next_due(now, budget) {
            let Some(handle) = self.records.handle_at(slot) else { continue };
            let Some(record) = self.records.get_mut(handle) else { continue };
            while record.deadline.is_over(now) && record.role.has_followers() {
                record.deadline = Deadline::after(record.deadline.at(now), TEMPLATE_STAYS);
                if let Role::Template { timeout, .. } = &mut record.role {
                    *timeout = TEMPLATE_STAYS.as_secs() as u32;
                }
            }
            if record.deadline.is_over(now) {
                return self.remove(handle);
            }
            let deadline = record.deadline.at(now);
            self.patrol.watch(slot, deadline, now);
        }
        None
    }

    /// Living connections and templates, in a fixed order.
    pub fn iter(&self, now: Time) -> impl Iterator<Item = Connection> + '_ {
        let living = self.records.iter().filter(move |(_, record)| record.lives(now));
        living.map(|(handle, record)| self.whole(handle.slot, record))
    }

    /// All connections and templates with their handles, ended ones included.
    pub(super) fn handles(&self) -> impl Iterator<Item = (Handle, Connection)> {
        let all = self.records.iter();
        all.map(|(handle, record)| (handle, self.whole(handle.slot, record)))
    }

    /// Connections held, ended ones that wait for their timer included.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.records.len()
    }

    /// Whether none is held.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// The class of a tuple with this hash.
const fn class_of(hash: u64) -> u16 {
    (hash >> 32) as u16 % CLASSES as u16
}

/// Whether a serial number comes after another, of two that live at once.
const fn is_newer(serial: u32, other: u32) -> bool {
    (serial.wrapping_sub(other) as i32) > 0
}
