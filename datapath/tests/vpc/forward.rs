//! Entry, attribution, ARP, routing and checks of the VPC.

use crate::support::*;
use datapath::element::{Element, Place};
use datapath::journey::{Fate, PortId, Step};
use datapath::lab::model::VpcRoute;
use datapath::port::{Buffer, Heap};
use datapath::verdict::DropReason;
use datapath::vpc::{Ports, VpcPort};
use datapath::wire::Mac;
use datapath::wire::arp::{Arp, Operation};
use std::net::Ipv4Addr;

fn request(from: usize, target: Ipv4Addr) -> Arp {
    Arp {
        operation: Operation::Request,
        sender_mac: mac(1, 0),
        sender_ip: IP[from],
        target_mac: Mac::default(),
        target_ip: target,
    }
}

/// The message in a frame of `tag`.
fn arp_frame(arp: Arp, tag: Option<u16>) -> Vec<u8> {
    frame(Mac::BROADCAST, mac(1, 0), tag, 0x0806, &arp.frame(GATEWAY, GATEWAY)[14..])
}

#[test]
fn ports_are_numbered_by_node_and_then_by_host() {
    let ports = Ports::of(&lab());
    assert_eq!(ports.count(), 6);
    assert_eq!(ports.port_of_primary(1), P_ETH0_2);
    assert_eq!(ports.port_of_trunk(1), P_TRUNK_2);
    assert_eq!(ports.port_of_outside(1), P_HEALTH);
    let all: Vec<_> = (0..7).map(|p| ports.at(PortId(p))).collect();
    let expected = [
        Some(VpcPort::Primary(0)),
        Some(VpcPort::Trunk(0)),
        Some(VpcPort::Primary(1)),
        Some(VpcPort::Trunk(1)),
        Some(VpcPort::Outside(0)),
        Some(VpcPort::Outside(1)),
        None,
    ];
    assert_eq!(all, expected);
}

#[test]
fn queues_follow_the_order_of_vids() {
    let lab = lab();
    assert_eq!(lab.trunk_members(1), [(vid(7), POD_B), (vid(300), POD_C)]);
    assert_eq!(lab.trunk_queue_count(1), 3);
    let queues = [(0, 50, 1), (0, 100, 2), (1, 7, 1), (1, 300, 2), (0, 7, 0), (1, 299, 0)];
    for (node, id, queue) in queues {
        assert_eq!(lab.trunk_queue(node, vid(id)), queue, "node {node} VID {id}");
    }
}

#[test]
fn arp_is_answered_with_the_gateways_mac_in_the_same_vlan() {
    for (port, tag, eni) in [(P_ETH0_1, None, ETH0_1), (P_TRUNK_1, Some(100), POD_A)] {
        let mut bench = Bench::new(lab());
        let ask = request(eni, IP[POD_C]);
        let seen = bench.send(port, &arp_frame(ask, tag));
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].port, seen[0].tag()), (port, tag));
        assert_eq!(seen[0].queue, if tag.is_some() { 2 } else { 0 });
        assert_eq!((seen[0].dst(), seen[0].src()), (mac(1, 0), GATEWAY));
        let answer = Arp::parse(seen[0].packet()).expect("an ARP message");
        assert_eq!(answer, ask.answer(GATEWAY));
        let ledger = bench.vpc.ledger();
        assert_eq!((ledger.received, ledger.made, ledger.sent, ledger.delivered), (1, 1, 1, 1));
        assert_eq!(bench.hops.len(), 2);
        assert_eq!(bench.hops[0].fate, Fate::Delivered);
        assert_eq!(bench.hops[1].arrival, None);
        assert!(matches!(bench.hops[1].fate, Fate::Sent(s) if s.port == port && s.vid == tag));
    }
}

#[test]
fn arp_for_ones_own_address_gratuitous_and_replies_are_absorbed() {
    let own = request(ETH0_1, IP[ETH0_1]);
    let gratuitous = Arp { sender_ip: IP[POD_B], ..request(POD_B, IP[POD_B]) };
    let reply = Arp { operation: Operation::Reply, ..request(ETH0_1, IP[POD_B]) };
    let probe = Arp { sender_ip: Ipv4Addr::UNSPECIFIED, ..own };
    for message in [own, gratuitous, reply, probe] {
        let mut bench = Bench::new(lab());
        assert_eq!(bench.send(P_ETH0_1, &arp_frame(message, None)), []);
        assert_eq!(bench.vpc.ledger().delivered, 1);
    }
}

#[test]
fn arp_without_a_buffer_and_bad_arp_are_named_drops() {
    let mut bench = Bench::new(lab());
    let good = arp_frame(request(ETH0_1, IP[POD_B]), None);
    assert_eq!(bench.send(P_ETH0_1, &good[..40]), []);
    assert_eq!(bench.reason(), DropReason::BadArp);
    bench.out.blanks = Vec::new();
    assert_eq!(bench.send(P_ETH0_1, &good), []);
    assert_eq!(bench.reason(), DropReason::NoBuffer);
    bench.out.blanks = vec![Heap::new(&[9; 60])];
    assert_eq!(bench.send(P_ETH0_1, &good)[0].bytes.len(), 42);
    // A used blank gets its headroom back.
    let mut used = Heap::new(&[9; 60]);
    assert!(used.grow_front(62));
    bench.out.blanks = vec![used];
    let tagged = arp_frame(request(POD_A, IP[POD_B]), Some(100));
    assert_eq!(bench.send(P_TRUNK_1, &tagged)[0].bytes.len(), 46);
}

#[test]
fn outside_hosts_are_answered_too() {
    let mut bench = Bench::new(lab());
    let ask = Arp { sender_ip: CLIENT, ..request(ETH0_1, Ipv4Addr::new(198, 51, 100, 1)) };
    assert_eq!(bench.send(P_OUTSIDE, &arp_frame(ask, None)).len(), 1);
    let own = Arp { sender_ip: Ipv4Addr::UNSPECIFIED, target_ip: CLIENT, ..ask };
    assert_eq!(bench.send(P_OUTSIDE, &arp_frame(own, None)), []);
}

#[test]
fn a_members_frame_loses_its_tag_and_gets_the_receivers() {
    let mut bench = Bench::new(lab());
    let packet = tcp((IP[POD_A], 1000), (IP[POD_C], 80), SYN);
    let seen = bench.sent(POD_A, &packet);
    assert_eq!((seen.port, seen.queue, seen.tag()), (P_TRUNK_2, 2, Some(300)));
    assert_eq!((seen.dst(), seen.src()), (mac(2, 1), GATEWAY));
    assert_eq!(seen.packet(), packet, "not a byte of the packet changes (spec VPC-19)");
    let hop = &bench.hops[0];
    assert_eq!(hop.arrival.map(|a| (a.port, a.vid)), Some((P_TRUNK_1, Some(100))));
    assert!(matches!(hop.fate, Fate::Sent(s) if s.port == P_TRUNK_2 && s.vid == Some(300)
        && s.fingerprint == datapath::journey::fingerprint(&seen.bytes)
        && s.tuple == hop.arrival.and_then(|a| a.tuple)));
    let steps: Vec<_> =
        bench.steps().iter().filter(|s| !matches!(s, Step::SecurityGroup { .. })).collect();
    let expected = [
        &Step::TagPopped(100),
        &Step::SendingEni(POD_A),
        &Step::VSwitchRoute(0),
        &Step::ReceivingEni(POD_C),
        &Step::TagPushed(vid(300)),
    ];
    assert_eq!(steps, expected);
    // To the other vSwitch, to an eth0, to a trunk, and to a pod of the same node.
    let to = [(POD_B, P_TRUNK_2, 1, Some(7)), (ETH0_2, P_ETH0_2, 0, None)];
    let more = [(TRUNK_1, P_TRUNK_1, 0, None), (POD_D, P_TRUNK_1, 1, Some(50))];
    for (eni, port, queue, tag) in to.into_iter().chain(more) {
        let seen = bench.sent(POD_A, &udp((IP[POD_A], 1), (IP[eni], 2), b"x"));
        assert_eq!((seen.port, seen.queue, seen.tag()), (port, queue, tag), "to ENI {eni}");
    }
    assert_eq!(bench.vpc.eni_counters(POD_A).map(|c| c.frames_out), Some(5));
    assert_eq!(bench.vpc.eni_counters(POD_D).map(|c| c.frames_in), Some(1));
}

#[test]
fn tags_that_mean_nothing_are_named_drops() {
    let packet = udp((IP[POD_A], 1), (IP[POD_B], 2), b"x");
    let double = [&[0x81, 0, 0, 5, 8, 0], &packet[..]].concat();
    let cases = [
        (P_TRUNK_1, ip_frame(Some(7), &packet), DropReason::UnknownVid),
        (P_TRUNK_1, ip_frame(Some(0), &packet), DropReason::UnknownVid),
        (P_TRUNK_1, ip_frame(Some(4095), &packet), DropReason::UnknownVid),
        (P_ETH0_1, ip_frame(Some(100), &packet), DropReason::UnexpectedTag),
        (P_ETH0_1, ip_frame(Some(0), &packet), DropReason::UnexpectedTag),
        (P_OUTSIDE, ip_frame(Some(100), &packet), DropReason::UnexpectedTag),
        (
            P_TRUNK_1,
            frame(GATEWAY, mac(1, 1), Some(100), 0x8100, &double[2..]),
            DropReason::UnexpectedTag,
        ),
        (P_TRUNK_1, ip_frame(Some(100), &[])[..16].to_vec(), DropReason::Runt),
    ];
    for (port, bytes, reason) in cases {
        let mut bench = Bench::new(lab());
        assert_eq!(bench.send(port, &bytes), []);
        assert_eq!(bench.reason(), reason, "{bytes:02x?}");
    }
}

#[test]
fn frames_not_for_the_gateway_and_not_ipv4_are_named_drops() {
    let packet = udp((IP[ETH0_1], 1), (IP[POD_B], 2), b"x");
    let mut options = packet.clone();
    options[0] = 0x46;
    let mut sum = packet.clone();
    sum[10] ^= 1;
    let fix = |mut p: Vec<u8>| {
        let len = usize::from(p[0] & 15) * 4;
        p[10..12].fill(0);
        let sum = datapath::wire::checksum::of(&p[..len]);
        p[10..12].copy_from_slice(&sum.to_be_bytes());
        p
    };
    let gateway = |ethertype, payload: &[u8]| frame(GATEWAY, mac(1, 0), None, ethertype, payload);
    let cases = [
        (frame(mac(2, 0), mac(1, 0), None, 0x0800, &packet), DropReason::OtherHost),
        (frame(Mac::BROADCAST, mac(1, 0), None, 0x0800, &packet), DropReason::Multicast),
        (frame(Mac([0x33, 0x33, 0, 0, 0, 1]), mac(1, 0), None, 0x86dd, &[]), DropReason::Multicast),
        (frame(Mac([1, 0, 0, 0, 0, 1]), mac(1, 0), None, 0x0806, &[0; 28]), DropReason::Multicast),
        (gateway(0x86dd, &[0; 40]), DropReason::Ipv6),
        (gateway(0x88a8, &[0; 40]), DropReason::UnknownEtherType),
        (gateway(0x88cc, &[]), DropReason::UnknownEtherType),
        (gateway(0x0800, &[0x45; 10]), DropReason::BadHeader),
        (gateway(0x0800, &sum), DropReason::BadChecksum),
        (gateway(0x0800, &fix(options)), DropReason::IpOptions),
        (
            gateway(0x0800, &fix([&packet[..2], &[0, 24], &packet[4..]].concat())),
            DropReason::BadTransport,
        ),
        (vec![0; 13], DropReason::Runt),
    ];
    for (bytes, reason) in cases {
        let mut bench = Bench::new(lab());
        assert_eq!(bench.send(P_ETH0_1, &bytes), []);
        assert_eq!(bench.reason(), reason, "{bytes:02x?}");
    }
    let mut bench = Bench::new(lab());
    assert_eq!(bench.send(PortId(99), &gateway(0x0800, &packet)), []);
    assert_eq!(bench.reason(), DropReason::OtherHost);
}

#[test]
fn padding_is_cut_off() {
    let mut bench = Bench::new(lab());
    let packet = udp((IP[POD_A], 1), (IP[POD_C], 2), b"x");
    let padded = [&packet[..], &[0; 17]].concat();
    assert_eq!(bench.sent(POD_A, &padded).packet(), packet);
}

#[test]
fn a_tagged_frame_must_come_from_its_member() {
    let mut lab = lab();
    lab.enis[POD_A].src_dst_check = true;
    let mut bench = Bench::new(lab);
    let packet = udp((IP[POD_D], 1), (IP[POD_C], 2), b"x");
    assert_eq!(bench.dropped(POD_A, &packet), DropReason::ForeignSource);
    assert_eq!(bench.steps(), [Step::TagPopped(100), Step::SendingEni(POD_A)]);
    // The tag counts also where nodes push none.
    bench.lab.switches.vlan_push = false;
    let mut bench = Bench::new(bench.lab);
    assert_eq!(bench.dropped(POD_A, &packet), DropReason::ForeignSource);
}

#[test]
fn untagged_on_the_trunk_is_the_trunks_and_without_pushing_the_members() {
    for (vlan_push, sender) in [(true, TRUNK_1), (false, POD_A)] {
        let mut lab = lab();
        lab.switches.vlan_push = vlan_push;
        let mut bench = Bench::new(lab);
        bench.sent(TRUNK_1, &udp((IP[POD_A], 1), (IP[POD_C], 2), b"x"));
        assert_eq!(bench.steps()[0], Step::SendingEni(sender));
        // A member of another node's trunk is not there, and eth0 never has members.
        bench.sent(TRUNK_1, &udp((IP[POD_B], 1), (IP[POD_C], 2), b"x"));
        assert_eq!(bench.steps()[0], Step::SendingEni(TRUNK_1));
        bench.sent(ETH0_1, &udp((IP[POD_A], 1), (IP[POD_C], 2), b"x"));
        assert_eq!(bench.steps()[0], Step::SendingEni(ETH0_1));
    }
}

#[test]
fn source_and_destination_check_are_flags_of_an_eni() {
    let foreign = udp((IP[POD_A], 1), (IP[POD_C], 2), b"x");
    let routed = udp((IP[POD_A], 1), (Ipv4Addr::new(172, 16, 0, 1), 2), b"x");
    let mut lab = lab();
    let cidr = "172.16.0.0/12".parse().expect("a range");
    lab.vpc.routes = vec![VpcRoute { cidr, eni: ETH0_2 }];
    let mut bench = Bench::new(lab.clone());
    bench.sent(ETH0_1, &foreign);
    assert_eq!(bench.sent(POD_A, &routed).port, P_ETH0_2);
    lab.enis[ETH0_1].src_dst_check = true;
    lab.enis[ETH0_2].src_dst_check = true;
    let mut bench = Bench::new(lab);
    assert_eq!(bench.dropped(ETH0_1, &foreign), DropReason::SourceCheck);
    bench.sent(ETH0_1, &udp((IP[ETH0_1], 1), (IP[POD_C], 2), b"x"));
    assert_eq!(bench.dropped(POD_A, &routed), DropReason::DestinationCheck);
    bench.sent(POD_A, &udp((IP[POD_A], 1), (IP[ETH0_2], 2), b"x"));
}

#[test]
fn destinations_are_owners_then_routes_then_outside_hosts() {
    let mut lab = lab();
    let route = |cidr: &str, eni| VpcRoute { cidr: cidr.parse().expect("a range"), eni };
    lab.vpc.routes = vec![route("172.16.0.0/12", ETH0_2), route("172.16.5.0/24", TRUNK_2)];
    let mut bench = Bench::new(lab.clone());
    let to = |bench: &mut Bench, ip: [u8; 4]| {
        bench.sent(ETH0_1, &udp((IP[ETH0_1], 1), (ip.into(), 2), b"x")).port
    };
    assert_eq!(to(&mut bench, [172, 16, 5, 1]), P_TRUNK_2);
    assert!(bench.steps().contains(&Step::CustomRoute(1)));
    assert_eq!(to(&mut bench, [172, 16, 6, 1]), P_ETH0_2);
    assert_eq!(to(&mut bench, CLIENT.octets()), P_OUTSIDE);
    assert!(bench.steps().contains(&Step::OutsideRoute(0)));
    for nobody in [[10, 0, 4, 99], [8, 8, 8, 8]] {
        let packet = udp((IP[ETH0_1], 1), (nobody.into(), 2), b"x");
        assert_eq!(bench.dropped(ETH0_1, &packet), DropReason::NoSuchAddress);
    }
    // A default route takes what is outside, but neither the vSwitches nor the system range.
    lab.vpc.routes = vec![route("0.0.0.0/0", ETH0_2)];
    let mut bench = Bench::new(lab);
    assert_eq!(to(&mut bench, CLIENT.octets()), P_ETH0_2);
    assert_eq!(to(&mut bench, HEALTH.octets()), P_HEALTH);
    let packet = udp((IP[ETH0_1], 1), (Ipv4Addr::new(10, 0, 4, 99), 2), b"x");
    assert_eq!(bench.dropped(ETH0_1, &packet), DropReason::NoSuchAddress);
}

#[test]
fn outside_hosts_get_untagged_frames_and_reach_private_addresses() {
    let mut bench = Bench::new(lab());
    let seen = bench.sent(POD_A, &udp((IP[POD_A], 1), (CLIENT, 2), b"x"));
    assert_eq!((seen.port, seen.tag()), (P_OUTSIDE, None));
    assert_eq!((seen.dst(), seen.src()), (outside_mac(0), GATEWAY));
    let seen = bench.sent_outside(&udp((CLIENT, 9), (IP[POD_B], 2), b"x"));
    assert_eq!((seen.port, seen.tag()), (P_TRUNK_2, Some(7)));
    assert!(!bench.steps().iter().any(|s| matches!(s, Step::SendingEni(_))));
}

#[test]
fn packets_larger_than_the_receivers_mtu_are_named_drops() {
    let mut lab = lab();
    lab.nodes[1].trunk_mtu = 600;
    lab.nodes[1].primary_mtu = 700;
    let mut bench = Bench::new(lab);
    for (to, mtu) in [(POD_C, 600), (TRUNK_2, 600), (ETH0_2, 700), (POD_D, 1500)] {
        let packet = |len: usize| udp((IP[POD_A], 1), (IP[to], 2), &vec![0; len - 28]);
        assert_eq!(bench.sent(POD_A, &packet(mtu)).packet().len(), mtu);
        assert_eq!(bench.dropped(POD_A, &packet(mtu + 1)), DropReason::MtuExceeded);
    }
    let outside = |len: usize| udp((IP[POD_A], 1), (CLIENT, 2), &vec![0; len - 28]);
    bench.sent(POD_A, &outside(1500));
    assert_eq!(bench.dropped(POD_A, &outside(1501)), DropReason::MtuExceeded);
}

#[test]
fn ttl_stays_unless_the_lab_has_it_taken() {
    let packet = udp((IP[POD_A], 1), (IP[POD_C], 2), b"x");
    assert_eq!(Bench::new(lab()).sent(POD_A, &packet).packet()[8], 64);
    let mut lab = lab();
    lab.vpc.decrement_ttl = true;
    let mut bench = Bench::new(lab);
    let seen = bench.sent(POD_A, &packet);
    assert_eq!(seen.packet()[8], 63);
    checked(seen.packet());
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ipv4(IP[POD_A].octets(), IP[POD_C].octets(), 1)
        .udp(1, 2)
        .write(&mut bytes, b"x")
        .expect("written");
    assert_eq!(bench.dropped(POD_A, &bytes), DropReason::TtlExceeded);
}

#[test]
fn a_buffer_without_room_for_the_tag_is_a_named_drop() {
    let mut bench = Bench::new(lab());
    let bytes = ip_frame(None, &udp((CLIENT, 1), (IP[POD_B], 2), &[0; 80]));
    let mut tight = Heap::new(&bytes[61..]);
    assert!(tight.grow_front(61));
    tight.bytes_mut().copy_from_slice(&bytes);
    let place = Place { port: P_OUTSIDE, queue: 0 };
    bench.vpc.process(&mut vec![tight], place, bench.now, &mut bench.out);
    assert!(bench.out.departures.is_empty());
    assert_eq!(bench.vpc.ledger().dropped.of(DropReason::NoHeadroom), 1);
    assert!(bench.vpc.ledger().balances(0));
}
