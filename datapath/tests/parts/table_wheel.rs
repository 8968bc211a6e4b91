//! The wheel against a map ordered by due tick and order of scheduling.

use std::collections::BTreeMap;
use std::time::Duration;

use datapath::table::{Full, Wheel};
use datapath::time::Time;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    /// Schedules an item this long after the current moment.
    After(u64),
    /// Schedules an item this long before the current moment.
    Before(u64),
    /// Lets this much time pass, then expires with this budget.
    Advance(u64, usize),
    /// Lets time pass until `poll_at`, then expires.
    Poll(usize),
    /// Lets time pass until `poll_at`, takes one item and schedules it again this much later.
    Again(u64),
}

/// Spans of any order of magnitude, so that every level is reached.
fn span() -> impl Strategy<Value = u64> + Clone {
    (any::<u64>(), 0_u32..64).prop_map(|(span, shift)| span >> shift)
}

/// Spans of a few revolutions of the finest levels.
fn short() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![0_u64..50, 0_u64..50_000]
}

fn budget() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(usize::MAX), 1 => 0_usize..4]
}

fn op(span: impl Strategy<Value = u64> + Clone + 'static) -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => span.clone().prop_map(Op::After),
        1 => span.clone().prop_map(Op::Before),
        3 => (span.clone(), budget()).prop_map(|(span, b)| Op::Advance(span, b)),
        3 => budget().prop_map(Op::Poll),
        2 => span.prop_map(Op::Again),
    ]
}

/// What should be in a wheel, by due tick and order of scheduling.
#[derive(Default)]
struct Model {
    tick: u64,
    items: BTreeMap<(u64, u64), u64>,
    scheduled: u64,
}

impl Model {
    fn due(&self, at: Time) -> u64 {
        at.as_nanos().div_ceil(self.tick).min(u64::MAX / self.tick)
    }

    fn add(&mut self, due: u64) -> u64 {
        self.scheduled += 1;
        self.items.insert((due, self.scheduled), self.scheduled);
        self.scheduled
    }

    fn first(&self) -> Option<Time> {
        self.items.keys().next().map(|(due, _)| Time::from_nanos(due * self.tick))
    }

    fn pop(&mut self, now: Time) -> Option<u64> {
        let first = self.items.first_entry()?;
        let due = first.key().0 <= now.as_nanos() / self.tick;
        due.then(|| first.remove())
    }
}

fn check(tick: u64, limit: u32, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut wheel = Wheel::new(Duration::from_nanos(tick), limit);
    let mut model = Model { tick, ..Model::default() };
    let mut now = Time::ZERO;
    // The tick the wheel is known to have come to: the last one fully expired, or of an item.
    let mut reached = 0;
    for op in ops {
        match op {
            Op::After(_) | Op::Before(_) => {
                let at = match op {
                    Op::After(span) => now + Duration::from_nanos(span),
                    Op::Before(span) => now - Duration::from_nanos(span),
                    _ => now,
                };
                // What is late already counts from where the wheel is, which is not known after
                // a budget ran out.
                let passed = now.as_nanos() / tick;
                if model.due(at) <= passed && reached < passed {
                    continue;
                }
                if model.items.len() == limit as usize {
                    prop_assert_eq!(wheel.schedule(at, 0), Err(Full));
                } else {
                    let item = model.add(model.due(at).max(reached));
                    prop_assert_eq!(wheel.schedule(at, item), Ok(()));
                }
            }
            Op::Advance(..) | Op::Poll(_) => {
                let budget = match op {
                    Op::Advance(span, budget) => {
                        now = now + Duration::from_nanos(span);
                        budget
                    }
                    Op::Poll(budget) => {
                        now = wheel.poll_at().unwrap_or(now).max(now);
                        budget
                    }
                    _ => 0,
                };
                let mut items = Vec::new();
                let more = wheel.expire(now, budget, |item| items.push(item));
                prop_assert!(items.len() <= budget);
                for item in items {
                    prop_assert_eq!(Some(item), model.pop(now));
                }
                prop_assert_eq!(more, model.first().is_some_and(|at| at <= now));
                if budget == usize::MAX {
                    prop_assert!(!more);
                    prop_assert!(wheel.poll_at().is_none_or(|at| at > now));
                    reached = now.as_nanos() / tick;
                }
            }
            Op::Again(span) => {
                now = wheel.poll_at().unwrap_or(now).max(now);
                let item = wheel.pop_due(now, &mut usize::MAX.clone());
                let due = model.first();
                prop_assert_eq!(item, model.pop(now));
                if let (Some(_), Some(due)) = (item, due) {
                    // Taking an item brings the wheel to the item's tick and no further.
                    reached = reached.max(due.as_nanos() / tick);
                    let at = now + Duration::from_nanos(span);
                    let item = model.add(model.due(at).max(reached));
                    prop_assert_eq!(wheel.schedule(at, item), Ok(()));
                } else {
                    reached = now.as_nanos() / tick;
                }
            }
        }
        prop_assert_eq!(wheel.poll_at(), model.first());
        prop_assert_eq!(wheel.len() as usize, model.items.len());
        prop_assert_eq!(wheel.is_empty(), model.items.is_empty());
        prop_assert_eq!(wheel.capacity(), limit);
    }
    check_rest(wheel, model)
}

/// What is left comes out one unit of budget at a time.
fn check_rest(mut wheel: Wheel<u64>, model: Model) -> Result<(), TestCaseError> {
    let end = Time::from_nanos(u64::MAX);
    let mut items = Vec::new();
    while wheel.expire(end, 1, |item| items.push(item)) {}
    prop_assert!(items.into_iter().eq(model.items.into_values()));
    prop_assert_eq!(wheel.poll_at(), None);
    Ok(())
}

proptest! {
    #[test]
    fn near_moments_behave_as_a_map(
        tick in 1_u64..20,
        limit in 0_u32..60,
        ops in prop::collection::vec(op(short()), 0..200),
    ) {
        check(tick, limit, ops)?;
    }

    #[test]
    fn all_moments_behave_as_a_map(
        tick in prop_oneof![Just(1), 1_u64..20, Just(1_000_000)],
        limit in 0_u32..60,
        ops in prop::collection::vec(op(span()), 0..200),
    ) {
        check(tick, limit, ops)?;
    }
}

fn drain(wheel: &mut Wheel<u32>, now: Time, budget: usize) -> (Vec<u32>, bool) {
    let mut items = Vec::new();
    let more = wheel.expire(now, budget, |item| items.push(item));
    (items, more)
}

#[test]
fn items_are_never_early_and_wait_for_their_tick() {
    let mut wheel = Wheel::new(Duration::from_nanos(10), 4);
    assert_eq!(wheel.schedule(Time::from_nanos(11), 1), Ok(()));
    assert_eq!(wheel.poll_at(), Some(Time::from_nanos(20)));
    assert_eq!(drain(&mut wheel, Time::from_nanos(19), 9), (vec![], false));
    assert_eq!(wheel.poll_at(), Some(Time::from_nanos(20)));
    assert_eq!(drain(&mut wheel, Time::from_nanos(20), 9), (vec![1], false));
    assert_eq!(wheel.poll_at(), None);
    // A moment long gone is due at once, and time that goes backwards brings nothing.
    assert_eq!(wheel.schedule(Time::ZERO, 2), Ok(()));
    assert_eq!(wheel.poll_at(), Some(Time::from_nanos(20)));
    assert_eq!(drain(&mut wheel, Time::from_nanos(5), 9), (vec![], false));
    assert_eq!(wheel.schedule(Time::ZERO, 3), Ok(()));
    assert_eq!(wheel.poll_at(), Some(Time::from_nanos(20)));
    assert_eq!(drain(&mut wheel, Time::from_nanos(20), 9), (vec![2, 3], false));
}

#[test]
fn the_order_of_scheduling_holds_while_a_slot_is_half_moved() {
    let mut wheel = Wheel::new(Duration::from_nanos(1), 9);
    let at = Time::from_nanos(70);
    for item in [1, 2, 3] {
        assert_eq!(wheel.schedule(at, item), Ok(()));
    }
    assert_eq!(drain(&mut wheel, at, 2), (vec![], true));
    assert_eq!(wheel.schedule(at, 4), Ok(()));
    assert_eq!(wheel.schedule(Time::from_nanos(65), 5), Ok(()));
    assert_eq!(wheel.poll_at(), Some(Time::from_nanos(65)));
    assert_eq!(drain(&mut wheel, at, 99), (vec![5, 1, 2, 3, 4], false));
}

#[test]
fn the_ends_of_the_ranges_hold() {
    let end = Time::from_nanos(u64::MAX);
    for tick in [Duration::ZERO, Duration::from_nanos(3), Duration::MAX] {
        let mut wheel = Wheel::new(tick, 1);
        assert_eq!(wheel.schedule(end, 1), Ok(()));
        let at = wheel.poll_at();
        assert!(at.is_some_and(|at| at <= end));
        assert_eq!(drain(&mut wheel, at.unwrap_or_default(), 99), (vec![1], false));
    }
    let mut none = Wheel::new(Duration::from_secs(1), 0);
    assert_eq!(none.schedule(Time::ZERO, 1), Err(Full));
}

#[test]
fn a_million_items() {
    const ITEMS: u32 = 1_000_000;
    let mut wheel = Wheel::new(Duration::from_millis(100), ITEMS);
    // Due somewhere in the next five days, in an order like chance.
    let due = |n: u32| Time::from_secs(u64::from(n.wrapping_mul(2_654_435_761) % 432_000));
    for n in 0..ITEMS {
        assert_eq!(wheel.schedule(due(n), n), Ok(()));
    }
    assert_eq!(wheel.schedule(Time::ZERO, 0), Err(Full));
    let mut last = (Time::ZERO, 0);
    let (mut calls, mut seen) = (0, 0);
    while let Some(now) = wheel.poll_at() {
        calls += 1;
        wheel.expire(now, usize::MAX, |n| {
            assert_eq!(due(n), now);
            assert!(last < (now, n) || seen == 0);
            last = (now, n);
            seen += 1;
        });
    }
    assert_eq!(seen, ITEMS);
    assert!(calls <= 432_000, "every call hands something back");
}
