//! Which packets are masqueraded, and to which ports (spec MARK, MASQ).

use std::collections::BTreeSet;

use crate::common::*;
use datapath::journey::{MarkRule, MasqueradeRule, Step};
use datapath::node::{ETH0, ETH1};
use datapath::verdict::DropReason;

fn bench() -> Bench {
    Bench::new(lab_switched(""))
}

/// The source with which a pod's packet to a virtual address leaves.
fn source(bench: &mut Bench, pod: Addr, vip: Addr) -> Addr {
    let port = if pod.0 == A { CALI_A } else { CALI_B };
    bench.sent(port, &tcp(pod, vip, SYN)).view().src
}

fn marked_by(bench: &Bench) -> Option<MarkRule> {
    bench.steps().iter().find_map(|step| match step {
        Step::Marked(rule) => Some(*rule),
        _ => None,
    })
}

#[test]
fn external_ips_with_policy_cluster_are_marked() {
    let mut bench = bench();
    assert_eq!(source(&mut bench, (A, 1), (FAR_XIP, 80)), (N1, 1));
    assert_eq!(marked_by(&bench), Some(MarkRule::ExternalIp));
    assert_eq!(source(&mut bench, (A, 1), (LOCAL_XIP, 80)), (A, 1), "policy Local");
    assert_eq!(source(&mut bench, (A, 1), (FAR, 80)), (A, 1), "a ClusterIP");
    assert_eq!(marked_by(&bench), None);
}

#[test]
fn cluster_ips_are_marked_as_switches_say() {
    for (switches, expected) in [
        ("masqueradeAll: true", Some(MarkRule::MasqueradeAll)),
        ("clusterCIDR: 10.0.5.0/24", Some(MarkRule::OutsideClusterCidr)),
        ("clusterCIDR: 10.0.4.0/24", None),
        ("masqueradeAll: false", None),
    ] {
        let mut bench = Bench::new(lab_switched(switches));
        let from = source(&mut bench, (A, 1), (NEAR, 80)).0;
        assert_eq!(marked_by(&bench), expected, "{switches}");
        assert_eq!(from == N1, expected.is_some(), "{switches}");
    }
}

#[test]
fn a_port_is_kept_where_it_is_free() {
    let mut bench = bench();
    for port in [1, 511, 512, 1023, 1024, 65_535] {
        assert_eq!(source(&mut bench, (A, port), (FAR_XIP, 80)), (N1, port));
    }
}

#[test]
fn a_clash_gives_a_free_port_of_the_same_class() {
    let mut bench = bench();
    for (port, class) in
        [(80, 1..=511), (700, 600..=1023), (40_001, 1024..=65_535), (512, 600..=1023)]
    {
        assert_eq!(source(&mut bench, (A, port), (FAR_XIP, 80)), (N1, port));
        let (ip, moved) = source(&mut bench, (B, port), (FAR_XIP, 80));
        assert!(ip == N1 && moved != port && class.contains(&moved), "{port} became {moved}");
        // The choice is made once, and answers find the right pod.
        assert_eq!(source(&mut bench, (B, port), (FAR_XIP, 80)), (N1, moved));
        for (to, pod, cali) in [(port, A, CALI_A), (moved, B, CALI_B)] {
            let seen = bench.sent(ETH0, &tcp((C, 8080), (N1, to), SYN_ACK));
            assert_eq!((seen.port, seen.view().dst), (cali, (pod, port)));
        }
    }
}

#[test]
fn a_different_destination_is_no_clash() {
    let mut bench = bench();
    assert_eq!(source(&mut bench, (A, 40_001), (FAR_XIP, 80)), (N1, 40_001));
    assert_eq!(source(&mut bench, (B, 40_001), (NEAR_XIP, 80)), (N1, 40_001));
}

#[test]
fn random_fully_never_keeps_the_class_alone() {
    let mut bench =
        Bench::new(lab_with("switches: {masqueradeRandomFully: true, icmpRatelimit: 0}"));
    let ports: BTreeSet<u16> =
        (0..100).map(|n| source(&mut bench, (A, 20_000 + n), (FAR_XIP, 80)).1).collect();
    assert_eq!(ports.len(), 100, "all different");
    assert!(ports.iter().all(|port| *port >= 1024));
    let kept = (20_000..20_100).filter(|port| ports.contains(port)).count();
    assert!(kept < 10, "{kept} ports kept");
    let low = source(&mut bench, (A, 80), (FAR_XIP, 80)).1;
    assert!((1..=511).contains(&low), "{low}");
    // A hairpin's rule has no --random-fully.
    assert_eq!(source(&mut bench, (A, 7_777), (OWN, 80)), (N1, 7_777));
    assert!(bench.steps().contains(&Step::Masqueraded(MasqueradeRule::LoopBack)));
}

#[test]
fn no_free_port_is_a_named_drop() {
    let mut bench = bench();
    // ipvs schedules nothing that comes from port 20, so another client takes that.
    for port in (1..=511).filter(|port| *port != 20) {
        assert_eq!(source(&mut bench, (A, port), (FAR_XIP, 80)), (N1, port));
    }
    assert_eq!(source(&mut bench, (B, 19), (FAR_XIP, 80)), (N1, 20));
    let before = bench.flows().len();
    let refused = tcp((B, 80), (FAR_XIP, 80), SYN);
    assert_eq!(bench.dropped(CALI_B, &refused), DropReason::NoFreePort);
    assert_eq!(bench.flows().len(), before, "and leaves no entry");
    assert_eq!(source(&mut bench, (A, 80), (FAR_XIP, 80)), (N1, 80), "old flows go on");
    assert_ne!(source(&mut bench, (B, 700), (FAR_XIP, 80)).0, B, "other classes too");
}

#[test]
fn what_is_not_masqueraded_may_move_its_port_too() {
    // The node's masqueraded flow holds N1:40001 > C:8080 when the node itself wants it.
    let mut bench = bench();
    source(&mut bench, (A, 40_001), (FAR_XIP, 80));
    let own = bench.sent(HOST, &tcp((N1, 40_001), (C, 8080), SYN)).view();
    assert_eq!(own.from(), N1);
    assert_ne!(own.src.1, 40_001);
    assert!(bench.steps().contains(&Step::Masqueraded(MasqueradeRule::Clash)));
    let back = bench.sent(ETH0, &tcp((C, 8080), own.src, SYN_ACK));
    assert_eq!((back.port, back.view().dst), (HOST, (N1, 40_001)));
}

#[test]
fn outside_clients_of_an_external_ip_are_masqueraded_and_served() {
    // Through eth0 in and out again.
    let mut bench = bench();
    let out = bench.sent(ETH0, &tcp((CLIENT, 5_000), (FAR_XIP, 80), SYN));
    assert_eq!((out.port, out.view().tuple()), (ETH0, ((N1, 5_000), (C, 8080))));
    let back = bench.sent(ETH0, &tcp((C, 8080), (N1, 5_000), SYN_ACK));
    assert_eq!((back.port, back.view().tuple()), (ETH0, ((FAR_XIP, 80), (CLIENT, 5_000))));
}

#[test]
fn an_answer_of_a_vip_to_an_outside_client_is_routed_by_the_vip() {
    // Spec ROUTE-13.
    for (switches, port) in [("snatReroute: true", ETH0), ("snatReroute: false", ETH1)] {
        let mut bench = Bench::new(lab_switched(switches));
        let seen = bench.sent(ETH0, &tcp((CLIENT, 5_000), (LOCAL_XIP, 80), SYN));
        assert_eq!((seen.port, seen.view().src), (CALI_B, (CLIENT, 5_000)));
        let back = bench.sent(CALI_B, &tcp((B, 8080), (CLIENT, 5_000), SYN_ACK));
        assert_eq!((back.port, back.queue), (port, 0), "{switches}");
        let view = back.view();
        assert_eq!((view.vid, view.src), (None, (LOCAL_XIP, 80)), "{switches}");
    }
}
