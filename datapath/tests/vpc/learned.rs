//! The VPC's learned paths against its walk (spec VPC-25, LAW-4).

use crate::support::*;
use datapath::element::{Element, Output, Place};
use datapath::journey::{PortId, SgDirection};
use datapath::lab::Lab;
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::vpc::Vpc;
use proptest::prelude::*;

/// A packet on the wire of the ENI that has its source, or on another's.
#[derive(Clone, Debug)]
struct Sent {
    port: PortId,
    frame: Vec<u8>,
    /// Milliseconds since the one before.
    after: u64,
    /// Before it nodes begin or cease to push tags.
    turn: bool,
}

/// Where the ENIs send: their port and tag.
const SENDERS: [(usize, PortId, Option<u16>); 6] = [
    (ETH0_1, P_ETH0_1, None),
    (POD_A, P_TRUNK_1, Some(100)),
    (POD_A, P_TRUNK_1, None),
    (POD_D, P_TRUNK_1, Some(50)),
    (POD_B, P_TRUNK_2, Some(7)),
    (POD_C, P_TRUNK_2, Some(300)),
];

fn sent() -> impl Strategy<Value = Sent> {
    let sender = prop::sample::select(SENDERS.to_vec());
    let source =
        prop_oneof![12 => Just(None), 1 => prop::sample::select(IP.to_vec()).prop_map(Some)];
    let to = prop::sample::select([&IP[..], &[CLIENT, VIP]].concat());
    let ports = prop::sample::select(vec![(80_u16, 81_u16), (81, 80), (5353, 80)]);
    let kind = (0..6_u8, 0..3_usize, 1..65_u8);
    let after = prop_oneof![12 => 0..50_u64, 1 => Just(800_000), 1 => Just(911_000)];
    let turn = prop::bool::weighted(0.05);
    (sender, source, to, ports, kind, after, turn).prop_map(
        |((eni, port, tag), source, to, (sp, dp), (kind, more, ttl), after, turn)| {
            let (from, to) = ((source.unwrap_or(IP[eni]), sp), (to, dp));
            let mut packet = match kind {
                0..=2 => udp(from, to, &vec![7; more * 700]),
                3 => tcp(from, to, SYN),
                4 => tcp(from, to, ACK),
                _ => ping(from.0, to.0, 7, false),
            };
            packet[8] = ttl;
            let sum = datapath::wire::checksum::of(&[&packet[..10], &packet[12..20]].concat());
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            let mut frame = ip_frame(tag, &packet);
            // Padding, as of a short frame on a real wire.
            frame.extend(vec![0; more]);
            Sent { port, frame, after, turn }
        },
    )
}

fn pass(vpc: &mut Vpc<Heap>, out: &mut Output<Heap>, sent: &Sent, now: Time) -> Vec<Seen> {
    let place = Place { port: sent.port, queue: 0 };
    vpc.process(&mut vec![Heap::new(&sent.frame)], place, now, out);
    let seen = |d: datapath::element::Departure<Heap>| Seen {
        port: d.place.port,
        queue: d.place.queue,
        bytes: d.frame.bytes().to_vec(),
    };
    out.departures.drain(..).map(seen).collect()
}

fn vpc(lab: &Lab, learns: bool) -> Vpc<Heap> {
    let mut lab = lab.clone();
    lab.switches.flow_cache = learns;
    Vpc::new(&lab)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The same packets, some of them far apart, give the same frames, sessions and counters, while
    /// other versions of the lab are put in place.
    #[test]
    fn a_learned_path_is_the_walk_s(
        packets in prop::collection::vec(sent(), 1..150),
        decrement_ttl: bool,
        check: bool,
        mtu in prop::sample::select(vec![1500_u16, 1000]),
        open: bool,
    ) {
        let mut lab = lab();
        lab.vpc.decrement_ttl = decrement_ttl;
        lab.enis[ETH0_1].src_dst_check = check;
        lab.nodes[1].trunk_mtu = mtu;
        lab.limits.sessions = 64;
        if !open {
            lab.vpc.groups[OPEN].ingress = vec![rule(true, None, Some((80, 80)), "0.0.0.0/0")];
            lab.vpc.groups[OPEN].inner_accept = false;
        }
        let (mut learning, mut walking) = (vpc(&lab, true), vpc(&lab, false));
        let (mut one, mut other) = (Output::default(), Output::default());
        let mut now = Time::ZERO;
        for packet in &packets {
            now = Time::from_nanos(now.as_nanos() + packet.after * 1_000_000);
            if packet.turn {
                lab.switches.vlan_push ^= true;
                for (vpc, learns) in [(&mut learning, true), (&mut walking, false)] {
                    lab.switches.flow_cache = learns;
                    vpc.adopt(&lab);
                }
            }
            let seen = pass(&mut learning, &mut one, packet, now);
            prop_assert_eq!(seen, pass(&mut walking, &mut other, packet, now));
            prop_assert_eq!(learning.ledger(), walking.ledger());
        }
        for eni in 0..lab.enis.len() {
            prop_assert_eq!(learning.eni_counters(eni), walking.eni_counters(eni));
        }
        for direction in [SgDirection::In, SgDirection::Out] {
            prop_assert_eq!(
                learning.rule_hits(OPEN, direction, 0),
                walking.rule_hits(OPEN, direction, 0)
            );
        }
        let sessions = |vpc: &Vpc<Heap>| {
            let mut all: Vec<_> = vpc.sessions(now).map(|session| format!("{session:?}")).collect();
            all.sort();
            all
        };
        prop_assert_eq!(sessions(&learning), sessions(&walking));
        prop_assert_eq!(walking.cache_counters().hits, 0);
    }
}

#[test]
fn the_second_packet_takes_the_path_of_the_first() {
    let lab = lab();
    let (mut vpc, mut out) = (vpc(&lab, true), Output::default());
    let packet = udp((IP[POD_A], 80), (IP[POD_B], 81), b"x");
    let sent = Sent { port: P_TRUNK_1, frame: ip_frame(Some(100), &packet), after: 0, turn: false };
    let first = pass(&mut vpc, &mut out, &sent, Time::ZERO);
    assert_eq!((vpc.cache_counters().hits, vpc.cache_counters().learned), (0, 1));
    let second = pass(&mut vpc, &mut out, &sent, Time::ZERO);
    assert_eq!(first, second);
    assert_eq!((vpc.cache_counters().hits, vpc.cache_counters().learned), (1, 1));
    // A hop is the record of a walk.
    out.journal.open(8);
    assert_eq!(first, pass(&mut vpc, &mut out, &sent, Time::ZERO));
    assert_eq!(vpc.cache_counters().hits, 1);
    assert_eq!(out.journal.hops().len(), 1);
}

#[test]
fn a_path_of_another_version_of_the_lab_is_not_taken() {
    let mut lab = lab();
    let (mut vpc, mut out) = (vpc(&lab, true), Output::default());
    let frame = ip_frame(None, &udp((IP[POD_A], 80), (IP[POD_B], 81), b"x"));
    let sent = Sent { port: P_TRUNK_1, frame, after: 0, turn: false };
    let mut sent_by = |vpc: &mut Vpc<Heap>, eni: usize| {
        let counted = |vpc: &Vpc<Heap>| vpc.eni_counters(eni).expect("an ENI").frames_out;
        let before = counted(vpc);
        pass(vpc, &mut out, &sent, Time::ZERO);
        counted(vpc) == before + 1
    };
    assert!(sent_by(&mut vpc, TRUNK_1) && sent_by(&mut vpc, TRUNK_1));
    assert_eq!(vpc.cache_counters().hits, 1);
    lab.switches.vlan_push = false;
    vpc.adopt(&lab);
    assert_eq!(vpc.epoch(), 2);
    assert!(sent_by(&mut vpc, POD_A), "the pod's own, as nodes push no tags");
    lab.switches.vlan_push = true;
    vpc.adopt(&lab);
    assert!(sent_by(&mut vpc, TRUNK_1));
    assert_eq!(vpc.cache_counters().hits, 1, "what was learned two versions before holds no more");
}
