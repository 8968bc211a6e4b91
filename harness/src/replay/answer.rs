//! Hosts that answer what a replay brings them.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use datapath::link::{HostId, MemoryLink};
use datapath::port::Buffer;
use datapath::time::Time;
use datapath::wire::{Packet, Tuple, ethernet};

use super::feed::Feed;
use crate::memory::{Services, SmallHost};

/// Exchanges between hosts in one moment, after which they are taken to talk in a circle.
const ROUNDS: usize = 10_000;

/// The hosts of a lab; none (the default) where they only listen.
#[derive(Debug, Default)]
pub(super) struct Answerers {
    hosts: BTreeMap<HostId, SmallHost>,
    /// What answers to the captures look like. It reaches its host, but the host does not hear of
    /// it: the flow is the capture's, and the host would reset it or echo it back.
    awaited: HashSet<Tuple<Ipv4Addr>>,
}

impl Answerers {
    /// Every host of the link's lab, answering echo, TCP and UDP on every port.
    pub(super) fn new(link: &MemoryLink, feed: &Feed) -> Self {
        let lab = link.lab();
        let host = |id| Some((id, SmallHost::new(lab, id, Services::echo())?));
        let frames = feed.frames().iter();
        Self {
            hosts: HostId::all(lab).filter_map(host).collect(),
            awaited: frames.filter_map(|frame| tuple(&frame.bytes)?.inverse()).collect(),
        }
    }

    /// Moves frames until none is on its way and no host has anything to say. Time stands still.
    pub(super) fn settle(&mut self, link: &mut MemoryLink) {
        for host in self.hosts.values_mut() {
            host.poll(link.now());
        }
        for _ in 0..ROUNDS {
            let mut sent = false;
            for (id, host) in &mut self.hosts {
                while let Some(frame) = host.take_frame() {
                    sent |= link.send(*id, &frame);
                }
            }
            link.settle();
            let received = self.receive(link);
            if !sent && !received {
                break;
            }
        }
    }

    /// Gives hosts what has reached them. Whether a host took anything.
    fn receive(&mut self, link: &mut MemoryLink) -> bool {
        let mut received = false;
        while let Some(delivery) = link.take_delivery() {
            let frame = delivery.frame.bytes();
            if tuple(frame).is_some_and(|tuple| self.awaited.contains(&tuple)) {
                continue;
            }
            if let Some(host) = self.hosts.get_mut(&delivery.host) {
                host.receive(frame, link.now());
                received = true;
            }
        }
        received
    }

    /// Lets time pass up to `until`, stopping at every moment at which an element or a host has
    /// something to do.
    pub(super) fn advance(&mut self, link: &mut MemoryLink, until: Time) {
        self.settle(link);
        loop {
            let now = link.now();
            let hosts = self.hosts.values_mut().filter_map(|host| host.poll_at(now));
            let next = hosts.chain(link.poll_at()).min();
            let Some(at) = next.filter(|at| *at < until) else { break };
            // Hosts count microseconds: the moment they ask for may lie in the current one.
            link.advance(at.max(now + Duration::from_micros(1)).min(until));
            self.settle(link);
        }
        link.advance(until);
        self.settle(link);
    }
}

/// The tuple of the packet in an untagged or tagged frame.
fn tuple(frame: &[u8]) -> Option<Tuple<Ipv4Addr>> {
    let tag = ethernet::tag(frame).map_or(0, |_| ethernet::TAG_LEN);
    Some(Packet::parse(frame.get(ethernet::HEADER_LEN + tag..)?).ok()?.tuple)
}
