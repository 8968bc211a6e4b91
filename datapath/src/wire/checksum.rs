//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// Sums 16-bit words of `bytes` in network order onto `sum`, with carries folded in; an odd last
/// byte counts as high. The result is below 2^18.
#[must_use]
#[inline]
pub fn sum(bytes: &[u8], sum: u32) -> u32 {
    // One's-complement sums care neither how wide they are made nor about the order of bytes
    // (RFC 1071), so four bytes are added at a time, as they lie in memory.
    let mut wide = 0_u64;
    let mut pairs = bytes.chunks_exact(4);
    for pair in &mut pairs {
        if let Some(pair) = pair.first_chunk() {
            wide += u64::from(u32::from_ne_bytes(*pair));
        }
    }
    wide += match *pairs.remainder() {
        [a, b, c] => u64::from(u32::from_ne_bytes([a, b, c, 0])),
        [a, b] => u64::from(u32::from_ne_bytes([a, b, 0, 0])),
        [a] => u64::from(u32::from_ne_bytes([a, 0, 0, 0])),
        _ => 0,
    };
    let halves = (wide & 0xffff_ffff) + (wide >> 32);
    let folded = fold(((halves & 0xffff) + (halves >> 16 & 0xffff) + (halves >> 32)) as u32);
    (sum & 0xffff) + (sum >> 16) + u32::from(u16::from_be_bytes(folded.to_ne_bytes()))
}

/// Folds a sum into 16 bits, without the final inversion.
#[must_use]
pub const fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
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
    /// Adds the replacement of one 16-bit word. Replacing a word by itself changes nothing: a
    /// checksum field is then left exactly as it is, in either notation of zero.
    #[must_use]
    pub const fn word(self, old: u16, new: u16) -> Self {
        if old == new {
            return self;
        }
        Self(fold(self.0 as u32 + !old as u32 + new as u32))
    }

    /// Adds the replacement of `old` by `new`, both of the same even length.
    #[must_use]
    pub fn bytes(mut self, old: &[u8], new: &[u8]) -> Self {
        for (o, n) in old.chunks_exact(2).zip(new.chunks_exact(2)) {
            if let ([a, b], [c, d]) = (o, n) {
                self = self.word(u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
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
    pub const fn apply(self, field: u16) -> u16 {
        !fold(!field as u32 + self.0 as u32)
    }
}
