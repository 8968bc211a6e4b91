//! One ECS instance: five hook points between its ports, as the kernel, Terway and kube-proxy
//! have them. [`pipeline`] is the journey on one screen; every other file is one of its stages.

mod answer;
mod balance;
mod batch;
mod config;
pub mod conntrack;
mod decisions;
mod defrag;
mod egress;
mod flow_cache;
mod fnat;
mod icmp;
mod ingress;
pub mod ipvs;
pub mod kube_proxy;
mod neighbour;
mod output;
mod passage;
pub mod pipeline;
mod postrouting;
mod prerouting;
pub mod route;
mod trunk;

use std::net::Ipv4Addr;
use std::sync::Arc;

use answer::ErrorMeter;
use batch::Batch;
pub use config::{
    ETH0, ETH1, FIRST_CALI, HOST0, Interface, InterfaceKind, LocalPod, NodeConfig, TRUNK_IFINDEX,
    TRUNK_TABLE,
};
use conntrack::Conntrack;
use decisions::Decisions;
pub use flow_cache::CacheCounters;
use flow_cache::{Openings, Ways};
pub use fnat::ToaCounters;
use ipvs::{ConnectionTable, Ipvs, LocalAddresses, VirtualServices, changes};
use kube_proxy::GracefulTermination;
pub use neighbour::NeighbourState;
use neighbour::Neighbours;
use passage::{Framed, Passage};
pub use trunk::QueueCounters;
use trunk::Trunk;

use crate::counters::Ledger;
use crate::element::{Element, Output, Place};
use crate::fragment::Fragments;
use crate::journey::PortId;
use crate::lab::Lab;
use crate::port::Buffer;
use crate::random::Random;
use crate::time::Time;
use crate::wire::Vid;

/// Entries of each table looked at in one call of `on_time`, so that no call takes long (spec
/// CT-30).
const EXPIRY_BUDGET: usize = 16;

/// Where the routing decision sends a packet that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// To one of the node's addresses.
    Local,
    /// On, by the packet's exit.
    Forward,
}

/// A node.
#[derive(Debug)]
pub struct Node<B> {
    config: Arc<NodeConfig>,
    decisions: Decisions,
    conntrack: Conntrack,
    ipvs: Ipvs,
    neighbours: Neighbours<Passage<B>>,
    trunk: Trunk<Framed<B>>,
    batch: Batch<B>,
    fragments: Fragments<defrag::Waiting<B>>,
    cache: CacheCounters,
    toa: ToaCounters,
    graceful: GracefulTermination,
    ways: Ways,
    openings: Openings,
    meter: ErrorMeter,
    random: Random,
    ledger: Ledger,
    ip_id: u16,
}

impl<B: Buffer> Node<B> {
    /// Node `index` of a lab; `None` where the lab has no such node.
    #[must_use]
    pub fn new(lab: &Lab, index: usize) -> Option<Self> {
        let config = NodeConfig::new(lab, index, 1)?;
        let limits = &lab.limits;
        // Each node draws its own numbers from the lab's seed.
        let seed = Random::new(lab.seed ^ index as u64).next_u64();
        let mut neighbours = Neighbours::new(limits, seed);
        for (port, ip, mac) in &config.neighbours {
            neighbours.add_permanent(*port, *ip, *mac);
        }
        let node = lab.nodes.get(index)?;
        let local = LocalAddresses::new(&node.local_addresses, node.local_ports, seed);
        let mut ipvs = Ipvs::new(limits.flows, seed, local);
        ipvs.set(config.switches.ipvs);
        ipvs.apply(changes(&VirtualServices::default(), &config.services));
        Some(Self {
            ipvs,
            conntrack: Conntrack::new(limits.flows, seed),
            neighbours,
            batch: Batch::new(),
            trunk: Trunk::new(&config.queue_vids, limits.member_queue),
            fragments: Fragments::new(limits.fragments),
            cache: CacheCounters::default(),
            toa: ToaCounters::default(),
            graceful: GracefulTermination::default(),
            ways: Ways::new(seed),
            openings: Openings::new(seed),
            decisions: Decisions::new(seed),
            meter: ErrorMeter::default(),
            random: Random::new(seed),
            ledger: Ledger::default(),
            ip_id: 0,
            config: Arc::new(config),
        })
    }

    /// Touches all memory of the tables that grow with flows, so that no packet waits for the
    /// machine to find a page.
    pub fn populate(&mut self) {
        self.conntrack.populate();
        self.ipvs.populate();
    }

    /// What the node is programmed with.
    #[must_use]
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Its flows.
    #[must_use]
    pub const fn conntrack(&self) -> &Conntrack {
        &self.conntrack
    }

    /// Its virtual services, their destinations and connections.
    #[must_use]
    pub const fn ipvs(&self) -> &Ipvs {
        &self.ipvs
    }

    /// Its ipvs connections.
    #[must_use]
    pub const fn connections(&self) -> &ConnectionTable {
        self.ipvs.connections()
    }

    /// Has the services, rules, routes and switches of another version of its lab, one with the same
    /// machines (spec LAB-29). Flows and connections live on.
    pub fn apply(&mut self, lab: &Lab, now: Time) {
        if let Some(config) = NodeConfig::new(lab, self.config.index, self.config.epoch) {
            self.adopt(config, now);
        }
    }

    /// The same with a configuration that was made elsewhere, from that version of the lab. What
    /// the node had before comes back, so that it is dropped where time does not matter.
    pub fn adopt(&mut self, mut config: NodeConfig, now: Time) -> Arc<NodeConfig> {
        config.epoch = self.config.epoch + 1;
        self.ipvs.set(config.switches.ipvs);
        let old = std::mem::replace(&mut self.config, Arc::new(config));
        self.decisions.forget();
        let graceful = self.config.switches.ipvs.graceful_termination;
        let ipvs = &self.ipvs;
        let in_use = |key, address| ipvs.in_use(key, address).filter(|_| graceful);
        let changes = self.graceful.sync(&old.services, &self.config.services, now, in_use);
        self.change_services(changes, now);
        old
    }

    /// Its neighbours by port and address, in a fixed order.
    pub fn neighbours(&self) -> impl Iterator<Item = (PortId, Ipv4Addr, NeighbourState)> + '_ {
        self.neighbours.iter()
    }

    /// What each queue of its trunk has counted, with the queue's VID.
    pub fn trunk_counters(&self) -> impl Iterator<Item = (Option<Vid>, QueueCounters)> + '_ {
        self.trunk.counters()
    }

    /// What its flow cache has done.
    #[must_use]
    pub const fn cache_counters(&self) -> CacheCounters {
        self.cache
    }

    /// What its fnat has told destinations of their clients.
    #[must_use]
    pub const fn toa_counters(&self) -> ToaCounters {
        self.toa
    }

    /// Test switch: stops serving one queue of the trunk, or serves it again. What waited goes
    /// with the next [`on_time`](Element::on_time).
    pub fn serve_trunk_queue(&mut self, queue: u16, served: bool) {
        self.trunk.serve(queue, served);
    }
}

impl<B: Buffer> Element<B> for Node<B> {
    fn process(&mut self, batch: &mut Vec<B>, place: Place, now: Time, out: &mut Output<B>) {
        if self.uses_cache(out) {
            self.take(batch, place, now, out);
        }
        for frame in batch.drain(..) {
            self.receive(frame, place, now, out);
        }
        self.serve_trunk(now, out);
    }

    fn poll_at(&self) -> Option<Time> {
        let work = self.trunk.has_work().then_some(Time::ZERO);
        let tables = [
            self.neighbours.poll_at(),
            self.fragments.poll_at(),
            self.conntrack.poll_at(),
            self.ipvs.poll_at(),
            self.graceful.poll_at(),
        ];
        tables.into_iter().chain([work]).flatten().min()
    }

    fn on_time(&mut self, now: Time, out: &mut Output<B>) {
        self.serve_trunk(now, out);
        self.chase_neighbours(now, out);
        self.expire_fragments(now, out);
        self.conntrack.expire(now, EXPIRY_BUDGET);
        self.expire_connections(now);
        self.terminate_gracefully(now);
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn held(&self) -> u64 {
        self.trunk.held() + self.neighbours.held() + self.fragments.held()
    }
}
