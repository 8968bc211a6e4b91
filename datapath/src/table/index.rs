//! A hash index from keys to slots that leaves the keys where the values are.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

use super::Full;

/// Entries of a bucket: with its count it fills one cache line.
const ENTRIES: usize = 15;
/// Entries a bucket holds on average when the index is full. The rest is for chance.
const LOAD: usize = 11;
/// Bits of an entry that hold the slot; above them is a tag of the hash, never zero.
const SLOT_BITS: u32 = 24;

/// Some entries, and how many others would be here if there were room: they are in the buckets
/// that follow.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bucket {
    entries: [u32; ENTRIES],
    passed: u32,
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
    /// The first slot that is too large for an index.
    pub const SLOTS: u32 = 1 << SLOT_BITS;

    /// An empty index for up to `limit` slots, hashing with `seed`. All memory is taken here:
    /// about 6 bytes for each slot of the limit.
    #[must_use]
    pub fn with_capacity(limit: usize, seed: u64) -> Self {
        let empty = Bucket { entries: [0; ENTRIES], passed: 0 };
        let buckets = vec![empty; limit.div_ceil(LOAD).max(1)];
        Self { buckets, hasher: FixedState::with_seed(seed), len: 0, limit }
    }

    /// The hash under which this index keeps `key`: the same for equal keys and equal seeds.
    #[must_use]
    pub fn hash_of<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// A slot stored under `hash` for which `eq` holds. `None` when there is none. `eq` is called
    /// with slots stored under this hash and, rarely, with others; where it holds for several,
    /// which one is returned is unspecified.
    #[must_use]
    pub fn find(&self, hash: u64, eq: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag_of(hash);
        for number in self.way(hash) {
            let bucket = self.buckets.get(number)?;
            let mut candidates = matches(bucket, |entry| entry >> SLOT_BITS == tag);
            while candidates != 0 {
                let entry = bucket.entries.get(candidates.trailing_zeros() as usize)?;
                let slot = entry & (Self::SLOTS - 1);
                if eq(slot) {
                    return Some(slot);
                }
                candidates &= candidates - 1;
            }
            if bucket.passed == 0 {
                return None;
            }
        }
        None
    }

    /// Stores `slot` under `hash`, next to any other slot already there.
    ///
    /// # Errors
    /// [`Full`] when the index holds its limit, or `slot` is not below [`SLOTS`](Self::SLOTS).
    pub fn insert(&mut self, hash: u64, slot: u32) -> Result<(), Full> {
        if self.len >= self.limit || slot >= Self::SLOTS {
            return Err(Full);
        }
        for number in self.way(hash) {
            let bucket = self.buckets.get_mut(number).ok_or(Full)?;
            let free = matches(bucket, |entry| entry == 0).trailing_zeros() as usize;
            if let Some(entry) = bucket.entries.get_mut(free) {
                *entry = tag_of(hash) << SLOT_BITS | slot;
                self.len += 1;
                return Ok(());
            }
            bucket.passed += 1;
        }
        Err(Full)
    }

    /// Removes `slot` from under `hash`, one time if it was stored there several times. `false`
    /// when it was not there. A slot that is stored under several hashes is to be removed from
    /// under all of them before it is looked for again.
    pub fn remove(&mut self, hash: u64, slot: u32) -> bool {
        let wanted = tag_of(hash) << SLOT_BITS | slot;
        let Some(found) = self.way(hash).position(|number| {
            self.buckets.get(number).is_some_and(|b| b.entries.contains(&wanted))
        }) else {
            return false;
        };
        for (step, number) in self.way(hash).take(found + 1).enumerate() {
            let Some(bucket) = self.buckets.get_mut(number) else { continue };
            if step < found {
                bucket.passed -= 1;
            } else if let Some(entry) = bucket.entries.iter_mut().find(|entry| **entry == wanted) {
                *entry = 0;
                self.len -= 1;
            }
        }
        true
    }

    /// The buckets in which a hash may be, in order.
    fn way(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let count = self.buckets.len();
        let first = (u128::from(hash) * count as u128 >> u64::BITS) as usize;
        (first..count).chain(0..first)
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

/// The tag of a hash, of bits that do not choose the bucket: 1 to 255.
const fn tag_of(hash: u64) -> u32 {
    1 + (hash as u32) % 255
}

/// Which entries of a bucket `is` holds for, a bit each.
fn matches(bucket: &Bucket, is: impl Fn(u32) -> bool) -> u32 {
    let bits = bucket.entries.iter().enumerate();
    bits.fold(0, |bits, (at, entry)| bits | u32::from(is(*entry)) << at)
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
