//! Finding out which entries of an arena have outlived their deadlines, without a timer for each
//! change of a deadline.

use crate::time::Time;

/// The longest an entry goes unlooked at, in seconds.
const ROUND: u64 = 60;
/// A list of slots for each second ahead; as many as a `u64` has bits, and more than a round.
const SECONDS: u64 = 64;

/// In place of a slot: the end of a list.
const END: u32 = u32::MAX;
/// In place of a slot's successor: it is in no list.
const UNWATCHED: u32 = u32::MAX - 1;

/// A timer for each slot of an arena, at most one at a time.
///
/// Deadlines move with every packet, forward mostly, sometimes back. The owner keeps the deadline
/// in the entry, checks it at every look-up and asks here only which slots to look at again: at
/// its deadline, and at the latest 60 s after the last look. So a slot is freed up to 60 s after
/// its deadline, and a packet costs nothing.
///
/// Each second has the list of the slots that come up in it, linked through `next`: every call
/// takes constant time, however many come up at once.
#[derive(Debug)]
pub struct Patrol {
    /// The slot behind each slot in its list.
    next: Vec<u32>,
    /// First slot of the list of each second, by its number modulo 64.
    first: [u32; SECONDS as usize],
    /// Which of the lists hold something.
    occupied: u64,
    /// The second the patrol has come to: no list is of an earlier one.
    now: u64,
}

impl Patrol {
    /// Bytes of memory each slot takes.
    pub const BYTES_PER_SLOT: usize = size_of::<u32>();

    /// A patrol for an arena of `limit` slots. It takes four bytes for each.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            next: vec![UNWATCHED; limit as usize],
            first: [END; SECONDS as usize],
            occupied: 0,
            now: 0,
        }
    }

    /// Has `slot` come up in the first second that is not before `deadline`, or in a minute if that
    /// is sooner. A slot that is already watched, for its last entry, comes up within a minute
    /// anyway.
    pub fn watch(&mut self, slot: u32, deadline: Time, now: Time) {
        self.advance(now);
        let Some(next @ &mut UNWATCHED) = self.next.get_mut(slot as usize) else { return };
        let due = deadline.as_nanos().div_ceil(1_000_000_000).clamp(self.now, self.now + ROUND);
        let list = due % SECONDS;
        if let Some(first) = self.first.get_mut(list as usize) {
            *next = *first;
            *first = slot;
            self.occupied |= 1 << list;
        }
    }

    /// The second in which the next slot comes up; it may have begun already.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        self.next_second().map(Time::from_secs)
    }

    /// The next slot that has come up, at the cost of one from `budget`; `None` where there is none
    /// or the budget is spent. The slot is no longer watched: the owner looks at its entry and
    /// watches it again while it lives.
    pub fn next_due(&mut self, now: Time, budget: &mut usize) -> Option<u32> {
        self.advance(now);
        let list = self.next_second().filter(|at| *at <= seconds(now))? % SECONDS;
        *budget = budget.checked_sub(1)?;
        let first = self.first.get_mut(list as usize)?;
        let slot = *first;
        *first = std::mem::replace(self.next.get_mut(slot as usize)?, UNWATCHED);
        if *first == END {
            self.occupied &= !(1 << list);
        }
        Some(slot)
    }

    /// Comes to `now`, but not beyond the first list that holds something; what is more than a turn
    /// of the lists late stays late by one turn.
    fn advance(&mut self, now: Time) {
        let now = seconds(now);
        let held = self.next_second().unwrap_or(now);
        self.now = self.now.max(now.min(held)).max((now + 1).saturating_sub(SECONDS));
    }

    /// The second of the first list that holds something.
    fn next_second(&self) -> Option<u64> {
        let turned = self.occupied.rotate_right((self.now % SECONDS) as u32);
        (turned != 0).then(|| self.now + u64::from(turned.trailing_zeros()))
    }
}

/// The second a moment is in.
const fn seconds(at: Time) -> u64 {
    at.as_nanos() / 1_000_000_000
}
