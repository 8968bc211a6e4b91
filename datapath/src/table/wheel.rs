//! Timers for many entries that mostly expire much later than they are looked at.

use std::time::Duration;

use super::Full;
use crate::time::Time;

/// Each level tells apart 2^6 slots, as many as a `u64` has bits to note which are occupied.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Enough levels for every tick a `u64` can count, so that nothing lies beyond the horizon.
const LEVELS: usize = u64::BITS.div_ceil(SLOT_BITS) as usize;

/// Ends a list of nodes.
const END: u32 = u32::MAX;

/// One scheduled item, or a free place for one.
#[derive(Clone, Debug)]
struct Node<T> {
    due: u64,
    next: u32,
    item: T,
}

/// A queue of nodes, oldest first.
#[derive(Clone, Copy, Debug)]
struct Slot {
    head: u32,
    tail: u32,
    /// Not later than any item's due tick, and equal to one until the slot begins to be emptied.
    earliest: u64,
}

impl Slot {
    const EMPTY: Self = Self { head: END, tail: END, earliest: u64::MAX };
}

/// Which slot: its level and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    level: usize,
    slot: usize,
}

impl Place {
    const fn index(self) -> usize {
        self.level * SLOTS + self.slot
    }
}

/// What one step of work came to.
enum Step<T> {
    /// This item is due.
    Due(T),
    /// An item went to a finer level.
    Moved,
    /// Nothing is left to do for now.
    Idle,
}

/// Items, each with a moment after which it is handed back.
///
/// Time is counted in ticks. An item is due at the first tick that is not before its moment: never
/// early, and late by less than one tick. Items come out in the order of their due ticks, and those
/// due at one tick in the order in which they were scheduled. There is no cancelling: an item is
/// best a handle, and its owner checks whether it still means something when it comes out.
///
/// A hierarchy of wheels of 64 slots: scheduling takes constant time, and an item is moved at most
/// ten times before it is due, however far away that is.
#[derive(Debug)]
pub struct Wheel<T> {
    tick: u64,
    nodes: Vec<Node<T>>,
    limit: u32,
    free: u32,
    len: u32,
    /// The slots of all levels, the finest level first.
    slots: Vec<Slot>,
    /// For each level, which of its slots hold something.
    occupied: [u64; LEVELS],
    /// The tick the wheel has come to. An item is kept at the level of the highest digit (in base
    /// 64) in which its due tick differs from this, in the slot that digit names. Items due at the
    /// same tick are thus always together, which keeps their order; a lower level is always due
    /// before a higher one, and within a level a lower slot before a higher.
    now: u64,
    /// The slot whose items are being moved to finer levels because `now` has come to it.
    moving: Option<Place>,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel for up to `limit` items, counting in units of `tick`, at least a nanosecond.
    /// All memory is taken here.
    #[must_use]
    pub fn new(tick: Duration, limit: u32) -> Self {
        Self {
            tick: u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX).max(1),
            nodes: Vec::with_capacity(limit as usize),
            limit,
            free: END,
            len: 0,
            slots: vec![Slot::EMPTY; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            now: 0,
            moving: None,
        }
    }

    /// Touches all its memory, by way of an item that is not kept.
    pub fn populate(&mut self, item: T) {
        let len = self.nodes.len();
        self.nodes.resize(self.limit as usize, Node { due: 0, next: END, item });
        std::hint::black_box(&mut self.nodes).truncate(len);
    }

    /// Has `item` handed back once `at` has come. If the wheel has passed `at` already, the item is
    /// due at the tick the wheel has come to. The last tick that begins within [`Time`]'s range is
    /// the latest an item can be due; a moment after it is taken for it.
    ///
    /// # Errors
    /// [`Full`], and the item is dropped, when the wheel holds its limit.
    pub fn schedule(&mut self, at: Time, item: T) -> Result<(), Full> {
        let due = at.as_nanos().div_ceil(self.tick).min(u64::MAX / self.tick).max(self.now);
        let node = Node { due, next: END, item };
        let id = self.alloc(node).ok_or(Full)?;
        self.len += 1;
        let place = self.place(due);
        // What was scheduled before and is due at the same tick may still wait in the slot being
        // moved. Going there too keeps the order.
        match self.moving {
            Some(moving) if place.level < moving.level => self.append(moving, id, due),
            _ => self.append(place, id, due),
        }
        Ok(())
    }

    /// The tick at which the earliest item is due: the first moment for which
    /// [`expire`](Self::expire) has something to hand back. `None` when the wheel is empty. It is
    /// later than the `now` of the last `expire` or [`pop_due`](Self::pop_due), unless that ran out
    /// of budget, or something already due was scheduled since.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        let slot = self.slots.get(self.first()?.index())?;
        Some(Time::from_nanos(slot.earliest.saturating_mul(self.tick)))
    }

    /// Takes out the first item that is due at `now`, spending one of `budget` on it and one on
    /// each item that must be moved first. `None` when nothing is due, or the budget is spent: it
    /// is then zero. Items may be scheduled between calls, also the one just taken out.
    pub fn pop_due(&mut self, now: Time, budget: &mut usize) -> Option<T> {
        while *budget > 0 {
            match self.step(now.as_nanos() / self.tick) {
                Step::Idle => return None,
                Step::Moved => *budget -= 1,
                Step::Due(item) => {
                    *budget -= 1;
                    return Some(item);
                }
            }
        }
        None
    }

    /// Hands every item due at `now` to `each`, spending at most `budget` as
    /// [`pop_due`](Self::pop_due) does. Returns whether something due is left for want of budget;
    /// calling again, with any budget but zero, then goes on.
    pub fn expire(&mut self, now: Time, mut budget: usize, mut each: impl FnMut(T)) -> bool {
        while let Some(item) = self.pop_due(now, &mut budget) {
            each(item);
        }
        self.poll_at().is_some_and(|at| at <= now)
    }

    /// Bytes of memory it takes.
    #[must_use]
    pub const fn allocation_size(&self) -> usize {
        self.limit as usize * size_of::<Node<T>>() + self.slots.len() * size_of::<Slot>()
    }

    /// How many items are scheduled.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no item is scheduled.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many items can be scheduled at once.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.limit
    }

    /// Does one item's worth of work towards the tick `until`.
    fn step(&mut self, until: u64) -> Step<T> {
        if self.moving.is_none() {
            let Some(place) = self.first() else { return self.idle(until) };
            let Some(slot) = self.slots.get(place.index()) else { return Step::Idle };
            // The first tick that belongs to the slot, never before `now`.
            let start = slot.earliest >> digit_shift(place.level) << digit_shift(place.level);
            if start > until {
                return self.idle(until);
            }
            self.now = start;
            if place.level == 0 {
                return match self.take_first(place).and_then(|id| self.release(id)) {
                    Some(item) => Step::Due(item),
                    None => Step::Idle,
                };
            }
            self.moving = Some(place);
        }
        let Some(from) = self.moving else { return Step::Idle };
        if let Some(id) = self.take_first(from)
            && let Some(due) = self.nodes.get(id as usize).map(|node| node.due)
        {
            self.append(self.place(due), id, due);
        }
        if self.slots.get(from.index()).is_none_or(|slot| slot.head == END) {
            self.moving = None;
        }
        Step::Moved
    }

    /// Comes to `until` if that lies ahead. The caller has seen that no slot begins before.
    fn idle(&mut self, until: u64) -> Step<T> {
        self.now = self.now.max(until);
        Step::Idle
    }

    /// The slot whose items are due first. `None` when the wheel is empty.
    fn first(&self) -> Option<Place> {
        // While a slot is being moved, what is in finer levels came from it, so that its own
        // `earliest` still holds for all of them.
        if self.moving.is_some() {
            return self.moving;
        }
        let (level, slots) = self.occupied.iter().enumerate().find(|(_, slots)| **slots != 0)?;
        Some(Place { level, slot: slots.trailing_zeros() as usize })
    }

    /// Where an item belongs that is due at the tick `due`, which is not before `now`.
    fn place(&self, due: u64) -> Place {
        let highest = (due ^ self.now).checked_ilog2().unwrap_or(0);
        let level = (highest / SLOT_BITS) as usize;
        Place { level, slot: (due >> digit_shift(level)) as usize % SLOTS }
    }

    fn append(&mut self, to: Place, id: u32, due: u64) {
        let Some(slot) = self.slots.get_mut(to.index()) else { return };
        let last = std::mem::replace(&mut slot.tail, id);
        slot.earliest = slot.earliest.min(due);
        match self.nodes.get_mut(last as usize) {
            Some(last) => last.next = id,
            None => slot.head = id,
        }
        if let Some(occupied) = self.occupied.get_mut(to.level) {
            *occupied |= 1 << to.slot;
        }
    }

    /// Takes the oldest node out of a slot. `None` when that is empty.
    fn take_first(&mut self, from: Place) -> Option<u32> {
        let slot = self.slots.get_mut(from.index())?;
        let id = slot.head;
        slot.head = std::mem::replace(&mut self.nodes.get_mut(id as usize)?.next, END);
        if slot.head == END {
            *slot = Slot::EMPTY;
            *self.occupied.get_mut(from.level)? &= !(1 << from.slot);
        }
        Some(id)
    }

    /// Stores a node outside any slot. `None` when the wheel is full.
    fn alloc(&mut self, node: Node<T>) -> Option<u32> {
        let id = self.free;
        if let Some(place) = self.nodes.get_mut(id as usize) {
            self.free = place.next;
            *place = node;
            return Some(id);
        }
        let id = u32::try_from(self.nodes.len()).ok().filter(|id| *id < self.limit)?;
        self.nodes.push(node);
        Some(id)
    }

    /// Frees a node that is in no slot and returns its item.
    fn release(&mut self, id: u32) -> Option<T> {
        let node = self.nodes.get_mut(id as usize)?;
        node.next = std::mem::replace(&mut self.free, id);
        self.len -= 1;
        Some(node.item)
    }
}

/// How far up the digit of a level is in a tick.
const fn digit_shift(level: usize) -> u32 {
    level as u32 * SLOT_BITS
}
