//! The defence against running out of memory: connections that did little are dropped at random
//! (kernel: net/netfilter/ipvs/ip_vs_conn.c, `ip_vs_random_dropentry`; spec IPVS-49).

use std::time::Duration;

use super::live::Ipvs;
use super::{Connection, State};
use crate::lab::IpvsTimeouts;
use crate::random::Random;
use crate::table::Handle;
use crate::time::Time;

/// How often it looks at connections.
const PERIOD: Duration = Duration::from_secs(1);
/// What part of the table it looks at each time: one of so many.
const SHARE: u32 = 32;
/// A connection with more requests than this is never dropped once it is open.
const FEW: usize = 8;
/// For how long a connection that is open has to have been silent, in seconds.
const SILENCE: u64 = 60;

/// In place of the moment at which it looks first: a second after it is asked for the first time.
const AT_ONCE: Time = Time::ZERO;

/// What the defence remembers.
#[derive(Debug)]
pub(super) struct Defence {
    random: Random,
    /// When it looks next, [`AT_ONCE`] if it has not been asked yet; `None` while it is off.
    next: Option<Time>,
    /// How many more slots it looks at now.
    left: u32,
    /// By the number of requests less one: how many connections until the next that is dropped.
    until: [u8; FEW],
}

/// How much a connection is worth to the defence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// Nothing: its client has not even finished the handshake.
    Nothing,
    /// As much as it has had requests: of those with n, one in n is dropped.
    Requests(u8),
    /// Too much.
    Kept,
}

impl Worth {
    /// That of a connection in a state, with so many requests, whose time ends in so many seconds.
    pub(super) fn of(state: State, requests: u8, left: Duration, timeouts: &IpvsTimeouts) -> Self {
        let silent = || {
            let whole = Duration::from_secs(state.timeout(timeouts).into());
            whole.saturating_sub(left) >= Duration::from_secs(SILENCE)
        };
        match state {
            State::SynRecv => Self::Nothing,
            State::Established | State::Udp if silent() => Self::Requests(requests),
            _ => Self::Kept,
        }
    }
}

impl Defence {
    /// One that is off; `seed` is what is random of it.
    pub(super) const fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), next: None, left: 0, until: [0; FEW] }
    }

    /// When it has something to do.
    pub(super) fn poll_at(&self) -> Option<Time> {
        if self.left > 0 { Some(AT_ONCE) } else { self.next }
    }

    /// Turns it on or off.
    pub(super) const fn set(&mut self, on: bool) {
        self.next = match self.next {
            _ if !on => None,
            None => Some(AT_ONCE),
            next => next,
        };
        if !on {
            self.left = 0;
        }
    }

    /// The next slot to look at, of so many that there are.
    fn next_slot(&mut self, slots: u32, now: Time) -> Option<u32> {
        if self.next == Some(AT_ONCE) {
            self.next = Some(now + PERIOD);
        }
        if let Some(next) = self.next.as_mut().filter(|next| **next <= now) {
            let times = now.since(*next).as_secs() as u32 + 1;
            *next = *next + PERIOD * times;
            let all = slots.saturating_mul(times);
            // What is left over of a share is looked at as often as it should be on average.
            let more = u32::from(self.random.below(SHARE) < all % SHARE);
            self.left = self.left.saturating_add(all / SHARE + more);
        }
        self.left = self.left.checked_sub(1)?;
        Some(self.random.below(slots))
    }

    /// Whether a connection of this worth goes.
    fn takes(&mut self, worth: Worth) -> bool {
        let requests = match worth {
            Worth::Nothing => return true,
            Worth::Kept => return false,
            Worth::Requests(requests) => requests,
        };
        let at = usize::from(requests).checked_sub(1);
        let Some(until) = at.and_then(|at| self.until.get_mut(at)) else { return false };
        let goes = *until <= 1;
        *until = if goes { requests } else { *until - 1 };
        goes
    }
}

impl Ipvs {
    /// The next connection that the defence has dropped; `budget` says how many are looked at. A
    /// template that it was the last to follow goes with it, unless one has been answered.
    pub fn next_dropped(&mut self, now: Time, budget: &mut usize) -> Option<Connection> {
        let handle = loop {
            if *budget == 0 {
                return None;
            }
            let slot = self.defence.next_slot(self.connections.slots(), now)?;
            *budget -= 1;
            if let Some(handle) = self.victim(slot, now) {
                break handle;
            }
        };
        let template = self.connections.template_of(handle);
        let connection = self.disconnect(handle)?;
        if let Some(template) = template
            && self.connections.get(template).is_some_and(|t| t.is_idle_template())
        {
            self.disconnect(template);
        }
        Some(connection)
    }

    /// The connection in a slot where it is one to drop.
    fn victim(&mut self, slot: u32, now: Time) -> Option<Handle> {
        let (handle, worth) = self.connections.worth(slot, &self.switches.timeouts, now)?;
        self.defence.takes(worth).then_some(handle)
    }
}
