//! Connections: which client's flow goes to which destination (kernel:
//! net/netfilter/ipvs/ip_vs_conn.c; spec IPVS-4, IPVS-8).

use std::cell::Cell;
use std::net::Ipv4Addr;

use super::{ServiceKey, State};
use crate::journey::Rewriter;
use crate::table::{Direction, Handle, Index, Patrol, Slab};
use crate::time::Time;
use crate::wire::{Protocol, Tuple, tcp::Flags};

/// A connection of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The client's packets as they come: client to virtual address.
    pub request: Tuple<Ipv4Addr>,
    /// Where they go: the destination's address and port.
    destination: (Ipv4Addr, u16),
    /// In mode fnat, what they then come from.
    local: Option<(Ipv4Addr, u16)>,
    /// Which of them tell the destination who the client is.
    pub toa: Toa,
    /// The destination, which counts the connection.
    pub server: Handle,
    /// TCP state, or UDP.
    pub state: State,
    /// When it ends unless a packet comes.
    pub deadline: Time,
    /// Order of creation: of two connections with the same reply tuple the newer answers.
    serial: u64,
}

impl Connection {
    /// The destination's address and port.
    #[must_use]
    pub const fn destination(&self) -> (Ipv4Addr, u16) {
        self.destination
    }

    /// The local address and port that stand in for the client in mode fnat.
    #[must_use]
    pub const fn local(&self) -> Option<(Ipv4Addr, u16)> {
        self.local
    }

    /// The client's packets as they leave: from it, or its local address, to the destination.
    #[must_use]
    pub const fn sent(&self) -> Tuple<Ipv4Addr> {
        let (dst, dst_port) = self.destination;
        let (src, src_port) = match self.local {
            Some(local) => local,
            None => (self.request.src, self.request.src_port),
        };
        Tuple { src, dst, src_port, dst_port, proto: self.request.proto }
    }

    /// What a journey calls the translation of requests.
    #[must_use]
    pub const fn sender(&self) -> Rewriter {
        if self.local.is_some() { Rewriter::IpvsFnat } else { Rewriter::IpvsDnat }
    }

    /// What a journey calls the translation of answers.
    #[must_use]
    pub const fn restorer(&self) -> Rewriter {
        if self.local.is_some() { Rewriter::IpvsUnFnat } else { Rewriter::IpvsUnDnat }
    }

    /// The answers as they come: destination to client, or its local address.
    #[must_use]
    pub const fn reply(&self) -> Tuple<Ipv4Addr> {
        turned(self.sent())
    }

    /// The answers as they leave: virtual address to client.
    #[must_use]
    pub const fn answer(&self) -> Tuple<Ipv4Addr> {
        turned(self.request)
    }

    /// What names the virtual service it was scheduled by.
    #[must_use]
    pub const fn service(&self) -> ServiceKey {
        (self.request.proto, self.request.dst, self.request.dst_port)
    }

    /// The virtual address and port.
    #[must_use]
    pub const fn vip(&self) -> (Ipv4Addr, u16) {
        (self.request.dst, self.request.dst_port)
    }
}

/// The other direction of a TCP or UDP tuple.
const fn turned(tuple: Tuple<Ipv4Addr>) -> Tuple<Ipv4Addr> {
    let Tuple { src: dst, dst: src, src_port: dst_port, dst_port: src_port, proto } = tuple;
    Tuple { src, dst, src_port, dst_port, proto }
}

/// Which of a connection's requests carry the client's address and port (spec FNAT-21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Toa {
    /// None.
    #[default]
    Never,
    /// The SYN; the destination has not answered yet.
    Syn,
    /// The SYN, and what acknowledges nothing beyond the destination's SYN: this number.
    Acknowledging(u32),
}

/// What makes a connection.
#[derive(Clone, Copy, Debug)]
pub struct NewConnection {
    /// The client's first packet.
    pub request: Tuple<Ipv4Addr>,
    /// Where the scheduler sends it.
    pub destination: (Ipv4Addr, u16),
    /// That destination.
    pub server: Handle,
    /// In mode fnat, what stands in for the client.
    pub local: Option<(Ipv4Addr, u16)>,
    /// Which requests tell the destination who the client is.
    pub toa: Toa,
}

/// How many connections had been made whose request or answer falls into the same class as a
/// tuple, at some moment. While the number stays, no packet with that tuple meets another
/// connection than then, as long as that one lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    class: u16,
    made: u32,
}

/// Classes of tuples that a [`Watch`] tells apart.
const CLASSES: usize = 4_096;

/// Every connection of a node, bounded.
#[derive(Debug)]
pub struct ConnectionTable {
    connections: Slab<Connection>,
    by_request: Index,
    by_reply: Index,
    patrol: Patrol,
    serial: u64,
    /// Connections made, by class of their request and of their answer.
    made: Vec<u32>,
}

impl ConnectionTable {
    /// An empty table for `limit` connections; `seed` keys its hashes.
    #[must_use]
    pub fn new(limit: u32, seed: u64) -> Self {
        let keys = limit as usize;
        Self {
            connections: Slab::with_capacity(limit),
            by_request: Index::with_capacity(keys, seed),
            by_reply: Index::with_capacity(keys, seed),
            patrol: Patrol::new(limit),
            serial: 0,
            made: vec![0; CLASSES],
        }
    }

    /// The state of things for packets with this tuple.
    #[must_use]
    pub fn watch(&self, tuple: &Tuple<Ipv4Addr>) -> Watch {
        let class = class_of(self.by_request.hash_of(tuple));
        Watch { class, made: self.made.get(usize::from(class)).copied().unwrap_or(0) }
    }

    /// Whether no connection has been made since that could concern the watch's tuple.
    #[must_use]
    pub fn is_unchanged(&self, watch: Watch) -> bool {
        self.made.get(usize::from(watch.class)) == Some(&watch.made)
    }

    /// Whether the connection is there and within its time.
    #[must_use]
    pub fn lives(&self, handle: Handle, now: Time) -> bool {
        self.get(handle).is_some_and(|c| c.deadline > now)
    }

    /// Counts a new connection under one of its tuples.
    fn count_made(&mut self, hash: u64) {
        if let Some(made) = self.made.get_mut(usize::from(class_of(hash))) {
            *made = made.wrapping_add(1);
        }
    }

    /// The living connection that a packet belongs to as a request.
    #[must_use]
    pub fn find_request(&self, tuple: &Tuple<Ipv4Addr>, now: Time) -> Option<Handle> {
        let hash = self.by_request.hash_of(tuple);
        self.by_request.find(hash, |handle| {
            self.connections.get(handle).is_some_and(|c| c.request == *tuple && c.deadline > now)
        })
    }

    /// The newest living connection that a packet belongs to as an answer.
    #[must_use]
    pub fn find_reply(&self, tuple: &Tuple<Ipv4Addr>, now: Time) -> Option<Handle> {
        let hash = self.by_reply.hash_of(tuple);
        let newest: Cell<Option<(u64, Handle)>> = Cell::new(None);
        // Two connections of one client port to one destination through different virtual
        // addresses share this tuple. The visitor sees each and never says yes.
        let _ = self.by_reply.find(hash, |handle| {
            if let Some(c) = self.connections.get(handle)
                && c.reply() == *tuple
                && c.deadline > now
                && newest.get().is_none_or(|(serial, _)| serial < c.serial)
            {
                newest.set(Some((c.serial, handle)));
            }
            false
        });
        newest.get().map(|(_, handle)| handle)
    }

    /// Makes a connection without a state yet; `None` where the table is full.
    pub fn insert(&mut self, new: NewConnection, now: Time) -> Option<Handle> {
        let state = if new.request.proto == Protocol::UDP { State::Udp } else { State::None };
        let deadline = now + state.timeout();
        self.serial += 1;
        let NewConnection { request, destination, server, local, toa } = new;
        let serial = self.serial;
        let connection =
            Connection { request, destination, local, toa, server, state, deadline, serial };
        let handle = self.connections.insert(connection)?;
        // Slab and indexes have the same limit; what the slab took, they take too.
        let (request_hash, reply_hash) =
            (self.by_request.hash_of(&request), self.by_reply.hash_of(&connection.reply()));
        let _ = self.by_request.insert(request_hash, handle);
        let _ = self.by_reply.insert(reply_hash, handle);
        self.count_made(request_hash);
        self.count_made(reply_hash);
        self.patrol.watch(handle.slot, deadline, now);
        Some(handle)
    }

    /// A connection.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<&Connection> {
        self.connections.get(handle)
    }

    /// Notes which requests tell the destination who the client is.
    pub fn set_toa(&mut self, handle: Handle, toa: Toa) {
        if let Some(connection) = self.connections.get_mut(handle) {
            connection.toa = toa;
        }
    }

    /// Moves the connection to the state that a packet with these TCP flags leads to and renews
    /// its time. Returns its destination, and whether it was and is active.
    pub fn pass(
        &mut self,
        handle: Handle,
        flags: Flags,
        direction: Direction,
        now: Time,
    ) -> Option<(Handle, bool, bool)> {
        let connection = self.connections.get_mut(handle)?;
        let was = connection.state.is_active();
        connection.state = match connection.state {
            State::Udp => State::Udp,
            state => state.after(flags, direction),
        };
        connection.deadline = now + connection.state.timeout();
        Some((connection.server, was, connection.state.is_active()))
    }

    /// Removes a connection.
    pub fn remove(&mut self, handle: Handle) -> Option<Connection> {
        let c = self.connections.remove(handle)?;
        self.by_request.remove(self.by_request.hash_of(&c.request), handle);
        self.by_reply.remove(self.by_reply.hash_of(&c.reply()), handle);
        Some(c)
    }

    /// The next moment at which a connection may end.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        self.patrol.poll_at()
    }

    /// Removes the next connection past its deadline; `budget` says how many are looked at.
    pub fn next_ended(&mut self, now: Time, budget: &mut usize) -> Option<Connection> {
        while let Some(slot) = self.patrol.next_due(now, budget) {
            let Some(handle) = self.connections.handle_at(slot) else { continue };
            match self.connections.get(handle).map(|c| c.deadline) {
                Some(deadline) if deadline > now => self.patrol.watch(slot, deadline, now),
                _ => return self.remove(handle),
            }
        }
        None
    }

    /// Living connections, in a fixed order.
    pub fn iter(&self, now: Time) -> impl Iterator<Item = &Connection> + '_ {
        self.connections.iter().map(|(_, c)| c).filter(move |c| c.deadline > now)
    }

    /// Connections held, ended ones that wait for their timer included.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.connections.len()
    }

    /// Whether none is held.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }
}

/// The class of a tuple with this hash; both indexes hash with the same seed.
const fn class_of(hash: u64) -> u16 {
    (hash >> 32) as u16 % CLASSES as u16
}
