//! Scenarios with hosts in memory, on whatever data link.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use datapath::lab::Lab;
use datapath::link::{Direction, HostId, MemoryLink, Socket, Tap};
use datapath::time::Time;

use super::hosts::{HostLink, Hosts};
use super::http::{Fetch, can_be_asked, client_port};
use super::small_host::Services;
use crate::journey::{PortCount, Recording};
use crate::scenario::{Answer, Datapath, Request, Session};

/// Hops kept of each element.
const HOPS: usize = 65_536;
/// How long connections are given to end after the answer.
const ENDING: Duration = Duration::from_millis(200);

/// The datapath in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory;

impl Datapath for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn start(&self, lab: &Lab, _text: &str) -> anyhow::Result<Box<dyn Session>> {
        Ok(Box::new(MemorySession::new(lab.clone(), &Services::default())))
    }
}

type Counts = Rc<RefCell<BTreeMap<Socket, PortCount>>>;

/// A data link with hosts at its ends, real TCP stacks in this process.
#[derive(Debug)]
pub struct Hosted<L> {
    /// The link.
    pub link: L,
    hosts: Hosts,
    requests: u16,
}

impl<L: HostLink> Hosted<L> {
    /// A host for every end of the link, all with the same services.
    pub fn new(link: L, services: &Services) -> Self {
        let hosts = Hosts::new(&link, services);
        Self { link, hosts, requests: 0 }
    }

    /// Has a host send an IP packet, made from the host's address; `None` where there is no such
    /// host.
    pub(super) fn send(
        &mut self,
        from: HostId,
        packet: impl FnOnce(Ipv4Addr) -> Vec<u8>,
    ) -> Option<()> {
        let host = self.hosts.get(from)?;
        let packet = packet(host.stack().ip());
        host.send(packet);
        Some(())
    }

    /// Lets the lab run for a while.
    pub fn wait(&mut self, time: Duration) {
        let until = self.link.now() + time;
        while self.hosts.step(&mut self.link, until) {}
    }

    /// Lets the lab run until connections have ended after an answer.
    pub fn end(&mut self) {
        self.wait(ENDING);
    }

    /// Has a host serve a page.
    ///
    /// # Errors
    /// The lab has no such host.
    pub fn serve(&mut self, host: HostId, port: u16, page: &str) -> anyhow::Result<()> {
        let host = self.hosts.get(host).context("the lab has no such server")?;
        host.serve(port, page);
        Ok(())
    }

    /// Has a host ask for a page.
    ///
    /// # Errors
    /// What kept the client from asking at all.
    pub fn fetch(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let Request { client, url, max_time } = request;
        anyhow::ensure!(can_be_asked(url.ip), "{} cannot be asked", url.ip);
        let now = self.link.now();
        let port = client_port(self.requests);
        self.requests = self.requests.wrapping_add(1);
        let host = self.hosts.get(*client).context("the lab has no such client")?;
        let mut fetch = Fetch::start(host.stack(), url, port, now, *max_time)
            .context("the client cannot connect")?;
        let answer =
            self.run(fetch.deadline(), |hosts, now| fetch.step(hosts.get(*client)?.stack(), now));
        answer.context("the client has vanished")
    }

    /// Lets the lab run until `done` has an answer.
    fn run<T>(
        &mut self,
        until: Time,
        mut done: impl FnMut(&mut Hosts, Time) -> Option<T>,
    ) -> Option<T> {
        loop {
            self.hosts.settle(&mut self.link);
            let now = self.link.now();
            if let Some(answer) = done(&mut self.hosts, now) {
                self.hosts.settle(&mut self.link);
                return Some(answer);
            }
            if now >= until {
                return None;
            }
            // What `done` has put into a host's sockets goes out before time passes.
            self.hosts.step(&mut self.link, until);
        }
    }
}

/// A lab that runs in memory.
pub(super) struct MemorySession {
    hosted: Hosted<MemoryLink>,
    counts: Counts,
}

impl MemorySession {
    /// The lab at time zero, its journals open, all its hosts with the same services.
    pub(super) fn new(lab: Lab, services: &Services) -> Self {
        let mut link = MemoryLink::new(lab);
        link.open_journals(HOPS);
        let counts = Counts::default();
        let seen = Rc::clone(&counts);
        link.watch(move |_, tap, direction, _| {
            let Tap::Port(socket) = tap else { return };
            let mut counts = seen.borrow_mut();
            let count = counts.entry(socket).or_insert_with(|| PortCount::new(socket));
            match direction {
                Direction::In => count.received += 1,
                Direction::Out => count.sent += 1,
            }
        });
        Self { hosted: Hosted::new(link, services), counts }
    }

    /// The lab with its hosts.
    pub(super) const fn hosted(&mut self) -> &mut Hosted<MemoryLink> {
        &mut self.hosted
    }
}

impl Session for MemorySession {
    fn serve(&mut self, host: HostId, port: u16, page: &str) -> anyhow::Result<()> {
        self.hosted.serve(host, port, page)
    }

    fn fetch(&mut self, request: &Request) -> anyhow::Result<Answer> {
        self.hosted.fetch(request)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<Recording> {
        self.hosted.end();
        let ports = self.counts.borrow().values().copied().collect();
        Ok(Recording::of(&mut self.hosted.link, ports))
    }
}
