//! The patrol against a list of when each slot should come up.

use std::collections::BTreeMap;

use datapath::table::Patrol;
use datapath::time::Time;
use proptest::prelude::*;

const SLOTS: u32 = 8;

#[derive(Clone, Debug)]
enum Op {
    /// Watch a slot until so many milliseconds from now.
    Watch(u32, u64),
    /// Let milliseconds pass.
    Wait(u64),
    /// Ask for what is due, with a budget.
    Ask(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let later = prop_oneof![0..5_000_u64, 55_000..65_000_u64, Just(432_000_000)];
    let wait = prop_oneof![8 => 0..3_000_u64, 1 => 30_000..200_000_u64];
    prop_oneof![
        4 => (0..SLOTS, later).prop_map(|(slot, later)| Op::Watch(slot, later)),
        3 => wait.prop_map(Op::Wait),
        3 => (0..4_usize).prop_map(Op::Ask),
    ]
}

fn millis(at: u64) -> Time {
    Time::from_nanos(at * 1_000_000)
}

proptest! {
    /// A slot comes up once each time it is watched: not before its deadline unless a minute has
    /// passed, and in the second its earliest deadline ends in, or a minute after it was watched.
    #[test]
    fn each_slot_comes_up_at_its_time(ops in prop::collection::vec(op(), 0..200)) {
        let mut patrol = Patrol::new(SLOTS);
        let mut now = 0;
        // When each watched slot may come up at the earliest, and must at the latest.
        let mut model = BTreeMap::<u32, (u64, u64)>::new();
        for op in ops {
            match op {
                Op::Wait(ms) => now += ms,
                Op::Watch(slot, later) => {
                    let minute = now / 1_000 * 1_000 + 60_000;
                    let deadline = (now + later).next_multiple_of(1_000);
                    let due = deadline.min(minute);
                    // While what came up before waits to be asked for, the minute counts from
                    // there.
                    let behind = patrol.poll_at().is_some_and(|at| at <= millis(now));
                    let earliest = if behind { deadline.min(now) } else { due };
                    patrol.watch(slot, millis(now + later), millis(now));
                    let known = model.entry(slot).or_insert((earliest, due));
                    *known = (known.0.min(earliest), known.1.min(due));
                }
                Op::Ask(mut budget) => {
                    while budget > 0 {
                        let before = budget;
                        let Some(slot) = patrol.next_due(millis(now), &mut budget) else {
                            let overdue = model.values().any(|(_, latest)| *latest <= now);
                            prop_assert!(!overdue, "{model:?} at {now}");
                            break;
                        };
                        prop_assert_eq!(budget, before - 1);
                        let (earliest, _) = model.remove(&slot).expect("a watched slot");
                        prop_assert!(earliest <= now, "{slot} at {now}, not before {earliest}");
                    }
                }
            }
            // The next moment is known well enough: never too late, what is overdue is due now.
            let first = model.values().map(|(_, latest)| (*latest).max(now)).min();
            let known = patrol.poll_at().map(|at| at.as_nanos() / 1_000_000);
            prop_assert_eq!(known.is_some(), first.is_some());
            prop_assert!(known <= first, "{known:?} after {first:?}");
        }
    }
}

#[test]
fn a_million_that_come_up_at_once_are_taken_as_the_budget_has_it() {
    let mut patrol = Patrol::new(1_000_000);
    for slot in 0..1_000_000 {
        patrol.watch(slot, Time::from_secs(30), Time::ZERO);
    }
    assert_eq!(patrol.poll_at(), Some(Time::from_secs(30)));
    let now = Time::from_secs(30);
    let mut taken = 0;
    while patrol.poll_at().is_some_and(|at| at <= now) {
        let mut budget = 1_000;
        while patrol.next_due(now, &mut budget).is_some() {
            taken += 1;
        }
        assert_eq!(budget, 0);
    }
    assert_eq!((taken, patrol.poll_at()), (1_000_000, None));
}
