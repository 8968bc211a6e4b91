//! Fragments in the fabric: judged together, sent on as they came (spec VPC-22, VPC-23).

use crate::support::*;
use datapath::element::Element;
use datapath::journey::{SgDecision, SgDirection, Step};
use datapath::lab::model::GroupKind;
use datapath::verdict::DropReason;
use datapath::wire::Protocol;
use etherparse::Ipv4Header;

const SECOND: u64 = 1_000_000_000;

/// A datagram in three fragments.
fn fragments(src: Addr, dst: Addr) -> Vec<Vec<u8>> {
    let data: Vec<u8> = (0..4_000_u16).map(|n| n.to_le_bytes()[0]).collect();
    cut(&udp(src, dst, &data), 1_480)
}

/// The packet that these frames carry in order, with its checksums looked at.
fn whole(seen: &[Seen]) -> (Addr, Addr) {
    let first = Ipv4Header::from_slice(seen[0].packet()).expect("a header").0;
    let payloads: Vec<_> = seen.iter().map(|seen| &seen.packet()[20..]).collect();
    let payload = payloads.concat();
    let mut header = Ipv4Header { more_fragments: false, ..first };
    header.total_len = u16::try_from(20 + payload.len()).expect("a length");
    header.header_checksum = header.calc_header_checksum();
    checked(&[&header.to_bytes()[..], &payload].concat())
}

fn judge(direction: SgDirection, ports: (u16, u16)) -> Bench {
    let mut lab = lab();
    let mut only = group("sg-only", GroupKind::Advanced);
    let rules = vec![rule(true, Some(Protocol::UDP), Some(ports), "0.0.0.0/0")];
    match direction {
        SgDirection::In => only.ingress = rules,
        SgDirection::Out => only.egress = rules,
    }
    lab.vpc.groups.push(only);
    let eni = if direction == SgDirection::In { POD_B } else { POD_A };
    lab.enis[eni].groups = vec![lab.vpc.groups.len() - 1];
    Bench::new(lab)
}

#[test]
fn all_go_on_as_they_came_when_the_last_has_come() {
    let mut bench = Bench::new(lab());
    let fragments = fragments((IP[POD_A], 1), (IP[POD_B], 5353));
    assert_eq!(bench.send_from(POD_A, &fragments[2]), []);
    assert_eq!(bench.send_from(POD_A, &fragments[0]), []);
    assert_eq!(bench.vpc.held(), 2);
    let seen = bench.send_from(POD_A, &fragments[1]);
    let packets: Vec<_> = seen.iter().map(|seen| seen.packet().to_vec()).collect();
    assert_eq!(packets, fragments, "in order, and nothing in them is changed");
    assert!(seen.iter().all(|seen| (seen.port, seen.tag()) == (P_TRUNK_2, Some(7))));
    assert!(bench.steps().contains(&Step::Gathered(3)));
    assert_eq!(bench.vpc.held(), 0);
    let counters = |eni| bench.vpc.eni_counters(eni).expect("an ENI");
    assert_eq!((counters(POD_A).frames_out, counters(POD_B).frames_in), (1, 1));
}

#[test]
fn groups_judge_every_fragment_by_the_ports_of_the_first() {
    let ways = [
        (SgDirection::In, DropReason::SecurityGroupIn),
        (SgDirection::Out, DropReason::SecurityGroupOut),
    ];
    for (direction, reason) in ways {
        for (port, passes) in [(5353, true), (5354, false)] {
            let mut bench = judge(direction, (5353, 5353));
            let mut fragments = fragments((IP[POD_A], 1), (IP[POD_B], port));
            fragments.reverse();
            let seen: Vec<_> =
                fragments.iter().flat_map(|packet| bench.send_from(POD_A, packet)).collect();
            assert_eq!(seen.len(), if passes { 3 } else { 0 });
            let dropped = if passes { 0 } else { 3 };
            assert_eq!(bench.vpc.ledger().dropped.of(reason), dropped);
            let judged = bench.hops.iter().flat_map(|hop| &hop.steps).any(|step| {
                matches!(step, Step::SecurityGroup { accept, decision: SgDecision::Rule { .. } | SgDecision::Default, .. } if *accept == passes)
            });
            assert!(judged, "{:?}", bench.hops);
        }
    }
}

#[test]
fn a_load_balancer_translates_all_of_them() {
    let mut bench = Bench::new(lab());
    let send = |bench: &mut Bench, packets: Vec<Vec<u8>>| -> Vec<Seen> {
        packets.iter().flat_map(|p| bench.send(P_OUTSIDE, &ip_frame(None, p))).collect()
    };
    let seen = send(&mut bench, fragments((CLIENT, 4_000), (VIP, 53)));
    assert_eq!((seen.len(), whole(&seen)), (3, ((CLIENT, 4_000), (IP[POD_B], 5353))));
    let answer = fragments((IP[POD_B], 5353), (CLIENT, 4_000));
    let seen: Vec<_> = answer.iter().flat_map(|p| bench.send_from(POD_B, p)).collect();
    assert_eq!((seen.len(), whole(&seen)), (3, ((VIP, 53), (CLIENT, 4_000))));
}

#[test]
fn each_fragment_must_fit_and_the_packet_need_not() {
    let mut lab = lab();
    lab.nodes[1].trunk_mtu = 1_400;
    let mut bench = Bench::new(lab);
    for fragment in fragments((IP[POD_A], 1), (IP[POD_B], 2)) {
        assert_eq!(bench.send_from(POD_A, &fragment), []);
    }
    assert_eq!(bench.vpc.ledger().dropped.of(DropReason::MtuExceeded), 3);
}

#[test]
fn fragments_of_different_senders_never_meet() {
    let mut bench = Bench::new(lab());
    let fragments = fragments((IP[POD_A], 1), (IP[POD_B], 2));
    assert_eq!(bench.send_from(POD_A, &fragments[0]), []);
    assert_eq!(bench.send_from(POD_D, &fragments[1]), []);
    assert_eq!(bench.send_from(POD_A, &fragments[2]), []);
    assert_eq!(bench.vpc.held(), 3);
    assert_eq!(bench.send_from(POD_A, &fragments[1]).len(), 3);
    assert_eq!(bench.vpc.held(), 1);
}

#[test]
fn a_packet_that_stays_incomplete_is_dropped_and_nobody_is_told() {
    let mut bench = Bench::new(lab());
    bench.send_from(POD_A, &fragments((IP[POD_A], 1), (IP[POD_B], 2))[0]);
    assert_eq!(bench.vpc.poll_at().map(|at| at.since(bench.now).as_secs()), Some(30));
    bench.wait(30 * SECOND);
    bench.tick();
    assert_eq!((bench.vpc.held(), bench.out.departures.len()), (0, 0));
    assert_eq!(bench.vpc.ledger().dropped.of(DropReason::FragmentTimeout), 1);
}
