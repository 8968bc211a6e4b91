//! A lab on the kernel's nodes as hosts in this process have it, and the record of what passed.

use std::collections::{BTreeMap, VecDeque};

use anyhow::Context as _;
use datapath::journey::{Fate, Hop, Rewriter, Sighting, Step};
use datapath::lab::Lab;
use datapath::link::{Direction, ElementId, HostId, Peer, Socket, is_arp, peer_of};
use datapath::time::Time;
use datapath::wire::{Packet, ethernet, tcp};

use super::bed::KernelBed;
use crate::case::{Bed as _, Crossing};
use crate::journey::{PortCount, Recording};
use crate::memory::HostLink;

/// Hops kept of the VPC.
const HOPS: usize = 65_536;

/// A data link of the kernel's nodes and our VPC, in real time.
#[derive(Debug)]
pub struct KernelLink {
    bed: KernelBed,
    lab: Lab,
    deliveries: VecDeque<(HostId, Vec<u8>)>,
    /// What has crossed the ports, with the moment at which it was seen.
    crossings: Vec<(Time, Crossing)>,
    /// What kept the bed from going on, the first time.
    failure: Option<anyhow::Error>,
}

impl KernelLink {
    /// Programs the nodes of a lab.
    ///
    /// # Errors
    /// What kept the lab from starting.
    pub fn start(lab: &Lab) -> anyhow::Result<Self> {
        let mut bed = KernelBed::alone(lab)?;
        bed.open_journal(HOPS);
        let (deliveries, crossings) = (VecDeque::new(), Vec::new());
        Ok(Self { bed, lab: lab.clone(), deliveries, crossings, failure: None })
    }

    /// The record: the VPC's own hops; of a node, which frame came out when which had gone in.
    ///
    /// # Errors
    /// What kept the lab from running on.
    pub fn finish(mut self) -> anyhow::Result<Recording> {
        if let Some(failure) = self.failure {
            return Err(failure).context("the kernel's nodes stopped");
        }
        let (hops, ledger) = self.bed.close_journal();
        let nodes = (0..self.lab.nodes.len()).map(ElementId::Node);
        let of_node = |node| (node, hops_of(node, &self.crossings));
        let hops = nodes.map(of_node).chain([(ElementId::Vpc, hops)]).collect();
        let ledgers = vec![(ElementId::Vpc, ledger)];
        Ok(Recording { hops, ledgers, ports: counts(&self.crossings), frames_only: true })
    }

    fn keep<T>(&mut self, result: anyhow::Result<T>) -> Option<T> {
        result.map_err(|error| self.failure.get_or_insert(error)).ok()
    }

    fn note(&mut self, crossing: Crossing) {
        let peer = peer_of(&self.lab, crossing.socket);
        if let (Direction::Out, Some(Peer::Host(host))) = (crossing.direction, peer)
            && !is_arp(&crossing.frame)
        {
            self.deliveries.push_back((host, crossing.frame.clone()));
        }
        self.crossings.push((self.bed.now(), crossing));
    }
}

impl HostLink for KernelLink {
    fn lab(&self) -> &Lab {
        &self.lab
    }

    fn now(&self) -> Time {
        self.bed.now()
    }

    fn send(&mut self, host: HostId, frame: &[u8]) -> bool {
        let sent = self.bed.send(host, frame);
        self.keep(sent).is_some()
    }

    fn settle(&mut self) {
        let seen = self.bed.settle();
        let seen = self.keep(seen).unwrap_or_default();
        seen.into_iter().for_each(|crossing| self.note(crossing));
    }

    fn take_delivery(&mut self) -> Option<(HostId, Vec<u8>)> {
        self.deliveries.pop_front()
    }

    fn poll_at(&self) -> Option<Time> {
        self.bed.poll_at()
    }

    fn advance(&mut self, until: Time) {
        let ran = self.bed.run_until(until);
        self.keep(ran);
    }
}

/// One hop for each packet that came out of a node, begun by the packet that had gone in last; one
/// without an end for each after which nothing came out. What a node says and is told by ARP in
/// between is a hop by itself.
fn hops_of(node: ElementId, crossings: &[(Time, Crossing)]) -> Vec<Hop> {
    let mut hops: Vec<Hop> = Vec::new();
    for (at, Crossing { socket, direction, frame }) in crossings {
        if socket.element != node {
            continue;
        }
        let tuple = packet(frame).map(|packet| packet.tuple);
        let sighting = Sighting::new(frame, socket.port, tuple);
        let is_packet = |hop: &&mut Hop| hop.arrival.is_some_and(|arrival| arrival.tuple.is_some());
        let last = hops.iter_mut().rev().find(is_packet);
        let open = last.filter(|hop| hop.fate == Fate::Delivered && sighting.tuple.is_some());
        match (direction, open) {
            (Direction::In, _) => hops.push(hop(*at, Some(sighting), frame)),
            (Direction::Out, Some(hop)) => {
                hop.fate = Fate::Sent(sighting);
                let from = hop.arrival.and_then(|arrival| arrival.tuple);
                if let (Some(from), Some(to)) = (from, sighting.tuple)
                    && from != to
                {
                    hop.steps.push(Step::Rewritten { by: Rewriter::Kernel, from, to });
                }
            }
            (Direction::Out, None) => {
                let made = Hop { fate: Fate::Sent(sighting), ..hop(*at, None, frame) };
                hops.push(made);
            }
        }
    }
    hops
}

fn hop(at: Time, arrival: Option<Sighting>, frame: &[u8]) -> Hop {
    let packet = packet(frame);
    Hop {
        at,
        arrival,
        flags: packet.as_ref().map_or(tcp::Flags::empty(), Packet::tcp_flags),
        payload_len: packet.as_ref().map_or(0, Packet::payload_len),
        steps: Default::default(),
        fate: Fate::Delivered,
    }
}

fn packet(frame: &[u8]) -> Option<Packet<std::net::Ipv4Addr>> {
    let tag = ethernet::tag(frame).map_or(0, |_| ethernet::TAG_LEN);
    Packet::parse(frame.get(ethernet::HEADER_LEN + tag..)?).ok()
}

fn counts(crossings: &[(Time, Crossing)]) -> Vec<PortCount> {
    let mut counts: BTreeMap<Socket, PortCount> = BTreeMap::new();
    for (_, Crossing { socket, direction, .. }) in crossings {
        let count = counts.entry(*socket).or_insert_with(|| PortCount::new(*socket));
        match direction {
            Direction::In => count.received += 1,
            Direction::Out => count.sent += 1,
        }
    }
    counts.into_values().collect()
}
