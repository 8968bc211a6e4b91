//! Any fragments of any datagram in any order: what leaves is the datagram translated, and every
//! frame is accounted for (spec FRAG, LAW-2).

use crate::common::*;
use datapath::element::Element;
use datapath::journey::PortId;
use datapath::verdict::DropReason;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The pod's MTU, and the datagram's length, its fragments and the order in which they come.
#[derive(Clone, Debug)]
struct Input {
    mtu: u16,
    packet: Vec<u8>,
    sizes: Vec<usize>,
    /// Which fragments come, each at least once.
    order: Vec<usize>,
}

fn input() -> impl Strategy<Value = Input> {
    let data = proptest::collection::vec(any::<u8>(), 16..6_000);
    let units = proptest::collection::vec(1..180_usize, 1..40);
    let again = proptest::collection::vec(any::<Index>(), 0..4);
    let dst = select(vec![(NEAR, 53), (B, 5353)]);
    (select(vec![400_u16, 900, 1_500]), dst, data, units, again, any::<u64>()).prop_map(
        |(mtu, dst, data, units, again, shuffle)| {
            let packet = loose(udp((A, 40_000), dst, &data));
            let sizes: Vec<_> = units.into_iter().map(|unit| unit * 8).collect();
            let count = fragments_of(&packet, &sizes).len();
            let again = again.into_iter().map(|index| index.index(count));
            let mut order: Vec<_> = (0..count).chain(again).collect();
            let key = |at: usize| (at as u64 + 1).wrapping_mul(shuffle | 1).rotate_left(17);
            let mut keyed: Vec<_> = order.drain(..).enumerate().collect();
            keyed.sort_by_key(|(at, _)| key(*at));
            order.extend(keyed.into_iter().map(|(_, fragment)| fragment));
            Input { mtu, packet, sizes, order }
        },
    )
}

fn bench(mtu: u16) -> Bench {
    let mut lab = lab_switched("");
    lab.pods[POD_B].mtu = mtu;
    let mut bench = Bench::new(lab);
    bench.sent(CALI_A, &udp((A, 7), (B, 7), b"b is known"));
    bench.sent(CALI_B, &udp((B, 7), (A, 7), b"a too"));
    bench
}

/// The packet that leaves by b's port in these frames.
fn left(seen: &[Seen]) -> Vec<u8> {
    assert!(seen.iter().all(|seen| seen.port == CALI_B));
    joined(seen.iter().map(|seen| packet_of(&seen.bytes)))
}

fn arrive(bench: &mut Bench, port: PortId, packet: &[u8]) -> Vec<Seen> {
    let seen = bench.packet(port, packet);
    assert!(bench.node.ledger().balances(bench.node.held()));
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn fragments_in_any_order_leave_as_the_datagram_would(input in input()) {
        let Input { mtu, packet, sizes, order } = input;
        let mut at_once = bench(mtu);
        let expected = left(&arrive(&mut at_once, CALI_A, &packet));
        let fragments = fragments_of(&packet, &sizes);
        let mut missing: Vec<_> = (0..fragments.len()).collect();
        let mut bench = bench(mtu);
        for at in order {
            let seen = arrive(&mut bench, CALI_A, &fragments[at]);
            missing.retain(|missing| *missing != at);
            if missing.is_empty() {
                let lengths: Vec<_> = seen.iter().map(|s| packet_of(&s.bytes).len()).collect();
                prop_assert!(lengths.iter().all(|len| *len <= usize::from(mtu)));
                let came: Vec<_> = fragments.iter().map(Vec::len).collect();
                if came.iter().all(|len| *len <= usize::from(mtu)) {
                    prop_assert_eq!(lengths, came);
                }
                prop_assert_eq!(left(&seen), expected.clone());
                // The packet is gone: what comes again begins another.
                missing = (0..fragments.len()).collect();
            } else {
                prop_assert_eq!(seen.len(), 0);
            }
        }
        bench.wait(31_000_000_000);
        prop_assert_eq!(bench.node.held(), 0);
    }

    /// The model: which bytes have come.
    #[test]
    fn what_overlaps_never_leaves(
        data in proptest::collection::vec(any::<u8>(), 200..1_200),
        cuts in proptest::collection::vec((0..140_usize, 1..40_usize), 1..12),
    ) {
        let packet = loose(udp((A, 1), (B, 9), &data));
        let units = (packet.len() - 20).div_ceil(8);
        let mut bench = bench(1_500);
        let overlaps = |bench: &Bench| {
            bench.node.ledger().dropped.of(DropReason::FragmentOverlap)
        };
        let mut came = vec![false; units];
        for (start, len) in cuts {
            let start = start % units;
            let range = start..(start + len).min(units);
            if range.len() == units {
                continue;
            }
            let fragment = match start {
                0 => fragments_of(&packet, &[range.end * 8]).remove(0),
                _ => fragments_of(&packet, &[start * 8, range.len() * 8]).remove(1),
            };
            let before = overlaps(&bench);
            let seen = arrive(&mut bench, CALI_A, &fragment);
            let known = came[range.clone()].iter().filter(|came| **came).count();
            if overlaps(&bench) > before {
                prop_assert!(known > 0, "nothing it could overlap");
                came.fill(false);
            } else {
                // What was taken touches nothing, or came before as a whole.
                prop_assert!(known == 0 || known == range.len());
                came[range].fill(true);
            }
            let complete = came.iter().all(|came| *came);
            prop_assert_eq!(!seen.is_empty(), complete);
            if complete {
                prop_assert_eq!(&left(&seen)[20..], &packet[20..]);
                came.fill(false);
            }
        }
        prop_assert_eq!(bench.node.held() > 0, came.contains(&true));
    }
}
