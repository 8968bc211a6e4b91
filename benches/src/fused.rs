//! The whole link in memory as one worker runs it: node, VPC, node, joined by fused links.

use std::net::Ipv4Addr;

use datapath::element::{Element, Output, Place};
use datapath::journey::PortId;
use datapath::lab::{self, Lab};
use datapath::link::{ElementId, Handover};
use datapath::node::{FIRST_CALI, Node};
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::vpc::Vpc;
use datapath::wire::{Packet, ethernet};
use etherparse::PacketBuilder;

use crate::scenario8::{PAYLOAD, lab_text, request};
use crate::{BATCH, Work};

/// The port of a node's first pod.
const POD: Place = Place { port: PortId(FIRST_CALI), queue: 0 };

/// An element with its output.
struct Station {
    element: Box<dyn Element<Heap>>,
    out: Output<Heap>,
}

/// The article's scenario 8 with UDP: requests of a pod's flows, each used from both sides before,
/// from the pod on one node to the one on the other.
pub struct FusedLink {
    stations: Vec<Station>,
    handover: Handover<Heap>,
    batch: Vec<Heap>,
    arrived: Vec<Heap>,
    frames: Vec<Vec<u8>>,
}

impl std::fmt::Debug for FusedLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FusedLink").field("flows", &self.frames.len()).finish_non_exhaustive()
    }
}

impl FusedLink {
    /// The link after each of `flows` flows has been used from both sides.
    ///
    /// # Panics
    /// Where a frame does not arrive.
    #[must_use]
    pub fn established(flows: u32) -> Self {
        let text = format!("links: fused\n{}", lab_text(flows, true));
        let lab = lab::load(&text, "bench").expect("the bench's lab loads");
        let elements: Vec<_> = ElementId::all(&lab).collect();
        let station =
            |id: &ElementId| Station { element: element(&lab, *id), out: Output::default() };
        let mut this = Self {
            stations: elements.iter().map(station).collect(),
            handover: Handover::new(&lab, &elements),
            batch: Vec::with_capacity(BATCH),
            arrived: Vec::with_capacity(BATCH),
            frames: (0..flows).map(|flow| request(&lab, flow)).collect(),
        };
        for flow in 0..flows as usize {
            for _ in 0..2 {
                let request = this.frames[flow].clone();
                let answer = answer(&this.cross(0, &request));
                this.cross(1, &answer);
            }
        }
        this
    }

    /// Sends a frame from the pod of a node and returns what arrives at the other's.
    fn cross(&mut self, from: usize, frame: &[u8]) -> Vec<u8> {
        self.batch.push(Heap::new(frame));
        self.run(from);
        let arrived = self.arrived.pop().expect("the link delivers every frame");
        assert!(self.arrived.is_empty(), "one frame");
        arrived.bytes().to_vec()
    }

    /// Has a node process the batch, which comes from its pod, and the others what follows of it.
    fn run(&mut self, from: usize) {
        let mut next = Some((from, POD));
        while let Some((number, place)) = next {
            let Station { element, out } = &mut self.stations[number];
            element.process(&mut self.batch, place, Time::ZERO, out);
            let arrived = &mut self.arrived;
            self.handover.pass_on(number, &mut out.departures, |_, frame| arrived.push(frame));
            next = self.handover.take_next(BATCH, &mut self.batch);
        }
    }
}

impl Work for FusedLink {
    fn frames(&self) -> &[Vec<u8>] {
        &self.frames
    }

    fn handle(&mut self, batch: &mut Vec<Heap>) {
        self.batch.append(batch);
        self.run(0);
        batch.append(&mut self.arrived);
    }
}

fn element(lab: &Lab, id: ElementId) -> Box<dyn Element<Heap>> {
    match id {
        ElementId::Node(node) => {
            let mut node = Node::new(lab, node).expect("a node of the lab");
            node.populate();
            Box::new(node)
        }
        ElementId::Vpc => {
            let mut vpc = Vpc::new(lab);
            vpc.populate();
            Box::new(vpc)
        }
    }
}

/// The answer to a datagram that has arrived at a pod.
fn answer(arrived: &[u8]) -> Vec<u8> {
    let header = ethernet::Header::parse(arrived).expect("a frame");
    let ip = &arrived[ethernet::HEADER_LEN..];
    let tuple = Packet::<Ipv4Addr>::parse(ip).expect("a packet").tuple;
    let builder = PacketBuilder::ethernet2(header.dst.0, header.src.0)
        .ipv4(tuple.dst.octets(), tuple.src.octets(), 64)
        .udp(tuple.dst_port, tuple.src_port);
    let mut frame = Vec::new();
    builder.write(&mut frame, &PAYLOAD).expect("a small datagram");
    frame
}
