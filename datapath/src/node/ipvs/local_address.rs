//! Local addresses: what fnat puts in the client's place, and their ports (DPVS:
//! src/ipvs/ip_vs_laddr.c, src/sa_pool.c; spec FNAT-5 to FNAT-12).

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ServiceKey;
use crate::random::Random;

/// Pools of one address. Destinations whose address and port fall together share one.
const POOLS: u32 = 16;
/// Of a hundred connections of a round-robin service so many skip a local address, so that a
/// destination does not meet the same one every time.
const SKIPPED_OF_100: u32 = 5;

/// An address and a port.
type End = (Ipv4Addr, u16);

/// The ports of one address towards the destinations of one pool. The port that has been free
/// longest goes first: a peer that remembers the last connection from it has had the most time to
/// forget.
#[derive(Debug)]
struct Pool {
    /// The lowest port never taken.
    fresh: u32,
    /// Ports taken and given back, oldest first; they come after the fresh ones. It has room for all ports.
    returned: VecDeque<u16>,
}

impl Pool {
    /// Takes the port that has been free longest, none above `last`.
    fn take(&mut self, last: u16) -> Option<u16> {
        if let Some(port) = u16::try_from(self.fresh).ok().filter(|port| *port <= last) {
            self.fresh += 1;
            return Some(port);
        }
        self.returned.pop_front()
    }
}

/// One local address at work, with its pools.
#[derive(Debug)]
struct LocalAddress {
    ip: Ipv4Addr,
    pools: Vec<Pool>,
    used: u32,
    missed: u64,
}

/// What a local address has to count, all its pools together (DPVS's sa_used, sa_free, sa_miss).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalPorts {
    /// The address.
    pub ip: Ipv4Addr,
    /// Ports that connections hold.
    pub used: u32,
    /// Ports that none holds. A port counts once for each of the 16 pools.
    pub free: u32,
    /// How often a new connection found the pool of its destination empty here.
    pub missed: u64,
}

/// A local address as one service has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    /// The address.
    pub ip: Ipv4Addr,
    /// The service's connections that it stands in for.
    pub connections: u32,
    /// How often a new connection of the service found the pool of its destination empty here.
    pub missed: u64,
}

/// A service's addresses and its turn among them.
#[derive(Clone, Debug, Default)]
struct Turn {
    addresses: Vec<ServiceAddress>,
    /// The one used last.
    last: Option<usize>,
}

impl Turn {
    /// Takes over a list of addresses; those that stay keep their counts.
    fn adopt(&mut self, list: &[Ipv4Addr]) {
        if self.addresses.iter().map(|address| address.ip).eq(list.iter().copied()) {
            return;
        }
        let of = |ip: &Ipv4Addr| {
            let had = self.addresses.iter().find(|address| address.ip == *ip).copied();
            had.unwrap_or(ServiceAddress { ip: *ip, connections: 0, missed: 0 })
        };
        self.addresses = list.iter().map(of).collect();
        self.last = None;
    }
}

/// Every local address of a node, with its ports.
#[derive(Debug)]
pub struct LocalAddresses {
    ports: (u16, u16),
    addresses: Vec<LocalAddress>,
    turns: BTreeMap<ServiceKey, Turn>,
    random: Random,
}

impl LocalAddresses {
    /// The addresses of a node with the ports they may use, first and last included; `seed` decides
    /// when a round-robin service skips one. All memory that connections need here is taken now: two
    /// bytes for each port and pool, so at most 2 MiB an address.
    #[must_use]
    pub fn new(addresses: &[Ipv4Addr], ports: (u16, u16), seed: u64) -> Self {
        let room = usize::from(ports.1.saturating_sub(ports.0)) + 1;
        let pool = |_| Pool { fresh: ports.0.into(), returned: VecDeque::with_capacity(room) };
        let pools = || (0..POOLS).map(pool).collect();
        let new = |ip: &Ipv4Addr| LocalAddress { ip: *ip, pools: pools(), used: 0, missed: 0 };
        Self {
            ports,
            addresses: addresses.iter().map(new).collect(),
            turns: BTreeMap::new(),
            random: Random::new(seed),
        }
    }

    /// Whether the node has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Has `service` use the addresses `list` from now on.
    pub fn set_up(&mut self, service: ServiceKey, list: &[Ipv4Addr]) {
        self.turns.entry(service).or_default().adopt(list);
    }

    /// Touches the memory that has been taken.
    pub(super) fn populate(&mut self) {
        for Pool { returned, .. } in self.addresses.iter_mut().flat_map(|a| &mut a.pools) {
            let len = returned.len();
            returned.resize(returned.capacity(), 0);
            std::hint::black_box(&mut *returned).truncate(len);
        }
    }

    /// Takes a local address and port for a connection of `service` to `destination`: the next of
    /// the service's addresses that has a free port there (spec FNAT-6 to FNAT-8). `in_turn` says
    /// that the service's scheduler gives destinations in turn, too. `None` where no address has a
    /// port left.
    pub fn take(&mut self, service: ServiceKey, in_turn: bool, destination: End) -> Option<End> {
        let skips = in_turn && self.random.below(100) < SKIPPED_OF_100;
        let turn = self.turns.get_mut(&service)?;
        let start = turn.last.map_or(0, |last| last + 1) + usize::from(skips);
        let count = turn.addresses.len();
        for at in (start..).take(count) {
            let at = at % count;
            let local = turn.addresses.get_mut(at)?;
            turn.last = Some(at);
            let address = self.addresses.iter_mut().find(|address| address.ip == local.ip)?;
            let pool = address.pools.get_mut(pool_of(destination))?;
            if let Some(port) = pool.take(self.ports.1) {
                address.used += 1;
                local.connections += 1;
                return Some((local.ip, port));
            }
            address.missed += 1;
            local.missed += 1;
        }
        None
    }

    /// Gives back what [`take`](Self::take) gave to a connection of `service` to `destination`.
    pub fn give_back(&mut self, service: ServiceKey, (ip, port): End, destination: End) {
        let address = self.addresses.iter_mut().find(|address| address.ip == ip);
        if let Some(address) = address
            && let Some(pool) = address.pools.get_mut(pool_of(destination))
        {
            pool.returned.push_back(port);
            address.used -= 1;
        }
        let turn = self.turns.get_mut(&service);
        let local = turn.and_then(|turn| turn.addresses.iter_mut().find(|local| local.ip == ip));
        if let Some(local) = local {
            local.connections = local.connections.saturating_sub(1);
        }
    }

    /// Forgets a deleted service's turn and counts. The ports that its connections hold stay taken.
    pub fn forget(&mut self, service: ServiceKey) {
        self.turns.remove(&service);
    }

    /// What each address of the node counts, in the node's order.
    pub fn ports(&self) -> impl Iterator<Item = LocalPorts> + '_ {
        let each = u32::from(self.ports.1) + 1 - u32::from(self.ports.0);
        self.addresses.iter().map(move |&LocalAddress { ip, used, missed, .. }| LocalPorts {
            ip,
            used,
            free: each * POOLS - used,
            missed,
        })
    }

    /// What `service` counts of each of its addresses `list`.
    pub fn of_service<'a>(
        &'a self,
        service: ServiceKey,
        list: &'a [Ipv4Addr],
    ) -> impl Iterator<Item = ServiceAddress> + 'a {
        let counted = self.turns.get(&service).map_or(&[][..], |turn| &turn.addresses);
        list.iter().map(|ip| {
            let one = counted.iter().find(|address| address.ip == *ip).copied();
            one.unwrap_or(ServiceAddress { ip: *ip, connections: 0, missed: 0 })
        })
    }
}

/// The pool of a destination: the low half of its address and its port together decide.
fn pool_of((ip, port): End) -> usize {
    let [.., c, d] = ip.octets();
    let sum = u32::from(u16::from_be_bytes([c, d])) + u32::from(port);
    (sum % POOLS) as usize
}
