//! Schedulers: which destination a new connection goes to (kernel: net/netfilter/ipvs/ip_vs_rr.c
//! and its neighbours; spec IPVS-9 to IPVS-13, IPVS-70 to IPVS-80).

mod failover;
mod hashing;
mod least;
mod locality;
mod maglev;
mod pool;
mod rr;
mod twos;
mod wrr;

use std::net::Ipv4Addr;

pub(super) use pool::Pool;

use crate::lab::{Scheduler, SchedulerFlags};
use crate::random::Random;
use crate::table::Handle;
use crate::time::Time;
use crate::wire::Tuple;

/// The first packet of a connection, to be given a destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    /// Client and virtual address.
    pub packet: &'a Tuple<Ipv4Addr>,
    /// The flags of its service.
    pub flags: SchedulerFlags,
    /// When it came.
    pub now: Time,
}

/// A scheduler with what it remembers of its service.
#[derive(Clone, Debug)]
pub(super) enum Scheduling {
    /// rr.
    RoundRobin(rr::RoundRobin),
    /// wrr.
    WeightedRoundRobin(wrr::WeightedRoundRobin),
    /// lc.
    LeastConnection,
    /// wlc.
    WeightedLeastConnection,
    /// sed.
    ShortestDelay,
    /// nq.
    NeverQueue,
    /// sh.
    SourceHash(hashing::Buckets),
    /// dh.
    DestinationHash(hashing::Buckets),
    /// mh.
    Maglev(maglev::Maglev),
    /// lblc.
    Locality(locality::Locality),
    /// lblcr.
    Replicated(locality::Replicated),
    /// fo.
    Failover,
    /// ovf.
    Overflow,
    /// twos.
    TwoChoices(Random),
}

impl Scheduling {
    /// A scheduler that takes over a service with these destinations. `seed` is what is random of
    /// it.
    pub(super) fn new(scheduler: Scheduler, pool: Pool<'_>, seed: u64) -> Self {
        let mut new = match scheduler {
            Scheduler::Rr => Self::RoundRobin(rr::RoundRobin::default()),
            Scheduler::Wrr => Self::WeightedRoundRobin(wrr::WeightedRoundRobin::default()),
            Scheduler::Lc => Self::LeastConnection,
            Scheduler::Wlc => Self::WeightedLeastConnection,
            Scheduler::Sed => Self::ShortestDelay,
            Scheduler::Nq => Self::NeverQueue,
            Scheduler::Sh => Self::SourceHash(hashing::Buckets::default()),
            Scheduler::Dh => Self::DestinationHash(hashing::Buckets::default()),
            Scheduler::Mh => Self::Maglev(maglev::Maglev::default()),
            Scheduler::Lblc => Self::Locality(locality::Locality::default()),
            Scheduler::Lblcr => Self::Replicated(locality::Replicated::default()),
            Scheduler::Fo => Self::Failover,
            Scheduler::Ovf => Self::Overflow,
            Scheduler::Twos => Self::TwoChoices(Random::new(seed)),
        };
        new.changed(pool);
        new
    }

    /// A destination has become the first of the service.
    pub(super) fn joined(&mut self, pool: Pool<'_>) {
        if let Self::RoundRobin(rr) = self {
            rr.joined();
        }
        self.changed(pool);
    }

    /// The destination that was at this place of the list has left the service.
    pub(super) fn left(&mut self, place: usize, pool: Pool<'_>) {
        if let Self::RoundRobin(rr) = self {
            rr.left(place);
        }
        self.changed(pool);
    }

    /// Destinations or their weights have changed.
    pub(super) fn changed(&mut self, pool: Pool<'_>) {
        match self {
            Self::WeightedRoundRobin(wrr) => wrr.changed(pool),
            Self::SourceHash(buckets) => buckets.fill_by_weight(pool),
            Self::DestinationHash(buckets) => buckets.fill_evenly(pool),
            Self::Maglev(maglev) => maglev.fill(pool),
            _ => {}
        }
    }

    /// The destination for the first packet of a connection; `None` refuses it.
    pub(super) fn pick(&mut self, pool: Pool<'_>, request: Request<'_>) -> Option<Handle> {
        match self {
            Self::RoundRobin(rr) => rr.pick(pool),
            Self::WeightedRoundRobin(wrr) => wrr.pick(pool),
            Self::LeastConnection => least::connections(pool),
            Self::WeightedLeastConnection => least::weighted_connections(pool.open()),
            Self::ShortestDelay => least::delay(pool),
            Self::NeverQueue => least::idle_or_delay(pool),
            Self::SourceHash(buckets) => buckets.pick_by_source(pool, request),
            Self::DestinationHash(buckets) => buckets.pick_by_destination(pool, request),
            Self::Maglev(maglev) => maglev.pick(pool, request),
            Self::Locality(locality) => locality.pick(pool, request.now),
            Self::Replicated(replicated) => replicated.pick(pool, request.now),
            Self::Failover => failover::heaviest(pool),
            Self::Overflow => failover::heaviest_with_room(pool),
            Self::TwoChoices(random) => twos::pick(pool, random),
        }
    }
}
