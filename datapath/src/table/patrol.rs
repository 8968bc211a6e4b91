//! Finding out which entries of an arena have outlived their deadlines, without a timer for each
//! change of a deadline.

use std::time::Duration;

use super::Wheel;
use crate::time::Time;

/// How exactly slots come up.
const TICK: Duration = Duration::from_secs(1);
/// The longest an entry goes unlooked at.
const ROUND: Duration = Duration::from_secs(60);
/// Of this many slots one may have a second timer.
const SECOND_TIMERS: u32 = 4;

/// A timer for each slot of an arena.
///
/// Deadlines move with every packet, forward mostly, sometimes back. The owner keeps the deadline
/// in the entry, checks it at every look-up and asks here only which slots to look at again: at
/// its deadline, and at the latest 60 s after the last look. A packet that moves a deadline forward
/// costs nothing here. One that moves it back is worth another call: the slot then comes up at the
/// new deadline too, as long as not too many slots have two timers.
#[derive(Debug)]
pub struct Patrol {
    wheel: Wheel<u32>,
    /// The tick at which a slot comes up; 0 for one that does not.
    due: Vec<u32>,
    /// Timers in the wheel that an earlier one of the same slot has replaced.
    replaced: u32,
    most_replaced: u32,
}

impl Patrol {
    /// A patrol for an arena of `limit` slots.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let most_replaced = limit / SECOND_TIMERS;
        Self {
            wheel: Wheel::new(TICK, limit.saturating_add(most_replaced)),
            due: vec![0; limit as usize],
            replaced: 0,
            most_replaced,
        }
    }

    /// Has `slot` come up at `deadline`, or in a minute if that is sooner; a slot that will come
    /// up before does so at that moment only.
    pub fn watch(&mut self, slot: u32, deadline: Time, now: Time) {
        let at = deadline.min(now + ROUND);
        let Some(due) = self.due.get_mut(slot as usize) else { return };
        let tick = tick_of(Time::from_nanos(at.as_nanos().saturating_add(TICK_NANOS - 1))).max(1);
        let watched = *due != 0;
        if watched && (*due <= tick || self.replaced == self.most_replaced) {
            return;
        }
        // A timer a slot and those replaced: the wheel cannot be full.
        if self.wheel.schedule(at, slot).is_ok() {
            *due = tick;
            self.replaced += u32::from(watched);
        }
    }

    /// The next moment at which a slot comes up.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        self.wheel.poll_at()
    }

    /// The next slot that has come up, spending `budget` as [`Wheel::pop_due`] does. It is no
    /// longer watched: the owner looks at its entry and watches it again while it lives.
    pub fn next_due(&mut self, now: Time, budget: &mut usize) -> Option<u32> {
        loop {
            let slot = self.wheel.pop_due(now, budget)?;
            match self.due.get_mut(slot as usize) {
                Some(due) if *due != 0 && *due <= tick_of(now) => {
                    *due = 0;
                    return Some(slot);
                }
                _ => self.replaced = self.replaced.saturating_sub(1),
            }
        }
    }

    /// Bytes of memory it takes.
    #[must_use]
    pub const fn allocation_size(&self) -> usize {
        self.wheel.allocation_size() + self.due.len() * size_of::<u32>()
    }
}

const TICK_NANOS: u64 = TICK.as_nanos() as u64;

/// The tick that a moment lies in.
fn tick_of(moment: Time) -> u32 {
    u32::try_from(moment.as_nanos() / TICK_NANOS).unwrap_or(u32::MAX)
}
