//! Joining hops: a frame sent at a port is the frame that arrived, with the same fingerprint, at
//! the port its wire leads to.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use datapath::journey::{Fate, Hop, Step};
use datapath::lab::Lab;
use datapath::link::{ElementId, HostId, Peer, Socket, peer_of};
use datapath::verdict::DropReason;
use datapath::wire::Tuple;

use super::Recording;

/// Where a packet's journey began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A network stack sent it.
    Host(HostId),
    /// An element made it.
    Element(ElementId),
    /// It came in here, and no record tells who sent it.
    Wire(Socket),
}

/// Where a packet's journey ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At a network stack.
    Host(HostId),
    /// An element consumed it.
    Element(ElementId),
    /// An element dropped it.
    Dropped(ElementId, DropReason),
    /// It went out here, and no record tells of its arrival.
    Wire(Socket),
}

/// A packet's way through one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The element.
    pub element: ElementId,
    /// What happened there.
    pub hop: Hop,
}

/// A packet's way from end to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journey {
    /// Where it began.
    pub origin: Origin,
    /// Its elements, at least one, in order.
    pub passages: Vec<Passage>,
    /// Where it ended.
    pub end: End,
}

impl Journey {
    /// Every tuple the packet had, in order; empty for what is not IPv4.
    pub fn tuples(&self) -> impl Iterator<Item = Tuple<Ipv4Addr>> {
        self.passages.iter().flat_map(|passage| {
            let arrived = passage.hop.arrival.and_then(|arrival| arrival.tuple);
            let changed = passage.hop.steps.iter().filter_map(|step| match step {
                Step::Rewritten { to, .. } => Some(*to),
                _ => None,
            });
            let sent = match passage.hop.fate {
                Fate::Sent(departure) => departure.tuple,
                _ => None,
            };
            arrived.into_iter().chain(changed).chain(sent)
        })
    }

    /// The packet's first hop.
    #[must_use]
    pub fn first(&self) -> Option<&Hop> {
        self.passages.first().map(|passage| &passage.hop)
    }
}

/// A hop by element and place in its journal.
type At = (usize, usize);

/// The journeys in a recording, in an order in which no packet comes before one that an element
/// finished earlier.
#[must_use]
pub fn stitch(lab: &Lab, recording: &Recording) -> Vec<Journey> {
    let next = successors(lab, recording);
    let mut follows: Vec<Vec<bool>> =
        recording.hops.iter().map(|(_, hops)| vec![false; hops.len()]).collect();
    for (element, at) in next.values() {
        if let Some(follows) = follows.get_mut(*element).and_then(|f| f.get_mut(*at)) {
            *follows = true;
        }
    }
    let heads = order(recording, &next)
        .into_iter()
        .filter(|(element, at)| follows.get(*element).and_then(|f| f.get(*at)) == Some(&false));
    heads.filter_map(|head| journey(lab, recording, &next, head)).collect()
}

/// For each hop the hop by which its frame goes on. Equal frames on one wire keep their order.
fn successors(lab: &Lab, recording: &Recording) -> HashMap<At, At> {
    let mut arrivals: HashMap<(Socket, u64), VecDeque<At>> = HashMap::new();
    for (e, (element, hops)) in recording.hops.iter().enumerate() {
        for (at, hop) in hops.iter().enumerate() {
            if let Some(arrival) = hop.arrival {
                let socket = Socket { element: *element, port: arrival.port };
                arrivals.entry((socket, arrival.fingerprint)).or_default().push_back((e, at));
            }
        }
    }
    let mut next = HashMap::new();
    for (e, (element, hops)) in recording.hops.iter().enumerate() {
        for (at, hop) in hops.iter().enumerate() {
            let Fate::Sent(departure) = hop.fate else { continue };
            let socket = Socket { element: *element, port: departure.port };
            let Some(Peer::Socket(peer)) = peer_of(lab, socket) else { continue };
            let waiting = arrivals.get_mut(&(peer, departure.fingerprint));
            if let Some(arrived) = waiting.and_then(VecDeque::pop_front) {
                next.insert((e, at), arrived);
            }
        }
    }
    next
}

/// All hops, each behind the ones its element ended earlier and behind the one it continues; what
/// that leaves open is decided by time. Time alone would not do: in memory wires take none.
fn order(recording: &Recording, next: &HashMap<At, At>) -> Vec<At> {
    let before: HashMap<At, At> = next.iter().map(|(from, to)| (*to, *from)).collect();
    let mut done: Vec<usize> = vec![0; recording.hops.len()];
    let total = recording.hops.iter().map(|(_, hops)| hops.len()).sum();
    let mut ordered = Vec::with_capacity(total);
    while ordered.len() < total {
        let waiting = recording.hops.iter().zip(&done).enumerate();
        let candidate = waiting.filter_map(|(e, ((_, hops), at))| {
            let hop = hops.get(*at)?;
            let ready = before
                .get(&(e, *at))
                .is_none_or(|(e, at)| done.get(*e).is_some_and(|done| done > at));
            // A record that contradicts itself is read in the order of time.
            Some((!ready, hop.at, e, *at))
        });
        let Some((_, _, e, at)) = candidate.min() else { break };
        if let Some(done) = done.get_mut(e) {
            *done += 1;
        }
        ordered.push((e, at));
    }
    ordered
}

fn journey(lab: &Lab, recording: &Recording, next: &HashMap<At, At>, head: At) -> Option<Journey> {
    let mut passages = Vec::new();
    let mut at = Some(head);
    while let Some((e, number)) = at {
        let (element, hops) = recording.hops.get(e)?;
        let hop = hops.get(number)?.clone();
        passages.push(Passage { element: *element, hop });
        at = next.get(&(e, number)).copied();
    }
    let (first, last) = (passages.first()?, passages.last()?);
    let origin = match first.hop.arrival {
        None => Origin::Element(first.element),
        Some(arrival) => {
            let socket = Socket { element: first.element, port: arrival.port };
            match peer_of(lab, socket) {
                Some(Peer::Host(host)) => Origin::Host(host),
                _ => Origin::Wire(socket),
            }
        }
    };
    let end = match last.hop.fate {
        Fate::Delivered | Fate::Absorbed => End::Element(last.element),
        Fate::Dropped(reason) => End::Dropped(last.element, reason),
        Fate::Sent(departure) => {
            let socket = Socket { element: last.element, port: departure.port };
            match peer_of(lab, socket) {
                Some(Peer::Host(host)) => End::Host(host),
                _ => End::Wire(socket),
            }
        }
    };
    Some(Journey { origin, passages, end })
}
