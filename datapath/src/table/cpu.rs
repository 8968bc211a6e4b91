//! What tables ask of the processor: to fetch a line of memory early, and to compare many bytes at
//! once. Both only save time.

/// Has the line of memory that begins at `value` fetched, without waiting for it.
#[inline(always)]
pub(super) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    safe_arch::prefetch_t0(value);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// A bit for each pair of `bytes` that is `pair` in little-endian order, the first the lowest.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub(super) fn equal_pairs(bytes: &[u8; 32], pair: u16) -> u32 {
    use safe_arch::{
        cmp_eq_mask_i16_m128i, m128i, move_mask_i8_m128i, pack_i16_to_i8_m128i, set_splat_i16_m128i,
    };
    let wanted = set_splat_i16_m128i(pair.cast_signed());
    let [low, high] = [0, 16].map(|at| {
        let half = bytes.get(at..).and_then(|b| b.first_chunk()).copied().unwrap_or([0; 16]);
        cmp_eq_mask_i16_m128i(m128i::from(half), wanted)
    });
    move_mask_i8_m128i(pack_i16_to_i8_m128i(low, high)).cast_unsigned()
}

/// A bit for each pair of `bytes` that is `pair` in little-endian order, the first the lowest.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn equal_pairs(bytes: &[u8; 32], pair: u16) -> u32 {
    let pairs = (0..).zip(bytes.as_chunks::<2>().0);
    let bits =
        pairs.map(|(at, other): (u32, _)| u32::from(u16::from_le_bytes(*other) == pair) << at);
    bits.fold(0, |all, bit| all | bit)
}
