//! The hosts of a lab in memory, and the loop that moves frames and time.

use std::collections::BTreeMap;

use datapath::link::{HostId, MemoryLink};
use datapath::time::Time;

use super::small_host::{Services, SmallHost};

/// Rounds without a pause after which hosts count as talking forever.
const ROUNDS: usize = 100_000;

/// Every host of a lab.
#[derive(Debug)]
pub struct Hosts(BTreeMap<HostId, SmallHost>);

impl Hosts {
    /// A host for every end of the link's lab, all with the same services.
    #[must_use]
    pub fn new(link: &MemoryLink, services: &Services) -> Self {
        let lab = link.lab();
        let host = |id| Some((id, SmallHost::new(lab, id, services.clone())?));
        Self(HostId::all(lab).filter_map(host).collect())
    }

    /// One host.
    pub fn get(&mut self, host: HostId) -> Option<&mut SmallHost> {
        self.0.get_mut(&host)
    }

    /// Moves frames between hosts and link until nobody has anything to say. Time stands still.
    pub fn settle(&mut self, link: &mut MemoryLink) {
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
    fn send(&mut self, link: &mut MemoryLink) -> bool {
        let mut sent = false;
        for (id, host) in &mut self.0 {
            while let Some(frame) = host.take_frame() {
                sent |= link.send(*id, &frame);
            }
        }
        sent
    }

    /// Gives hosts what has reached them. Whether something had.
    fn receive(&mut self, link: &mut MemoryLink) -> bool {
        let mut received = false;
        while let Some(delivery) = link.take_delivery() {
            received = true;
            if let Some(host) = self.0.get_mut(&delivery.host) {
                host.receive(datapath::port::Buffer::bytes(&delivery.frame), link.now());
            }
        }
        received
    }

    /// Lets time pass to the next moment at which an element or a host has something to do, at
    /// most to `until`. Whether there was such a moment before `until`.
    pub fn step(&mut self, link: &mut MemoryLink, until: Time) -> bool {
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
