//! The trunk's queues: a member ENI's frames, and only its own (spec TRUNK).

use crate::common::*;
use datapath::element::{Element, Output, Place};
use datapath::link::HostId;
use datapath::node::{ETH1, Node, QueueCounters};
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::verdict::DropReason;
use datapath::wire::ethernet;

fn bench() -> Bench {
    Bench::new(lab_switched(""))
}

/// What queue `queue` of a node's trunk has counted.
fn counters(node: &Node<Heap>, queue: usize) -> QueueCounters {
    node.trunk_counters().nth(queue).expect("a queue").1
}

fn to_a(n: u16) -> Vec<u8> {
    udp((D, n), (A, 53), b"x")
}

fn to_b(n: u16) -> Vec<u8> {
    udp((D, n), (B, 53), b"x")
}

#[test]
fn queues_are_numbered_by_vid() {
    let vids: Vec<_> = bench().node.trunk_counters().map(|(vid, _)| vid.map(u16::from)).collect();
    assert_eq!(vids, [None, Some(101), Some(102)]);
}

#[test]
fn the_vid_selects_the_queue_and_never_the_pod() {
    // The right one, another pod's, an unknown one; the pod has to be asked for first.
    for (vid, queue, mismatched) in [(101, 1, 0), (102, 2, 1), (4_000, 0, 1), (4_095, 0, 1)] {
        let mut bench = bench();
        let expected = QueueCounters { queued: 1, mismatched, ..QueueCounters::default() };
        let seen = bench.tagged(vid, &to_a(1));
        assert_eq!((seen.len(), seen[0].port), (1, CALI_A));
        assert_eq!(counters(&bench.node, queue), expected, "VID {vid}, asked for");
        bench.tagged(vid, &to_a(2));
        let expected = QueueCounters { queued: 2, mismatched: 2 * mismatched, ..expected };
        assert_eq!(counters(&bench.node, queue), expected, "VID {vid}, known");
    }
}

#[test]
fn a_missing_tag_is_delivered_and_counted() {
    let mut bench = bench();
    assert_eq!(bench.sent(ETH1, &to_a(1)).port, CALI_A);
    let expected = QueueCounters { queued: 1, mismatched: 1, ..QueueCounters::default() };
    assert_eq!(counters(&bench.node, 0), expected);
}

#[test]
fn what_is_not_for_a_pod_mismatches_nothing() {
    let mut bench = bench();
    assert_eq!(bench.sent(ETH1, &udp((D, 1), (N1, 53), b"x")).port, HOST);
    bench.tagged(101, &udp((D, 1), (CLIENT, 53), b"x"));
    for queue in 0..3 {
        assert_eq!(counters(&bench.node, queue).mismatched, 0);
    }
}

#[test]
fn a_frame_on_another_queue_than_its_vids_is_counted() {
    let mut bench = bench();
    let bytes = bench.framed(ETH1, Some(101), &to_a(1));
    for (arrived_on, strayed) in [(1, 0), (2, 1), (0, 2)] {
        assert_eq!(bench.put(ETH1, arrived_on, &bytes)[0].port, CALI_A);
        assert_eq!(counters(&bench.node, 1).strayed, strayed);
    }
    assert_eq!(counters(&bench.node, 1).mismatched, 0);
}

#[test]
fn tags_are_pushed_by_source_on_the_queue_of_their_vid() {
    let mut bench = bench();
    for (port, pod, vid, queue) in [(CALI_A, A, 101, 1), (CALI_B, B, 102, 2)] {
        let seen = bench.sent(port, &udp((pod, 1), (D, 53), b"x"));
        assert_eq!((seen.port, seen.queue, seen.view().vid), (ETH1, queue, Some(vid)));
    }
    let seen = bench.sent(CALI_A, &udp((C, 1), (D, 53), b"not a pod of this node"));
    assert_eq!(seen.queue, 0);
    assert_eq!(seen.view().vid, None);
}

#[test]
fn a_flooded_member_loses_its_own_frames_only() {
    let mut bench = bench();
    bench.tagged(101, &to_a(1));
    bench.tagged(102, &to_b(1));
    bench.node.serve_trunk_queue(1, false);
    for n in 0..1_000 {
        assert_eq!(bench.tagged(101, &to_a(n)), []);
    }
    let delivered = (0..1_000).filter(|n| bench.tagged(102, &to_b(*n)).len() == 1).count();
    assert_eq!(delivered, 1_000);
    let limit = u64::from(bench.lab.limits.member_queue);
    assert_eq!(counters(&bench.node, 1).lost, 1_000 - limit);
    assert_eq!(counters(&bench.node, 2).lost, 0);
    let drops = &bench.node.ledger().dropped;
    assert_eq!(drops.of(DropReason::MemberQueueFull), 1_000 - limit);
    assert_eq!(bench.node.held(), limit);
    assert!(bench.node.poll_at().is_none_or(|at| at > bench.now), "nothing that can be served");
    bench.node.serve_trunk_queue(1, true);
    assert_eq!(bench.node.poll_at(), Some(Time::ZERO));
    let left: Vec<u16> = bench.wait(0).iter().map(|seen| seen.view().src.1).collect();
    assert_eq!(left, (0..128).collect::<Vec<_>>(), "in order");
    assert_eq!(bench.node.held(), 0);
}

#[test]
fn so_it_is_through_the_whole_lab() {
    let mut run = Run::new(lab_switched(""));
    run.send(HostId::Pod(POD_D), &to_a(1));
    run.send(HostId::Pod(POD_D), &to_b(1));
    while run.link.take_delivery().is_some() {}
    run.link.node_mut(0).expect("a node").serve_trunk_queue(1, false);
    for n in 0..1_000 {
        run.send(HostId::Pod(POD_D), &to_a(n));
        run.send(HostId::Pod(POD_D), &to_b(n));
    }
    let to_pod =
        |host| move |delivery: &datapath::link::Delivery| delivery.host == HostId::Pod(host);
    let deliveries: Vec<_> = std::iter::from_fn(|| run.link.take_delivery()).collect();
    assert_eq!(deliveries.iter().filter(|d| to_pod(POD_B)(d)).count(), 1_000);
    assert_eq!(deliveries.iter().filter(|d| to_pod(POD_A)(d)).count(), 0);
    assert_eq!(run.link.lost(), 0, "the wires lose nothing");
    let node = run.link.node(0).expect("a node");
    assert_eq!(counters(node, 1).lost, 1_000 - 128);
    run.link.node_mut(0).expect("a node").serve_trunk_queue(1, true);
    run.wait(0);
    let left = std::iter::from_fn(|| run.link.take_delivery()).filter(to_pod(POD_A)).count();
    assert_eq!(left, 128);
}

#[test]
fn queues_are_served_in_turn() {
    let mut bench = bench();
    bench.tagged(101, &to_a(1));
    bench.tagged(102, &to_b(1));
    bench.node.serve_trunk_queue(1, false);
    bench.node.serve_trunk_queue(2, false);
    for n in 0..40 {
        bench.tagged(101, &to_a(n));
    }
    for n in 0..20 {
        bench.tagged(102, &to_b(n));
    }
    bench.node.serve_trunk_queue(1, true);
    bench.node.serve_trunk_queue(2, true);
    let order: Vec<_> = bench.wait(0).iter().map(|seen| seen.port == CALI_A).collect();
    let runs: Vec<usize> = order.chunk_by(|a, b| a == b).map(<[bool]>::len).collect();
    assert_eq!(runs, [16, 16, 16, 4, 8], "sixteen frames a turn");
}

#[test]
fn a_batch_of_several_queues_is_taken_as_a_whole() {
    let bench = bench();
    let mut node: Node<Heap> = Node::new(&bench.lab, 0).expect("a node");
    let mut out = Output::default();
    out.blanks.resize_with(64, Heap::default);
    let frames = [(101, to_a(1)), (102, to_b(2)), (101, to_a(3))];
    let framed = |(vid, packet): &(u16, Vec<u8>)| {
        Heap::new(&frame(bench.mac(ETH1), bench.peer(ETH1), Some(*vid), ethernet::IPV4, packet))
    };
    let mut batch: Vec<Heap> = frames.iter().map(framed).collect();
    let place = Place { port: ETH1, queue: 1 };
    node.process(&mut batch, place, bench.now, &mut out);
    assert!(batch.is_empty());
    assert_eq!(node.held(), 3, "all wait for their pods");
    assert_eq!(counters(&node, 2).strayed, 1);
    assert!(out.departures.iter().all(|d| d.frame.bytes().len() == 42), "two ARP requests");
}
