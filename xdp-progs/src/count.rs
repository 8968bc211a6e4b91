//! Loading and reading `count.bpf.c`.

use std::fmt;

use libbpf_rs::{MapCore, MapFlags};

use crate::error::{ProgError, at, missing};
use crate::object::{Loaded, MULTI_BUFFER, object};
use crate::{DATAGRAM, PAYLOAD};

/// Bytes of an entry of the program's expected headers: a segment's, rounded up.
const ENTRY: usize = 56;
/// Bytes of the variables that the loader sets.
const ORDER: usize = 20;
/// Where a frame has its VLAN tag, how that begins, and how long it is.
const TAG_AT: usize = 12;
const TAG: [u8; 2] = [0x81, 0x00];
const TAG_LEN: usize = 4;
/// Buckets of [`Times`] to every power of two, and below the first.
const FINE: usize = 128;
/// All of them: the longest time is below 2^32 ns.
const BUCKETS: usize = 26 * FINE;

/// What a [`Counter`] has counted, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that are what is expected.
    pub right: u64,
    /// Any other frame.
    pub wrong: u64,
}

/// How long frames were on their way: how many took about how long. A bucket is less than 1 % of
/// its time wide; times wrap at 4.29 s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times(Vec<u64>);

impl Times {
    /// The times since `before`, which was read from the same counter.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let pairs = self.0.iter().zip(&before.0);
        Self(pairs.map(|(now, then)| now.saturating_sub(*then)).collect())
    }

    /// Each bucket that has any: the time at its upper end, in nanoseconds, and how many.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let full = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        full.map(|(bucket, count)| (upper_end(bucket), *count))
    }
}

/// The longest time of a bucket, in nanoseconds.
const fn upper_end(bucket: usize) -> u64 {
    if bucket < FINE {
        return bucket as u64;
    }
    let shift = bucket / FINE - 1;
    (((bucket - shift * FINE) as u64 + 1) << shift) - 1
}

/// Counts and drops every frame of an interface: the end of a measured way.
///
/// It is detached when this value is dropped, and by the kernel when the process ends.
pub struct Counter {
    loaded: Loaded,
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("attached", &self.loaded.is_attached()).finish()
    }
}

impl Counter {
    /// Loads a program that expects frames with the headers of one of `streams` (UDP or TCP, without
    /// options), but for the source port, with which the checksum changes. Either no frame has a
    /// VLAN tag, or all have one, and the same first four bytes. The payload is held against the
    /// checksum only. Where there are several streams, a frame's payload begins with the number of its
    /// own, in network byte order; where it is `stamped`, bytes 2 to 5 are the time at which it was
    /// sent, the low 32 bits of the monotonic clock's nanoseconds in the machine's order, and bytes 6
    /// to 9 its complement.
    ///
    /// # Errors
    /// [`ProgError::ShortFrame`], [`ProgError::MixedFrames`], or [`ProgError::Kernel`] where the
    /// rights are missing.
    pub fn load(streams: &[Vec<u8>], stamped: bool) -> Result<Self, ProgError> {
        Self::load_with(streams, stamped, false)
    }

    /// The same for an interface whose MTU is beyond what one buffer of the driver holds, as
    /// [`Redirect::load_multi_buffer`](crate::Redirect::load_multi_buffer) is. A frame is right only
    /// with all of its buffers: as long as its IPv4 header says. What else is looked at is in the
    /// first.
    ///
    /// # Errors
    /// As [`Counter::load`].
    pub fn load_multi_buffer(streams: &[Vec<u8>], stamped: bool) -> Result<Self, ProgError> {
        Self::load_with(streams, stamped, true)
    }

    fn load_with(streams: &[Vec<u8>], stamped: bool, jumbo: bool) -> Result<Self, ProgError> {
        let front = tag_of(streams)?;
        let tag = if front.is_some() { TAG_LEN } else { 0 };
        if streams.iter().any(|frame| frame.len() < tag + DATAGRAM + PAYLOAD) {
            return Err(ProgError::ShortFrame);
        }
        // As many as are counted fit into a few bytes of a frame.
        let count = streams.len() as u32;
        let words = [count, stamped.into(), jumbo.into(), tag as u32].map(u32::to_ne_bytes);
        let order = [words.concat(), front.unwrap_or_default().to_vec()].concat();
        let flags = if jumbo { MULTI_BUFFER } else { 0 };
        let loaded = Loaded::load(object!("count"), flags, |map| {
            let name = map.name().to_str().unwrap_or_default().to_owned();
            if name == "expected" {
                return map.set_max_entries(count.max(1));
            }
            let variables = map.initial_value_mut().filter(|_| name.ends_with(".rodata"));
            if let Some(value) = variables.and_then(|value| value.get_mut(..ORDER)) {
                value.copy_from_slice(&order);
            }
            Ok(())
        })?;
        for (stream, frame) in (0_u32..).zip(streams) {
            let mut entry = [0; ENTRY];
            let frame = &frame[tag..];
            let length = frame.len().min(ENTRY);
            entry[..length].copy_from_slice(&frame[..length]);
            let expected = loaded.map("expected")?;
            let put = expected.update(&stream.to_ne_bytes(), &entry, MapFlags::ANY);
            put.map_err(at("put a stream into"))?;
        }
        Ok(Self { loaded })
    }

    /// Attaches the program, as [`Redirect::attach`](crate::Redirect::attach) does.
    ///
    /// # Errors
    /// As there.
    pub fn attach(&mut self, ifindex: i32) -> Result<(), ProgError> {
        self.loaded.attach(ifindex)
    }

    /// What has been counted so far, on all processors.
    ///
    /// # Errors
    /// What the kernel says; it has no reason to refuse.
    pub fn counts(&self) -> Result<Counts, ProgError> {
        let each = self.each("counts", 0)?;
        Ok(each.iter().fold(Counts::default(), |sum, one| Counts {
            right: sum.right + word(one, 0),
            wrong: sum.wrong + word(one, 1),
        }))
    }

    /// How long right frames were on their way so far, where they are stamped. Takes milliseconds:
    /// one system call a bucket.
    ///
    /// # Errors
    /// What the kernel says; it has no reason to refuse.
    pub fn times(&self) -> Result<Times, ProgError> {
        let counted =
            |bucket| Ok(self.each("times", bucket)?.iter().map(|one| word(one, 0)).sum::<u64>());
        (0..BUCKETS as u32).map(counted).collect::<Result<_, _>>().map(Times)
    }

    /// An entry of a map, as each processor has it.
    fn each(&self, map: &str, at_key: u32) -> Result<Vec<Vec<u8>>, ProgError> {
        let found = self.loaded.map(map)?.lookup_percpu(&at_key.to_ne_bytes(), MapFlags::ANY);
        found.map_err(at("read the counts of"))?.ok_or_else(missing)
    }
}

/// The first four bytes of frames with a VLAN tag; `None` where no frame has one.
fn tag_of(streams: &[Vec<u8>]) -> Result<Option<[u8; TAG_LEN]>, ProgError> {
    let front = |frame: &Vec<u8>| {
        let tagged = frame.get(TAG_AT..TAG_AT + TAG.len()) == Some(&TAG[..]);
        frame.first_chunk().copied().filter(|_| tagged)
    };
    let first = streams.first().and_then(front);
    let alike = streams.iter().all(|frame| front(frame) == first);
    alike.then_some(first).ok_or(ProgError::MixedFrames)
}

/// The 64-bit number at a place of an entry.
fn word(bytes: &[u8], place: usize) -> u64 {
    let bytes = bytes.get(place * 8..place * 8 + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        assert_eq!([0, 127, 128, 255].map(upper_end), [0, 127, 128, 255]);
        assert_eq!([256, 257, 383, 384].map(upper_end), [257, 259, 511, 515]);
        assert_eq!(upper_end(BUCKETS - 1), u64::from(u32::MAX));
        assert!((1..BUCKETS).all(|at| upper_end(at) > upper_end(at - 1)));
    }
}
