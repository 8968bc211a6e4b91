//! Schedulers: which destination a new connection goes to (kernel: net/netfilter/ipvs/ip_vs_rr.c
//! and its neighbours; spec IPVS-9 to IPVS-13).

mod rr;

use std::net::Ipv4Addr;

use super::live::Server;
use crate::lab::Scheduler;
use crate::table::{Handle, Slab};
use crate::wire::Tuple;

/// A scheduler with what it remembers of its service.
#[derive(Clone, Debug)]
pub(super) enum Scheduling {
    /// Round robin.
    Rr(rr::RoundRobin),
}

impl Scheduling {
    /// The scheduler's state for a service without destinations.
    pub(super) const fn new(scheduler: Scheduler) -> Self {
        match scheduler {
            Scheduler::RoundRobin => Self::Rr(rr::RoundRobin::new()),
        }
    }

    /// A destination is about to leave the service, which still lists it.
    pub(super) fn leaves(&mut self, handle: Handle, servers: &[Handle]) {
        match self {
            Self::Rr(rr) => rr.leaves(handle, servers),
        }
    }

    /// Destinations or their weights have changed.
    pub(super) const fn changed(&mut self, _servers: &[Handle], _all: &Slab<Server>) {
        match self {
            Self::Rr(_) => {}
        }
    }

    /// The destination for the first packet of a connection; `None` refuses it.
    pub(super) fn pick(
        &mut self,
        servers: &[Handle],
        all: &Slab<Server>,
        _packet: &Tuple<Ipv4Addr>,
    ) -> Option<Handle> {
        match self {
            Self::Rr(rr) => rr.pick(servers, all),
        }
    }
}
