//! Which frames a node takes (spec ING).

use crate::common::*;
use datapath::journey::{PortId, Step};
use datapath::node::{ETH0, ETH1};
use datapath::verdict::DropReason;
use datapath::wire::{Mac, ethernet};

fn bench() -> Bench {
    Bench::new(lab_switched(""))
}

/// Why a frame is dropped; nothing comes out.
fn dropped(bench: &mut Bench, port: PortId, bytes: &[u8]) -> DropReason {
    assert_eq!(bench.put(port, 0, bytes), []);
    bench.reason()
}

#[test]
fn frames_for_other_macs_are_dropped() {
    let mut bench = bench();
    let packet = tcp((D, 1), (A, 80), SYN);
    let ports = [(ETH0, ETH1), (ETH1, ETH0), (CALI_A, CALI_B), (HOST, ETH0)];
    for (port, other) in ports {
        let bytes = frame(bench.mac(other), Mac([2; 6]), None, ethernet::IPV4, &packet);
        assert_eq!(dropped(&mut bench, port, &bytes), DropReason::OtherHost);
    }
    let pods_own = bench.lab.pods[POD_A].mac;
    let bytes = frame(pods_own, Mac([2; 6]), Some(101), ethernet::IPV4, &packet);
    assert_eq!(dropped(&mut bench, ETH1, &bytes), DropReason::OtherHost, "a member's own MAC");
}

#[test]
fn packets_in_group_frames_are_not_forwarded() {
    let mut bench = bench();
    for mac in [Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1])] {
        let bytes = frame(mac, Mac([2; 6]), None, ethernet::IPV4, &tcp((D, 1), (A, 80), SYN));
        assert_eq!(dropped(&mut bench, ETH0, &bytes), DropReason::Multicast);
    }
}

#[test]
fn short_frames_are_runts() {
    let mut bench = bench();
    for len in [0, 1, 13] {
        assert_eq!(dropped(&mut bench, ETH0, &vec![0; len]), DropReason::Runt);
    }
}

#[test]
fn other_ethertypes_are_named_drops() {
    let mut bench = bench();
    for (ethertype, reason) in [
        (ethernet::IPV6, DropReason::Ipv6),
        (0x88cc, DropReason::UnknownEtherType),
        (60, DropReason::UnknownEtherType),
        (ethernet::QINQ, DropReason::UnexpectedTag),
    ] {
        let bytes = frame(bench.mac(ETH0), Mac([2; 6]), None, ethertype, &[0; 60]);
        assert_eq!(dropped(&mut bench, ETH0, &bytes), reason);
    }
}

#[test]
fn tags_are_taken_off_on_the_trunk_only() {
    let mut bench = bench();
    let packet = tcp((D, 1), (A, 80), SYN);
    for port in [ETH0, CALI_B, HOST] {
        let bytes = bench.framed(port, Some(101), &packet);
        assert_eq!(dropped(&mut bench, port, &bytes), DropReason::UnexpectedTag);
    }
    let seen = bench.tagged(101, &packet);
    assert_eq!((seen[0].port, seen[0].view().vid), (CALI_A, None));
    assert!(bench.steps().contains(&Step::TagPopped(101)));
}

#[test]
fn a_second_tag_is_not_taken_off() {
    let mut bench = bench();
    let packet = tcp((D, 1), (A, 80), SYN);
    let inner = [&[0x00, 0x65, 0x08, 0x00], &packet[..]].concat();
    for ethertype in [ethernet::VLAN, ethernet::QINQ] {
        let bytes = frame(bench.mac(ETH1), Mac([2; 6]), Some(101), ethertype, &inner);
        assert_eq!(dropped(&mut bench, ETH1, &bytes), DropReason::UnexpectedTag);
    }
    let service = frame(bench.mac(ETH1), Mac([2; 6]), None, ethernet::QINQ, &inner);
    assert_eq!(dropped(&mut bench, ETH1, &service), DropReason::UnexpectedTag);
}

#[test]
fn a_priority_tag_is_accepted_everywhere() {
    let mut bench = bench();
    let cases = [
        (ETH0, tcp((N2, 1), (A, 80), SYN)),
        (ETH1, tcp((D, 1), (A, 80), SYN)),
        (CALI_B, tcp((B, 1), (A, 80), SYN)),
        (HOST, tcp((N1, 1), (A, 80), SYN)),
    ];
    for (port, packet) in cases {
        let bytes = bench.framed(port, Some(0), &packet);
        let seen = bench.put(port, 0, &bytes);
        assert_eq!(seen.len(), 1, "{port:?}: {:?}", bench.hops);
        assert_eq!((seen[0].port, seen[0].view().vid), (CALI_A, None));
    }
}

#[test]
fn bytes_behind_the_packet_are_not_sent_on() {
    let mut bench = bench();
    let packet = tcp((A, 1), (B, 80), SYN);
    for (port, from) in [(CALI_A, A), (ETH0, N2)] {
        let packet = tcp((from, 1), (B, 80), SYN);
        let padded = [&packet[..], b"padding"].concat();
        let seen = bench.sent(port, &padded);
        assert_eq!(seen.bytes.len(), 14 + packet.len());
    }
    let padded = [&packet[..], &[0; 20]].concat();
    assert_eq!(bench.tagged(101, &padded)[0].bytes.len(), 14 + packet.len());
}

#[test]
fn broken_headers_are_named_drops() {
    let mut bench = bench();
    let good = tcp((A, 1), (B, 80), SYN);
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        packet
    };
    let cases = [
        (broken(&|p| p.truncate(19)), DropReason::BadHeader),
        (broken(&|p| p[0] = 0x65), DropReason::BadHeader),
        (broken(&|p| p[0] = 0x44), DropReason::BadHeader),
        (broken(&|p| p.truncate(30)), DropReason::BadHeader),
        (broken(&|p| p[3] = 10), DropReason::BadHeader),
        (broken(&|p| p[10] ^= 1), DropReason::BadChecksum),
        (broken(&|p| p[8] = 3), DropReason::BadChecksum),
        (with_ip(good.clone(), |ip| ip.total_len = 30), DropReason::BadTransport),
        (with_options(&good), DropReason::IpOptions),
    ];
    for (packet, reason) in cases {
        let bytes = bench.framed(CALI_A, None, &packet);
        assert_eq!(dropped(&mut bench, CALI_A, &bytes), reason, "{packet:02x?}");
    }
    assert_eq!(bench.flows(), [""; 0]);
}

/// The packet with four bytes of no-operation options.
fn with_options(packet: &[u8]) -> Vec<u8> {
    let (mut header, payload) = etherparse::Ipv4Header::from_slice(packet).expect("a header");
    header.options = [1; 4].as_slice().try_into().expect("options");
    header.total_len += 4;
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], payload].concat()
}

#[test]
fn packets_for_the_node_go_to_its_own_stack() {
    let mut bench = bench();
    for (port, from) in [(ETH0, N2), (CALI_A, A), (ETH1, D)] {
        let seen = bench.sent(port, &tcp((from, 1), (N1, 22), SYN));
        let view = seen.view();
        assert_eq!((seen.port, view.ttl), (HOST, 64));
        assert_eq!(view.dst_mac, bench.lab.nodes[0].host_mac);
        assert_eq!(view.src_mac, bench.mac(HOST));
    }
}
