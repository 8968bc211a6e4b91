//! Load balancers.

use crate::support::*;
use datapath::journey::{Rewriter, SgDirection, Step};
use datapath::lab::model::{GroupKind, VpcRoute};
use datapath::verdict::DropReason;
use datapath::vpc::{BALANCER_IDLE, SessionOwner};
use datapath::wire::Protocol;

fn syn(port: u16) -> Vec<u8> {
    tcp((CLIENT, port), (VIP, 80), SYN)
}

/// The backend a packet of the client reaches.
fn backend(bench: &mut Bench, packet: &[u8]) -> usize {
    let seen = bench.sent_outside(packet);
    let (_, (ip, _)) = checked(seen.packet());
    IP.iter().position(|i| *i == ip).expect("an ENI")
}

#[test]
fn a_listener_translates_there_and_back() {
    let mut bench = Bench::new(lab());
    let seen = bench.sent_outside(&syn(4000));
    assert_eq!((seen.port, seen.tag()), (P_TRUNK_2, Some(7)));
    assert_eq!(checked(seen.packet()), ((CLIENT, 4000), (IP[POD_B], 8080)));
    let tcp_tuple = |src, dst| tuple(Protocol::TCP, src, dst);
    let from = tcp_tuple((CLIENT, 4000), (VIP, 80));
    let to = tcp_tuple((CLIENT, 4000), (IP[POD_B], 8080));
    let steps: Vec<_> =
        bench.steps().iter().filter(|s| !matches!(s, Step::SecurityGroup { .. })).collect();
    let expected = [
        &Step::SlbListener { slb: 0, listener: 0 },
        &Step::Rewritten { by: Rewriter::Slb, from, to },
        &Step::VSwitchRoute(1),
        &Step::ReceivingEni(POD_B),
        &Step::TagPushed(vid(7)),
    ];
    assert_eq!(steps, expected);
    let seen = bench.sent(POD_B, &tcp((IP[POD_B], 8080), (CLIENT, 4000), SYN_ACK));
    assert_eq!((seen.port, seen.dst()), (P_OUTSIDE, outside_mac(0)));
    assert_eq!(checked(seen.packet()), ((VIP, 80), (CLIENT, 4000)));
    assert!(bench.steps().contains(&Step::SlbSession { slb: 0, listener: 0 }));
    assert!(bench.steps().contains(&Step::OutsideRoute(0)));
    let back = Step::Rewritten {
        by: Rewriter::UnSlb,
        from: tcp_tuple((IP[POD_B], 8080), (CLIENT, 4000)),
        to: tcp_tuple((VIP, 80), (CLIENT, 4000)),
    };
    assert!(bench.steps().contains(&back));
    // What the pod sends the client on its own account keeps its source.
    let own = bench.sent(POD_B, &udp((IP[POD_B], 8080), (CLIENT, 4000), b"x"));
    assert_eq!(checked(own.packet()), ((IP[POD_B], 8080), (CLIENT, 4000)));
}

#[test]
fn udp_is_translated_with_and_without_a_checksum() {
    let mut bench = Bench::new(lab());
    for (port, strip) in [(1, false), (2, true)] {
        let mut packet = udp((CLIENT, port), (VIP, 53), b"query");
        if strip {
            packet[26..28].fill(0);
        }
        let seen = bench.sent_outside(&packet);
        assert_eq!(checked(seen.packet()), ((CLIENT, port), (IP[POD_B], 5353)));
        assert_eq!(seen.packet()[26..28] == [0, 0], strip);
    }
}

#[test]
fn backends_take_turns_in_file_order_and_flows_stay() {
    let mut bench = Bench::new(lab());
    let order = [POD_B, POD_C, POD_D, POD_B, POD_C];
    for (port, expected) in (5000..).zip(order) {
        assert_eq!(backend(&mut bench, &syn(port)), expected);
        // Neither a repeated SYN nor what follows moves the turn.
        assert_eq!(backend(&mut bench, &syn(port)), expected);
        assert_eq!(backend(&mut bench, &tcp((CLIENT, port), (VIP, 80), ACK)), expected);
        assert!(bench.steps().contains(&Step::SlbSession { slb: 0, listener: 0 }));
    }
    // Listeners have their own turns.
    assert_eq!(backend(&mut bench, &udp((CLIENT, 1), (VIP, 53), b"x")), POD_B);
}

#[test]
fn what_no_listener_or_backend_takes_is_a_named_drop() {
    let mut bench = Bench::new(lab());
    let cases = [
        (tcp((CLIENT, 1), (VIP, 443), SYN), DropReason::NoListener),
        (udp((CLIENT, 1), (VIP, 80), b"x"), DropReason::NoListener),
        (ping(CLIENT, VIP, 1, false), DropReason::NoListener),
        (tcp((CLIENT, 1), (VIP, 81), SYN), DropReason::NoBackend),
        (tcp((CLIENT, 1), (VIP, 80), ACK), DropReason::NoConnection),
        (tcp((CLIENT, 1), (VIP, 80), RST), DropReason::NoConnection),
        (tcp((CLIENT, 1), (VIP, 80), SYN_ACK), DropReason::NoConnection),
    ];
    for (packet, reason) in cases {
        assert_eq!(bench.dropped_outside(&packet), reason);
    }
    assert_eq!(bench.vpc.sessions(bench.now).count(), 0);
    assert_eq!(backend(&mut bench, &syn(1)), POD_B, "no turn was lost");
}

#[test]
fn a_session_ends_900_seconds_after_its_last_packet() {
    let idle = u64::try_from(BALANCER_IDLE.as_nanos()).expect("fits");
    let mut bench = Bench::new(lab());
    backend(&mut bench, &syn(1));
    bench.wait(idle - 1);
    let answer = tcp((IP[POD_B], 8080), (CLIENT, 1), SYN_ACK);
    let seen = bench.sent(POD_B, &answer);
    assert_eq!(checked(seen.packet()).0, (VIP, 80), "the answer renews it as well");
    bench.wait(idle - 1);
    backend(&mut bench, &tcp((CLIENT, 1), (VIP, 80), ACK));
    bench.wait(idle);
    let late = tcp((CLIENT, 1), (VIP, 80), ACK);
    assert_eq!(bench.dropped_outside(&late), DropReason::NoConnection);
    let seen = bench.sent(POD_B, &answer);
    assert_eq!(checked(seen.packet()).0, (IP[POD_B], 8080));
    assert_eq!(backend(&mut bench, &syn(1)), POD_C, "a new flow takes the next turn");
}

#[test]
fn the_members_groups_judge_the_clients_address() {
    let mut lab = lab();
    let mut closed = group("sg-x", GroupKind::Advanced);
    closed.ingress = vec![rule(true, Some(Protocol::TCP), Some((8080, 8080)), "198.51.100.7/32")];
    lab.vpc.groups.push(closed);
    lab.enis[POD_B].groups = vec![1];
    lab.slbs[0].listeners[0].backends = vec![POD_B];
    let mut bench = Bench::new(lab);
    backend(&mut bench, &syn(1));
    bench.sent(POD_B, &tcp((IP[POD_B], 8080), (CLIENT, 1), SYN_ACK));
    let other = tcp((std::net::Ipv4Addr::new(198, 51, 100, 8), 1), (VIP, 80), SYN);
    assert_eq!(bench.dropped_outside(&other), DropReason::SecurityGroupIn);
    let owners: Vec<_> = bench.vpc.sessions(bench.now).map(|s| (s.owner, s.reply.src)).collect();
    let balancer = SessionOwner::Balancer { slb: 0, listener: 0, backend: POD_B };
    let eni = SessionOwner::Eni { eni: POD_B, direction: SgDirection::In };
    assert_eq!(owners, [(balancer, IP[POD_B]), (eni, IP[POD_B]), (balancer, IP[POD_B])]);
}

#[test]
fn pods_that_are_no_backend_can_be_clients_and_backends_cannot() {
    let mut bench = Bench::new(lab());
    let seen = bench.sent(POD_A, &tcp((IP[POD_A], 1), (VIP, 80), SYN));
    assert_eq!(checked(seen.packet()), ((IP[POD_A], 1), (IP[POD_B], 8080)));
    let seen = bench.sent(POD_B, &tcp((IP[POD_B], 8080), (IP[POD_A], 1), SYN_ACK));
    assert_eq!(seen.port, P_TRUNK_1);
    assert_eq!(checked(seen.packet()), ((VIP, 80), (IP[POD_A], 1)));
    let own = tcp((IP[POD_C], 1), (VIP, 80), SYN);
    assert_eq!(bench.dropped(POD_C, &own), DropReason::NoBackend);
    // Of another listener it may be.
    for _ in 0..2 {
        let seen = bench.sent(POD_C, &udp((IP[POD_C], 1), (VIP, 53), b"x"));
        assert_eq!(checked(seen.packet()), ((IP[POD_C], 1), (IP[POD_B], 5353)));
    }
}

#[test]
fn only_a_clients_packet_is_sent_on_to_a_backend() {
    let mut bench = Bench::new(lab());
    // A client with the load balancer's own address, and then an answer that comes from outside.
    backend(&mut bench, &tcp((VIP, 5), (VIP, 80), SYN));
    let answer = tcp((IP[POD_B], 8080), (VIP, 5), SYN_ACK);
    assert_eq!(bench.dropped_outside(&answer), DropReason::NoListener);
    // An answer that comes from outside is not given the load balancer's address.
    backend(&mut bench, &syn(1));
    let seen = bench.sent_outside(&tcp((IP[POD_C], 8080), (CLIENT, 1), SYN_ACK));
    assert_eq!(checked(seen.packet()).0, (IP[POD_C], 8080));
}

#[test]
fn answers_do_not_take_the_vpcs_routes() {
    let mut lab = lab();
    let cidr = "0.0.0.0/0".parse().expect("a range");
    lab.vpc.routes = vec![VpcRoute { cidr, eni: ETH0_1 }];
    let mut bench = Bench::new(lab);
    backend(&mut bench, &syn(1));
    let seen = bench.sent(POD_B, &tcp((IP[POD_B], 8080), (CLIENT, 1), SYN_ACK));
    assert_eq!(seen.port, P_OUTSIDE);
}

#[test]
fn two_addresses_in_front_of_one_backend_cannot_share_a_clients_port() {
    let mut lab = lab();
    lab.slbs[0].listeners[0].backends = vec![POD_B];
    let mut second = lab.slbs[0].clone();
    second.vip = std::net::Ipv4Addr::new(203, 0, 113, 9);
    lab.slbs.push(second);
    let mut bench = Bench::new(lab);
    backend(&mut bench, &syn(1));
    let clash = tcp((CLIENT, 1), (std::net::Ipv4Addr::new(203, 0, 113, 9), 80), SYN);
    assert_eq!(bench.dropped_outside(&clash), DropReason::FlowClash);
    bench.wait(900 * SECOND);
    assert_eq!(backend(&mut bench, &clash), POD_B);
    let seen = bench.sent(POD_B, &tcp((IP[POD_B], 8080), (CLIENT, 1), SYN_ACK));
    assert_eq!(checked(seen.packet()).0, (std::net::Ipv4Addr::new(203, 0, 113, 9), 80));
}

#[test]
fn a_full_table_is_a_named_drop() {
    let mut lab = lab();
    lab.limits.sessions = 2;
    let mut bench = Bench::new(lab);
    backend(&mut bench, &syn(1));
    assert_eq!(bench.dropped_outside(&syn(2)), DropReason::SessionTableFull);
}
