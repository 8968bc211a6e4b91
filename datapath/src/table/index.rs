//! A hash index from keys to slots that leaves the keys where the values are.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

use super::{Full, cpu};

/// Entries of a bucket: with its count it fills one cache line.
const ENTRIES: usize = 12;
/// Entries a bucket holds on average when the index is full. The rest is for chance.
const LOAD: usize = 10;
/// Bytes of a slot's number.
const SLOT_BYTES: usize = 3;
/// Where the slots begin, behind the tags.
const SLOTS: usize = 2 * ENTRIES;
/// The tag of a free entry.
const FREE: u16 = 0;

/// Some entries, and how many others would be here if there were room: they are in the buckets
/// that follow. A tag of each entry's hash ([`FREE`] where there is no entry), the slots, the count.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bucket([u8; 64]);

impl Bucket {
    const EMPTY: Self = Self([0; 64]);

    /// The places of the entries with this tag, a bit each.
    #[inline(always)]
    fn with_tag(&self, tag: u16) -> u32 {
        let tags = self.0.first_chunk().copied().unwrap_or([0; 32]);
        cpu::equal_pairs(&tags, tag) & ((1 << ENTRIES) - 1)
    }

    /// The slot of an entry.
    #[inline(always)]
    fn slot(&self, at: usize) -> u32 {
        let bytes = self.0.get(SLOTS + at * SLOT_BYTES..).and_then(|s| s.first_chunk());
        u32::from_le_bytes(bytes.copied().unwrap_or_default()) & (Index::SLOTS - 1)
    }

    /// How many entries had no room here.
    #[inline(always)]
    fn passed(&self) -> u32 {
        u32::from_le_bytes(self.0.last_chunk().copied().unwrap_or_default())
    }

    /// Counts entries that had no room.
    fn set_passed(&mut self, passed: u32) {
        if let Some(bytes) = self.0.last_chunk_mut() {
            *bytes = passed.to_le_bytes();
        }
    }

    /// Makes an entry; whether there was room for it.
    #[inline]
    fn add(&mut self, tag: u16, slot: u32) -> bool {
        let at = self.with_tag(FREE).trailing_zeros() as usize;
        if at >= ENTRIES {
            return false;
        }
        let [a, b, c, _] = slot.to_le_bytes();
        let place = self.0.get_mut(SLOTS + at * SLOT_BYTES..).and_then(|s| s.first_chunk_mut());
        if let Some(bytes) = place {
            *bytes = [a, b, c];
        }
        self.set_tag(at, tag);
        true
    }

    /// Writes the tag of an entry.
    #[inline(always)]
    fn set_tag(&mut self, at: usize, tag: u16) {
        if let Some(bytes) = self.0.get_mut(2 * at..).and_then(|tags| tags.first_chunk_mut()) {
            *bytes = tag.to_le_bytes();
        }
    }

    /// The place of an entry.
    fn place_of(&self, tag: u16, slot: u32) -> Option<usize> {
        places(self.with_tag(tag)).find(|at| self.slot(*at) == slot)
    }
}

/// The places that bits stand for.
#[inline(always)]
fn places(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = (bits != 0).then_some(bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(at)
    })
}

/// Finds slots by the hash of a key that the index itself does not store.
///
/// The owner keeps the values, typically in a [`Slab`](super::Slab), and says on each look-up
/// whether a candidate is the one sought. The index does not compare keys on insertion: one key
/// may be stored twice if the owner does not look first.
///
/// A look-up reads one cache line, rarely two. Removal leaves nothing behind.
pub struct Index {
    buckets: Vec<Bucket>,
    hasher: FixedState,
    len: usize,
    limit: usize,
}

impl Index {
    /// Bytes of memory each two slots of the limit take, rounded up.
    pub const BYTES_PER_PAIR: usize = (2 * size_of::<Bucket>()).div_ceil(LOAD);
    /// The first slot that is too large for an index.
    pub const SLOTS: u32 = 1 << (8 * SLOT_BYTES);

    /// An empty index for up to `limit` slots, hashing with `seed`. All memory is taken here:
    /// 6.4 bytes for each slot of the limit.
    #[must_use]
    pub fn with_capacity(limit: usize, seed: u64) -> Self {
        let buckets = vec![Bucket::EMPTY; limit.div_ceil(LOAD).max(1)];
        Self { buckets, hasher: FixedState::with_seed(seed), len: 0, limit }
    }

    /// The hash under which this index keeps `key`: the same for equal keys and equal seeds.
    #[must_use]
    #[inline(always)]
    pub fn hash_of<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// A slot stored under `hash` for which `eq` holds. `None` when there is none. `eq` is called
    /// with slots stored under this hash and, rarely, with others; where it holds for several,
    /// which one is returned is unspecified.
    #[must_use]
    #[inline(always)]
    pub fn find(&self, hash: u64, eq: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag_of(hash);
        let bucket = self.buckets.get(self.first(hash))?;
        for at in places(bucket.with_tag(tag)) {
            let slot = bucket.slot(at);
            if eq(slot) {
                return Some(slot);
            }
        }
        if bucket.passed() == 0 { None } else { self.find_beyond(hash, eq) }
    }

    /// A slot that had no room in the first bucket of its hash.
    #[cold]
    #[inline(never)]
    fn find_beyond(&self, hash: u64, eq: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag_of(hash);
        for number in self.way(hash).skip(1) {
            let bucket = self.buckets.get(number)?;
            let mut slots = places(bucket.with_tag(tag)).map(|at| bucket.slot(at));
            if let Some(slot) = slots.find(|slot| eq(*slot)) {
                return Some(slot);
            }
            if bucket.passed() == 0 {
                return None;
            }
        }
        None
    }

    /// Touches all its memory, which a new index only has the promise of.
    pub fn populate(&mut self) {
        for bucket in &mut self.buckets {
            *bucket = std::hint::black_box(*bucket);
        }
    }

    /// Has the line fetched that a look-up of this hash reads first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.first(hash)) {
            cpu::prefetch(bucket);
        }
    }

    /// The first slot that [`find`](Self::find) would ask about, if there is one.
    #[must_use]
    #[inline]
    pub fn candidate(&self, hash: u64) -> Option<u32> {
        let bucket = self.buckets.get(self.first(hash))?;
        places(bucket.with_tag(tag_of(hash))).next().map(|at| bucket.slot(at))
    }

    /// Stores `slot` under `hash`, next to any other slot already there.
    ///
    /// # Errors
    /// [`Full`] when the index holds its limit, or `slot` is not below [`SLOTS`](Self::SLOTS).
    #[inline]
    pub fn insert(&mut self, hash: u64, slot: u32) -> Result<(), Full> {
        if self.len >= self.limit || slot >= Self::SLOTS {
            return Err(Full);
        }
        let first = self.first(hash);
        if self.buckets.get_mut(first).ok_or(Full)?.add(tag_of(hash), slot) {
            self.len += 1;
            return Ok(());
        }
        self.insert_beyond(hash, slot)
    }

    /// Stores a slot whose first bucket has no room.
    #[cold]
    fn insert_beyond(&mut self, hash: u64, slot: u32) -> Result<(), Full> {
        for number in self.way(hash) {
            let bucket = self.buckets.get_mut(number).ok_or(Full)?;
            if bucket.add(tag_of(hash), slot) {
                self.len += 1;
                return Ok(());
            }
            bucket.set_passed(bucket.passed() + 1);
        }
        Err(Full)
    }

    /// Removes `slot` from under `hash`, one time if it was stored there several times. `false`
    /// when it was not there. A slot that is stored under several hashes is to be removed from
    /// under all of them before it is looked for again.
    pub fn remove(&mut self, hash: u64, slot: u32) -> bool {
        let tag = tag_of(hash);
        let Some(found) = self.way(hash).position(|number| {
            self.buckets.get(number).is_some_and(|b| b.place_of(tag, slot).is_some())
        }) else {
            return false;
        };
        for (step, number) in self.way(hash).take(found + 1).enumerate() {
            let Some(bucket) = self.buckets.get_mut(number) else { continue };
            if step < found {
                bucket.set_passed(bucket.passed() - 1);
            } else if let Some(at) = bucket.place_of(tag, slot) {
                bucket.set_tag(at, FREE);
                self.len -= 1;
            }
        }
        true
    }

    /// The first bucket in which a hash may be.
    #[inline(always)]
    fn first(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.buckets.len() as u128) >> u64::BITS) as usize
    }

    /// The buckets in which a hash may be, in order.
    #[inline]
    fn way(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let first = self.first(hash);
        (first..self.buckets.len()).chain(0..first)
    }

    /// How many slots are stored.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no slot is stored.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many slots can be stored at once.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.limit
    }

    /// Bytes of memory the index takes. Constant after construction.
    #[must_use]
    pub const fn allocation_size(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }
}

/// The tag of a hash, of bits that do not choose the bucket; never [`FREE`]. It is so long that it
/// rarely stands for another hash: to find that out is to wait for the memory of another's value.
const fn tag_of(hash: u64) -> u16 {
    (hash as u16).saturating_add(1)
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
