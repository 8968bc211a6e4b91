//! Seeded randomness: the same seed gives the same numbers (spec LAW-5).

/// A small generator (SplitMix64, Steele, Lea and Flood 2014); not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator that begins at `seed`.
    #[must_use]
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0 where the bound is 0.
    pub(crate) const fn below(&mut self, bound: u32) -> u32 {
        // The high half of a 32 x 32 multiplication is nearly uniform and never reaches the bound.
        (((self.next_u64() >> 32) * bound as u64) >> 32) as u32
    }
}
