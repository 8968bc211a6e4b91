//! A node takes its memory before the first packet (spec LAW-6).

use crate::common::*;
use datapath::element::{Element, Output, Place};
use datapath::journey::PortId;
use datapath::node::{ETH1, FIRST_CALI, Node};
use datapath::port::Heap;
use datapath::time::Time;
use datapath::wire::tcp::Flags;
use datapath::wire::{Mac, ethernet};

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
