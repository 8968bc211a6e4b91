//! Answers to questions that are asked again and again.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

/// A question, told from all others by these bits.
pub trait MemoKey: Copy {
    /// The bits.
    fn bits(self) -> u128;
}

/// The latest answers of a function, each in the one place that its question's hash names.
///
/// Only for a function of its argument alone: what is kept is what it would answer again. When that
/// changes, [`forget`](Self::forget).
#[derive(Clone, Debug)]
pub struct Memo<V> {
    places: Vec<Option<(u128, V)>>,
    hasher: FixedState,
}

impl<V: Copy> Memo<V> {
    /// Room for `places` answers, all taken here; `seed` keys the hashes.
    #[must_use]
    pub fn new(places: usize, seed: u64) -> Self {
        Self { places: vec![None; places.max(1)], hasher: FixedState::with_seed(seed) }
    }

    /// The answer to `question`: kept from the last time, or from `ask`.
    #[inline]
    pub fn get<K: MemoKey>(&mut self, question: K, ask: impl FnOnce(K) -> V) -> V {
        let bits = question.bits();
        let hash = u128::from(self.hasher.hash_one(bits));
        // The high half of a 64 x 64 multiplication never reaches the number of places.
        let place = ((hash * self.places.len() as u128) >> u64::BITS) as usize;
        match self.places.get_mut(place) {
            Some(Some((kept, answer))) if *kept == bits => *answer,
            Some(place) => place.insert((bits, ask(question))).1,
            None => ask(question),
        }
    }

    /// Forgets all answers.
    pub fn forget(&mut self) {
        self.places.fill(None);
    }
}
