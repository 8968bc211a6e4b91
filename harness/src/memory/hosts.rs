//! The hosts of a lab, and the loop that moves frames and time between them and its data link.

use std::collections::BTreeMap;

use datapath::lab::Lab;
use datapath::link::{HostId, MemoryLink};
use datapath::port::Buffer as _;
use datapath::time::Time;

use super::small_host::{Services, SmallHost};

/// Rounds without a pause after which hosts count as talking forever.
const ROUNDS: usize = 100_000;

/// A data link as its hosts have it.
pub trait HostLink {
    /// The lab.
    fn lab(&self) -> &Lab;
    /// The present.
    fn now(&self) -> Time;
    /// Sends a frame from a host's end of its wire. Whether the lab has that host.
    fn send(&mut self, host: HostId, frame: &[u8]) -> bool;
    /// Moves frames until none is on its way.
    fn settle(&mut self);
    /// The next frame that has reached a host and is no ARP.
    fn take_delivery(&mut self) -> Option<(HostId, Vec<u8>)>;
    /// The next moment at which the link itself has something to do.
    fn poll_at(&self) -> Option<Time>;
    /// Lets time pass up to `until`.
    fn advance(&mut self, until: Time);
}

impl HostLink for MemoryLink {
    fn lab(&self) -> &Lab {
        self.lab()
    }

    fn now(&self) -> Time {
        self.now()
    }

    fn send(&mut self, host: HostId, frame: &[u8]) -> bool {
        self.send(host, frame)
    }

    fn settle(&mut self) {
        self.settle();
    }

    fn take_delivery(&mut self) -> Option<(HostId, Vec<u8>)> {
        self.take_delivery().map(|delivery| (delivery.host, delivery.frame.bytes().to_vec()))
    }

    fn poll_at(&self) -> Option<Time> {
        self.poll_at()
    }

    fn advance(&mut self, until: Time) {
        self.advance(until);
    }
}

/// Every host of a lab.
#[derive(Debug)]
pub struct Hosts(BTreeMap<HostId, SmallHost>);

impl Hosts {
    /// A host for every end of the link's lab, all with the same services.
    #[must_use]
    pub fn new(link: &impl HostLink, services: &Services) -> Self {
        let lab = link.lab();
        let host = |id| Some((id, SmallHost::new(lab, id, services.clone())?));
        Self(HostId::all(lab).filter_map(host).collect())
    }

    /// One host.
    pub fn get(&mut self, host: HostId) -> Option<&mut SmallHost> {
        self.0.get_mut(&host)
    }

    /// Moves frames between hosts and link until nobody has anything to say. Time stands still.
    pub fn settle(&mut self, link: &mut impl HostLink) {
        for host in self.0.values_mut() {
            host.poll(link.now());
        }
        for _ in 0..ROUNDS {
            let sent = self.send(link);
            link.settle();
            let received = self.receive(link);
            if !sent && !received {
                break;
            }
        }
    }

    /// Has hosts send what they have. Whether one had something.
    fn send(&mut self, link: &mut impl HostLink) -> bool {
        let mut sent = false;
        for (id, host) in &mut self.0 {
            while let Some(frame) = host.take_frame() {
                sent |= link.send(*id, &frame);
            }
        }
        sent
    }

    /// Gives hosts what has reached them. Whether something had.
    fn receive(&mut self, link: &mut impl HostLink) -> bool {
        let mut received = false;
        while let Some((id, frame)) = link.take_delivery() {
            received = true;
            if let Some(host) = self.0.get_mut(&id) {
                host.receive(&frame, link.now());
            }
        }
        received
    }

    /// Lets time pass to the next moment at which an element or a host has something to do, at
    /// most to `until`. Whether there was such a moment before `until`.
    pub fn step(&mut self, link: &mut impl HostLink, until: Time) -> bool {
        self.settle(link);
        let now = link.now();
        let hosts = self.0.values_mut().filter_map(|host| host.poll_at(now));
        let next = hosts.chain(link.poll_at()).min().filter(|at| *at < until);
        // Hosts count microseconds: the moment they ask for may lie in the current one.
        let at = next.map_or(until, |at| at.max(now + std::time::Duration::from_micros(1)));
        link.advance(at.min(until));
        self.settle(link);
        next.is_some()
    }
}
