//! Fragments and path MTU across both nodes and the fabric between them (spec FRAG, VPC-22).

use crate::common::*;
use datapath::element::Element;
use datapath::lab::Lab;
use datapath::link::HostId;
use datapath::port::Buffer;
use datapath::verdict::DropReason;

const CLIENT_POD: HostId = HostId::Pod(POD_A);
const SERVER_POD: HostId = HostId::Pod(POD_C);

fn data() -> Vec<u8> {
    (0..4_000_u16).map(|n| n.to_le_bytes()[0]).collect()
}

/// Sends packets, and returns who got the packets they became, put together.
fn exchange(run: &mut Run, from: HostId, packets: &[Vec<u8>]) -> Option<(HostId, View, usize)> {
    for packet in packets {
        run.send(from, packet);
    }
    let mut host = None;
    let mut frames = Vec::new();
    while let Some(delivery) = run.link.take_delivery() {
        assert_eq!(*host.get_or_insert(delivery.host), delivery.host);
        frames.push(delivery.frame.bytes().to_vec());
    }
    let packet = joined(frames.iter().map(|frame| packet_of(frame)));
    Some((host?, View::of_packet(&packet), frames.len()))
}

/// Whether nothing reached a host.
fn is_stopped(run: &mut Run, from: HostId, packets: &[Vec<u8>]) -> bool {
    packets.iter().for_each(|packet| run.send(from, packet));
    run.link.take_delivery().is_none()
}

#[test]
fn a_datagram_of_4000_bytes_reaches_a_service_on_the_other_node_and_is_answered() {
    for profile in ["terway-1.3", "terway-1.4.0", "terway-1.4.2"] {
        for (vip, client) in [(FAR, A), (FAR_XIP, N1)] {
            let mut run = Run::new(lab_with(&format!(
                "profile: {profile}\nswitches: {{masqueradeRandomFully: false}}"
            )));
            let request = cut(&loose(udp((A, 40_000), (vip, 53), &data())), 1_480);
            let (host, view, count) = exchange(&mut run, CLIENT_POD, &request).expect("a request");
            assert_eq!((host, count), (SERVER_POD, 3), "{profile}");
            assert_eq!((view.tuple(), view.ttl), (((client, 40_000), (C, 5353)), 62));
            assert_eq!(view.data, data());
            let answer = cut(&loose(udp((C, 5353), view.src, &data())), 1_480);
            let (host, view, count) = exchange(&mut run, SERVER_POD, &answer).expect("an answer");
            assert_eq!((host, count), (CLIENT_POD, 3), "{profile}");
            assert_eq!(view.tuple(), ((vip, 53), (A, 40_000)));
            assert_eq!(view.data, data());
        }
    }
}

#[test]
fn a_large_ping_from_pod_to_pod_is_answered_by_the_same_way() {
    let mut run = Run::new(lab());
    let request = cut(&loose(ping_with(A, C, 9, &data())), 1_480);
    let (host, view, _) = exchange(&mut run, CLIENT_POD, &request).expect("a request");
    assert_eq!((host, view.kind.as_str()), (SERVER_POD, "icmp 8/0"));
    assert_eq!(run.trace().iter().filter(|line| line.contains("[101]")).count(), 3);
}

/// The lab with a group that lets nothing in, or nothing out, on an ENI.
fn closed(eni: usize, inward: bool) -> Lab {
    let mut lab = lab();
    let mut group = lab.vpc.groups[0].clone();
    group.kind = datapath::lab::model::GroupKind::Advanced;
    group.inner_accept = false;
    let everything = group.ingress.clone();
    (group.ingress, group.egress) =
        if inward { (Vec::new(), everything) } else { (everything, Vec::new()) };
    lab.vpc.groups.push(group);
    lab.enis[eni].groups = vec![lab.vpc.groups.len() - 1];
    lab
}

#[test]
fn a_group_that_forbids_the_flow_stops_every_fragment() {
    let cases = [
        (lab().pods[POD_C].member, true, DropReason::SecurityGroupIn),
        (lab().nodes[0].primary, false, DropReason::SecurityGroupOut),
    ];
    for (eni, inward, reason) in cases {
        let mut run = Run::new(closed(eni, inward));
        let request = cut(&loose(udp((A, 40_000), (FAR, 53), &data())), 1_480);
        assert!(is_stopped(&mut run, CLIENT_POD, &request));
        assert_eq!(run.link.vpc().ledger().dropped.of(reason), 3);
    }
}

/// The lab with a narrow veth in front of the server.
fn narrow() -> Lab {
    let mut lab = lab_switched("");
    lab.pods[POD_C].mtu = 1_400;
    lab
}

#[test]
fn a_narrow_veth_on_the_other_node_is_told_from_the_virtual_address() {
    for vip in [FAR, FAR_XIP] {
        let mut run = Run::new(narrow());
        let request = udp((A, 40_000), (vip, 53), &[7; 1_472]);
        run.send(CLIENT_POD, &request);
        let (host, view) = run.delivered();
        assert_eq!((host, view.kind.as_str()), (CLIENT_POD, "icmp 3/4"));
        assert_eq!((view.from(), view.dst.0), (vip, A));
        let quoted = &view.data;
        assert_eq!(quoted[12..24], request[12..24], "about the packet as it was sent");
    }
}

#[test]
fn what_may_be_cut_reaches_the_other_node_through_a_narrow_veth() {
    let mut run = Run::new(narrow());
    let request = [loose(udp((A, 40_000), (FAR, 53), &[7; 1_472]))];
    let (host, view, count) = exchange(&mut run, CLIENT_POD, &request).expect("a request");
    assert_eq!((host, count, view.data), (SERVER_POD, 2, vec![7; 1_472]));
    // Fragments too large for the veth are cut anew, and keep their packet's ID.
    let request = cut(&loose(udp((A, 40_000), (FAR, 53), &data())), 1_480);
    let (_, view, count) = exchange(&mut run, CLIENT_POD, &request).expect("a request");
    assert_eq!((count, view.id, view.data), (3, 0x1234, data()));
    // Node 1 takes DF off fragments that fit, so node 2 may cut them.
    let strict = cut(&udp((A, 40_000), (C, 5353), &data()), 1_480);
    let (host, view, count) = exchange(&mut run, CLIENT_POD, &strict).expect("a request");
    assert_eq!((host, count, view.dont_fragment), (SERVER_POD, 3, false));
}
