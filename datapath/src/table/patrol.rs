//! Finding out which entries of an arena have outlived their deadlines, without a timer for each
//! change of a deadline.

use std::time::Duration;

use super::Wheel;
use crate::time::Time;

/// The longest an entry goes unlooked at.
const ROUND: Duration = Duration::from_secs(60);

/// A timer for each slot of an arena, at most one at a time.
///
/// Deadlines move with every packet, forward mostly, sometimes back. The owner keeps the deadline
/// in the entry, checks it at every look-up and asks here only which slots to look at again: at
/// its deadline, and at the latest 60 s after the last look. So a slot is freed up to 60 s after
/// its deadline, and a packet costs nothing.
#[derive(Debug)]
pub struct Patrol {
    wheel: Wheel<u32>,
    watched: Vec<bool>,
}

impl Patrol {
    /// A patrol for an arena of `limit` slots.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            wheel: Wheel::new(Duration::from_secs(1), limit),
            watched: vec![false; limit as usize],
        }
    }

    /// Has `slot` come up at `deadline`, or in a minute if that is sooner. A slot that is already
    /// watched, for its last entry, comes up within a minute anyway.
    pub fn watch(&mut self, slot: u32, deadline: Time, now: Time) {
        let Some(watched @ false) = self.watched.get_mut(slot as usize) else { return };
        // One timer a slot: the wheel, as large as the arena, cannot be full.
        *watched = self.wheel.schedule(deadline.min(now + ROUND), slot).is_ok();
    }

    /// The next moment at which a slot comes up.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        self.wheel.poll_at()
    }

    /// The next slot that has come up, spending `budget` as [`Wheel::pop_due`] does. It is no
    /// longer watched: the owner looks at its entry and watches it again while it lives.
    pub fn next_due(&mut self, now: Time, budget: &mut usize) -> Option<u32> {
        let slot = self.wheel.pop_due(now, budget)?;
        if let Some(watched) = self.watched.get_mut(slot as usize) {
            *watched = false;
        }
        Some(slot)
    }
}
