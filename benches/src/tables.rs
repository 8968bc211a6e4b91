//! Tables with flows or prefixes in them, and what they are asked for.

use std::net::Ipv4Addr;

use datapath::table::{FlowTable, Index, PrefixTable};
use datapath::wire::{Protocol, Tuple};

type Key = Tuple<Ipv4Addr>;

/// A number that jumps about: neighbours of a flow are not asked for after it.
const STRIDE: usize = 7_919;

/// Keys to be asked for, round and round.
#[derive(Debug)]
struct Questions {
    keys: Vec<Key>,
    next: usize,
}

impl Questions {
    /// `count` keys from clients in this network.
    fn of(network: u8, count: u32) -> Self {
        Self { keys: (0..count).map(|number| key(network, number)).collect(), next: 0 }
    }

    fn next(&mut self) -> Key {
        self.next = (self.next + STRIDE) % self.keys.len();
        self.keys[self.next]
    }
}

/// The tuple of a request; no other number of the network has the same.
fn key(network: u8, number: u32) -> Key {
    Tuple {
        src: Ipv4Addr::from(u32::from(network) << 24 | number >> 12),
        dst: Ipv4Addr::new(192, 168, 31, 1),
        src_port: 1_024 + (number & 0xfff) as u16,
        dst_port: 53,
        proto: Protocol::UDP,
    }
}

/// A flow table, its flows, and as many keys that it does not have.
#[derive(Debug)]
pub struct Flows {
    table: FlowTable<Key, u64>,
    known: Questions,
    unknown: Questions,
}

impl Flows {
    /// A table with `count` flows in it, and room for twice as many.
    ///
    /// # Panics
    /// Where the table does not take its flows.
    #[must_use]
    pub fn new(count: u32) -> Self {
        let known = Questions::of(10, count);
        let mut table = FlowTable::with_limit(count * 2, 1);
        table.populate();
        for (number, key) in (0..).zip(&known.keys) {
            let reply = key.inverse().expect("a datagram has an answer");
            table.insert(*key, reply, number).expect("there is room");
        }
        Self { table, known, unknown: Questions::of(11, count) }
    }

    /// Finds the next flow.
    pub fn hit(&mut self) -> Option<u64> {
        let key = self.known.next();
        self.table.meet(self.table.hash_of(&key), None, &key).map(|met| *met.value)
    }

    /// Does not find what is not there.
    pub fn miss(&mut self) -> bool {
        let key = self.unknown.next();
        self.table.meet(self.table.hash_of(&key), None, &key).is_none()
    }
}

/// An index alone: what a look-up costs before the flow itself is read.
#[derive(Debug)]
pub struct Slots {
    index: Index,
    known: Questions,
    unknown: Questions,
}

impl Slots {
    /// An index of `count` keys.
    ///
    /// # Panics
    /// Where the index does not take them.
    #[must_use]
    pub fn new(count: u32) -> Self {
        let known = Questions::of(10, count);
        let mut index = Index::with_capacity(count as usize * 2, 1);
        for (slot, key) in (0..).zip(&known.keys) {
            index.insert(index.hash_of(key), slot).expect("there is room");
        }
        Self { index, known, unknown: Questions::of(11, count) }
    }

    /// Finds the slot of the next key.
    pub fn hit(&mut self) -> Option<u32> {
        let key = self.known.next();
        let at = self.known.next;
        self.index.find(self.index.hash_of(&key), |slot| slot as usize == at)
    }

    /// Does not find what is not there.
    pub fn miss(&mut self) -> bool {
        let key = self.unknown.next();
        self.index.find(self.index.hash_of(&key), |_| false).is_none()
    }
}

/// A prefix table with host routes as a node has them for its pods, and a default.
#[derive(Debug)]
pub struct Routes {
    table: PrefixTable<Ipv4Addr, u32>,
    hosts: Questions,
}

impl Routes {
    /// A table with `count` host routes.
    #[must_use]
    pub fn new(count: u32) -> Self {
        let mut hosts = Questions::of(10, count);
        let mut table = PrefixTable::new();
        table.insert(Ipv4Addr::UNSPECIFIED, 0, u32::MAX);
        for (number, key) in (0..count).zip(&mut hosts.keys) {
            key.src = Ipv4Addr::from(10 << 24 | number);
            table.insert(key.src, 32, number);
        }
        Self { table, hosts }
    }

    /// The route of the next host.
    pub fn hit(&mut self) -> Option<u32> {
        self.table.lookup(self.hosts.next().src).map(|(route, _)| *route)
    }

    /// The default, for a host without a route.
    pub fn miss(&mut self) -> Option<u32> {
        let Tuple { src, .. } = self.hosts.next();
        self.table.lookup(Ipv4Addr::from(src.to_bits() ^ 1 << 24)).map(|(route, _)| *route)
    }
}
