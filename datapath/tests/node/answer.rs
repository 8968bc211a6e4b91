//! What a node says itself: resets, echo replies, ICMP errors (spec IPVS-24 to IPVS-30, EGR-1 to
//! EGR-6).

use crate::common::*;
use datapath::verdict::DropReason;

const SECOND: u64 = 1_000_000_000;

fn bench() -> Bench {
    Bench::new(lab_switched(""))
}

#[test]
fn a_port_without_a_service_is_refused_by_the_vip() {
    let mut bench = bench();
    let (reason, answer) = bench.refused(CALI_A, &tcp((A, 1), (FAR, 81), SYN));
    assert_eq!(reason, DropReason::NoService);
    assert_eq!(answer.to_string(), "tcp RA 192.168.0.10:81 > 10.0.4.27:1 ttl 64");
    assert_eq!(answer.id, 0);
    assert_eq!(bench.flows(), [""; 0], "the reset ends the flow");
    let ask = udp((A, 1), (FAR, 54), b"?");
    let (reason, answer) = bench.refused(CALI_A, &ask);
    assert_eq!(reason, DropReason::NoService);
    assert_eq!(answer.to_string(), "icmp 3/3 192.168.0.10:0 > 10.0.4.27:0 ttl 64");
    assert_eq!((answer.tos, answer.data), (0xc0, ask));
    let expected = "udp 10.0.4.27:1 > 192.168.0.10:54 | udp 192.168.0.10:54 > 10.0.4.27:1";
    assert_eq!(bench.flows(), [expected], "the node's stack has seen it");
}

#[test]
fn a_vip_knows_no_other_protocol_and_answers_nothing_with_a_wrong_checksum() {
    let mut bench = bench();
    let esp = with_ip(udp((A, 1), (FAR, 2), b"esp"), |ip| ip.protocol = etherparse::IpNumber(50));
    let (reason, answer) = bench.refused(CALI_A, &esp);
    assert_eq!(reason, DropReason::NoService);
    assert_eq!(answer.to_string(), "icmp 3/2 192.168.0.10:0 > 10.0.4.27:0 ttl 64");
    assert_eq!((answer.tos, answer.data), (0xc0, esp.clone()));
    let (_, answer) = bench.refused(
        CALI_A,
        &with_ip(esp, |ip| {
            ip.dscp = etherparse::IpDscp::try_new(0x2e >> 2).expect("a DSCP");
            ip.ecn = etherparse::IpEcn::TWO;
        }),
    );
    assert_eq!(answer.tos, 0xce, "precedence is its own, the rest as asked");
    let messages = [tcp((A, 1), (FAR, 81), SYN), udp((A, 1), (FAR, 54), b"?"), ping(A, FAR, 9)];
    for mut message in messages {
        if let Some(last) = message.last_mut() {
            *last ^= 1;
        }
        assert_eq!(bench.dropped(CALI_A, &message), DropReason::BadChecksum);
    }
}

#[test]
fn a_service_without_endpoints_is_unreachable() {
    let mut bench = bench();
    for packet in [tcp((A, 1), (EMPTY, 80), SYN), udp((A, 1), (EMPTY, 53), b"?")] {
        let (reason, answer) = bench.refused(CALI_A, &packet);
        assert_eq!(reason, DropReason::NoDestination);
        assert_eq!(answer.to_string(), "icmp 3/3 192.168.0.14:0 > 10.0.4.27:0 ttl 64");
        assert_eq!(answer.data, packet);
    }
    assert_eq!(bench.flows(), [""; 0]);
}

#[test]
fn a_vip_answers_echo_or_rejects_it() {
    let mut bench = bench();
    let seen = bench.sent(CALI_A, &ping(A, FAR, 9));
    assert_eq!(seen.port, CALI_A);
    assert_eq!(seen.view().to_string(), "icmp 0/0 192.168.0.10:9 > 10.0.4.27:0 ttl 64");
    assert_eq!(seen.view().data, b"ping");
    assert_eq!((bench.node.connections().len(), bench.flows().len()), (0, 1));
    let mut bench = Bench::new(lab_switched("vipPing: reject"));
    let (reason, answer) = bench.refused(CALI_A, &ping(A, FAR, 9));
    assert_eq!(reason, DropReason::VipPingRejected);
    assert_eq!(answer.to_string(), "icmp 3/3 192.168.0.10:0 > 10.0.4.27:0 ttl 64");
    for packet in [tcp((A, 1), (FAR, 81), SYN), udp((A, 1), (FAR, 54), b"?")] {
        let (reason, answer) = bench.refused(CALI_A, &packet);
        assert_eq!((reason, answer.kind.as_str()), (DropReason::NoService, "icmp 3/3"));
    }
    assert_eq!(bench.flows(), [""; 0], "rejected before it is confirmed");
    let (_, answer) = bench.refused(CALI_A, &tcp((A, 1), (FAR, 80), ACK));
    assert_eq!(answer.kind, "tcp R", "a service's port is not rejected");
    let (_, answer) = bench.refused(CALI_A, &tcp((A, 1), (FAR, 81), SYN_ACK));
    assert_eq!(answer.kind, "tcp R", "only a new flow is rejected");
}

#[test]
fn the_node_itself_is_answered_by_vips_too() {
    let mut bench = bench();
    let lines = [
        (tcp((N1, 1), (FAR, 81), SYN), "tcp RA 192.168.0.10:81 > 10.0.4.20:1 ttl 64"),
        (tcp((N1, 1), (FAR, 80), ACK), "tcp R 192.168.0.10:80 > 10.0.4.20:1 ttl 64"),
        (udp((N1, 1), (FAR, 54), b"?"), "icmp 3/3 192.168.0.10:0 > 10.0.4.20:0 ttl 64"),
        (tcp((N1, 2), (EMPTY, 80), SYN), "icmp 3/3 192.168.0.14:0 > 10.0.4.20:0 ttl 64"),
        (ping(N1, FAR, 3), "icmp 0/0 192.168.0.10:3 > 10.0.4.20:0 ttl 64"),
    ];
    for (packet, expected) in lines {
        let seen = bench.sent(HOST, &packet);
        assert_eq!((seen.port, seen.view().to_string().as_str()), (HOST, expected));
        assert_eq!(seen.view().dst_mac, bench.lab.nodes[0].host_mac);
    }
    let far = with_ttl(udp((N1, 1), (FAR, 53), b"?"), 1);
    let (reason, answer) = bench.refused(HOST, &far);
    assert_eq!((reason, answer.from()), (DropReason::TtlExceeded, FAR));
}

#[test]
fn ttl_one_is_exceeded_at_the_vip_or_at_the_node() {
    let mut bench = bench();
    let request = with_ttl(tcp((A, 1), (FAR, 80), SYN), 1);
    let (reason, answer) = bench.refused(CALI_A, &request);
    assert_eq!(reason, DropReason::TtlExceeded);
    assert_eq!(answer.to_string(), "icmp 11/0 192.168.0.10:0 > 10.0.4.27:0 ttl 64");
    assert_eq!((answer.tos, answer.data), (0xc0, request));
    let request = with_ttl(tcp((A, 1), (B, 80), SYN), 1);
    let (_, answer) = bench.refused(CALI_A, &request);
    assert_eq!(answer.to_string(), "icmp 11/0 10.0.4.20:0 > 10.0.4.27:0 ttl 64");
    assert_eq!(answer.data, request);
    let seen = bench.sent(CALI_A, &with_ttl(tcp((A, 1), (N1, 22), SYN), 1));
    assert_eq!((seen.port, seen.view().ttl), (HOST, 1), "delivery lowers nothing");
}

#[test]
fn a_packet_above_the_mtu_is_too_big() {
    let mut bench = bench();
    let quoted_ttl = |answer: &View| answer.data[8];
    let big = |dst: Addr| udp((A, 1), dst, &[7; 1_600]);
    let (reason, answer) = bench.refused(CALI_A, &big((B, 53)));
    assert_eq!(reason, DropReason::MtuExceeded);
    assert_eq!(answer.to_string(), "icmp 3/4 10.0.4.20:0 > 10.0.4.27:0 ttl 64");
    assert_eq!(quoted_ttl(&answer), 64, "forwarding has not lowered it yet");
    assert_eq!(answer.data.len() + 28, 576);
    let (reason, answer) = bench.refused(CALI_A, &big((NEAR, 53)));
    assert_eq!(reason, DropReason::MtuExceeded);
    assert_eq!(answer.to_string(), "icmp 3/4 192.168.0.11:0 > 10.0.4.27:0 ttl 64");
    assert_eq!(quoted_ttl(&answer), 63, "ipvs has");
    let seen = bench.sent(CALI_A, &big((B, 53)));
    assert_eq!(seen.bytes[14 + 20 + 6..][..2], 1500_u16.to_be_bytes(), "the MTU that fits");
    let exact = bench.sent(CALI_A, &udp((A, 1), (B, 53), &[7; 1_472]));
    assert_eq!(exact.port, CALI_B);
}

#[test]
fn errors_are_not_answered_with_errors() {
    let mut bench = bench();
    let error = with_ttl(unreachable(A, B, &udp((B, 1), (A, 2), b"x")), 1);
    assert_eq!(bench.dropped(CALI_A, &error), DropReason::TtlExceeded);
    let query = with_ttl(ping(A, B, 1), 1);
    assert_eq!(bench.refused(CALI_A, &query).1.kind, "icmp 11/0");
}

#[test]
fn errors_are_limited_by_receiver() {
    let mut bench = Bench::new(lab_with("switches: {icmpRatelimit: 1000}"));
    let answered = |bench: &mut Bench, port, ip| {
        let expired = with_ttl(udp((ip, 1), (C, 2), b"x"), 1);
        (0..10).filter(|_| !bench.packet(port, &expired).is_empty()).count()
    };
    assert_eq!(answered(&mut bench, CALI_A, A), 6, "a burst of six");
    assert_eq!(answered(&mut bench, CALI_A, A), 0);
    assert_eq!(answered(&mut bench, CALI_B, B), 6, "others have their own");
    bench.wait(SECOND);
    assert_eq!(answered(&mut bench, CALI_A, A), 1, "one a second");
    bench.wait(60 * SECOND);
    assert_eq!(answered(&mut bench, CALI_A, A), 6);
    // Resets and echo replies are not errors.
    let resets = (0..10).filter(|_| !bench.packet(CALI_A, &tcp((A, 1), (FAR, 81), SYN)).is_empty());
    assert_eq!(resets.count(), 10);
}

#[test]
fn answers_are_counted_as_made() {
    use datapath::element::Element;
    let mut bench = bench();
    bench.packet(CALI_A, &tcp((A, 1), (FAR, 81), SYN));
    bench.packet(CALI_A, &ping(A, FAR, 1));
    let ledger = bench.node.ledger();
    // The reset, the echo reply and the ARP request for a.
    assert_eq!((ledger.made, ledger.dropped.of(DropReason::NoService)), (3, 1));
}
