//! Time as an argument: nanoseconds since the lab began.
//!
//! No element reads a clock (spec LAW-1, LAW-5). The live loop passes the machine's monotonic
//! clock, the memory lab its virtual one.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment, in nanoseconds since the lab began. Wraps after 584 years.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(u64);

impl Time {
    /// The moment the lab began.
    pub const ZERO: Self = Self(0);

    /// The moment `nanos` nanoseconds after the lab began.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The moment `secs` seconds after the lab began.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the lab began.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1_000)
    }
}

const NANOS_PER_MILLI: u64 = 1_000_000;
/// What rounding up to a millisecond still leaves on the near side of 2^31.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64 - 1);

/// A moment at most 24 days from the present, to the millisecond: what an entry of a large table
/// keeps of its deadline. As the kernel's 32-bit jiffies it means something only while it is looked
/// at now and then (kernel: include/net/netfilter/nf_conntrack.h, `nf_ct_expires`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(u32);

impl Deadline {
    /// The first millisecond that is not before `timeout` from now. A timeout longer than 24 days,
    /// 2^31 milliseconds, is taken for that.
    #[must_use]
    pub fn after(now: Time, timeout: Duration) -> Self {
        let timeout = timeout.min(LONGEST);
        Self::not_before(now + timeout)
    }

    /// The first millisecond that is not before `secs` seconds from now, 24 days at most.
    #[must_use]
    #[inline]
    pub const fn after_secs(now: Time, secs: u32) -> Self {
        let millis = secs as u64 * 1_000;
        let longest = LONGEST.as_millis() as u64;
        let timeout = if millis < longest { millis } else { longest };
        Self(Self::not_before(now).0.wrapping_add(timeout as u32))
    }

    /// The first millisecond that is not before a moment.
    #[inline]
    const fn not_before(moment: Time) -> Self {
        Self(moment.as_nanos().div_ceil(NANOS_PER_MILLI) as u32)
    }

    /// The moment, as seen from now.
    #[must_use]
    pub const fn at(self, now: Time) -> Time {
        let present = now.as_nanos() / NANOS_PER_MILLI;
        let ahead = self.0.wrapping_sub(present as u32) as i32;
        let moment = present.saturating_add_signed(ahead as i64);
        Time::from_nanos(moment.saturating_mul(NANOS_PER_MILLI))
    }

    /// Whether the moment has come.
    #[must_use]
    pub const fn is_over(self, now: Time) -> bool {
        !Self((now.as_nanos() / NANOS_PER_MILLI) as u32).is_before(self)
    }

    /// Whether the moment is past: not even now any more.
    #[must_use]
    pub const fn is_past(self, now: Time) -> bool {
        self.is_before(Self::not_before(now))
    }

    /// Whether the moment comes before another one.
    #[must_use]
    pub const fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Time until the moment; zero once it has come.
    #[must_use]
    pub const fn left(self, now: Time) -> Duration {
        self.at(now).since(now)
    }
}
