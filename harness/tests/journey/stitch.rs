//! Joining hops to journeys and journeys to flows, on records made by hand.

use std::net::Ipv4Addr;

use datapath::journey::{Fate, Hop, PortId, Rewriter, Sighting, Step};
use datapath::lab::{self, Lab};
use datapath::link::{ElementId, HostId, MemoryLink};
use datapath::node::{ETH0, ETH1};
use datapath::time::Time;
use datapath::verdict::DropReason;
use datapath::wire::{Protocol, Tuple, ethernet, ipv4, tcp::Flags};
use harness::journey::{End, Journey, Leg, Names, Origin, Recording, Style, flows, stitch, table};

/// Two nodes with a pod each. Of a node, port 3 is its pod's; of the VPC, 0 and 1 are eth0 and
/// eth1 of the first node, 2 and 3 of the second.
const LAB: &str = "
vpc:
  cidr: 10.0.0.0/16
  vSwitches: {vsw: {cidr: 10.0.4.0/24}}
  securityGroups: {sg: {}}
nodes:
  - {name: n1, eth0: {ip: 10.0.4.1, securityGroups: sg}}
  - {name: n2, eth0: {ip: 10.0.4.2, securityGroups: sg}}
pods:
  - {name: t/a, node: n1, ip: 10.0.4.11, member: {securityGroups: sg}}
  - {name: t/b, node: n2, ip: 10.0.4.12, member: {securityGroups: sg}}
";
const N1: ElementId = ElementId::Node(0);
const N2: ElementId = ElementId::Node(1);
const POD: PortId = PortId(3);

fn lab() -> Lab {
    lab::load(LAB, "lab").unwrap()
}

fn tuple(src: [u8; 4], src_port: u16, dst: [u8; 4], dst_port: u16) -> Tuple<Ipv4Addr> {
    let proto = Protocol::TCP;
    Tuple { src: src.into(), dst: dst.into(), src_port, dst_port, proto }
}

fn request() -> Tuple<Ipv4Addr> {
    tuple([10, 0, 4, 11], 4000, [10, 0, 4, 12], 80)
}

fn sighting(port: PortId, fingerprint: u64, tuple: Tuple<Ipv4Addr>) -> Sighting {
    Sighting { port, vid: None, fingerprint, tuple: Some(tuple) }
}

/// A hop at nanosecond `at`.
fn hop(at: u64, arrival: Option<Sighting>, fate: Fate) -> Hop {
    let steps = Default::default();
    let (at, flags) = (Time::from_nanos(at), Flags::ACK);
    Hop { at, arrival, flags, payload_len: 0, steps, fate }
}

/// A hop through an element that changes nothing.
fn through(at: u64, tuple: Tuple<Ipv4Addr>, from: (PortId, u64), to: (PortId, u64)) -> Hop {
    let sent = Fate::Sent(sighting(to.0, to.1, tuple));
    hop(at, Some(sighting(from.0, from.1, tuple)), sent)
}

fn recording(hops: Vec<(ElementId, Vec<Hop>)>) -> Recording {
    Recording { hops, ..Recording::default() }
}

fn elements(journey: &Journey) -> Vec<ElementId> {
    journey.passages.iter().map(|passage| passage.element).collect()
}

#[test]
fn hops_join_from_pod_to_pod() {
    let hops = vec![
        (N1, vec![through(1, request(), (POD, 10), (ETH1, 11))]),
        (N2, vec![through(3, request(), (ETH1, 12), (POD, 13))]),
        (ElementId::Vpc, vec![through(2, request(), (PortId(1), 11), (PortId(3), 12))]),
    ];
    let journeys = stitch(&lab(), &recording(hops));
    assert_eq!(journeys.len(), 1);
    assert_eq!(elements(&journeys[0]), [N1, ElementId::Vpc, N2]);
    assert_eq!(journeys[0].origin, Origin::Host(HostId::Pod(0)));
    assert_eq!(journeys[0].end, End::Host(HostId::Pod(1)));
}

/// A frame sent again is byte-equal: the first one sent is the first one that arrives.
#[test]
fn equal_frames_on_one_wire_keep_their_order() {
    let drop = Fate::Dropped(DropReason::SecurityGroupOut);
    let arrives = || Some(sighting(PortId(0), 11, request()));
    let hops = vec![
        (
            N1,
            vec![
                through(1, request(), (POD, 10), (ETH0, 11)),
                through(1, request(), (POD, 10), (ETH0, 11)),
            ],
        ),
        (N2, vec![]),
        (ElementId::Vpc, vec![hop(1, arrives(), drop), hop(1, arrives(), Fate::Delivered)]),
    ];
    let ends: Vec<_> = stitch(&lab(), &recording(hops)).iter().map(|j| j.end).collect();
    let dropped = End::Dropped(ElementId::Vpc, DropReason::SecurityGroupOut);
    assert_eq!(ends, [dropped, End::Element(ElementId::Vpc)]);
}

/// The same fingerprint at another port is another frame.
#[test]
fn only_the_wires_other_end_continues_a_frame() {
    let hops = vec![
        (N1, vec![through(1, request(), (POD, 10), (ETH0, 11))]),
        (N2, vec![]),
        (ElementId::Vpc, vec![through(2, request(), (PortId(2), 11), (PortId(3), 12))]),
    ];
    let journeys = stitch(&lab(), &recording(hops));
    let ways: Vec<_> = journeys.iter().map(|j| (j.origin, j.end)).collect();
    let socket = |element, port| datapath::link::Socket { element, port };
    assert_eq!(
        ways,
        [
            (Origin::Host(HostId::Pod(0)), End::Wire(socket(N1, ETH0))),
            (
                Origin::Wire(socket(ElementId::Vpc, PortId(2))),
                End::Wire(socket(ElementId::Vpc, PortId(3)))
            ),
        ]
    );
}

#[test]
fn what_an_element_makes_begins_there() {
    let made = hop(1, None, Fate::Sent(sighting(POD, 9, request())));
    let journeys = stitch(&lab(), &recording(vec![(N1, vec![made])]));
    assert_eq!(journeys[0].origin, Origin::Element(N1));
    assert_eq!(journeys[0].end, End::Host(HostId::Pod(0)));
}

/// In memory wires take no time, so an answer bears the time of its request; and the client may be
/// on the node that comes last in the lab.
#[test]
fn a_request_comes_before_its_answer_without_time() {
    let request = request().inverse().unwrap();
    let answer = request.inverse().unwrap();
    let hops = vec![
        (
            N1,
            vec![
                through(0, request, (ETH1, 12), (POD, 13)),
                through(0, answer, (POD, 20), (ETH1, 21)),
            ],
        ),
        (
            N2,
            vec![
                through(0, request, (POD, 10), (ETH1, 11)),
                through(0, answer, (ETH1, 22), (POD, 23)),
            ],
        ),
        (
            ElementId::Vpc,
            vec![
                through(0, request, (PortId(3), 11), (PortId(1), 12)),
                through(0, answer, (PortId(1), 21), (PortId(3), 22)),
            ],
        ),
    ];
    let flows = flows(stitch(&lab(), &recording(hops)));
    assert_eq!(flows.len(), 1);
    assert_eq!(flows[0].tuple, request);
    let legs: Vec<_> = flows[0].journeys.iter().map(|(leg, _)| *leg).collect();
    assert_eq!(legs, [Leg::Request, Leg::Reply]);
}

/// spec SCN-30: the answer of a masqueraded flow has neither of the client's addresses.
#[test]
fn an_answer_belongs_to_the_flow_whose_tuple_was_changed() {
    let asked = tuple([10, 0, 4, 11], 4000, [192, 168, 0, 1], 80);
    let sent = tuple([10, 0, 4, 1], 5000, [10, 0, 4, 12], 8080);
    let mut out = hop(1, Some(sighting(POD, 10, asked)), Fate::Sent(sighting(ETH0, 11, sent)));
    let between = Tuple { src: asked.src, src_port: asked.src_port, ..sent };
    out.steps.push(Step::Rewritten { by: Rewriter::IpvsDnat, from: asked, to: between });
    out.steps.push(Step::Rewritten { by: Rewriter::Masquerade, from: between, to: sent });
    let answer = through(2, sent.inverse().unwrap(), (POD, 20), (ETH1, 21));
    let other = through(3, tuple([10, 0, 4, 12], 8080, [10, 0, 4, 1], 5001), (POD, 30), (ETH1, 31));
    let hops = vec![(N1, vec![out]), (N2, vec![answer, other])];
    let flows = flows(stitch(&lab(), &recording(hops)));
    assert_eq!(flows.len(), 2);
    assert_eq!(flows[0].tuple, asked);
    assert_eq!(flows[0].of(Leg::Request).count(), 1);
    assert_eq!(flows[0].of(Leg::Reply).count(), 1);
    assert_eq!(flows[1].of(Leg::Request).count(), 1);
}

#[test]
fn an_icmp_error_belongs_to_the_flow_of_whom_it_is_told() {
    let port_unreachable = Tuple {
        src: Ipv4Addr::new(10, 0, 4, 1),
        dst: Ipv4Addr::new(10, 0, 4, 11),
        src_port: 0,
        dst_port: 3 << 8 | 3,
        proto: Protocol::ICMP,
    };
    let dropped = Fate::Dropped(DropReason::NoService);
    let hops = vec![
        hop(1, Some(sighting(POD, 1, request())), dropped),
        hop(1, None, Fate::Sent(sighting(POD, 2, port_unreachable))),
    ];
    let flows = flows(stitch(&lab(), &recording(vec![(N1, hops)])));
    assert_eq!(flows.len(), 1);
    let legs: Vec<_> = flows[0].journeys.iter().map(|(leg, _)| *leg).collect();
    assert_eq!(legs, [Leg::Request, Leg::Error]);
    assert!(flows[0].first_dropped().is_some_and(|(leg, _)| leg == Leg::Request));
}

/// ARP has no tuple and belongs to no flow.
#[test]
fn what_is_not_ipv4_belongs_to_no_flow() {
    let arp = Sighting { port: POD, vid: None, fingerprint: 1, tuple: None };
    let hops = vec![(N1, vec![hop(1, Some(arp), Fate::Delivered)])];
    let journeys = stitch(&lab(), &recording(hops));
    assert_eq!(journeys.len(), 1);
    assert!(flows(journeys).is_empty());
}

/// Nothing loops on a record in which a frame continues itself.
#[test]
fn a_record_that_contradicts_itself_ends() {
    let hops = vec![
        (N1, vec![through(1, request(), (ETH0, 5), (ETH0, 5))]),
        (N2, vec![]),
        (ElementId::Vpc, vec![through(1, request(), (PortId(0), 5), (PortId(0), 5))]),
    ];
    assert!(stitch(&lab(), &recording(hops)).is_empty());
}

#[test]
fn journals_are_counted_by_port() {
    let hops = vec![(
        N1,
        vec![
            through(1, request(), (POD, 10), (ETH1, 11)),
            hop(2, Some(sighting(POD, 12, request())), Fate::Dropped(DropReason::NoRoute)),
        ],
    )];
    let counts = recording(hops).journal_counts();
    let counts: Vec<_> = counts.iter().map(|c| (c.socket.port, c.received, c.sent)).collect();
    assert_eq!(counts, [(ETH1, 0, 1), (POD, 2, 0)]);
}

/// A datagram from pod a to pod b in two frames.
fn fragments(lab: &Lab) -> [Vec<u8>; 2] {
    let (src, dst) = (lab.pods[0].mac, lab.pods[0].cali_mac);
    let payload = [&[0, 7, 0, 9, 7, 216, 0, 0][..], &[1; 2_000]].concat();
    [(0, 1_480, true), (1_480, 2_008, false)].map(|(start, end, more)| {
        let mut frame = vec![0; ethernet::HEADER_LEN + ipv4::HEADER_LEN];
        frame.extend_from_slice(&payload[start..end]);
        ethernet::Header { dst, src, ethertype: ethernet::IPV4 }.emit(&mut frame);
        let packet = &mut frame[ethernet::HEADER_LEN..];
        let header = ipv4::Header {
            src: lab.pods[0].ip,
            dst: lab.pods[1].ip,
            protocol: Protocol::UDP,
            ttl: 64,
            tos: 0,
            id: 7,
            total_len: 0,
            header_len: 20,
            dont_fragment: false,
            fragment: false,
        };
        header.emit(packet);
        ipv4::Fragment { offset: u16::try_from(start).unwrap(), more }.mark(packet);
        frame
    })
}

#[test]
fn a_journey_tells_where_fragments_are_put_together_and_cut() {
    let lab = lab();
    let mut link = MemoryLink::new(lab.clone());
    link.open_journals(64);
    for frame in fragments(&lab) {
        assert!(link.send(HostId::Pod(0), &frame));
        link.settle();
    }
    let journeys = stitch(&lab, &recording(link.close_journals()));
    let whole = journeys.iter().find(|journey| elements(journey).len() == 3).expect("a journey");
    let names = Names::new(&lab, &journeys);
    let flow = flows(vec![whole.clone()]).remove(0);
    let text = table(&names, &flow, whole, "datagram", Style::default());
    assert_eq!(text.matches("fragments: put together from 2").count(), 3, "{text}");
    assert_eq!(text.matches("fragments: cut into 2").count(), 2, "the fabric cuts nothing: {text}");
    // Each other fragment ends where it is absorbed, and goes on from the fabric by itself.
    let absorbed = |journey: &&Journey| {
        (journey.origin, journey.end) == (Origin::Host(HostId::Pod(0)), End::Element(N1))
    };
    assert_eq!(journeys.iter().filter(absorbed).count(), 1);
}
