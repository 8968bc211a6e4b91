//! Tables whose memory has been touched: no first packet of a flow waits for the machine to find a
//! page.

use crate::common::*;
use datapath::element::{Departure, Element, Output, Place};
use datapath::journey::PortId;
use datapath::node::Node;
use datapath::port::Heap;
use datapath::time::Time;
use datapath::vpc::Vpc;
use datapath::wire::{Mac, ethernet};

/// Flows that begin, and how many pages may be found for them: some for what grows with no flow.
/// Tables without memory need hundreds, by pages of 4 KiB.
const FLOWS: u16 = 20_000;
const FEW: u64 = 40;

/// Pages that this thread has had to wait for, without a disk.
#[expect(clippy::disallowed_methods, reason = "the kernel counts them, and a test may ask it")]
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("statistics");
    // The name may have spaces; it ends with the last parenthesis. The seventh field behind it.
    let fields = stat.rsplit(')').next().expect("fields");
    fields.split_whitespace().nth(7).and_then(|field| field.parse().ok()).expect("a number")
}

/// Pages found while the first packets of many flows to `to` pass an element.
fn found<E: Element<Heap>>(
    element: &mut E,
    place: Place,
    (mac, tag): (Mac, Option<u16>),
    to: Addr,
) -> u64 {
    let first = |port| {
        let packet = udp((A, port), to, b"query");
        Heap::new(&frame(mac, Mac([2; 6]), tag, ethernet::IPV4, &packet))
    };
    let frames: Vec<_> = (1..=FLOWS).map(|at| first(20_000 + at)).collect();
    let (mut out, mut batch) = (Output::default(), Vec::with_capacity(1));
    out.departures.reserve_exact(frames.len());
    // What leaves stays there until all have passed, so that no memory comes and goes.
    let room = || Departure { place, frame: Heap::new(&[]) };
    out.departures.resize_with(frames.len(), room);
    out.departures.clear();
    let before = faults();
    for frame in frames {
        batch.push(frame);
        element.process(&mut batch, place, Time::from_secs(1), &mut out);
    }
    let found = faults() - before;
    assert_eq!(out.departures.len(), usize::from(FLOWS));
    found
}

#[test]
fn first_packets_find_the_tables_memory_there() {
    let keys = "switches: {permanentNeighbours: true, icmpRatelimit: 0}\n\
                limits: {flows: 65536, sessions: 65536}";
    let lab = lab_fnat_with("1024-65535", "toa: false", keys);
    let mut node = Node::new(&lab, 0).expect("a node");
    node.populate();
    let cali = (node.config().interface(CALI_A).expect("an interface").mac, None);
    let place = Place { port: CALI_A, queue: 0 };
    for to in [(C, 8_080), (FAR_XIP, 53), (FNAT, 53)] {
        let found = found(&mut node, place, cali, to);
        assert!(found < FEW, "{found} pages for {to:?}");
    }
    let mut vpc = Vpc::new(&lab);
    vpc.populate();
    let place = Place { port: PortId(1), queue: 1 };
    let found = found(&mut vpc, place, (lab.vpc.gateway_mac, Some(101)), (C, 8_080));
    assert!(found < FEW, "{found} pages in the VPC");
}
