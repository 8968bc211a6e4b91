//! ARP and neighbours of a node (spec NEIGH).

use std::net::Ipv4Addr;

use crate::common::*;
use datapath::element::Element;
use datapath::journey::PortId;
use datapath::node::{ETH0, ETH1, NeighbourState};
use datapath::verdict::DropReason;
use datapath::wire::Mac;
use datapath::wire::arp::{Arp, Operation};

const SECOND: u64 = 1_000_000_000;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 4, 253);

/// A node whose ARP requests nobody answers by himself.
fn deaf(keys: &str) -> Bench {
    let mut bench = Bench::new(lab_with(keys));
    bench.answers = false;
    bench
}

/// The node's answer to a request that comes in by `port`.
fn answer(bench: &mut Bench, port: PortId, sender: Ipv4Addr, target: Ipv4Addr) -> Option<Arp> {
    let request = who_has((bench.peer(port), sender), target);
    let seen = bench.put(port, 0, &request);
    assert!(seen.len() <= 1, "{seen:?}");
    seen.first().map(|seen| {
        assert_eq!((seen.port, seen.queue), (port, 0));
        seen.arp().expect("an ARP message")
    })
}

/// What a frame asks for: sender, target, source MAC.
fn question(seen: &Seen) -> (PortId, Ipv4Addr, Ipv4Addr, Mac) {
    let arp = seen.arp().expect("an ARP message");
    assert_eq!((arp.operation, seen.queue), (Operation::Request, 0));
    assert_eq!(seen.bytes[..6], [0xff; 6], "to everyone, untagged");
    assert_eq!(seen.bytes.len(), 42);
    (seen.port, arp.sender_ip, arp.target_ip, arp.sender_mac)
}

/// An ARP reply: `ip` is at the far end of `port`.
fn is_at(bench: &mut Bench, port: PortId, ip: Ipv4Addr) -> Vec<Seen> {
    let (mac, own) = (bench.peer(port), bench.mac(port));
    let reply = Arp {
        operation: Operation::Reply,
        sender_mac: mac,
        sender_ip: ip,
        target_mac: own,
        target_ip: N1,
    };
    bench.put(port, 0, &reply.frame(own, mac))
}

#[test]
fn the_node_answers_for_itself_and_for_vips_on_both_enis() {
    let mut bench = deaf("");
    for port in ENI_PORTS {
        for target in [N1, FAR, FAR_XIP, EMPTY, LOCAL_XIP] {
            let arp = answer(&mut bench, port, GATEWAY, target).expect("an answer");
            assert_eq!(arp.operation, Operation::Reply);
            assert_eq!((arp.sender_ip, arp.sender_mac), (target, bench.mac(port)));
            assert_eq!((arp.target_ip, arp.target_mac), (GATEWAY, bench.peer(port)));
        }
        let trunk = Ipv4Addr::new(10, 0, 4, 120);
        for target in [A, B, C, N2, trunk, GATEWAY, Ipv4Addr::new(169, 254, 1, 1)] {
            assert_eq!(answer(&mut bench, port, GATEWAY, target), None, "{target}");
        }
    }
    for target in [A, B, Ipv4Addr::new(169, 254, 1, 1)] {
        assert_eq!(answer(&mut bench, CALI_A, A, target), None, "{target}");
    }
}

#[test]
fn strict_arp_answers_for_the_node_only() {
    let mut bench = deaf("switches: {strictArp: true}");
    for port in ENI_PORTS {
        assert!(answer(&mut bench, port, GATEWAY, N1).is_some());
        assert_eq!(answer(&mut bench, port, GATEWAY, FAR), None);
    }
    assert_eq!(answer(&mut bench, CALI_A, A, N1), None, "a cali has no address");
}

#[test]
fn next_hops_are_asked_for_untagged_by_the_interface_that_leads_there() {
    let mut bench = deaf("switches: {masqueradeRandomFully: false}");
    let (eth0, eth1) = (bench.mac(ETH0), bench.mac(ETH1));
    let cases = [
        (CALI_A, tcp((A, 1), (D, 80), SYN), (ETH1, N1, GATEWAY, eth1)),
        (HOST, tcp((N1, 1), (D, 80), SYN), (ETH0, N1, D, eth0)),
        (HOST, tcp((N1, 1), (C, 80), SYN), (ETH0, N1, GATEWAY, eth0)),
        (HOST, tcp((N1, 1), (A, 80), SYN), (CALI_A, N1, A, bench.mac(CALI_A))),
        (CALI_A, tcp((A, 1), (B, 80), SYN), (CALI_B, N1, B, bench.mac(CALI_B))),
    ];
    for (port, packet, expected) in cases {
        let seen = bench.packet(port, &packet);
        assert_eq!(seen.len(), 1);
        assert_eq!(question(&seen[0]), expected);
    }
}

#[test]
fn a_pod_is_asked_in_the_name_of_the_vip_that_answers_it() {
    for (strict, sender) in [("false", NEAR), ("true", N1)] {
        let mut bench = deaf(&format!("switches: {{strictArp: {strict}}}"));
        bench.packet(CALI_A, &tcp((A, 1), (NEAR, 80), SYN));
        let seen = bench.packet(CALI_B, &tcp((B, 8080), (A, 1), SYN_ACK));
        assert_eq!(question(&seen[0]), (CALI_A, sender, A, bench.mac(CALI_A)));
    }
}

#[test]
fn waiting_packets_leave_in_order_and_the_oldest_makes_room() {
    let mut bench = deaf("limits: {neighbourQueue: 3}");
    assert_eq!(bench.packet(CALI_A, &udp((A, 1), (B, 1), b"x")).len(), 1, "one request");
    for port in 2..=3 {
        assert_eq!(bench.packet(CALI_A, &udp((A, port), (B, 1), b"x")), []);
    }
    assert_eq!(bench.node.held(), 3);
    for port in 4..=5 {
        let packet = udp((A, port), (B, 1), b"x");
        assert_eq!(bench.dropped(CALI_A, &packet), DropReason::NeighbourQueueFull);
    }
    assert_eq!(bench.node.held(), 3);
    let left: Vec<u16> = is_at(&mut bench, CALI_B, B).iter().map(|s| s.view().src.1).collect();
    assert_eq!(left, [3, 4, 5]);
    assert_eq!(bench.node.held(), 0);
    assert_eq!(bench.packet(CALI_A, &udp((A, 6), (B, 1), b"x"))[0].view().src.1, 6);
}

#[test]
fn three_requests_a_second_apart_then_the_packets_are_dropped() {
    let mut bench = deaf("switches: {icmpRatelimit: 0}");
    is_at(&mut bench, CALI_A, A);
    let own = who_has((bench.peer(CALI_A), A), N1);
    bench.put(CALI_A, 0, &own);
    let packet = tcp((A, 1), (B, 80), SYN);
    assert_eq!(bench.packet(CALI_A, &packet).len(), 1);
    for _ in 0..2 {
        assert_eq!(bench.wait(SECOND - 1), []);
        let again = bench.wait(1);
        assert_eq!(question(&again[0]).2, B);
    }
    assert_eq!(bench.wait(SECOND - 1), []);
    let seen = bench.wait(1);
    assert_eq!(bench.reason(), DropReason::NeighbourFailed);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].port, CALI_A);
    assert_eq!(seen[0].view().to_string(), "icmp 3/1 10.0.4.20:0 > 10.0.4.27:0 ttl 64");
    assert_eq!(bench.node.held(), 0);
    assert_eq!(bench.node.neighbours().count(), 1, "the neighbour is forgotten");
    assert_eq!(question(&bench.packet(CALI_A, &packet)[0]).2, B, "and asked for again");
}

#[test]
fn a_request_for_us_tells_who_asks() {
    let mut bench = deaf("");
    bench.packet(CALI_A, &udp((A, 1), (B, 1), b"x"));
    let request = who_has((bench.peer(CALI_B), B), FAR);
    let seen = bench.put(CALI_B, 0, &request);
    assert_eq!(seen.len(), 2, "the answer, and what waited");
    assert_eq!(seen[1].view().dst, (B, 1));
}

#[test]
fn nothing_is_learned_from_what_was_not_asked() {
    let mut bench = deaf("");
    is_at(&mut bench, ETH0, D);
    let others = who_has((bench.peer(ETH0), D), C);
    bench.put(ETH0, 0, &others);
    let probe = who_has((bench.peer(ETH0), Ipv4Addr::UNSPECIFIED), N1);
    assert_eq!(bench.put(ETH0, 0, &probe).len(), 1, "answered, but there is nobody to learn");
    assert_eq!(bench.node.neighbours().count(), 0);
}

#[test]
fn a_reply_changes_a_neighbour_that_is_known() {
    let mut bench = deaf("");
    let moved = Mac([2, 9, 9, 9, 9, 9]);
    let known = who_has((bench.peer(CALI_B), B), N1);
    bench.put(CALI_B, 0, &known);
    let own = bench.mac(CALI_B);
    let reply = Arp {
        operation: Operation::Reply,
        sender_mac: moved,
        sender_ip: B,
        target_mac: own,
        target_ip: N1,
    };
    bench.put(CALI_B, 0, &reply.frame(own, moved));
    let neighbours: Vec<_> = bench.node.neighbours().collect();
    assert_eq!(neighbours, [(CALI_B, B, NeighbourState::Reachable(moved))]);
    let seen = bench.packet(CALI_A, &udp((A, 1), (B, 1), b"x"));
    assert_eq!(seen[0].view().dst_mac, moved);
}

#[test]
fn a_full_table_of_neighbours_is_a_named_drop() {
    let mut bench = deaf("limits: {neighbours: 1}");
    bench.packet(HOST, &tcp((N1, 1), (A, 80), SYN));
    let packet = tcp((N1, 1), (B, 80), SYN);
    assert_eq!(bench.dropped(HOST, &packet), DropReason::NeighbourTableFull);
}

#[test]
fn bad_arp_is_a_named_drop() {
    let mut bench = deaf("");
    let good = who_has((bench.peer(ETH0), GATEWAY), N1);
    assert_eq!(bench.put(ETH0, 0, &good[..41]), []);
    assert_eq!(bench.reason(), DropReason::BadArp);
    let mut wrong = good;
    wrong[15] = 6;
    assert_eq!(bench.put(ETH0, 0, &wrong), []);
    assert_eq!(bench.reason(), DropReason::BadArp);
}

/// With `permanentNeighbours` no next hop is asked for, and no ARP message changes one (spec
/// NEIGH-9).
#[test]
fn given_neighbours_are_never_asked_for_and_never_change() {
    let mut bench = deaf("switches: {permanentNeighbours: true}");
    let cases = [
        (CALI_A, tcp((A, 1), (D, 80), SYN), ETH1),
        (HOST, tcp((N1, 1), (D, 80), SYN), ETH0),
        (HOST, tcp((N1, 1), (C, 80), SYN), ETH0),
        (CALI_A, tcp((A, 1), (B, 80), SYN), CALI_B),
    ];
    for (port, packet, leaves) in cases {
        let seen = bench.packet(port, &packet);
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].port, seen[0].view().dst_mac), (leaves, bench.peer(leaves)));
    }
    let before: Vec<_> = bench.node.neighbours().collect();
    let (own, liar) = (bench.mac(CALI_B), Mac([2, 9, 9, 9, 9, 9]));
    let lie = Arp {
        operation: Operation::Reply,
        sender_mac: liar,
        sender_ip: B,
        target_mac: own,
        target_ip: N1,
    };
    bench.put(CALI_B, 0, &lie.frame(own, liar));
    assert_eq!(bench.node.neighbours().collect::<Vec<_>>(), before);
}
