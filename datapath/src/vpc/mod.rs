//! The VPC: it takes frames from the nodes' ENIs and from outside hosts, lets security groups
//! judge them, and delivers them to the owner of their destination address.
//!
//! One lab has one [`Vpc`]. Its ports are numbered by [`Ports`].

mod arp;
mod counters;
mod deliver;
mod fragments;
mod ingress;
mod judge;
mod learned;
mod network;
mod ports;
mod security_group;
mod session;
mod slb;
mod trace;

pub use counters::{EniCounters, SgCounters};
pub use network::OUTSIDE_MTU;
pub use ports::{Ports, VpcPort};
pub(crate) use security_group::SecurityGroups;
pub use session::{BALANCER_IDLE, GROUP_IDLE, SessionOwner, SessionView};

use std::net::Ipv4Addr;

use crate::counters::Ledger;
use crate::element::{BATCH, Departure, Element, Output, Place};
use crate::fragment::Fragments;
use crate::journey::{PortId, SgDirection, Step};
use crate::lab::Lab;
use crate::node::CacheCounters;
use crate::port::Buffer;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Packet, Unparsed, ethernet, ipv4};

use counters::Counters;
use fragments::Waiting;
use ingress::{Entry, unparsed};
use learned::{AHEAD, Sight};
use network::{End, Network};
use session::Sessions;
use slb::Turns;
use trace::Trace;

/// The fabric between the nodes (spec VPC, SG, SLB).
#[derive(Debug)]
pub struct Vpc<B> {
    network: Network,
    sessions: Sessions,
    turns: Turns,
    counters: Counters,
    ledger: Ledger,
    fragments: Fragments<Waiting<B>>,
    cache: CacheCounters,
    /// Room for what is known of a batch's packets.
    sights: Vec<Option<Sight>>,
}

/// Where a frame that was not dropped goes.
enum Way<B> {
    /// Out.
    Out(Place),
    /// Nowhere: it was for the VPC.
    Consumed,
    /// Nowhere, and this frame goes out to answer it.
    Answered(B, Place),
    /// Not yet anywhere: it is a fragment with this header.
    Fragment(Entry, ipv4::Header),
}

impl<B: Buffer> Element<B> for Vpc<B> {
    fn process(&mut self, batch: &mut Vec<B>, place: Place, now: Time, out: &mut Output<B>) {
        self.ledger.received += batch.len() as u64;
        let mut sights = std::mem::take(&mut self.sights);
        if self.network.learns && !out.journal.is_open() {
            sights.extend(batch.iter().map(|frame| self.sight(frame.bytes(), place.port)));
            (0..AHEAD).for_each(|at| self.fetch(&mut sights, at));
        }
        for (at, mut frame) in batch.drain(..).enumerate() {
            self.fetch(&mut sights, at + AHEAD);
            if let Some(Some(sight)) = sights.get(at)
                && let Some(place) = self.follow(&mut frame, sight, now)
            {
                self.cache.hits += 1;
                self.ledger.sent += 1;
                out.departures.push(Departure { place, frame });
            } else {
                self.take(frame, place, now, out);
            }
        }
        sights.clear();
        self.sights = sights;
    }

    fn poll_at(&self) -> Option<Time> {
        self.sessions.poll_at().into_iter().chain(self.fragments.poll_at()).min()
    }

    fn on_time(&mut self, now: Time, out: &mut Output<B>) {
        self.sessions.collect(now);
        self.expire_fragments(now, out);
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn held(&self) -> u64 {
        self.fragments.held()
    }
}

impl<B: Buffer> Vpc<B> {
    /// The VPC of `lab`, with no session open.
    #[must_use]
    pub fn new(lab: &Lab) -> Self {
        let network = Network::new(lab);
        Self {
            sessions: Sessions::new(lab.limits.sessions, lab.seed),
            turns: Turns::new(&network.slbs),
            counters: Counters::new(lab),
            ledger: Ledger::default(),
            fragments: Fragments::new(lab.limits.fragments),
            cache: CacheCounters::default(),
            sights: Vec::with_capacity(BATCH),
            network,
        }
    }

    /// Touches all memory of the sessions, so that no packet waits for the machine to find a page.
    pub fn populate(&mut self) {
        self.sessions.populate();
    }

    /// Has the switches of another version of its lab, one with the same machines (spec LAB-29).
    /// Sessions live on; paths that they have learned hold no more.
    pub fn adopt(&mut self, lab: &Lab) {
        self.network.adopt(lab);
    }

    /// Has one frame walk and does the bookkeeping for what becomes of it (spec LAW-2).
    fn take(&mut self, mut frame: B, place: Place, now: Time, out: &mut Output<B>) {
        let mut trace = Trace::arrival(&out.journal, frame.bytes(), place.port, now);
        match self.pass(&mut frame, place.port, now, &mut out.blanks, &mut trace) {
            Ok(Way::Out(place)) => {
                self.ledger.sent += 1;
                trace.sent(&mut out.journal, frame.bytes(), place.port);
                out.departures.push(Departure { place, frame });
            }
            Ok(Way::Consumed) => {
                self.ledger.delivered += 1;
                trace.delivered(&mut out.journal);
            }
            Ok(Way::Answered(made, place)) => {
                self.ledger.delivered += 1;
                trace.delivered(&mut out.journal);
                self.ledger.made += 1;
                self.ledger.sent += 1;
                let trace = Trace::made(&out.journal, now);
                trace.sent(&mut out.journal, made.bytes(), place.port);
                out.departures.push(Departure { place, frame: made });
            }
            Ok(Way::Fragment(entry, header)) => {
                self.gather(frame, trace, (&entry, &header), now, out);
            }
            Err(reason) => {
                self.ledger.dropped.add(reason);
                trace.dropped(&mut out.journal, reason);
            }
        }
    }

    /// The way of a frame.
    fn pass(
        &mut self,
        frame: &mut B,
        port: PortId,
        now: Time,
        blanks: &mut Vec<B>,
        trace: &mut Trace,
    ) -> Result<Way<B>, DropReason> {
        let entry = ingress::enter(&self.network, frame, port, trace)?;
        match entry.ethertype {
            ethernet::IPV4 => self.forward(frame, entry, now, trace),
            ethernet::ARP => Ok(arp::answer(&self.network, frame, &entry, blanks)?
                .map_or(Way::Consumed, |(made, place)| Way::Answered(made, place))),
            ethernet::IPV6 => Err(DropReason::Ipv6),
            ethernet::VLAN => Err(DropReason::UnexpectedTag),
            _ => Err(DropReason::UnknownEtherType),
        }
    }

    /// The way of an IPv4 packet (spec VPC-5).
    fn forward(
        &mut self,
        frame: &mut B,
        entry: Entry,
        now: Time,
        trace: &mut Trace,
    ) -> Result<Way<B>, DropReason> {
        let mut packet = match ingress::packet(frame) {
            Ok(packet) => packet,
            Err(Unparsed::Fragment(header)) => return Ok(Way::Fragment(entry, header)),
            Err(other) => return Err(unparsed(other)),
        };
        trace.packet(&packet);
        let (ip, size, arrived) = (ingress::ip_mut(frame), packet.total_len, packet.tuple);
        let receiver = self.route(ip, &mut packet, &entry, size, now, trace)?;
        let place = self.leave(frame, receiver, &packet, trace)?;
        self.learn(&entry, &arrived, &packet, receiver, now);
        self.count_received(receiver);
        Ok(Way::Out(place))
    }

    /// Who receives the packet in `ip`, and whether it may: `size` is that of the largest frame it
    /// travels in.
    fn route(
        &mut self,
        ip: &mut [u8],
        packet: &mut Packet<Ipv4Addr>,
        entry: &Entry,
        size: u16,
        now: Time,
        trace: &mut Trace,
    ) -> Result<End, DropReason> {
        let sender = self.sender(entry, packet, trace)?;
        self.judge(sender, SgDirection::Out, packet, ip, now, trace)?;
        let receiver = self.receiver(ip, packet, sender, now, trace)?;
        self.check_receiver(receiver, packet, size)?;
        self.judge(receiver, SgDirection::In, packet, ip, now, trace)?;
        Ok(receiver)
    }

    /// Finds who sends, and whether it may with this source (spec VPC-1 to VPC-4, VPC-12).
    fn sender(
        &mut self,
        entry: &Entry,
        packet: &Packet<Ipv4Addr>,
        trace: &mut Trace,
    ) -> Result<End, DropReason> {
        let source = packet.tuple.src;
        let sender = entry.sender(&self.network, source);
        let End::Eni(eni) = sender else { return Ok(sender) };
        self.counters.came_from(eni);
        trace.step(Step::SendingEni(eni));
        let own = self.network.is_own(sender, source);
        if entry.vid.is_some() && !own {
            return Err(DropReason::ForeignSource);
        }
        if self.network.eni(eni).is_some_and(|e| e.check) && !own {
            return Err(DropReason::SourceCheck);
        }
        Ok(sender)
    }
}

/// What reports show.
impl<B> Vpc<B> {
    /// The numbers of the ports.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.network.ports
    }

    /// The number of the snapshot of the lab in use; the first is 1 (spec LAB-6).
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.network.epoch
    }

    /// What the learned paths have done (spec VPC-25).
    #[must_use]
    pub fn cache_counters(&self) -> CacheCounters {
        self.cache
    }

    /// One ENI's counters; `None` where the lab has no such ENI.
    #[must_use]
    pub fn eni_counters(&self, eni: usize) -> Option<&EniCounters> {
        self.counters.eni(eni)
    }

    /// How often a group's rule decided on the first packet of a flow (spec SG-20); `None` where
    /// the lab has no such rule.
    #[must_use]
    pub fn rule_hits(&self, group: usize, direction: SgDirection, index: usize) -> Option<u64> {
        self.counters.rule(group, direction, index)
    }

    /// The sessions alive at `now`, in the order of their records.
    pub fn sessions(&self, now: Time) -> impl Iterator<Item = SessionView> {
        self.sessions.iter(now)
    }
}
