//! The flow cache: used where it may be, and never noticed (spec LAW-4, FLOW).

mod changes;
mod traffic;
mod twins;

use std::cell::Cell;
use std::ops::Range;

use crate::common::*;
use datapath::lab::Lab;
use datapath::node::CacheCounters;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use changes::{Change, change, lab_of};
use traffic::{Conversations, Ends, Event, Talk, crowd, ends, event, served_at};
use twins::Twins;

/// What all cases together have done.
#[derive(Debug, Default)]
struct Sum {
    hits: Cell<u64>,
    openings: Cell<u64>,
    evicted: Cell<u64>,
}

impl Sum {
    fn add(&self, twins: &Twins) {
        let CacheCounters { hits, openings, .. } = twins.counters();
        let (_, evicted) = twins.flows();
        let counts = [(&self.hits, hits), (&self.openings, openings), (&self.evicted, evicted)];
        counts.into_iter().for_each(|(sum, count)| sum.set(sum.get() + count));
    }
}

/// The lab of a profile once these changes are made in it.
fn changed(mut lab: Lab, changes: &[Change]) -> Lab {
    changes.iter().for_each(|change| change.make(&mut lab));
    lab
}

/// Plays cases, each in a lab with room for so many flows, among a few conversations beside a crowd
/// of so many.
fn run(
    cases: u32,
    limits: impl Strategy<Value = (u32, u32)>,
    size: u16,
    check: impl Fn(&Twins),
) -> Sum {
    let sum = Sum::default();
    let lab = (0..3_usize, limits, prop::collection::vec(change(), 0..6));
    let (ends, events) =
        (prop::collection::vec(ends(), 1..12), prop::collection::vec(event(), 1..24));
    let outcome = TestRunner::new(ProptestConfig::with_cases(cases)).run(
        &(lab, ends, events),
        |((profile, (flows, neighbours), changes), ends, events)| {
            let mut twins = Twins::new(changed(lab_of(profile, flows, neighbours), &changes));
            twins.introduce(1);
            let mut conversations = Conversations::new([ends, crowd(size)].concat());
            conversations.begin(&mut twins);
            check(&twins);
            events.iter().for_each(|event| conversations.play(&mut twins, event));
            sum.add(&twins);
            Ok(())
        },
    );
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    sum
}

/// A few conversations in a small table or in one that is too small.
#[test]
fn nobody_can_tell_a_node_with_a_cache_from_one_without() {
    let sum = run(1_500, prop_oneof![1 => Just((3, 5)), 3 => Just((64, 16))], 0, |_| ());
    assert!(sum.hits.get() > 1_000, "the cache was hardly used: {sum:?}");
    assert!(sum.openings.get() > 100, "it hardly opened a flow: {sum:?}");
}

/// So many conversations that what a batch will need is fetched ahead, and the table is soon full.
#[test]
fn nor_where_what_a_batch_needs_is_fetched_ahead() {
    let sum = run(64, Just((620, 16)), 700, |twins| {
        let (flows, _) = twins.flows();
        assert!(flows > 512, "too few flows: {flows}");
    });
    assert!(sum.hits.get() > 1_000, "the cache was hardly used: {sum:?}");
    assert!(sum.evicted.get() > 20, "the table was hardly full: {sum:?}");
}

/// Established conversations of every kind, and how many of their packets need no walk.
#[test]
fn every_packet_of_an_established_flow_but_the_first_of_each_direction_hits() {
    let tcp = [FAR, FAR_XIP, NEAR, FNAT, C].map(|server| (false, server));
    for (is_udp, server) in tcp.into_iter().chain([FAR_XIP, FNAT, C].map(|server| (true, server))) {
        let mut lab = lab_of(1, 8, 16);
        lab.switches.masquerade_random_fully = false;
        let mut twins = Twins::new(lab);
        twins.introduce(1);
        let flow: Ends = (CALI_A, (A, 40_001), served_at(server, is_udp), is_udp);
        let mut conversation = Conversations::new(vec![flow]);
        let mut say = |twins: &mut Twins, back, flags| {
            let talks = vec![Talk::plain(0, back, flags)];
            conversation.play(twins, &Event::Batch { talks, mixed: false, watched: false });
        };
        for (back, flags) in [(false, SYN), (true, SYN), (false, ACK), (true, ACK), (false, ACK)] {
            say(&mut twins, back, flags);
        }
        let before = twins.counters();
        for _ in 0..10 {
            say(&mut twins, false, ACK);
            say(&mut twins, true, ACK);
        }
        let after = twins.counters();
        assert_eq!(after.hits, before.hits + 20, "{server}, {before:?}");
        assert_eq!(after.learned, before.learned);
        // A neighbour's new MAC makes every path stale: one walk each way learns it again.
        twins.introduce(2);
        for _ in 0..3 {
            say(&mut twins, false, ACK);
            say(&mut twins, true, ACK);
        }
        assert_eq!(twins.counters().learned, after.learned + 2);
        assert_eq!(twins.counters().hits, after.hits + 4);
    }
}

/// Connections that were opened without a walk come up among those that walked as if they all had:
/// which one ends first decides where the next flows are kept, and so which of them a full table
/// gives up.
#[test]
fn timers_look_at_an_opened_connection_when_they_would_at_a_walked_one() {
    let mut twins = Twins::new(lab_of(1, 8, 16));
    twins.introduce(1);
    let ends = (40_001..40_007).map(|port| (CALI_A, (A, port), served_at(FAR, false), false));
    let mut conversations = Conversations::new(ends.collect());
    let mut begin = |twins: &mut Twins, flows: Range<usize>| {
        let talks = flows.map(|flow| Talk::plain(flow, false, SYN)).collect();
        conversations.play(twins, &Event::Batch { talks, mixed: false, watched: false });
    };
    begin(&mut twins, 0..3);
    assert_eq!(twins.counters().openings, 2);
    twins.wait(3_000, true);
    assert_eq!(twins.flows(), (3, 0));
    twins.wait(60_000, true);
    assert_eq!(twins.flows(), (0, 0));
    begin(&mut twins, 3..6);
    assert_eq!(twins.flows(), (3, 0));
}

/// What an endpoint sends by its own port is refused where nat_icmp_send is on, whatever its pod's
/// other flows have left behind (spec FLOW-9).
#[test]
fn no_flow_opens_without_a_walk_where_destinations_may_be_refused() {
    let mut lab = lab_of(1, 8, 16);
    lab.switches.ipvs.nat_icmp_send = true;
    let mut twins = Twins::new(lab);
    twins.introduce(1);
    let ends =
        [40_001, 40_002, 8_080].map(|port| (CALI_A, (A, port), served_at(FAR, false), false));
    let mut conversations = Conversations::new(ends.to_vec());
    let talks = (0..3).map(|flow| Talk::plain(flow, false, SYN)).collect();
    conversations.play(&mut twins, &Event::Batch { talks, mixed: false, watched: false });
    assert_eq!((twins.counters().openings, twins.flows().0), (0, 2));
}
