//! Neighbours: next hop to MAC, and the packets that wait for one (kernel:
//! net/core/neighbour.c, net/ipv4/arp.c; spec NEIGH).

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::journey::PortId;
use crate::lab::Limits;
use crate::table::{Handle, Index, Slab};
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::Mac;

/// Requests sent for one neighbour before it is given up.
const REQUESTS: u8 = 3;
/// Time between two requests.
const RETRY: Duration = Duration::from_secs(1);

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Given with the configuration; ARP never changes it.
    Permanent(Mac),
    /// Learned from ARP.
    Reachable(Mac),
    /// Asked for, no answer yet.
    Incomplete {
        /// Requests sent so far.
        requests: u8,
        /// When the next one is due.
        next: Time,
        /// The sender address of the requests.
        sender: Ipv4Addr,
    },
}

/// A neighbour and the packets that wait for it.
#[derive(Debug)]
struct Neighbour<P> {
    port: PortId,
    ip: Ipv4Addr,
    state: NeighbourState,
    waiting: VecDeque<P>,
}

/// The neighbours of a node, bounded; `P` is a waiting packet.
#[derive(Debug)]
pub(super) struct Neighbours<P> {
    entries: Slab<Neighbour<P>>,
    index: Index,
    /// Handles of incomplete entries, oldest first.
    incomplete: Vec<Handle>,
    queue_limit: usize,
    held_limit: u64,
    held: u64,
    /// Counts the neighbours that changed their MAC.
    epoch: u32,
}

/// What becomes of a packet that waits for a neighbour's MAC.
#[derive(Debug)]
pub(super) struct Waiting<P> {
    /// Whether the neighbour is to be asked for: nobody has yet.
    pub(super) ask: bool,
    /// A packet that has to go: the oldest of a full queue, or the newcomer itself where no entry
    /// is free.
    pub(super) lost: Option<(P, DropReason)>,
}

/// What is due for a neighbour.
#[derive(Debug)]
pub(super) enum Due<P> {
    /// Ask once more.
    Ask {
        /// On which port.
        port: PortId,
        /// For whom.
        ip: Ipv4Addr,
        /// With which sender address.
        sender: Ipv4Addr,
    },
    /// Nobody answered: these packets will not go.
    GaveUp(VecDeque<P>),
}

impl<P> Neighbours<P> {
    /// No neighbours; how many there may be, and how many packets may wait for one and for all,
    /// the limits say.
    pub(super) fn new(limits: &Limits, seed: u64) -> Self {
        Self {
            entries: Slab::with_capacity(limits.neighbours),
            index: Index::with_capacity(limits.neighbours as usize, seed),
            incomplete: Vec::new(),
            queue_limit: limits.neighbour_queue as usize,
            held_limit: u64::from(limits.neighbours_held()),
            held: 0,
            epoch: 0,
        }
    }

    /// Changes whenever a neighbour that was known gets another MAC, or with the lab.
    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Begins another epoch: what was learned before from neighbours or rules holds no more.
    pub(super) const fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Packets that wait.
    pub(super) const fn held(&self) -> u64 {
        self.held
    }

    fn find(&self, port: PortId, ip: Ipv4Addr) -> Option<Handle> {
        let slot = self.index.find(self.index.hash_of(&(port, ip)), |slot| {
            self.entries.at(slot).is_some_and(|e| e.port == port && e.ip == ip)
        })?;
        self.entries.handle_at(slot)
    }

    fn insert(&mut self, port: PortId, ip: Ipv4Addr, state: NeighbourState) -> Option<Handle> {
        let entry = Neighbour { port, ip, state, waiting: VecDeque::new() };
        let handle = self.entries.insert(entry)?;
        // As large as the slab, so there is room.
        let _ = self.index.insert(self.index.hash_of(&(port, ip)), handle.slot);
        Some(handle)
    }

    /// Makes a neighbour that ARP never changes. Where every entry is in use it is left out, and
    /// asked for like any other.
    pub(super) fn add_permanent(&mut self, port: PortId, ip: Ipv4Addr, mac: Mac) {
        let _ = self.insert(port, ip, NeighbourState::Permanent(mac));
    }

    /// The neighbour's MAC, where it is known.
    pub(super) fn mac(&self, port: PortId, ip: Ipv4Addr) -> Option<Mac> {
        match self.entries.get(self.find(port, ip)?)?.state {
            NeighbourState::Permanent(mac) | NeighbourState::Reachable(mac) => Some(mac),
            NeighbourState::Incomplete { .. } => None,
        }
    }

    /// Lets a packet wait for a neighbour whose MAC is not known. `sender` is the address a
    /// request would name as its sender.
    pub(super) fn wait(
        &mut self,
        port: PortId,
        ip: Ipv4Addr,
        packet: P,
        sender: Ipv4Addr,
        now: Time,
    ) -> Waiting<P> {
        let found = self.find(port, ip);
        let ask = found.is_none();
        let handle = found.or_else(|| {
            let state = NeighbourState::Incomplete { requests: 1, next: now + RETRY, sender };
            let handle = self.insert(port, ip, state)?;
            self.incomplete.push(handle);
            Some(handle)
        });
        let Some(entry) = handle.and_then(|handle| self.entries.get_mut(handle)) else {
            let lost = Some((packet, DropReason::NeighbourTableFull));
            return Waiting { ask: false, lost };
        };
        let full = entry.waiting.len() >= self.queue_limit || self.held >= self.held_limit;
        entry.waiting.push_back(packet);
        // With every place taken by packets for others the newcomer itself has to go.
        let oldest = if full { entry.waiting.pop_front() } else { None };
        self.held += u64::from(oldest.is_none());
        Waiting { ask, lost: oldest.map(|oldest| (oldest, DropReason::NeighbourQueueFull)) }
    }

    /// Learns from an ARP message that `ip` has `mac`. A reply completes or changes an entry that
    /// is there; a request for one of our addresses (`create`) may also make one. Packets that
    /// waited come back in order.
    pub(super) fn learn(
        &mut self,
        port: PortId,
        ip: Ipv4Addr,
        mac: Mac,
        create: bool,
    ) -> VecDeque<P> {
        let found = self.find(port, ip);
        let Some(handle) = found else {
            if create {
                let _ = self.insert(port, ip, NeighbourState::Reachable(mac));
            }
            return VecDeque::new();
        };
        let Some(entry) = self.entries.get_mut(handle) else { return VecDeque::new() };
        if matches!(entry.state, NeighbourState::Permanent(_)) {
            return VecDeque::new();
        }
        let known = matches!(entry.state, NeighbourState::Reachable(old) if old != mac);
        self.epoch = self.epoch.wrapping_add(u32::from(known));
        entry.state = NeighbourState::Reachable(mac);
        let waiting = std::mem::take(&mut entry.waiting);
        self.incomplete.retain(|h| *h != handle);
        self.held -= waiting.len() as u64;
        waiting
    }

    /// When the next request or the next giving-up is due.
    pub(super) fn poll_at(&self) -> Option<Time> {
        let due = |handle: &Handle| match self.entries.get(*handle)?.state {
            NeighbourState::Incomplete { next, .. } => Some(next),
            _ => None,
        };
        self.incomplete.iter().filter_map(due).min()
    }

    /// The next thing that is due at `now`; call until there is none.
    pub(super) fn next_due(&mut self, now: Time) -> Option<Due<P>> {
        let is_due = |handle: &Handle| {
            self.entries.get(*handle).is_some_and(
                |e| matches!(e.state, NeighbourState::Incomplete { next, .. } if next <= now),
            )
        };
        let at = self.incomplete.iter().position(is_due)?;
        let handle = *self.incomplete.get(at)?;
        let entry = self.entries.get_mut(handle)?;
        let NeighbourState::Incomplete { requests, next, sender } = &mut entry.state else {
            return None;
        };
        if *requests < REQUESTS {
            *requests += 1;
            *next = now + RETRY;
            return Some(Due::Ask { port: entry.port, ip: entry.ip, sender: *sender });
        }
        self.incomplete.remove(at);
        let entry = self.entries.remove(handle)?;
        self.index.remove(self.index.hash_of(&(entry.port, entry.ip)), handle.slot);
        self.held -= entry.waiting.len() as u64;
        Some(Due::GaveUp(entry.waiting))
    }

    /// Every neighbour, in a fixed order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (PortId, Ipv4Addr, NeighbourState)> + '_ {
        self.entries.iter().map(|(_, e)| (e.port, e.ip, e.state))
    }
}
