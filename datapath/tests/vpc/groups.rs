//! Security groups and their sessions.

use crate::support::*;
use datapath::element::Element;
use datapath::journey::{SgDecision, SgDirection, Step};
use datapath::lab::Lab;
use datapath::lab::model::{GroupKind, GroupRule, Peer, SecurityGroup, VpcRoute};
use datapath::verdict::DropReason;
use datapath::vpc::{GROUP_IDLE, SessionOwner};
use datapath::wire::Protocol;
use std::net::Ipv4Addr;

const IN: SgDirection = SgDirection::In;
const OUT: SgDirection = SgDirection::Out;

/// The lab with more groups (from index 1), and these ENIs in these groups.
fn with(groups: Vec<SecurityGroup>, members: &[(usize, &[usize])]) -> Bench {
    let mut lab = lab();
    lab.vpc.groups.extend(groups);
    for (eni, groups) in members {
        lab.enis[*eni].groups = groups.to_vec();
    }
    Bench::new(lab)
}

fn rules(ingress: Vec<GroupRule>, egress: Vec<GroupRule>, kind: GroupKind) -> SecurityGroup {
    SecurityGroup { ingress, egress, ..group("sg-x", kind) }
}

fn at(priority: u8, rule: GroupRule) -> GroupRule {
    GroupRule { priority, ..rule }
}

/// The verdicts of the last frame.
fn verdicts(bench: &Bench) -> Vec<(usize, SgDirection, bool, SgDecision)> {
    let steps = bench.steps().iter();
    steps
        .filter_map(|s| match s {
            Step::SecurityGroup { eni, direction, accept, decision } => {
                Some((*eni, *direction, *accept, *decision))
            }
            _ => None,
        })
        .collect()
}

/// A request of pod A for pod C.
fn request() -> Vec<u8> {
    tcp((IP[POD_A], 1000), (IP[POD_C], 80), SYN)
}

fn answer() -> Vec<u8> {
    tcp((IP[POD_C], 80), (IP[POD_A], 1000), SYN_ACK)
}

#[test]
fn basic_defaults_open_outbound_and_close_inbound_but_for_members() {
    let basic = || group("sg-x", GroupKind::Basic);
    let mut bench = with(vec![basic(), basic()], &[(POD_A, &[1]), (POD_C, &[2])]);
    assert_eq!(bench.dropped(POD_A, &request()), DropReason::SecurityGroupIn);
    let expected =
        [(POD_A, OUT, true, SgDecision::Default), (POD_C, IN, false, SgDecision::Default)];
    assert_eq!(verdicts(&bench), expected);
    assert_eq!(bench.vpc.eni_counters(POD_C).map(|c| c.sg_in.drops), Some(1));
    assert_eq!(bench.vpc.eni_counters(POD_A).map(|c| c.sg_out.default), Some(1));
    // In one group.
    let mut bench = with(vec![basic()], &[(POD_A, &[1]), (POD_C, &[1])]);
    bench.sent(POD_A, &request());
    let inner = SgDecision::Inner { group: 1 };
    assert_eq!(verdicts(&bench), [(POD_A, OUT, true, inner), (POD_C, IN, true, inner)]);
}

#[test]
fn inner_accept_is_over_drop_rules_and_inner_drop_leaves_it_to_rules() {
    let closed = || rules(vec![rule(false, None, None, "0.0.0.0/0")], Vec::new(), GroupKind::Basic);
    let members: [(usize, &[usize]); 2] = [(POD_A, &[1]), (POD_C, &[1])];
    with(vec![closed()], &members).sent(POD_A, &request());
    let mut bench = with(vec![SecurityGroup { inner_accept: false, ..closed() }], &members);
    assert_eq!(bench.dropped(POD_A, &request()), DropReason::SecurityGroupIn);
    let decision = SgDecision::Rule { group: 1, index: 0 };
    assert_eq!(verdicts(&bench)[1], (POD_C, IN, false, decision));
    assert_eq!(bench.vpc.rule_hits(1, IN, 0), Some(1));
    assert_eq!(bench.vpc.rule_hits(1, IN, 1), None);
    let without = SecurityGroup { inner_accept: false, ..group("sg-x", GroupKind::Basic) };
    let mut bench = with(vec![without], &members);
    assert_eq!(bench.dropped(POD_A, &request()), DropReason::SecurityGroupIn);
}

#[test]
fn advanced_defaults_close_both_ways_even_within_the_group() {
    let advanced = || group("sg-x", GroupKind::Advanced);
    let mut bench = with(vec![advanced()], &[(POD_A, &[1]), (POD_C, &[1])]);
    assert_eq!(bench.dropped(POD_A, &request()), DropReason::SecurityGroupOut);
    assert_eq!(verdicts(&bench), [(POD_A, OUT, false, SgDecision::Default)]);
    let mut bench = with(vec![advanced()], &[(POD_C, &[1])]);
    assert_eq!(bench.dropped(POD_A, &request()), DropReason::SecurityGroupIn);
}

#[test]
fn the_smaller_priority_wins_and_at_the_same_one_drop_wins() {
    let accept = |priority| at(priority, anything());
    let refuse = |priority| at(priority, rule(false, None, None, "0.0.0.0/0"));
    let cases = [
        (vec![accept(2), refuse(3)], true, 0),
        (vec![refuse(3), accept(2)], true, 1),
        (vec![accept(3), refuse(2)], false, 1),
        (vec![accept(5), refuse(5)], false, 1),
        (vec![refuse(5), accept(5)], false, 0),
        (vec![accept(1), accept(1), refuse(100)], true, 0),
    ];
    for (ingress, accept, index) in cases {
        let one = rules(ingress, Vec::new(), GroupKind::Advanced);
        let mut bench = with(vec![one], &[(POD_C, &[1])]);
        assert_eq!(bench.send_from(POD_A, &request()).len(), usize::from(accept));
        let decision = SgDecision::Rule { group: 1, index };
        assert_eq!(verdicts(&bench)[1], (POD_C, IN, accept, decision));
    }
}

#[test]
fn rules_of_several_groups_are_merged() {
    let one = rules(vec![at(9, anything())], Vec::new(), GroupKind::Basic);
    let two = rules(
        vec![at(8, rule(false, Some(Protocol::TCP), Some((80, 80)), "10.0.4.27/32"))],
        Vec::new(),
        GroupKind::Basic,
    );
    let mut bench = with(vec![one, two], &[(POD_C, &[1, 2])]);
    assert_eq!(bench.dropped(POD_A, &request()), DropReason::SecurityGroupIn);
    let decision = SgDecision::Rule { group: 2, index: 0 };
    assert_eq!(verdicts(&bench)[1], (POD_C, IN, false, decision));
    bench.sent(POD_D, &tcp((IP[POD_D], 1), (IP[POD_C], 80), SYN));
    // Inner acceptance of either group counts.
    bench.lab.enis[POD_A].groups = vec![2];
    let mut bench = Bench::new(bench.lab);
    bench.sent(POD_A, &request());
    assert_eq!(verdicts(&bench)[1].3, SgDecision::Inner { group: 2 });
}

#[test]
fn rules_match_protocol_and_destination_port_where_there_are_ports() {
    let range = rule(true, Some(Protocol::UDP), Some((100, 200)), "0.0.0.0/0");
    let pings = rule(true, Some(Protocol::ICMP), Some((1, 1)), "0.0.0.0/0");
    let one = rules(vec![range, pings], Vec::new(), GroupKind::Advanced);
    let mut bench = with(vec![one], &[(POD_C, &[1])]);
    let dgram = |port| udp((IP[POD_A], 150), (IP[POD_C], port), b"x");
    for (port, accept) in [(99, 0), (100, 1), (200, 1), (201, 0)] {
        assert_eq!(bench.send_from(POD_A, &dgram(port)).len(), accept, "port {port}");
    }
    assert_eq!(bench.dropped(POD_A, &request()), DropReason::SecurityGroupIn);
    bench.sent(POD_A, &ping(IP[POD_A], IP[POD_C], 7, false));
    bench.sent(POD_C, &ping(IP[POD_C], IP[POD_A], 7, true));
    assert_eq!(verdicts(&bench)[0].3, SgDecision::Session);
}

#[test]
fn a_peer_group_is_that_of_the_owner_of_the_source_address() {
    // Pod C accepts group 2, in which only pod A is (spec SG-14).
    let peer = GroupRule { peer: Peer::Group(2), ..anything() };
    let one = rules(vec![peer], Vec::new(), GroupKind::Basic);
    let mut bench =
        with(vec![one, group("sg-a", GroupKind::Basic)], &[(POD_C, &[1]), (POD_A, &[2])]);
    // Pod A's packet by way of eth0, as a service request leaves in P1.
    bench.sent(ETH0_1, &request());
    assert_eq!(verdicts(&bench)[1].3, SgDecision::Rule { group: 1, index: 0 });
    // eth0's own, and an outside host's, are of nobody in the group.
    let own = tcp((IP[ETH0_1], 1), (IP[POD_C], 80), SYN);
    assert_eq!(bench.dropped(ETH0_1, &own), DropReason::SecurityGroupIn);
    let own = tcp((CLIENT, 1), (IP[POD_C], 80), SYN);
    assert_eq!(bench.dropped_outside(&own), DropReason::SecurityGroupIn);
}

/// Pod A may send and pod C may receive, and nothing else.
fn one_way() -> Bench {
    let client = rules(Vec::new(), vec![anything()], GroupKind::Advanced);
    let server = rules(vec![anything()], Vec::new(), GroupKind::Advanced);
    with(vec![client, server], &[(POD_A, &[1]), (POD_C, &[2])])
}

#[test]
fn answers_pass_by_the_session() {
    let mut bench = one_way();
    assert_eq!(bench.dropped(POD_C, &answer()), DropReason::SecurityGroupOut);
    bench.sent(POD_A, &request());
    bench.sent(POD_C, &answer());
    let session = SgDecision::Session;
    assert_eq!(verdicts(&bench), [(POD_C, OUT, true, session), (POD_A, IN, true, session)]);
    let owners: Vec<_> = bench.vpc.sessions(bench.now).map(|s| s.owner).collect();
    let expected = [
        SessionOwner::Eni { eni: POD_A, direction: OUT },
        SessionOwner::Eni { eni: POD_C, direction: IN },
    ];
    assert_eq!(owners, expected);
    // Not so the answer to another port.
    let other = tcp((IP[POD_C], 80), (IP[POD_A], 1001), SYN_ACK);
    assert_eq!(bench.dropped(POD_C, &other), DropReason::SecurityGroupOut);
}

#[test]
fn the_same_packet_in_the_other_direction_is_no_answer() {
    // A custom route leads eth0's packet back to eth0, which accepts nothing.
    let one = rules(Vec::new(), vec![anything()], GroupKind::Advanced);
    let mut bench = with(vec![one], &[(ETH0_1, &[1])]);
    let cidr = "172.16.0.0/12".parse().expect("a range");
    bench.lab.vpc.routes = vec![VpcRoute { cidr, eni: ETH0_1 }];
    let mut bench = Bench::new(bench.lab);
    let packet = udp((IP[ETH0_1], 1), (Ipv4Addr::new(172, 16, 0, 9), 1), b"x");
    assert_eq!(bench.dropped(ETH0_1, &packet), DropReason::SecurityGroupIn);
    let expected = [
        (ETH0_1, OUT, true, SgDecision::Rule { group: 1, index: 0 }),
        (ETH0_1, IN, false, SgDecision::Default),
    ];
    assert_eq!(verdicts(&bench), expected);
}

#[test]
fn sessions_are_kept_per_eni_so_an_asymmetric_answer_is_a_new_flow() {
    // The request goes out by eth0, the answer comes in to pod A's own ENI (spec SG-5).
    let mut bench = one_way();
    bench.sent(ETH0_1, &request());
    assert_eq!(bench.dropped(POD_C, &answer()), DropReason::SecurityGroupIn);
    let expected =
        [(POD_C, OUT, true, SgDecision::Session), (POD_A, IN, false, SgDecision::Default)];
    assert_eq!(verdicts(&bench), expected);
    // Where pod A accepts it, it is a flow of its own there.
    let mut bench = with(Vec::new(), &[]);
    bench.sent(ETH0_1, &request());
    bench.sent(POD_C, &answer());
    assert_eq!(verdicts(&bench)[1].3, SgDecision::Inner { group: OPEN });
}

#[test]
fn a_drop_at_the_receiver_leaves_the_senders_session() {
    let client = rules(Vec::new(), vec![anything()], GroupKind::Advanced);
    let server = group("sg-s", GroupKind::Advanced);
    let mut bench = with(vec![client, server], &[(POD_A, &[1]), (POD_C, &[2])]);
    assert_eq!(bench.dropped(POD_A, &request()), DropReason::SecurityGroupIn);
    assert_eq!(bench.vpc.sessions(bench.now).count(), 1);
    assert_eq!(bench.dropped(POD_A, &request()), DropReason::SecurityGroupIn);
    assert_eq!(verdicts(&bench)[0].3, SgDecision::Session);
}

#[test]
fn a_session_ends_910_seconds_after_its_last_packet() {
    let idle = u64::try_from(GROUP_IDLE.as_nanos()).expect("fits");
    for timers in [false, true] {
        let mut bench = one_way();
        bench.sent(POD_A, &request());
        for _ in 0..3 {
            bench.wait(idle - 1);
            if timers {
                bench.tick();
            }
            bench.sent(POD_C, &answer());
        }
        bench.wait(idle);
        if timers {
            bench.tick();
        }
        assert_eq!(bench.vpc.sessions(bench.now).count(), 0);
        assert_eq!(bench.dropped(POD_C, &answer()), DropReason::SecurityGroupOut);
        // And it can begin anew, also the other way round.
        bench.sent(POD_A, &request());
        bench.sent(POD_C, &answer());
        bench.wait(idle);
        bench.sent(POD_A, &request());
        assert_eq!(bench.vpc.sessions(bench.now).count(), 2);
    }
}

#[test]
fn timers_clear_away_what_nobody_looks_at() {
    let mut bench = one_way();
    assert_eq!(bench.vpc.poll_at(), None);
    bench.sent(POD_A, &request());
    bench.wait(400 * SECOND);
    bench.sent(POD_A, &request());
    let mut runs = 0;
    while let Some(at) = bench.vpc.poll_at() {
        bench.now = at;
        bench.tick();
        runs += 1;
    }
    assert_eq!(bench.now.as_nanos(), (1 + 400 + 910) * SECOND);
    assert_eq!(runs, 2, "once when it would have ended, once when it did");
}

#[test]
fn a_full_table_drops_newcomers_until_sessions_end() {
    let mut bench = one_way();
    bench.lab.limits.sessions = 2;
    let mut bench = Bench::new(bench.lab);
    bench.sent(POD_A, &request());
    let other = tcp((IP[POD_A], 1001), (IP[POD_C], 80), SYN);
    assert_eq!(bench.dropped(POD_A, &other), DropReason::SessionTableFull);
    bench.sent(POD_A, &request());
    bench.wait(911 * SECOND);
    bench.sent(POD_A, &other);
    bench.sent(POD_C, &tcp((IP[POD_C], 80), (IP[POD_A], 1001), SYN_ACK));
}

#[test]
fn replaced_sessions_do_not_fill_the_table_up() {
    let mut bench = one_way();
    bench.lab.limits.sessions = 2;
    let mut bench = Bench::new(bench.lab);
    for _ in 0..50 {
        bench.sent(POD_A, &request());
        bench.wait(910 * SECOND);
    }
}

#[test]
fn an_icmp_error_passes_by_the_session_of_what_it_quotes() {
    let mut bench = one_way();
    let error = unreachable(IP[POD_C], IP[POD_A], &request());
    assert_eq!(bench.dropped(POD_C, &error), DropReason::SecurityGroupOut);
    bench.sent(POD_A, &request());
    bench.sent(POD_C, &error);
    let session = SgDecision::Session;
    assert_eq!(verdicts(&bench), [(POD_C, OUT, true, session), (POD_A, IN, true, session)]);
    // From a host on the way: only the quote counts.
    bench.send(P_OUTSIDE, &ip_frame(None, &unreachable(CLIENT, IP[POD_A], &request())));
    assert_eq!(verdicts(&bench), [(POD_A, IN, true, session)]);
    let ping_flow = ping(IP[POD_A], IP[POD_C], 3, false);
    let error = unreachable(IP[POD_C], IP[POD_A], &ping_flow);
    assert_eq!(bench.dropped(POD_C, &error), DropReason::SecurityGroupOut);
    bench.sent(POD_A, &ping_flow);
    bench.sent(POD_C, &error);
    // Only an error can quote.
    let mut echo = unreachable(IP[POD_C], IP[POD_A], &request());
    echo[20] = 8;
    assert_eq!(bench.dropped(POD_C, &echo), DropReason::SecurityGroupOut);
    // It does not keep the session alive, and quoting an answer of one's own is no excuse.
    let own = unreachable(IP[POD_C], IP[POD_A], &answer());
    assert_eq!(bench.dropped(POD_C, &own), DropReason::SecurityGroupOut);
    bench.wait(909 * SECOND);
    bench.sent(POD_C, &error);
    bench.wait(SECOND);
    assert_eq!(bench.dropped(POD_C, &error), DropReason::SecurityGroupOut);
}

#[test]
fn the_system_range_is_exempt_inbound() {
    let mut bench = with(vec![group("sg-x", GroupKind::Advanced)], &[(POD_C, &[1])]);
    let check = tcp((HEALTH, 5), (IP[POD_C], 80), SYN);
    assert_eq!(bench.send(P_HEALTH, &ip_frame(None, &check)).len(), 1);
    assert_eq!(verdicts(&bench), [(POD_C, IN, true, SgDecision::Exempt)]);
    let seen = bench.sent(POD_C, &tcp((IP[POD_C], 80), (HEALTH, 5), SYN_ACK));
    assert_eq!(seen.port, P_HEALTH);
    let out = tcp((IP[POD_C], 81), (HEALTH, 5), SYN);
    assert_eq!(bench.dropped(POD_C, &out), DropReason::SecurityGroupOut);
    for (ip, exempt) in [([100, 63, 255, 255], 0), ([100, 127, 0, 1], 1), ([100, 128, 0, 0], 0)] {
        let check = tcp((ip.into(), 5), (IP[POD_C], 80), SYN);
        assert_eq!(bench.send(P_HEALTH, &ip_frame(None, &check)).len(), exempt);
    }
}

/// Spec SG-19.
fn acceptance() -> Lab {
    let web = |accept, peer| rule(accept, Some(Protocol::TCP), Some((80, 80)), peer);
    let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
    let client = rules(
        private.iter().map(|range| web(true, range)).collect(),
        vec![web(true, "0.0.0.0/0")],
        GroupKind::Advanced,
    );
    let server =
        rules(vec![web(true, "0.0.0.0/0")], vec![web(false, "0.0.0.0/0")], GroupKind::Advanced);
    with(vec![client, server], &[(POD_A, &[1]), (POD_C, &[2])]).lab
}

#[test]
fn acceptance_case_client_to_server_works_and_server_to_client_fails() {
    let mut bench = Bench::new(acceptance());
    bench.sent(POD_A, &request());
    bench.sent(POD_C, &answer());
    bench.sent(POD_A, &tcp((IP[POD_A], 1000), (IP[POD_C], 80), ACK));
    let back = tcp((IP[POD_C], 1000), (IP[POD_A], 80), SYN);
    assert_eq!(bench.dropped(POD_C, &back), DropReason::SecurityGroupOut);
    let decision = SgDecision::Rule { group: 2, index: 0 };
    assert_eq!(verdicts(&bench), [(POD_C, OUT, false, decision)]);
    assert_eq!(bench.vpc.rule_hits(2, OUT, 0), Some(1));
    assert_eq!(bench.vpc.rule_hits(1, OUT, 0), Some(1), "only the first packet reads rules");
    assert_eq!(bench.vpc.eni_counters(POD_A).map(|c| c.sg_out.session), Some(1));
}
