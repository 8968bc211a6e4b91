//! Two nodes that differ in nothing but the cache, given the same.

use std::fmt::Debug;
use std::net::Ipv4Addr;

use crate::common::*;
use datapath::element::{Element, Output, Place};
use datapath::journey::{Hop, PortId};
use datapath::lab::Lab;
use datapath::node::{CacheCounters, ETH0, ETH1, Node};
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::wire::{Mac, Vid, ethernet};

use super::changes::Change;

/// A node and where it puts what it sends.
type Twin = (Node<Heap>, Output<Heap>);

/// Frames that one call of `process` takes at most.
const BATCH: usize = 64;

/// The twins and the lab they are in.
pub(super) struct Twins {
    lab: Lab,
    cached: Twin,
    walking: Twin,
    now: Time,
}

/// A lab with or without the cache.
fn with_cache(lab: &Lab, cache: bool) -> Lab {
    let mut lab = lab.clone();
    lab.switches.flow_cache = cache;
    lab
}

impl Twins {
    /// Node 1 of a lab, twice.
    pub(super) fn new(lab: Lab) -> Self {
        let [cached, walking] = [true, false].map(|cache| {
            let node = Node::new(&with_cache(&lab, cache), 0).expect("a node");
            (node, Output::default())
        });
        Self { lab, cached, walking, now: Time::from_secs(1) }
    }

    /// Both take over another version of their lab.
    pub(super) fn change(&mut self, change: &Change) {
        change.make(&mut self.lab);
        self.cached.0.apply(&with_cache(&self.lab, true), self.now);
        self.walking.0.apply(&with_cache(&self.lab, false), self.now);
        self.compare();
    }

    /// Both do the same, with their journals open or closed; what both have sent.
    fn both(
        &mut self,
        watched: bool,
        mut call: impl FnMut(&mut Node<Heap>, &mut Output<Heap>, Time),
    ) -> Vec<Seen> {
        let now = self.now;
        let [sent, expected] = [&mut self.cached, &mut self.walking].map(|(node, out)| {
            out.blanks.resize_with(BATCH, Heap::default);
            out.journal.open(if watched { usize::MAX } else { 0 });
            call(node, out, now);
            let departures = out.departures.drain(..);
            let sent = departures.map(|d| Seen {
                port: d.place.port,
                queue: d.place.queue,
                bytes: d.frame.bytes().to_vec(),
            });
            (sent.collect::<Vec<_>>(), out.journal.close())
        });
        let (sent, hops): (Vec<_>, Vec<Hop>) = sent;
        alike(&sent, &expected.0);
        alike(hops, expected.1);
        self.compare();
        sent
    }

    /// Everything about a node that anybody can see, but for the cache, is the same in both.
    fn compare(&self) {
        let ([(cached, _), (walking, _)], now) = ([&self.cached, &self.walking], self.now);
        assert!(cached.ledger().balances(cached.held()));
        let counts = |node: &Node<Heap>| {
            let evicted = node.conntrack().evicted();
            (node.ledger().clone(), node.held(), evicted, node.toa_counters(), node.poll_at())
        };
        assert_eq!(counts(cached), counts(walking));
        alike(cached.conntrack().iter(now), walking.conntrack().iter(now));
        alike(cached.connections().iter(now), walking.connections().iter(now));
        alike(cached.neighbours(), walking.neighbours());
        alike(cached.trunk_counters(), walking.trunk_counters());
        let locals = [cached, walking].map(|node| node.ipvs().local_addresses().ports());
        let [locals, expected] = locals;
        alike(locals, expected);
        let services = |node: &Node<Heap>| -> Vec<_> {
            let ipvs = node.ipvs();
            let each = ipvs.services().map(|service| {
                let servers = service.servers.iter().map(|server| ipvs.server(*server).cloned());
                (servers.collect::<Vec<_>>(), ipvs.stats(service))
            });
            each.collect()
        };
        alike(services(cached), services(walking));
        assert_eq!(walking.cache_counters(), CacheCounters::default());
    }

    /// Frames come in at a place, at most 64 at a time.
    pub(super) fn put(&mut self, place: Place, frames: &[Vec<u8>], watched: bool) -> Vec<Seen> {
        let batches = frames.chunks(BATCH).map(|frames| {
            self.both(watched, |node, out, now| {
                let mut batch = frames.iter().map(|frame| Heap::new(frame)).collect();
                node.process(&mut batch, place, now, out);
                assert!(batch.is_empty());
            })
        });
        batches.collect::<Vec<_>>().concat()
    }

    /// The place and the frame with which a packet arrives, as its sender's side of the wire would
    /// send it: to the node's address or to a pod's by eth0, to a pod behind its own ENI by the trunk.
    pub(super) fn arrival(&self, port: PortId, packet: &[u8], astray: bool) -> (Place, Vec<u8>) {
        let to_a = packet[16..20] == A.octets();
        let tag = (port == ETH1).then_some(if to_a != astray { 101 } else { 102 });
        let port = if astray && port != ETH1 { CALI_B } else { port };
        let queue = tag.and_then(Vid::new).map_or(0, |vid| self.lab.trunk_queue(0, vid));
        let mac = self.cached.0.config().interface(port).expect("an interface").mac;
        let bytes = frame(mac, Mac([2, 8, 8, 8, 8, 8]), tag, ethernet::IPV4, packet);
        (Place { port, queue }, bytes)
    }

    /// Every neighbour that flows need asks for one of the node's addresses and is known by that.
    pub(super) fn introduce(&mut self, last: u8) {
        let gateway = Ipv4Addr::new(10, 0, 4, 253);
        let pods = [(CALI_A, A, FAR), (CALI_B, B, FAR)];
        for (port, ip, asks_for) in
            pods.into_iter().chain([(ETH0, D, N1), (ETH0, gateway, N1), (ETH1, gateway, N1)])
        {
            let request = who_has((Mac([2, 1, 1, 1, 1, last]), ip), asks_for);
            self.put(Place { port, queue: 0 }, &[request], false);
        }
    }

    /// Time passes, and timers run or are late.
    pub(super) fn wait(&mut self, millis: u64, timers: bool) {
        self.now = Time::from_nanos(self.now.as_nanos() + millis * 1_000_000);
        if timers {
            self.both(false, |node, out, now| node.on_time(now, out));
        }
    }

    /// What the cache has done.
    pub(super) fn counters(&self) -> CacheCounters {
        self.cached.0.cache_counters()
    }

    /// How many flows live, and how many were given up for others.
    pub(super) fn flows(&self) -> (usize, u64) {
        let conntrack = self.cached.0.conntrack();
        (conntrack.iter(self.now).count(), conntrack.evicted())
    }
}

/// Both lists hold the same; otherwise only the first difference is shown.
fn alike<T: Debug + PartialEq>(
    cached: impl IntoIterator<Item = T>,
    walking: impl IntoIterator<Item = T>,
) {
    let (mut cached, mut walking) = (cached.into_iter(), walking.into_iter());
    loop {
        let (one, other) = (cached.next(), walking.next());
        assert_eq!(one, other, "with the cache and without");
        if one.is_none() {
            break;
        }
    }
}
