//! Flows the VPC knows: sessions of security groups, kept for each ENI, and of load balancers.

use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::network::End;
use crate::journey::SgDirection;
use crate::table::{Direction, FlowTable, Handle, InsertError, Wheel};
use crate::time::Time;
use crate::wire::Tuple;

/// How long a security group's session lives after its last packet (spec SG-4).
pub const GROUP_IDLE: Duration = Duration::from_secs(910);
/// How long a load balancer's session lives after its last packet (spec SLB-8).
pub const BALANCER_IDLE: Duration = Duration::from_secs(900);

/// Sessions end to the nanosecond when they are looked at; those nobody looks at are cleared away
/// up to this much later.
const TICK: Duration = Duration::from_secs(1);
/// Sessions looked at in one go when clearing away.
const COLLECT: usize = 1024;
/// [`Key::place`] of the load balancers, which is no ENI's.
const BALANCERS: u32 = u32::MAX;

/// One direction of a flow at one place: an ENI's inside or outside, or the load balancers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    place: u32,
    tuple: Tuple<Ipv4Addr>,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Tuple { src, dst, src_port, dst_port, proto } = self.tuple;
        state.write_u64(u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits()));
        let ports = u64::from(src_port) << 16 | u64::from(dst_port);
        // In as few and wide pieces as there are: no lab has 2^23 ENIs.
        state.write_u64(u64::from(self.place) << 40 | u64::from(proto.0) << 32 | ports);
    }
}

impl Key {
    /// A packet that goes out of or into `eni` (spec SG-5).
    pub(super) fn eni(eni: usize, direction: SgDirection, tuple: Tuple<Ipv4Addr>) -> Self {
        let place = u32::try_from(eni).unwrap_or(0) << 1;
        Self { place: place | u32::from(direction == SgDirection::In), tuple }
    }

    /// A packet at the load balancers.
    pub(super) fn balancers(tuple: Tuple<Ipv4Addr>) -> Self {
        Self { place: BALANCERS, tuple }
    }

    /// The ENI and the direction at it; `None` for the load balancers.
    fn eni_and_direction(&self) -> Option<(usize, SgDirection)> {
        let direction = if self.place & 1 == 1 { SgDirection::In } else { SgDirection::Out };
        (self.place != BALANCERS).then_some(((self.place >> 1) as usize, direction))
    }
}

/// The other direction, seen from the ENI.
pub(super) fn opposite(direction: SgDirection) -> SgDirection {
    match direction {
        SgDirection::Out => SgDirection::In,
        SgDirection::In => SgDirection::Out,
    }
}

/// A backend behind a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backing {
    /// The load balancer, an index into the lab's.
    pub(super) slb: usize,
    /// Its listener.
    pub(super) listener: usize,
    /// The backend, an index into the lab's ENIs.
    pub(super) backend: usize,
}

/// Where the packets of a session at their sender go: those that its ENI sends, whichever way the
/// session was opened (spec VPC-25).
#[derive(Clone, Copy, Debug)]
pub(super) struct Learned {
    /// The receiver's number.
    receiver: u32,
    /// The session at the receiver, or [`NOBODY`] outside.
    inbound: Handle,
    holds: Holds,
}

/// For which packets a learned path holds, in one word: those of one epoch that come in with a tag, or
/// those without. Epochs count from 1 and are fewer than 2^31: nothing holds for no path's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holds(u32);

impl Holds {
    /// For those of `epoch`, tagged or not.
    #[inline(always)]
    pub(super) fn new(epoch: u64, tagged: bool) -> Self {
        Self((epoch as u32) << 1 | u32::from(tagged))
    }
}

/// Names no session.
const NOBODY: Handle = Handle { slot: u32::MAX, generation: 0 };

impl Learned {
    const NONE: Self = Self { receiver: 0, inbound: NOBODY, holds: Holds(0) };

    /// The path to `receiver`, where the packets belong to the session `inbound`.
    pub(super) fn new(receiver: End, inbound: Option<Handle>, holds: Holds) -> Self {
        Self { receiver: receiver.number(), inbound: inbound.unwrap_or(NOBODY), holds }
    }

    /// Who receives.
    pub(super) fn receiver(&self) -> End {
        End::of_number(self.receiver)
    }

    /// The session at the receiver.
    pub(super) fn inbound(&self) -> Option<Handle> {
        (self.inbound != NOBODY).then_some(self.inbound)
    }
}

#[derive(Debug)]
struct Session {
    last: Time,
    learned: Learned,
    /// The load balancer's choice; `None` for a security group's session.
    backing: Option<Backing>,
}

impl Session {
    fn new(now: Time, backing: Option<Backing>) -> Self {
        Self { last: now, learned: Learned::NONE, backing }
    }

    /// The first moment at which it is no more.
    fn ends(&self) -> Time {
        self.last + if self.backing.is_some() { BALANCER_IDLE } else { GROUP_IDLE }
    }
}

/// Why no session was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotOpened {
    /// Every record is in use.
    Full,
    /// One of its keys belongs to another session.
    Clash,
}

/// All sessions of a VPC, within one limit.
#[derive(Debug)]
pub(super) struct Sessions {
    flows: FlowTable<Key, Session>,
    /// Holds every session once, at a moment that is not after its end. Handles of sessions that
    /// were replaced stay in it until that moment, for which it has room.
    wheel: Wheel<Handle>,
}

impl Sessions {
    /// Room for `limit` sessions (spec LAW-6).
    pub(super) fn new(limit: u32, seed: u64) -> Self {
        Self {
            flows: FlowTable::with_limit(limit, seed),
            wheel: Wheel::new(TICK, limit.saturating_mul(2)),
        }
    }

    /// Touches all its memory.
    pub(super) fn populate(&mut self) {
        self.flows.populate();
        self.wheel.populate(NOBODY);
    }

    /// The session a packet belongs to, and as which direction of it; its life begins anew. A
    /// session whose time is up is none, and is gone after this.
    pub(super) fn renew(&mut self, key: &Key, now: Time) -> Option<(Handle, Direction)> {
        let (handle, direction) = self.flows.find(key)?;
        let session = self.flows.get_mut(handle)?;
        if session.ends() > now {
            session.last = now;
            return Some((handle, direction));
        }
        self.flows.remove(handle);
        None
    }

    /// The session that has this key and lives. Its life goes on as it was.
    pub(super) fn alive(&self, key: &Key, now: Time) -> Option<Handle> {
        let (handle, _) = self.flows.find(key)?;
        self.flows.get(handle).filter(|session| session.ends() > now).map(|_| handle)
    }

    /// Keeps where packets with this key, that of a sender, go, in the session that has it; whether
    /// there is one.
    pub(super) fn learn(&mut self, key: &Key, learned: Learned, now: Time) -> bool {
        let met = self.flows.meet(self.flows.hash_of(key), None, key);
        let session = met.map(|met| met.value).filter(|session| session.ends() > now);
        session.map(|session| session.learned = learned).is_some()
    }

    /// The hash of a key.
    #[inline]
    pub(super) fn hash_of(&self, key: &Key) -> u64 {
        self.flows.hash_of(key)
    }

    /// Has fetched what a look-up of the key with this hash reads first.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        self.flows.prefetch(hash);
    }

    /// Has the session fetched that this look-up finds, or in rare cases another. Its slot; `None`
    /// where there is none.
    #[inline]
    pub(super) fn prefetch_session(&self, hash: u64) -> Option<u32> {
        self.flows.prefetch_flow(hash)
    }

    /// Has the session fetched that the packets of a session belong to at their receiver.
    #[inline]
    pub(super) fn prefetch_inbound(&self, slot: u32) {
        if let Some(session) = self.flows.at(slot) {
            self.flows.prefetch_at(session.learned.inbound.slot);
        }
    }

    /// Begins the life of the session that has this key, whose hash is `hash`, anew, if it lives and
    /// knows where the packet goes, one for which what is learned `holds`; `likely` is the slot where it
    /// most likely is. The walk would do the same to it.
    #[inline(always)]
    pub(super) fn renew_learned(
        &mut self,
        key: &Key,
        hash: u64,
        likely: Option<u32>,
        holds: Holds,
        now: Time,
    ) -> Option<Learned> {
        let session = self.flows.meet(hash, likely, key)?.value;
        if session.learned.holds != holds || session.ends() <= now {
            return None;
        }
        session.last = now;
        Some(session.learned)
    }

    /// Begins a session's life anew; false where it has ended.
    #[inline]
    pub(super) fn renew_at(&mut self, handle: Handle, now: Time) -> bool {
        match self.flows.get_mut(handle) {
            Some(session) if session.ends() > now => {
                session.last = now;
                true
            }
            _ => false,
        }
    }

    /// Whether a session has this key. Its life goes on as it was.
    pub(super) fn knows(&self, key: &Key, now: Time) -> bool {
        let session = self.flows.find(key).and_then(|(handle, _)| self.flows.get(handle));
        session.is_some_and(|s| s.ends() > now)
    }

    /// What a load balancer chose for a session, and the session's tuples: from the client and
    /// from the backend.
    pub(super) fn backing(
        &self,
        handle: Handle,
    ) -> Option<(Backing, Tuple<Ipv4Addr>, Tuple<Ipv4Addr>)> {
        let (original, reply) = self.flows.keys(handle)?;
        Some((self.flows.get(handle)?.backing?, original.tuple, reply.tuple))
    }

    /// Opens a session, `backing` being the load balancer's choice if it is one of theirs.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn open(
        &mut self,
        original: Key,
        reply: Key,
        backing: Option<Backing>,
        now: Time,
    ) -> Result<(), NotOpened> {
        let full = self.flows.len() == self.flows.limit();
        if full || self.wheel.len() == self.wheel.capacity() {
            self.collect(now);
        }
        // A key may belong to a session whose time is up: at most to one each.
        let handle = loop {
            match self.flows.insert(original, reply, Session::new(now, backing)) {
                Ok(handle) => break handle,
                Err(InsertError::Full) => return Err(NotOpened::Full),
                Err(InsertError::Clash(other)) => {
                    if self.flows.get(other).is_none_or(|s| s.ends() > now) {
                        return Err(NotOpened::Clash);
                    }
                    self.flows.remove(other);
                }
            }
        };
        let ends = self.flows.get(handle).map_or(now, Session::ends);
        self.wheel.schedule(ends, handle).map_err(|_| {
            self.flows.remove(handle);
            NotOpened::Full
        })
    }

    /// Clears away sessions whose time is up.
    pub(super) fn collect(&mut self, now: Time) {
        let mut budget = COLLECT;
        while let Some(handle) = self.wheel.pop_due(now, &mut budget) {
            let Some(ends) = self.flows.get(handle).map(Session::ends) else { continue };
            if ends <= now {
                self.flows.remove(handle);
            } else {
                // It was in the wheel just now, so there is room.
                let _ = self.wheel.schedule(ends, handle);
            }
        }
    }

    /// When [`collect`](Self::collect) next has something to do.
    pub(super) fn poll_at(&self) -> Option<Time> {
        self.wheel.poll_at()
    }

    /// Every session alive at `now`.
    pub(super) fn iter(&self, now: Time) -> impl Iterator<Item = SessionView> {
        self.flows.iter().filter(move |(.., session)| session.ends() > now).filter_map(
            |(_, original, reply, session)| {
                let owner = match session.backing {
                    Some(Backing { slb, listener, backend }) => {
                        SessionOwner::Balancer { slb, listener, backend }
                    }
                    None => {
                        let (eni, direction) = original.eni_and_direction()?;
                        SessionOwner::Eni { eni, direction }
                    }
                };
                Some(SessionView {
                    owner,
                    original: original.tuple,
                    reply: reply.tuple,
                    last: session.last,
                    ends: session.ends(),
                })
            },
        )
    }
}

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOwner {
    /// A security group's at this ENI.
    Eni {
        /// The ENI, an index into the lab's.
        eni: usize,
        /// The direction of its first packet.
        direction: SgDirection,
    },
    /// A load balancer's.
    Balancer {
        /// The load balancer, an index into the lab's.
        slb: usize,
        /// Its listener.
        listener: usize,
        /// The backend it chose, an index into the lab's ENIs.
        backend: usize,
    },
}

/// A session as reports show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Whose it is.
    pub owner: SessionOwner,
    /// Tuple of its first packet.
    pub original: Tuple<Ipv4Addr>,
    /// Tuple of the answer: at a load balancer, from the backend.
    pub reply: Tuple<Ipv4Addr>,
    /// When its last packet passed.
    pub last: Time,
    /// When it ends if no other packet comes.
    pub ends: Time,
}
