//! Finding out which entries of an arena have outlived their deadlines, without a timer for each
//! change of a deadline.

use crate::time::Time;

/// The longest an entry goes unlooked at, in seconds.
const ROUND: u64 = 60;
/// A list of slots for each second ahead; as many as a `u64` has bits, and more than a round.
const SECONDS: u64 = 64;

/// In place of a slot: the end of a list.
const END: u32 = u32::MAX;
/// In place of a list: the slot is in none.
const UNWATCHED: u8 = u8::MAX;

/// The slots before and behind a slot in its list.
#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    next: u32,
}

/// A timer for each slot of an arena, at most one at a time.
///
/// Deadlines move with every packet, forward mostly, sometimes back. The owner keeps the deadline
/// in the entry, checks it at every look-up and asks here only which slots to look at again: at
/// its deadline, and at the latest 60 s after the last look. A packet that moves a deadline forward
/// costs nothing here; one that moves it back is worth another [`watch`](Self::watch).
///
/// Each second has the list of the slots that come up in it: every call takes constant time,
/// however many come up at once.
#[derive(Debug)]
pub struct Patrol {
    links: Vec<Link>,
    /// The list each slot is in: the number of its second modulo 64.
    lists: Vec<u8>,
    /// First slot of each list.
    first: [u32; SECONDS as usize],
    /// Which of the lists hold something.
    occupied: u64,
    /// The second the patrol has come to: no list is of an earlier one.
    now: u64,
}

impl Patrol {
    /// Bytes of memory each slot takes.
    pub const BYTES_PER_SLOT: usize = size_of::<Link>() + size_of::<u8>();

    /// A patrol for an arena of `limit` slots.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            links: vec![Link { before: END, next: END }; limit as usize],
            lists: vec![UNWATCHED; limit as usize],
            first: [END; SECONDS as usize],
            occupied: 0,
            now: 0,
        }
    }

    /// Has `slot` come up in the first second that is not before `deadline`, or in a minute if that
    /// is sooner. A slot that comes up before that anyway is left as it is.
    pub fn watch(&mut self, slot: u32, deadline: Time, now: Time) {
        self.advance(now);
        let Some(list) = self.lists.get(slot as usize).copied() else { return };
        let due = deadline.as_nanos().div_ceil(1_000_000_000).clamp(self.now, self.now + ROUND);
        if list != UNWATCHED {
            let ahead = (u64::from(list) + SECONDS - self.now % SECONDS) % SECONDS;
            if self.now + ahead <= due {
                return;
            }
            self.unlink(slot);
        }
        self.link(slot, (due % SECONDS) as u8);
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
        let slot = *self.first.get(list as usize)?;
        self.unlink(slot);
        Some(slot)
    }

    /// Puts a slot that is in no list at the head of one.
    fn link(&mut self, slot: u32, list: u8) {
        let Some(first) = self.first.get_mut(usize::from(list)) else { return };
        let next = std::mem::replace(first, slot);
        self.occupied |= 1 << list;
        if let Some(next) = self.links.get_mut(next as usize) {
            next.before = slot;
        }
        if let Some(link) = self.links.get_mut(slot as usize) {
            *link = Link { before: END, next };
        }
        if let Some(of) = self.lists.get_mut(slot as usize) {
            *of = list;
        }
    }

    /// Takes a slot out of its list.
    fn unlink(&mut self, slot: u32) {
        let Some(Link { before, next }) = self.links.get(slot as usize).copied() else { return };
        let Some(list) = self.lists.get_mut(slot as usize) else { return };
        let list = std::mem::replace(list, UNWATCHED);
        if let Some(next) = self.links.get_mut(next as usize) {
            next.before = before;
        }
        if let Some(before) = self.links.get_mut(before as usize) {
            before.next = next;
        } else if let Some(first) = self.first.get_mut(usize::from(list)) {
            *first = next;
            if next == END {
                self.occupied &= !(1 << list);
            }
        }
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
