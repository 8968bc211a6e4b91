//! Node and VPC take their memory before the first packet (spec LAW-6).

use crate::common::*;
use datapath::element::{Element, Output, Place};
use datapath::journey::PortId;
use datapath::node::{ETH0, ETH1, FIRST_CALI, Node};
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::vpc::Vpc;
use datapath::wire::tcp::Flags;
use datapath::wire::{Mac, Packet, ethernet};

/// A packet, and how it reaches the node.
type Arrival = (PortId, Option<u16>, Vec<u8>);

/// What the client's node sees of a life of a connection from port `port` of pod a through the
/// service's `vip`, whose endpoint is c.
fn connection(vip: std::net::Ipv4Addr, port: u16) -> Vec<Arrival> {
    let (client, service, server) = ((A, port), (vip, 80), (C, 8_080));
    let out =
        |flags, seq, ack| (CALI_A, None, segment((client, service), flags, (seq, ack), &[], &[]));
    // An answer goes to the pod's own ENI, unless the node stood in for the pod.
    let back =
        |flags, seq, ack| (ETH1, Some(101), segment((server, client), flags, (seq, ack), &[], &[]));
    let (syn, ack, fin) = (Flags::SYN, Flags::ACK, Flags::FIN);
    vec![
        out(syn, 100, 0),
        back(syn | ack, 500, 101),
        out(ack, 101, 501),
        back(ack, 501, 101),
        out(ack, 101, 501),
        back(ack, 501, 101),
        out(fin | ack, 101, 501),
        back(fin | ack, 501, 102),
        out(ack, 102, 502),
    ]
}

/// Requests in UDP, masqueraded, which nobody answers.
fn datagrams(port: u16) -> Vec<Arrival> {
    let request = || (CALI_A, None, udp((A, port), (FAR_XIP, 53), b"query"));
    vec![request(), request()]
}

/// Allocations while a node handles each of these, one batch a packet, and runs its timers.
fn allocations(node: &mut Node<Heap>, out: &mut Output<Heap>, packets: &[Arrival]) -> Vec<u64> {
    let arrive = |(port, tag, packet): &Arrival| {
        let mac = node.config().interface(*port).expect("an interface").mac;
        let bytes = frame(mac, Mac([2, 8, 8, 8, 8, 8]), *tag, ethernet::IPV4, packet);
        (Place { port: *port, queue: 0 }, vec![Heap::new(&bytes)])
    };
    let batches: Vec<_> = packets.iter().map(arrive).collect();
    let counted = batches.into_iter().map(|(place, mut batch)| {
        let info = allocation_counter::measure(|| {
            node.process(&mut batch, place, Time::from_secs(1), out);
            node.on_time(Time::from_secs(1), out);
        });
        assert_eq!(out.departures.len(), 1, "each is sent on");
        out.departures.clear();
        info.count_total
    });
    counted.collect()
}

#[test]
fn no_packet_makes_a_node_allocate() {
    let keys = "permanentNeighbours: true";
    for cache in [true, false] {
        let lab = lab_switched(&format!("{keys}, flowCache: {cache}"));
        let mut node = Node::new(&lab, 0).expect("a node");
        let mut out = Output::default();
        // The caller's list of departures grows with its first, which shows that they are counted.
        assert_eq!(allocations(&mut node, &mut out, &connection(FAR, 40_000))[0], 1);
        for port in 40_001..40_004 {
            let packets = [connection(FAR, port), datagrams(port)].concat();
            let counted = allocations(&mut node, &mut out, &packets);
            assert_eq!(counted, vec![0; packets.len()], "cache {cache}");
        }
        assert_eq!(node.cache_counters().hits > 0, cache);
        let ended = allocation_counter::measure(|| {
            while node.poll_at().is_some_and(|at| at <= Time::from_secs(1_000)) {
                node.on_time(Time::from_secs(1_000), &mut out);
            }
        });
        assert_eq!(ended.count_total, 0);
        assert!(node.connections().is_empty());
        assert_eq!(node.ledger().sent, node.ledger().received);
    }
}

#[test]
fn the_node_of_the_endpoint_allocates_nothing_either() {
    let lab = lab_switched("permanentNeighbours: true");
    let mut node = Node::new(&lab, 1).expect("a node");
    let mut out = Output::default();
    let pod = |port: u16| -> Vec<Arrival> {
        let (client, server) = ((A, port), (C, 8_080));
        let syn = segment((client, server), Flags::SYN, (100, 0), &[], &[]);
        let answer = segment((server, client), Flags::SYN | Flags::ACK, (500, 101), &[], &[]);
        vec![(ETH1, Some(201), syn), (PortId(FIRST_CALI), None, answer)]
    };
    allocations(&mut node, &mut out, &pod(40_000));
    assert_eq!(allocations(&mut node, &mut out, &pod(40_001)), [0, 0]);
    assert_eq!(node.ledger().sent, 4);
}

/// A list of departures that has room for all.
fn roomy() -> Output<Heap> {
    let mut out = Output::default();
    out.departures.reserve(128);
    out
}

/// Allocations while an element handles a batch and runs its timers. Every frame is sent on.
fn batch<E: Element<Heap>>(
    element: &mut E,
    out: &mut Output<Heap>,
    place: Place,
    now: Time,
    frames: &[Vec<u8>],
) -> u64 {
    out.departures.clear();
    let mut batch: Vec<_> = frames.iter().map(|bytes| Heap::new(bytes)).collect();
    let info = allocation_counter::measure(|| {
        element.process(&mut batch, place, now, out);
        element.on_time(now, out);
    });
    assert_eq!(out.departures.len(), frames.len());
    info.count_total
}

#[test]
fn connections_of_mode_fnat_make_a_node_allocate_nothing() {
    for (cache, toa) in [(true, true), (true, false), (false, true)] {
        let switches = format!("permanentNeighbours: true, icmpRatelimit: 0, flowCache: {cache}");
        let keys = format!("switches: {{{switches}}}");
        // So few ports that those that have come back are soon taken again.
        let lab = lab_fnat_with("2000-2003", &format!("toa: {toa}"), &keys);
        let mut node = Node::new(&lab, 0).expect("a node");
        let mut out = roomy();
        let mac = |port| node.config().interface(port).expect("an interface").mac;
        let (cali, eth0) = (mac(CALI_A), mac(ETH0));
        let framed = |mac, packet: &[u8]| frame(mac, Mac([2; 6]), None, ethernet::IPV4, packet);
        let mut counted = 0;
        for at in 0..40_u16 {
            let now = Time::from_secs(1 + u64::from(at / 4) * 2_000);
            let ended = allocation_counter::measure(|| {
                while node.poll_at().is_some_and(|at| at <= now) {
                    node.on_time(now, &mut out);
                }
            });
            counted += ended.count_total;
            let mut say = |port, mac, packet: Vec<u8>| {
                let place = Place { port: PortId(port), queue: 0 };
                counted += batch(&mut node, &mut out, place, now, &[framed(mac, &packet)]);
                let sent = out.departures[0].frame.bytes();
                let start = if ethernet::tag(sent).is_some() { 18 } else { 14 };
                Packet::parse(&sent[start..]).expect("a packet").tuple
            };
            let request = |flags| tcp((A, 40_000 + at), (FNAT, 80), flags);
            let sent = say(CALI_A.0, cali, request(SYN));
            assert!(LOCALS.contains(&sent.src));
            for flags in [SYN_ACK, ACK, ACK] {
                say(ETH0.0, eth0, tcp((C, 8_080), (sent.src, sent.src_port), flags));
                say(CALI_A.0, cali, request(ACK));
            }
        }
        assert_eq!(counted, 0, "cache {cache}, toa {toa}");
        assert_eq!(node.cache_counters().hits > 0, cache);
    }
}

#[test]
fn the_first_batch_of_many_frames_makes_nobody_allocate() {
    let lab = lab_switched("permanentNeighbours: true");
    let mut out = roomy();
    let now = Time::from_secs(1);
    let many = |ports: std::ops::Range<u16>, to: Addr, mac, tag| -> Vec<Vec<u8>> {
        let packets = ports.map(|port| udp((A, port), to, b"query"));
        packets.map(|p| frame(mac, Mac([2; 6]), tag, ethernet::IPV4, &p)).collect()
    };
    let flows = |to, mac, tag| many(40_000..40_032, to, mac, tag);
    // From a pod, to one on another node and to a service.
    for to in [(C, 8_080), (FAR, 53)] {
        let mut node = Node::new(&lab, 0).expect("a node");
        let cali = node.config().interface(CALI_A).expect("an interface").mac;
        let place = Place { port: CALI_A, queue: 0 };
        let frames = flows(to, cali, None);
        // Where there are that many flows, more is done ahead.
        for alone in many(50_000..50_600, to, cali, None) {
            assert_eq!(batch(&mut node, &mut out, place, now, &[alone]), 0);
        }
        assert_eq!(batch(&mut node, &mut out, place, now, &frames), 0, "{to:?}");
    }
    // By the trunk, for one member and for two of them by turns: those wait in their queues.
    let trunk = lab.enis[lab.nodes[1].trunk].mac;
    let mixed = (flows((C, 8_080), trunk, Some(201)), flows((D, 8_080), trunk, Some(202)));
    let mixed = mixed.0.into_iter().zip(mixed.1).flat_map(|(c, d)| [c, d]).collect();
    for frames in [flows((C, 8_080), trunk, Some(201)), mixed] {
        let mut node = Node::new(&lab, 1).expect("a node");
        let place = Place { port: ETH1, queue: 1 };
        assert_eq!(batch(&mut node, &mut out, place, now, &frames), 0);
    }
    // Through the VPC, more than once.
    let mut vpc = Vpc::new(&lab);
    let frames = flows((C, 8_080), lab.vpc.gateway_mac, Some(101));
    let place = Place { port: PortId(1), queue: 1 };
    for hits in [0, 32, 64] {
        assert_eq!(batch(&mut vpc, &mut out, place, now, &frames), 0);
        assert_eq!(vpc.cache_counters().hits, hits);
    }
    let ended = allocation_counter::measure(|| vpc.on_time(Time::from_secs(2_000), &mut out));
    assert_eq!((ended.count_total, vpc.sessions(Time::from_secs(2_000)).count()), (0, 0));
}
