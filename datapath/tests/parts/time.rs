//! Deadlines in 32 bits (spec IPVS-47).

use std::time::Duration;

use datapath::time::{Deadline, Time};
use proptest::prelude::*;

const MILLI: Duration = Duration::from_millis(1);

#[test]
fn a_deadline_ends_with_the_first_millisecond_that_is_not_before_it() {
    let now = Time::from_nanos(1_500_001);
    let deadline = Deadline::after(now, MILLI);
    assert!(!deadline.is_over(Time::from_nanos(2_999_999)));
    assert!(deadline.is_over(Time::from_nanos(3_000_000)));
    assert_eq!(deadline.left(Time::from_nanos(2_400_000)), Duration::from_nanos(600_000));
    assert_eq!(deadline.left(Time::from_secs(9)), Duration::ZERO);
}

#[test]
fn a_timeout_beyond_the_longest_is_taken_for_that() {
    let now = Time::from_nanos(1);
    let deadline = Deadline::after(now, Duration::MAX);
    assert!(!deadline.is_over(now));
    assert!(deadline.left(now) > Duration::from_secs(24 * 86_400));
}

proptest! {
    #[test]
    fn whenever_it_is_a_deadline_is_as_far_as_was_said(
        now in 0..u64::MAX / 2,
        timeout in 0..2_000_000_000_u64,
    ) {
        let (now, timeout) = (Time::from_nanos(now), Duration::from_millis(timeout));
        let left = Deadline::after(now, timeout).left(now);
        prop_assert!(timeout <= left && left < timeout + MILLI);
    }
}
