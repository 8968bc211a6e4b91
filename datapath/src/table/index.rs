//! A hash index from keys to handles that leaves the keys where the values are.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::{Full, Handle};

/// The hash is kept so that tidying the table needs no key, which lives elsewhere.
#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    handle: Handle,
}

/// Finds handles by the hash of a key that the index itself does not store.
///
/// The owner keeps the values, typically in a [`Slab`](super::Slab), and says on each look-up
/// whether a candidate is the one sought. The index does not compare keys on insertion: one key
/// may be stored twice if the owner does not look first.
pub struct Index {
    table: HashTable<Entry>,
    hasher: FixedState,
    limit: usize,
}

impl Index {
    /// An empty index for up to `limit` handles, hashing with `seed`. All memory is taken here:
    /// about 39 to 78 bytes for each handle of the limit.
    #[must_use]
    pub fn with_capacity(limit: usize, seed: u64) -> Self {
        // Removals leave marks in the table, and an insertion which finds no room for these cleans
        // up in place only while the table is at most half full. Otherwise it would grow. Twice
        // the room therefore means that memory is never taken again, and that marks are rare.
        let table = HashTable::with_capacity(limit.saturating_mul(2));
        Self { table, hasher: FixedState::with_seed(seed), limit }
    }

    /// The hash under which this index keeps `key`: the same for equal keys and equal seeds.
    #[must_use]
    pub fn hash_of<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// A handle stored under `hash` for which `eq` holds. `None` when there is none. `eq` is called
    /// only with handles stored under this very hash; where it holds for several, which one is
    /// returned is unspecified.
    #[must_use]
    pub fn find(&self, hash: u64, eq: impl Fn(Handle) -> bool) -> Option<Handle> {
        self.table.find(hash, |e| e.hash == hash && eq(e.handle)).map(|e| e.handle)
    }

    /// Stores `handle` under `hash`, next to any other handle already there.
    ///
    /// # Errors
    /// [`Full`] when the index holds its limit.
    pub fn insert(&mut self, hash: u64, handle: Handle) -> Result<(), Full> {
        if self.table.len() >= self.limit {
            return Err(Full);
        }
        self.table.insert_unique(hash, Entry { hash, handle }, |e| e.hash);
        Ok(())
    }

    /// Removes `handle` from under `hash`, one time if it was stored there several times. `false`
    /// when it was not there.
    pub fn remove(&mut self, hash: u64, handle: Handle) -> bool {
        match self.table.find_entry(hash, |e| e.hash == hash && e.handle == handle) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// How many handles are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no handle is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many handles can be stored at once.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.limit
    }

    /// Bytes of memory the table takes. Constant after construction.
    #[must_use]
    pub fn allocation_size(&self) -> usize {
        self.table.allocation_size()
    }
}

/// Shows the sizes only: the content has no order but that of the hashes.
impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("len", &self.table.len())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
