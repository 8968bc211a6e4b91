//! Answers to questions that are asked again and again.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

/// The latest answers of a function, each in the one place that its question's hash names.
///
/// Only for a function of its argument alone: what is kept is what it would answer again. When that
/// changes, [`forget`](Self::forget).
#[derive(Clone, Debug)]
pub struct Memo<K, V> {
    places: Vec<Option<(K, V)>>,
    hasher: FixedState,
}

impl<K: Copy + Eq + Hash, V: Copy> Memo<K, V> {
    /// Room for `places` answers, all taken here; `seed` keys the hashes.
    #[must_use]
    pub fn new(places: usize, seed: u64) -> Self {
        Self { places: vec![None; places.max(1)], hasher: FixedState::with_seed(seed) }
    }

    /// The answer to `question`: kept from the last time, or from `ask`.
    pub fn get(&mut self, question: K, ask: impl FnOnce(&K) -> V) -> V {
        let hash = u128::from(self.hasher.hash_one(question));
        // The high half of a 64 x 64 multiplication never reaches the number of places.
        let place = ((hash * self.places.len() as u128) >> u64::BITS) as usize;
        match self.places.get_mut(place) {
            Some(Some((kept, answer))) if *kept == question => *answer,
            Some(place) => place.insert((question, ask(&question))).1,
            None => ask(&question),
        }
    }

    /// Forgets all answers.
    pub fn forget(&mut self) {
        self.places.fill(None);
    }
}
