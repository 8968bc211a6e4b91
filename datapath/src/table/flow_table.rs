//! Flows, each found by the key of either of its directions.

use std::cell::Cell;
use std::hash::Hash;

use super::{Handle, Index, Slab};

/// Which of a flow's two keys was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The key of the packet that began the flow.
    Original,
    /// The key of the packets that answer it.
    Reply,
}

/// Why a flow was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum InsertError {
    /// The table holds its limit of flows.
    #[error("the flow table is full")]
    Full,
    /// One of the keys, in either direction, belongs to this flow.
    #[error("a key belongs to the flow in slot {}", .0.slot)]
    Clash(Handle),
}

/// Why a flow kept its reply key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RekeyError {
    /// The flow was removed.
    #[error("the flow is gone")]
    Stale,
    /// The new key, in either direction, belongs to this other flow.
    #[error("the key belongs to the flow in slot {}", .0.slot)]
    Clash(Handle),
}

/// A flow that was found by one of its keys.
#[derive(Debug)]
pub struct Met<'a, K, V> {
    /// Which of its keys was met.
    pub direction: Direction,
    /// Its original key.
    pub original: &'a K,
    /// Its reply key.
    pub reply: &'a K,
    /// Its value.
    pub value: &'a mut V,
}

#[derive(Debug)]
struct Flow<K, V> {
    original: K,
    reply: K,
    value: V,
}

/// Up to a fixed number of flows, each a value found by an original and a reply key.
///
/// All keys share one space: no key belongs to two flows, whatever the direction. A flow's own two
/// keys may be equal, and are then met as [`Direction::Original`].
#[derive(Debug)]
pub struct FlowTable<K, V> {
    flows: Slab<Flow<K, V>>,
    index: Index,
}

impl<K: Copy + Eq + Hash, V> FlowTable<K, V> {
    /// An empty table for up to `limit` flows, hashing keys with `seed`. All memory is taken here:
    /// about 13 bytes for each flow of the limit, besides the keys and values themselves.
    #[must_use]
    pub fn with_limit(limit: u32, seed: u64) -> Self {
        let keys = (limit as usize).saturating_mul(2);
        Self { flows: Slab::with_capacity(limit), index: Index::with_capacity(keys, seed) }
    }

    /// Touches all its memory, so that no packet waits for a page.
    pub fn populate(&mut self) {
        self.flows.populate();
        self.index.populate();
    }

    /// The hash of a key.
    #[must_use]
    #[inline]
    pub fn hash_of(&self, key: &K) -> u64 {
        self.index.hash_of(key)
    }

    /// Has fetched what a look-up of the key with this hash will read first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Has the flow fetched that this look-up finds, or in rare cases another. Its slot; `None` where
    /// there is none.
    #[inline]
    pub fn prefetch_flow(&self, hash: u64) -> Option<u32> {
        let slot = self.index.candidate(hash)?;
        self.flows.prefetch(slot);
        Some(slot)
    }

    /// Has the flow in `slot` fetched.
    #[inline]
    pub fn prefetch_at(&self, slot: u32) {
        self.flows.prefetch(slot);
    }

    /// Has the memory fetched for a flow that is stored after `ahead` others.
    #[inline]
    pub fn prefetch_vacant(&self, ahead: u32) {
        self.flows.prefetch_vacant(ahead);
    }

    /// The value of the flow in `slot`. `None` when the slot is free.
    #[inline]
    pub fn at(&self, slot: u32) -> Option<&V> {
        self.flows.at(slot).map(|flow| &flow.value)
    }

    /// Whether a flow has this key, whose hash is `hash`.
    #[must_use]
    #[inline]
    pub fn has(&self, hash: u64, key: &K) -> bool {
        self.slot_of(hash, key).is_some()
    }

    /// Stores a flow.
    ///
    /// # Errors
    /// [`InsertError::Clash`] when a key belongs to a flow, the one met by `original` if both do;
    /// otherwise [`InsertError::Full`] when the table holds its limit. Either way nothing changed
    /// and `value` is dropped. The clash is told first because making room would not cure it.
    pub fn insert(&mut self, original: K, reply: K, value: V) -> Result<Handle, InsertError> {
        let (original_hash, reply_hash) =
            (self.index.hash_of(&original), self.index.hash_of(&reply));
        let owner = self.owner(original_hash, &original).or_else(|| self.owner(reply_hash, &reply));
        if let Some(owner) = owner {
            return Err(InsertError::Clash(owner));
        }
        let stored = self.add((original_hash, original), (reply_hash, reply), value);
        stored.ok_or(InsertError::Full)
    }

    /// Stores a flow whose keys, each behind its hash, belong to no flow, as the caller has seen.
    /// `None`, and `value` is dropped, when the table holds its limit.
    #[inline(always)]
    pub fn add(
        &mut self,
        (original_hash, original): (u64, K),
        (reply_hash, reply): (u64, K),
        value: V,
    ) -> Option<Handle> {
        let handle = self.flows.insert(Flow { original, reply, value })?;
        self.list(handle.slot, (original_hash, &original), (reply_hash, &reply));
        Some(handle)
    }

    /// The flow `key`, whose hash is `hash`, belongs to, with all that is stored of it. `None` when
    /// no flow has that key. It is looked for first in the slot where it is `likely` to be, such as
    /// [`prefetch_flow`](Self::prefetch_flow) names.
    #[must_use]
    #[inline(always)]
    pub fn meet(&mut self, hash: u64, likely: Option<u32>, key: &K) -> Option<Met<'_, K, V>> {
        let found = likely.and_then(|slot| Some((slot, self.direction_at(slot, key)?)));
        let (slot, direction) = match found {
            Some(found) => found,
            None => self.slot_of(hash, key)?,
        };
        let Flow { original, reply, value } = self.flows.at_mut(slot)?;
        Some(Met { direction, original, reply, value })
    }

    /// The flow `key` belongs to, and as which of its keys. `None` when no flow has that key.
    #[must_use]
    pub fn find(&self, key: &K) -> Option<(Handle, Direction)> {
        let (slot, direction) = self.slot_of(self.index.hash_of(key), key)?;
        Some((self.flows.handle_at(slot)?, direction))
    }

    /// The value of a flow. `None` when it was removed.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<&V> {
        self.flows.get(handle).map(|flow| &flow.value)
    }

    /// The handle of the flow in `slot`. `None` when the slot is free.
    #[must_use]
    pub fn handle_at(&self, slot: u32) -> Option<Handle> {
        self.flows.handle_at(slot)
    }

    /// The value of a flow, to change. `None` when it was removed.
    #[must_use]
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut V> {
        self.flows.get_mut(handle).map(|flow| &mut flow.value)
    }

    /// The original and the reply key of a flow. `None` when it was removed.
    #[must_use]
    pub fn keys(&self, handle: Handle) -> Option<(&K, &K)> {
        self.flows.get(handle).map(|flow| (&flow.original, &flow.reply))
    }

    /// Gives a flow another reply key, as address translation does. The old one no longer meets
    /// the flow, unless it is also its original key. Handle and value stay.
    ///
    /// # Errors
    /// [`RekeyError::Stale`] when the flow was removed, [`RekeyError::Clash`] when `reply` belongs
    /// to another flow. Either way nothing changed.
    pub fn set_reply(&mut self, handle: Handle, reply: K) -> Result<(), RekeyError> {
        let Some((original, old)) = self.flows.get(handle).map(|f| (f.original, f.reply)) else {
            return Err(RekeyError::Stale);
        };
        let (original_hash, reply_hash) =
            (self.index.hash_of(&original), self.index.hash_of(&reply));
        match self.owner(reply_hash, &reply) {
            Some(owner) if owner != handle => return Err(RekeyError::Clash(owner)),
            _ => {}
        }
        self.unlist(handle.slot, &original, &old);
        self.list(handle.slot, (original_hash, &original), (reply_hash, &reply));
        if let Some(flow) = self.flows.get_mut(handle) {
            flow.reply = reply;
        }
        Ok(())
    }

    /// Takes out a flow: its original key, reply key and value. `None` when it was removed before.
    pub fn remove(&mut self, handle: Handle) -> Option<(K, K, V)> {
        let Flow { original, reply, value } = self.flows.remove(handle)?;
        self.unlist(handle.slot, &original, &reply);
        Some((original, reply, value))
    }

    /// The flows in slot order: handle, original key, reply key, value.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &K, &K, &V)> {
        self.flows.iter().map(|(handle, f)| (handle, &f.original, &f.reply, &f.value))
    }

    /// Bytes of memory each flow of the limit takes, on average.
    pub const BYTES_PER_FLOW: usize = Slab::<Flow<K, V>>::BYTES_PER_VALUE + Index::BYTES_PER_PAIR;

    /// How many flows are stored.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.flows.len()
    }

    /// Whether no flow is stored.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// How many flows can be stored at once.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.flows.capacity()
    }

    /// A slot below the limit that `key` names: always the same for a key and a seed, and as likely
    /// as any other.
    #[must_use]
    pub fn place_of(&self, key: &K) -> u32 {
        let hash = u128::from(self.index.hash_of(key));
        // The high half of a 64 x 64 multiplication never reaches the limit.
        u32::try_from((hash * u128::from(self.limit())) >> 64).unwrap_or(0)
    }

    /// Puts a flow's keys, each behind its hash, into the index, which has room for two of every
    /// flow. A reply key equal to the original shares the original's place.
    #[inline]
    fn list(&mut self, slot: u32, original: (u64, &K), reply: (u64, &K)) {
        let _ = self.index.insert(original.0, slot);
        if reply.1 != original.1 {
            let _ = self.index.insert(reply.0, slot);
        }
    }

    /// Takes a flow's keys out of the index.
    fn unlist(&mut self, slot: u32, original: &K, reply: &K) {
        self.index.remove(self.index.hash_of(original), slot);
        if reply != original {
            self.index.remove(self.index.hash_of(reply), slot);
        }
    }

    /// The flow that has `key`, whose hash is `hash`, in either direction.
    fn owner(&self, hash: u64, key: &K) -> Option<Handle> {
        let (slot, _) = self.slot_of(hash, key)?;
        self.flows.handle_at(slot)
    }

    /// The slot of that flow, and as which of its keys it has this one.
    #[inline(always)]
    fn slot_of(&self, hash: u64, key: &K) -> Option<(u32, Direction)> {
        let direction = Cell::new(Direction::Original);
        let slot = self.index.find(hash, |slot| {
            let found = self.direction_at(slot, key);
            direction.set(found.unwrap_or(Direction::Original));
            found.is_some()
        })?;
        Some((slot, direction.get()))
    }

    /// As which of its keys the flow in `slot` has `key`, if it has it.
    #[inline(always)]
    fn direction_at(&self, slot: u32, key: &K) -> Option<Direction> {
        let flow = self.flows.at(slot)?;
        if flow.original == *key {
            return Some(Direction::Original);
        }
        (flow.reply == *key).then_some(Direction::Reply)
    }
}
