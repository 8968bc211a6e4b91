//! A fixed-capacity arena whose handles know when their slot was reused.

use super::cpu;

/// Names one value in a [`Slab`], until that value is removed.
///
/// A slot's generation counts its removals and wraps at 2^32, so a handle kept across exactly that
/// many reuses of its slot would be taken for a current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    /// Where the value lives, below the slab's capacity. Reused after removal.
    pub slot: u32,
    /// How often the slot had been vacated when the value was stored.
    pub generation: u32,
}

/// Ends the list of vacated slots.
const END: u32 = u32::MAX;

#[derive(Debug)]
enum State<T> {
    Free { next: u32 },
    Used(T),
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    state: State<T>,
}

/// Up to a fixed number of values, each found by its [`Handle`] in constant time.
///
/// Slots are handed out from 0 upwards, and a vacated slot is reused before a fresh one, the last
/// vacated first. The handles a sequence of calls gets are therefore always the same.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<Entry<T>>,
    /// The slot vacated last, or [`END`].
    free: u32,
    /// The first slot that has never been used.
    fresh: u32,
    len: u32,
    limit: u32,
}

impl<T> Slab<T> {
    /// Bytes of memory each value of the limit takes.
    pub const BYTES_PER_VALUE: usize = size_of::<Entry<T>>();

    /// An empty slab for up to `limit` values. All memory is taken here; values too many for the
    /// machine's memory end the process, as any failed allocation does.
    #[must_use]
    pub fn with_capacity(limit: u32) -> Self {
        Self { entries: Vec::with_capacity(limit as usize), free: END, fresh: 0, len: 0, limit }
    }

    /// Touches all its memory. Without that slots are only made as they are first needed, so that a
    /// large limit costs address space rather than memory until it is used, and a first use may
    /// wait microseconds for a page.
    pub fn populate(&mut self) {
        let vacant = || Entry { generation: 0, state: State::Free { next: END } };
        self.entries.resize_with(self.limit as usize, vacant);
    }

    /// Has the value in `slot` fetched: its first line of memory and that of the slot behind, between
    /// which it lies. Behind the last slot there is none, and nothing is fetched.
    #[inline]
    pub fn prefetch(&self, slot: u32) {
        if let Some([entry, next, ..]) = self.entries.get(slot as usize..) {
            cpu::prefetch(entry);
            cpu::prefetch(next);
        }
    }

    /// Has the memory fetched where the value will be that is stored after `ahead` others, if that is
    /// a slot never used before. Those vacated last are in the cache anyway.
    #[inline]
    pub fn prefetch_vacant(&self, ahead: u32) {
        self.prefetch(self.fresh.saturating_add(ahead));
    }

    /// Stores `value`. `None`, and the value is dropped, when the slab is full.
    #[must_use = "the value can only be reached through its handle"]
    pub fn insert(&mut self, value: T) -> Option<Handle> {
        let handle = if self.free != END {
            let slot = self.free;
            let entry = self.entries.get_mut(slot as usize)?;
            let State::Free { next } = entry.state else { return None };
            self.free = next;
            entry.state = State::Used(value);
            Handle { slot, generation: entry.generation }
        } else {
            let slot = self.fresh;
            if slot >= self.limit {
                return None;
            }
            let entry = Entry { generation: 0, state: State::Used(value) };
            match self.entries.get_mut(slot as usize) {
                Some(vacant) => *vacant = entry,
                None => self.entries.push(entry),
            }
            self.fresh += 1;
            Handle { slot, generation: 0 }
        };
        self.len += 1;
        Some(handle)
    }

    /// The value `handle` names. `None` when it was removed.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<&T> {
        match self.entries.get(handle.slot as usize) {
            Some(Entry { generation, state: State::Used(value) })
                if *generation == handle.generation =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// The value `handle` names, to change. `None` when it was removed.
    #[must_use]
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        match self.entries.get_mut(handle.slot as usize) {
            Some(Entry { generation, state: State::Used(value) })
                if *generation == handle.generation =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// The value in `slot`, whichever it is. `None` when the slot is free.
    #[must_use]
    pub fn at(&self, slot: u32) -> Option<&T> {
        match self.entries.get(slot as usize) {
            Some(Entry { state: State::Used(value), .. }) => Some(value),
            _ => None,
        }
    }

    /// The value in `slot`, whichever it is, to change. `None` when the slot is free.
    pub fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        match self.entries.get_mut(slot as usize) {
            Some(Entry { state: State::Used(value), .. }) => Some(value),
            _ => None,
        }
    }

    /// The handle of the value in `slot`. `None` when the slot is free.
    #[must_use]
    pub fn handle_at(&self, slot: u32) -> Option<Handle> {
        match self.entries.get(slot as usize) {
            Some(Entry { generation, state: State::Used(_) }) => {
                Some(Handle { slot, generation: *generation })
            }
            _ => None,
        }
    }

    /// Takes out the value `handle` names and frees its slot. `None` when it was removed before.
    pub fn remove(&mut self, handle: Handle) -> Option<T> {
        let entry = self.entries.get_mut(handle.slot as usize)?;
        if entry.generation != handle.generation || matches!(entry.state, State::Free { .. }) {
            return None;
        }
        let state = std::mem::replace(&mut entry.state, State::Free { next: self.free });
        entry.generation = entry.generation.wrapping_add(1);
        self.free = handle.slot;
        self.len -= 1;
        match state {
            State::Used(value) => Some(value),
            State::Free { .. } => None,
        }
    }

    /// The values and their handles, in slot order. Visits every slot ever used.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        (0..).zip(&self.entries).filter_map(|(slot, entry)| match &entry.state {
            State::Used(value) => Some((Handle { slot, generation: entry.generation }, value)),
            State::Free { .. } => None,
        })
    }

    /// How many values are stored.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no value is stored.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many slots have ever held a value: those from 0 up to this.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.fresh
    }

    /// How many values can be stored at once.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.limit
    }
}
