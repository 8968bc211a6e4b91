//! A hash index from keys to handles that leaves the keys where the values are.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

use super::{Full, Handle};

/// A handle and what is kept of the hash it is stored under: tidying the table needs no key, which
/// lives elsewhere.
#[derive(Clone, Copy)]
struct Place {
    hash: u32,
    handle: Handle,
}

impl Place {
    /// Holds nothing: no slab has so many slots.
    const FREE: Self = Self { hash: 0, handle: Handle { slot: u32::MAX, generation: 0 } };

    const fn is_free(&self) -> bool {
        self.handle.slot == u32::MAX
    }
}

/// Finds handles by the hash of a key that the index itself does not store.
///
/// The owner keeps the values, typically in a [`Slab`](super::Slab), and says on each look-up
/// whether a candidate is the one sought. The index does not compare keys on insertion: one key
/// may be stored twice if the owner does not look first.
///
/// Each handle lies at the place its hash names, or at one of those that follow without a gap. A
/// removal closes the gap it makes, so that nothing is ever tidied up later.
pub struct Index {
    places: Vec<Place>,
    hasher: FixedState,
    len: usize,
    limit: usize,
}

impl Index {
    /// An empty index for up to `limit` handles, hashing with `seed`. All memory is taken here: 18
    /// bytes for each handle of the limit.
    #[must_use]
    pub fn with_capacity(limit: usize, seed: u64) -> Self {
        // A third of the places stays free: a look-up meets two handles on average, a failed one
        // five. One free place at least ends every search.
        let places = limit.saturating_mul(3).div_ceil(2).saturating_add(1);
        let hasher = FixedState::with_seed(seed);
        Self { places: vec![Place::FREE; places], hasher, len: 0, limit }
    }

    /// The hash under which this index keeps `key`: the same for equal keys and equal seeds.
    #[must_use]
    pub fn hash_of<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// A handle stored under `hash` for which `eq` holds. `None` when there is none. `eq` is called
    /// with every handle stored under this hash until it holds, in no fixed order, and now and then
    /// with one stored under another: 32 bits of a hash are kept.
    #[must_use]
    pub fn find(&self, hash: u64, eq: impl Fn(Handle) -> bool) -> Option<Handle> {
        let hash = folded(hash);
        let mut run = self.run_from(hash).map(|(_, place)| place);
        run.find(|place| place.hash == hash && eq(place.handle)).map(|place| place.handle)
    }

    /// Stores `handle` under `hash`, next to any other handle already there.
    ///
    /// # Errors
    /// [`Full`] when the index holds its limit.
    pub fn insert(&mut self, hash: u64, handle: Handle) -> Result<(), Full> {
        if self.len >= self.limit {
            return Err(Full);
        }
        let hash = folded(hash);
        let mut at = self.home(hash);
        while self.places.get(at).is_some_and(|place| !place.is_free()) {
            at = self.after(at);
        }
        self.set(at, Place { hash, handle });
        self.len += 1;
        Ok(())
    }

    /// Removes `handle` from under `hash`, one time if it was stored there several times. `false`
    /// when it was not there.
    pub fn remove(&mut self, hash: u64, handle: Handle) -> bool {
        let hash = folded(hash);
        let found = self.run_from(hash).find(|(_, p)| p.hash == hash && p.handle == handle);
        let Some((mut gap, _)) = found else { return false };
        // What follows moves up, as long as that does not take it before the place it belongs to.
        let mut at = self.after(gap);
        while let Some(place) = self.places.get(at).copied().filter(|place| !place.is_free()) {
            if self.distance(self.home(place.hash), at) >= self.distance(gap, at) {
                self.set(gap, place);
                gap = at;
            }
            at = self.after(at);
        }
        self.set(gap, Place::FREE);
        self.len -= 1;
        true
    }

    /// How many handles are stored.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no handle is stored.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many handles can be stored at once.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.limit
    }

    /// Bytes of memory the table takes. Constant after construction.
    #[must_use]
    pub const fn allocation_size(&self) -> usize {
        self.places.capacity() * size_of::<Place>()
    }

    /// The place a hash names: always the same, and as likely as any other.
    fn home(&self, hash: u32) -> usize {
        let count = self.places.len() as u128;
        usize::try_from((u128::from(hash) * count) >> 32).unwrap_or(0)
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 < self.places.len() { at + 1 } else { 0 }
    }

    /// How many places `to` lies behind `from`, around the end.
    const fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.places.len() - from }
    }

    /// The places from the one a hash names to the next free one, with where they are.
    fn run_from(&self, hash: u32) -> impl Iterator<Item = (usize, &Place)> {
        let (before, from) = self.places.split_at_checked(self.home(hash)).unwrap_or_default();
        let around = (before.len()..).zip(from).chain((0..).zip(before));
        around.take_while(|(_, place)| !place.is_free())
    }

    fn set(&mut self, at: usize, to: Place) {
        if let Some(place) = self.places.get_mut(at) {
            *place = to;
        }
    }
}

/// The part of a hash that is kept.
const fn folded(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

/// Shows the sizes only: the content has no order but that of the hashes.
impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("len", &self.len)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
