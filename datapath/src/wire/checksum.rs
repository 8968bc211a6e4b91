//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// The sum of the words of `bytes` in little-endian order, an odd last byte filled up with a zero. It
/// is a one's-complement sum that nobody has folded yet: these care neither how wide their words are
/// nor about the order of bytes (RFC 1071), so eight bytes are added at a time.
#[must_use]
#[inline(always)]
pub(super) fn words(bytes: &[u8]) -> u64 {
    let (eights, rest) = bytes.as_chunks::<8>();
    let mut sum = 0_u128;
    for eight in eights {
        sum += u128::from(u64::from_le_bytes(*eight));
    }
    // The rest is the end of the last eight bytes, whose beginning has been added.
    let added = u64::BITS - 8 * rest.len() as u32;
    sum += u128::from(match bytes.last_chunk() {
        Some(last) => u64::from_le_bytes(*last).checked_shr(added).unwrap_or(0),
        None => rest.iter().rfold(0, |last, byte| last << 8 | u64::from(*byte)),
    });
    let (low, carries) = (sum as u64, (sum >> 64) as u64);
    (low & 0xffff_ffff) + (low >> 32) + carries
}

/// Whether [`words`] over everything that a checksum covers, itself included, say that it is right.
#[must_use]
#[inline(always)]
pub(super) const fn holds(words: u64) -> bool {
    // Folded into 16 bits they would be all ones: zero as a one's complement, though not as nothing.
    words != 0 && words.is_multiple_of(0xffff)
}

/// Sums 16-bit words of `bytes` in network order onto `sum`, with carries folded in; an odd last
/// byte counts as high. The result is below 2^18.
#[must_use]
#[inline]
pub fn sum(bytes: &[u8], sum: u32) -> u32 {
    let wide = words(bytes);
    let halves = (wide & 0xffff_ffff) + (wide >> 32);
    let folded = fold(((halves & 0xffff) + (halves >> 16 & 0xffff) + (halves >> 32)) as u32);
    (sum & 0xffff) + (sum >> 16) + u32::from(folded.swap_bytes())
}

/// Folds a sum into 16 bits, without the final inversion.
#[must_use]
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The checksum field's value over `bytes` (whose checksum field must be zero).
#[must_use]
#[inline]
pub fn of(bytes: &[u8]) -> u16 {
    !fold(sum(bytes, 0))
}

/// The sum of an IP pseudo-header: addresses, protocol and length of the layer-4 part.
#[must_use]
#[inline]
pub fn pseudo_header(src: &[u8], dst: &[u8], proto: u8, len: u16) -> u32 {
    sum(dst, sum(src, u32::from(proto) + u32::from(len)))
}

/// What a rewrite does to a checksum: the one's-complement difference of all replaced words, zero
/// only where none was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u16);

impl Delta {
    /// What it does to the header's checksum that the TTL, the upper half of its word, is one less.
    pub(super) const TTL: Self = Self(!0x0100);

    /// Adds the replacement of one 16-bit word. Replacing a word by itself changes nothing: a
    /// checksum field is then left exactly as it is, in either notation of zero.
    #[must_use]
    #[inline(always)]
    pub const fn word(self, old: u16, new: u16) -> Self {
        if old == new {
            return self;
        }
        Self(fold(self.0 as u32 + !old as u32 + new as u32))
    }

    /// Adds the replacement of `old` by `new`, both of the same even length.
    #[must_use]
    #[inline(always)]
    pub fn bytes(mut self, old: &[u8], new: &[u8]) -> Self {
        // Whole addresses mostly stay or change.
        if old != new {
            for (old, new) in old.as_chunks().0.iter().zip(new.as_chunks().0) {
                self = self.word(u16::from_be_bytes(*old), u16::from_be_bytes(*new));
            }
        }
        self
    }

    /// Both differences together.
    #[must_use]
    pub const fn join(self, other: Self) -> Self {
        Self(fold(self.0 as u32 + other.0 as u32))
    }

    /// The checksum field after the rewrite (RFC 1624, equation 3).
    #[must_use]
    #[inline(always)]
    pub const fn apply(self, field: u16) -> u16 {
        !fold(!field as u32 + self.0 as u32)
    }
}
