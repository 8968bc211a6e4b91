//! The whole data link in memory and in virtual time: no root, no namespaces, no clock.
//!
//! Wires take no time. Frames move one at a time in the order in which they were sent, through
//! queues as bounded as a veth's, so the same input gives the same bytes on every run (spec
//! LAW-5).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    ElementId, HostId, Peer, Snapshot, Socket, arp_answer, is_arp, peer_of, ports_of, socket_of,
};
use crate::element::{Departure, Element, Output, Place};
use crate::journey::Hop;
use crate::lab::Lab;
use crate::node::Node;
use crate::port::{Buffer, Heap, MemoryQueues};
use crate::time::Time;
use crate::vpc::Vpc;
use crate::wire::ethernet;

/// Buffers an element finds ready for frames of its own.
const BLANKS: usize = 64;

/// Which way a frame goes, seen from the element or host it is seen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// It arrives.
    In,
    /// It leaves.
    Out,
}

/// Where a frame was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tap {
    /// At a port of an element.
    Port(Socket),
    /// At a host's end of its wire.
    Host(HostId),
}

/// A frame that reached a host and was not ARP.
#[derive(Debug)]
pub struct Delivery {
    /// The host.
    pub host: HostId,
    /// The frame.
    pub frame: Heap,
}

type Watcher = dyn FnMut(Time, Tap, Direction, &[u8]);

/// What an element has beside itself: the queues in front of its ports, and its output.
#[derive(Debug)]
struct Station {
    id: ElementId,
    inbound: Vec<MemoryQueues<Heap>>,
    peers: Vec<Option<Peer>>,
    out: Output<Heap>,
}

/// A lab in memory.
pub struct MemoryLink {
    lab: Lab,
    now: Time,
    nodes: Vec<Node<Heap>>,
    vpc: Vpc<Heap>,
    /// One for each node, then the VPC's.
    stations: Vec<Station>,
    /// Queues with a frame to process, in the order in which the frames were sent.
    pending: VecDeque<(Socket, u16)>,
    deliveries: VecDeque<Delivery>,
    watcher: Option<Box<Watcher>>,
}

impl std::fmt::Debug for MemoryLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryLink").field("now", &self.now).finish_non_exhaustive()
    }
}

impl MemoryLink {
    /// The lab at time zero, with empty tables.
    #[must_use]
    pub fn new(lab: Lab) -> Self {
        let limit = lab.limits.link_queue as usize;
        let station = |id| {
            let ports = ports_of(&lab, id);
            Station {
                id,
                inbound: ports
                    .iter()
                    .map(|(_, queues)| MemoryQueues::new(usize::from(*queues), limit))
                    .collect(),
                peers: ports
                    .iter()
                    .map(|(port, _)| peer_of(&lab, Socket { element: id, port: *port }))
                    .collect(),
                out: Output::default(),
            }
        };
        let stations = ElementId::all(&lab).map(station).collect();
        let nodes = (0..lab.nodes.len()).filter_map(|node| Node::new(&lab, node)).collect();
        Self {
            now: Time::ZERO,
            nodes,
            vpc: Vpc::new(&lab),
            stations,
            pending: VecDeque::new(),
            deliveries: VecDeque::new(),
            watcher: None,
            lab,
        }
    }

    /// The lab.
    #[must_use]
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Puts another version of the lab in place, at this moment: profile, switches and services
    /// change, flows live on (spec LAB-29). Where the machines differ it returns false and changes
    /// nothing.
    pub fn apply(&mut self, lab: Lab) -> bool {
        let snapshot = Snapshot::new(lab);
        snapshot.install(&mut self.lab, &mut self.nodes, &mut self.vpc, self.now).is_ok()
    }

    /// The present.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// A node of the lab.
    #[must_use]
    pub fn node(&self, index: usize) -> Option<&Node<Heap>> {
        self.nodes.get(index)
    }

    /// A node of the lab, to switch what can be switched.
    pub fn node_mut(&mut self, index: usize) -> Option<&mut Node<Heap>> {
        self.nodes.get_mut(index)
    }

    /// The VPC.
    #[must_use]
    pub const fn vpc(&self) -> &Vpc<Heap> {
        &self.vpc
    }

    /// An element.
    #[must_use]
    pub fn element(&self, id: ElementId) -> Option<&dyn Element<Heap>> {
        match id {
            ElementId::Node(node) => {
                self.nodes.get(node).map(|node| -> &dyn Element<Heap> { node })
            }
            ElementId::Vpc => Some(&self.vpc),
        }
    }

    /// Calls `watcher` for every frame at every port and host, in order.
    pub fn watch(&mut self, watcher: impl FnMut(Time, Tap, Direction, &[u8]) + 'static) {
        self.watcher = Some(Box::new(watcher));
    }

    /// Opens every element's journal for up to `limit` hops each.
    pub fn open_journals(&mut self, limit: usize) {
        for station in &mut self.stations {
            station.out.journal.open(limit);
        }
    }

    /// Closes every journal and takes out the hops of each element.
    pub fn close_journals(&mut self) -> Vec<(ElementId, Vec<Hop>)> {
        self.stations.iter_mut().map(|s| (s.id, s.out.journal.close())).collect()
    }

    /// Has a host send a frame. Returns false where the lab has no such host.
    pub fn send(&mut self, host: HostId, frame: &[u8]) -> bool {
        let Some(socket) = socket_of(&self.lab, host) else { return false };
        self.see(Tap::Host(host), Direction::Out, frame);
        self.enqueue(socket, 0, Heap::new(frame));
        true
    }

    /// Has a frame arrive at a port of an element, as if the other end of its wire had sent it.
    /// Its queue is that of its tag.
    pub fn arrive(&mut self, socket: Socket, frame: &[u8]) {
        let vid = ethernet::tag(frame).and_then(ethernet::Tag::vid);
        let queue = match (socket.element, vid) {
            (ElementId::Node(node), Some(vid)) => self.lab.trunk_queue(node, vid),
            _ => 0,
        };
        self.enqueue(socket, queue, Heap::new(frame));
    }

    /// Frames that reached hosts and wait to be taken, oldest first.
    pub fn take_delivery(&mut self) -> Option<Delivery> {
        self.deliveries.pop_front()
    }

    /// Moves frames until none is on its way. Time stands still.
    pub fn settle(&mut self) {
        while let Some((socket, queue)) = self.pending.pop_front() {
            self.process(socket, queue);
        }
    }

    /// The next moment at which an element has something to do; `None` when none ever will.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        ElementId::all(&self.lab).filter_map(|id| self.element(id)?.poll_at()).min()
    }

    /// Lets time pass up to `until`, stopping at every moment at which an element has something
    /// to do. Time never goes back.
    pub fn advance(&mut self, until: Time) {
        self.settle();
        while let Some(at) = self.poll_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.run_timers();
            self.settle();
        }
        self.now = self.now.max(until);
    }

    fn run_timers(&mut self) {
        for index in 0..self.stations.len() {
            let Some(station) = self.stations.get_mut(index) else { continue };
            fill_blanks(&mut station.out);
            match station.id {
                ElementId::Node(node) => {
                    if let Some(node) = self.nodes.get_mut(node) {
                        node.on_time(self.now, &mut station.out);
                    }
                }
                ElementId::Vpc => self.vpc.on_time(self.now, &mut station.out),
            }
            self.forward(index);
        }
    }

    fn station_of(&self, id: ElementId) -> usize {
        match id {
            ElementId::Node(node) => node,
            ElementId::Vpc => self.stations.len().saturating_sub(1),
        }
    }

    fn process(&mut self, socket: Socket, queue: u16) {
        let index = self.station_of(socket.element);
        let Some(station) = self.stations.get_mut(index) else { return };
        let Some(queues) = station.inbound.get_mut(usize::from(socket.port.0)) else { return };
        let mut batch = Vec::with_capacity(1);
        queues.take(queue, 1, &mut batch);
        fill_blanks(&mut station.out);
        if let (Some(watcher), Some(frame)) = (&mut self.watcher, batch.first()) {
            watcher(self.now, Tap::Port(socket), Direction::In, frame.bytes());
        }
        let place = Place { port: socket.port, queue };
        match socket.element {
            ElementId::Node(node) => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.process(&mut batch, place, self.now, &mut station.out);
                }
            }
            ElementId::Vpc => self.vpc.process(&mut batch, place, self.now, &mut station.out),
        }
        self.forward(index);
    }

    /// Moves what a station has sent to where its wires lead.
    fn forward(&mut self, index: usize) {
        let Some(station) = self.stations.get_mut(index) else { return };
        let departures = std::mem::take(&mut station.out.departures);
        for Departure { place, frame } in departures {
            let Some(station) = self.stations.get(index) else { return };
            let socket = Socket { element: station.id, port: place.port };
            let peer = station.peers.get(usize::from(place.port.0)).copied().flatten();
            self.see(Tap::Port(socket), Direction::Out, frame.bytes());
            match peer {
                Some(Peer::Socket(to)) => self.enqueue(to, place.queue, frame),
                Some(Peer::Host(host)) => self.deliver(host, frame),
                None => {}
            }
        }
    }

    fn enqueue(&mut self, socket: Socket, queue: u16, frame: Heap) {
        let index = self.station_of(socket.element);
        let Some(station) = self.stations.get_mut(index) else { return };
        let Some(queues) = station.inbound.get_mut(usize::from(socket.port.0)) else { return };
        let queue = if queue < queues.count() { queue } else { 0 };
        if queues.push(queue, frame).is_ok() {
            self.pending.push_back((socket, queue));
        }
    }

    /// Gives a frame to a host, which answers ARP for its addresses by itself.
    fn deliver(&mut self, host: HostId, frame: Heap) {
        self.see(Tap::Host(host), Direction::In, frame.bytes());
        if !is_arp(frame.bytes()) {
            self.deliveries.push_back(Delivery { host, frame });
        } else if let Some(answer) = arp_answer(&self.lab, host, frame.bytes()) {
            self.send(host, &answer);
        }
    }

    fn see(&mut self, tap: Tap, direction: Direction, frame: &[u8]) {
        if let Some(watcher) = &mut self.watcher {
            watcher(self.now, tap, direction, frame);
        }
    }

    /// Frames lost in full queues, all wires together.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.stations.iter().flat_map(|s| &s.inbound).map(MemoryQueues::lost).sum()
    }

    /// Whether every element's ledger balances.
    #[must_use]
    pub fn balances(&self) -> bool {
        ElementId::all(&self.lab)
            .filter_map(|id| self.element(id))
            .all(|element| element.ledger().balances(element.held()))
    }
}

/// Gives an element buffers for frames of its own.
fn fill_blanks(out: &mut Output<Heap>) {
    out.blanks.resize_with(BLANKS, Heap::default);
}
