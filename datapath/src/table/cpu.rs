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

/// A bit for each of `bytes` that is `byte`, the first the lowest.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub(super) fn equal_bytes(bytes: [u8; 16], byte: u8) -> u32 {
    use safe_arch::{cmp_eq_mask_i8_m128i, m128i, move_mask_i8_m128i, set_splat_i8_m128i};
    let equal = cmp_eq_mask_i8_m128i(m128i::from(bytes), set_splat_i8_m128i(byte.cast_signed()));
    move_mask_i8_m128i(equal).cast_unsigned()
}

/// A bit for each of `bytes` that is `byte`, the first the lowest.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn equal_bytes(bytes: [u8; 16], byte: u8) -> u32 {
    let bits = (0..).zip(bytes).map(|(at, other): (u32, u8)| u32::from(other == byte) << at);
    bits.fold(0, |all, bit| all | bit)
}
