//! The VPC against anything, and its security groups against a model.

use std::net::Ipv4Addr;

use crate::support::*;
use datapath::element::{Element, Output, Place};
use datapath::journey::{PortId, SgDecision, SgDirection, Step};
use datapath::lab::Lab;
use datapath::lab::model::{GroupKind, GroupRule, Peer, SecurityGroup};
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::vpc::Vpc;
use datapath::wire::{Protocol, Tuple};
use proptest::prelude::*;

/// An address that means something, or nearly.
fn address() -> impl Strategy<Value = Ipv4Addr> {
    let known = [&IP[..], &[CLIENT, HEALTH, VIP, Ipv4Addr::new(172, 16, 0, 1)]].concat();
    prop_oneof![9 => prop::sample::select(known), 1 => any::<u32>().prop_map(Ipv4Addr::from)]
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    let port = prop::sample::select(vec![53_u16, 80, 81, 8080, 5353]);
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    (address(), port.clone(), address(), port, 0..8_u8, payload).prop_map(
        |(src, sp, dst, dp, kind, payload)| match kind {
            0..=3 => tcp((src, sp), (dst, dp), kind + 1),
            4 => udp((src, sp), (dst, dp), &payload),
            5 => ping(src, dst, sp, dp == 80),
            6 => unreachable(dst, src, &tcp((src, sp), (dst, dp), SYN)),
            _ => payload,
        },
    )
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let dst = prop::sample::select(vec![GATEWAY, GATEWAY, GATEWAY, mac(1, 0), outside_mac(9)]);
    let tag = prop_oneof![
        2 => Just(None),
        3 => prop::sample::select(vec![50_u16, 100, 7, 300, 0, 4095]).prop_map(Some),
    ];
    let ethertype = prop::sample::select(vec![0x0800_u16, 0x0800, 0x0800, 0x0806, 0x86dd, 0x8100]);
    let built = (dst, tag, ethertype, packet())
        .prop_map(|(dst, tag, ethertype, packet)| frame(dst, mac(1, 0), tag, ethertype, &packet))
        .boxed();
    let broken = (built.clone(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>());
    let broken = broken.prop_map(|(mut bytes, at, value, cut)| {
        let at = at.index(bytes.len());
        bytes[at] = value;
        if cut {
            bytes.truncate(at);
        }
        bytes
    });
    let asked = (address(), address(), 0..4_u8, any::<bool>()).prop_map(|(from, to, op, tag)| {
        let fixed = [0, 1, 8, 0, 6, 4, 0, op];
        let message = [&fixed[..], &mac(1, 0).0, &from.octets(), &[0; 6], &to.octets()].concat();
        frame(datapath::wire::Mac::BROADCAST, mac(1, 0), tag.then_some(100), 0x0806, &message)
    });
    let noise = prop::collection::vec(any::<u8>(), 0..80);
    prop_oneof![6 => built, 2 => broken, 1 => asked, 1 => noise]
}

/// What one VPC does with one frame.
fn run(
    vpc: &mut Vpc<Heap>,
    out: &mut Output<Heap>,
    bytes: &[u8],
    place: Place,
    now: Time,
) -> Vec<Seen> {
    vpc.process(&mut vec![Heap::new(bytes)], place, now, out);
    assert!(vpc.ledger().balances(vpc.held()), "{:?}", vpc.ledger());
    let departures = out.departures.drain(..);
    departures
        .map(|d| Seen { port: d.place.port, queue: d.place.queue, bytes: d.frame.bytes().to_vec() })
        .collect()
}

proptest! {
    /// Nothing panics, the ledger balances after every frame, and neither an open journal nor
    /// timers that run late change what comes out.
    #[test]
    fn any_frames_leave_a_balanced_ledger(
        frames in prop::collection::vec((any_frame(), 0..7_u16, 0..600_u64, any::<bool>()), 1..60),
        vlan_push: bool,
        check: bool,
    ) {
        let mut lab = lab();
        lab.switches.vlan_push = vlan_push;
        lab.enis[ETH0_2].src_dst_check = check;
        let cidr = "172.16.0.0/12".parse().expect("a range");
        lab.vpc.routes = vec![datapath::lab::model::VpcRoute { cidr, eni: ETH0_2 }];
        let (mut plain, mut watched) = (Vpc::new(&lab), Vpc::new(&lab));
        let (mut out, mut journal) = (Output::default(), Output::default());
        journal.journal.open(usize::MAX);
        let mut now = Time::ZERO;
        for (bytes, port, wait, timers) in frames {
            now = Time::from_nanos(now.as_nanos() + wait * SECOND);
            if timers {
                watched.on_time(now, &mut journal);
                out.blanks.push(Heap::default());
                journal.blanks.push(Heap::default());
            }
            let place = Place { port: PortId(port), queue: 0 };
            let seen = run(&mut plain, &mut out, &bytes, place, now);
            prop_assert_eq!(&seen, &run(&mut watched, &mut journal, &bytes, place, now));
            let hops = watched.ledger().received + watched.ledger().made;
            prop_assert_eq!(journal.journal.hops().len() as u64, hops);
        }
        prop_assert_eq!(plain.ledger(), watched.ledger());
    }
}

fn any_rule() -> impl Strategy<Value = GroupRule> {
    let proto = prop::sample::select(vec![
        None,
        Some(Protocol::TCP),
        Some(Protocol::UDP),
        Some(Protocol::ICMP),
    ]);
    let ports = prop::option::of((1..5_u16, 0..3_u16).prop_map(|(a, n)| (a, a + n)));
    let range =
        prop::sample::select(vec!["0.0.0.0/0", "10.0.4.0/24", "10.0.4.27/32", "100.64.0.0/10"]);
    let peer = prop_oneof![
        range.prop_map(|r| Peer::Cidr(r.parse().expect("a range"))),
        (0..3_usize).prop_map(Peer::Group),
    ];
    (any::<bool>(), proto, ports, peer, 1..4_u8).prop_map(
        |(accept, proto, ports, peer, priority)| GroupRule { accept, proto, ports, peer, priority },
    )
}

fn any_group() -> impl Strategy<Value = SecurityGroup> {
    let list = || prop::collection::vec(any_rule(), 0..4);
    (any::<bool>(), any::<bool>(), list(), list()).prop_map(|(basic, inner, ingress, egress)| {
        let kind = if basic { GroupKind::Basic } else { GroupKind::Advanced };
        SecurityGroup { inner_accept: inner, ingress, egress, ..group("sg-x", kind) }
    })
}

/// A lab of three groups, every ENI in some of them that are of one kind.
fn any_lab() -> impl Strategy<Value = Lab> {
    let groups = prop::collection::vec(any_group(), 3);
    let order = Just(vec![0, 1, 2]).prop_shuffle();
    let members = prop::collection::vec((order, 1..4_usize), 8);
    (groups, members).prop_map(|(groups, members)| {
        let mut lab = lab();
        for (eni, (order, count)) in lab.enis.iter_mut().zip(members) {
            let kind = groups[order[0]].kind;
            eni.groups = order.into_iter().take(count).collect();
            eni.groups.retain(|g| groups[*g].kind == kind);
        }
        lab.vpc.groups = groups;
        lab
    })
}

/// Spec SG-7 to SG-16, as they read.
fn model(
    lab: &Lab,
    eni: usize,
    direction: SgDirection,
    tuple: &Tuple<Ipv4Addr>,
) -> (bool, SgDecision) {
    let peer_ip = if direction == SgDirection::In { tuple.src } else { tuple.dst };
    if direction == SgDirection::In && ip_in("100.64.0.0/10", peer_ip) {
        return (true, SgDecision::Exempt);
    }
    let in_group = |g: usize| lab.enis.iter().any(|e| e.ip == peer_ip && e.groups.contains(&g));
    let own = &lab.enis[eni].groups;
    let inner = |g: usize| {
        let group = &lab.vpc.groups[g];
        group.kind == GroupKind::Basic && group.inner_accept && in_group(g)
    };
    if let Some(group) = own.iter().copied().find(|g| inner(*g)) {
        return (true, SgDecision::Inner { group });
    }
    let mut hits = Vec::new();
    for (order, g) in own.iter().enumerate() {
        let group = &lab.vpc.groups[*g];
        let list = if direction == SgDirection::In { &group.ingress } else { &group.egress };
        for (index, rule) in list.iter().enumerate() {
            let ports = tuple.proto == Protocol::ICMP
                || rule.ports.is_none_or(|(a, b)| (a..=b).contains(&tuple.dst_port));
            let peer = match rule.peer {
                Peer::Cidr(range) => range.contains(&peer_ip),
                Peer::Group(g) => in_group(g),
            };
            if ports && peer && rule.proto.is_none_or(|p| p == tuple.proto) {
                hits.push((rule.priority, rule.accept, order, index, *g));
            }
        }
    }
    match hits.into_iter().min() {
        Some((_, accept, _, index, group)) => (accept, SgDecision::Rule { group, index }),
        None => {
            let basic = lab.vpc.groups[own[0]].kind == GroupKind::Basic;
            (direction == SgDirection::Out && basic, SgDecision::Default)
        }
    }
}

fn ip_in(range: &str, ip: Ipv4Addr) -> bool {
    range.parse::<ipnet::Ipv4Net>().expect("a range").contains(&ip)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// The groups decide as the model does, and by the same rule.
    #[test]
    fn groups_decide_as_the_model(
        lab in any_lab(),
        (from, to) in (0..10_usize, 0..8_usize),
        (sp, dp, kind) in (10..12_u16, 1..6_u16, 0..3_u8),
    ) {
        let mut bench = Bench::new(lab);
        let src = *[&IP[..], &[CLIENT, HEALTH]].concat().get(from).expect("a source");
        let dst = IP[to];
        let (packet, tuple) = match kind {
            0 => (tcp((src, sp), (dst, dp), SYN), tuple(Protocol::TCP, (src, sp), (dst, dp))),
            1 => (udp((src, sp), (dst, dp), b"x"), tuple(Protocol::UDP, (src, sp), (dst, dp))),
            _ => (ping(src, dst, sp, false), tuple(Protocol::ICMP, (src, sp), (dst, 0x0800))),
        };
        if from < 8 {
            bench.send_from(from, &packet);
        } else {
            bench.send(PortId(4 + (from as u16 - 8)), &ip_frame(None, &packet));
        }
        let mut expected = Vec::new();
        let mut accepted = true;
        if from < 8 {
            let (accept, decision) = model(&bench.lab, from, SgDirection::Out, &tuple);
            expected.push((from, accept, decision));
            accepted = accept;
        }
        if accepted {
            let (accept, decision) = model(&bench.lab, to, SgDirection::In, &tuple);
            expected.push((to, accept, decision));
        }
        let seen: Vec<_> = bench.steps().iter().filter_map(|s| match s {
            Step::SecurityGroup { eni, accept, decision, .. } => Some((*eni, *accept, *decision)),
            _ => None,
        }).collect();
        prop_assert_eq!(seen, expected);
    }
}
