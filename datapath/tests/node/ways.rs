//! More ways than a node keeps: pods that all talk to all (spec FLOW-7, LAW-4).

use std::net::Ipv4Addr;

use crate::common::*;
use datapath::element::{Element, Output, Place};
use datapath::journey::PortId;
use datapath::lab::{self, Lab};
use datapath::node::{FIRST_CALI, Node};
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::wire::{Mac, ethernet};

/// Pods of one node. Every two of them have two ways: 4,290 in all.
const PODS: u8 = 66;

fn ip(pod: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 4, 30 + pod)
}

fn crowd(cache: bool) -> Lab {
    let pod = |at: u8| format!("  - {{name: t/p{at}, node: n1, ip: {}}}\n", ip(at));
    let pods: String = (0..PODS).map(pod).collect();
    let text = format!(
        "vpc: {{cidr: 10.0.0.0/16, vSwitches: {{vsw: {{cidr: 10.0.4.0/24}}}}}}\nnodes:\n  - {{name: n1, eth0: {{ip: 10.0.4.20}}, trunk: {{ip: 10.0.4.21}}}}\n\
         pods:\n{pods}switches: {{permanentNeighbours: true, flowCache: {cache}}}\n"
    );
    lab::load(&text, "crowd").unwrap_or_else(|error| panic!("{error}"))
}

/// A datagram between every two pods, once there and once back; what leaves.
fn round(node: &mut Node<Heap>, out: &mut Output<Heap>) -> Vec<(PortId, Vec<u8>)> {
    let mut sent = Vec::new();
    for (one, other) in (0..PODS).flat_map(|one| (0..one).map(move |other| (one, other))) {
        for (from, to) in [(one, other), (other, one)] {
            let port = PortId(FIRST_CALI + u16::from(from));
            let mac = node.config().interface(port).expect("an interface").mac;
            let packet = udp((ip(from), 7), (ip(to), 7), b"hello");
            let bytes = frame(mac, Mac([2; 6]), None, ethernet::IPV4, &packet);
            let place = Place { port, queue: 0 };
            node.process(&mut vec![Heap::new(&bytes)], place, Time::from_secs(1), out);
            let left = out.departures.drain(..);
            sent.extend(left.map(|d| (d.place.port, d.frame.bytes().to_vec())));
        }
    }
    sent
}

#[test]
fn more_ways_than_there_is_room_for_cost_those_that_have_gone_a_walk() {
    let mut nodes = [true, false].map(|cache| Node::new(&crowd(cache), 0).expect("a node"));
    let mut out = Output::default();
    let packets = u64::from(PODS) * u64::from(PODS - 1);
    for number in 0..6 {
        let before = nodes[0].cache_counters().hits;
        let [cached, walked] = nodes.each_mut().map(|node| round(node, &mut out));
        assert_eq!(cached.len() as u64, packets);
        assert!(cached == walked, "round {number}");
        let hits = nodes[0].cache_counters().hits - before;
        // Those of the first two rounds establish their flows and learn.
        assert!(number < 2 || hits > packets * 3 / 4, "round {number}: {hits} of {packets}");
    }
    let [cached, walked] = &nodes;
    assert_eq!(cached.ledger(), walked.ledger());
    let flows = |node: &Node<Heap>| {
        let now = Time::from_secs(1);
        format!("{:?}", node.conntrack().iter(now).collect::<Vec<_>>())
    };
    assert!(flows(cached) == flows(walked));
}
