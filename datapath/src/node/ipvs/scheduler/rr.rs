//! Round robin (kernel: net/netfilter/ipvs/ip_vs_rr.c; spec IPVS-10).

use crate::node::ipvs::live::Server;
use crate::table::{Handle, Slab};

/// The destination picked last.
#[derive(Clone, Copy, Debug)]
pub(in crate::node::ipvs) struct RoundRobin(Option<Handle>);

impl RoundRobin {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    /// What was picked last leaves: its predecessor takes its part.
    pub(super) fn leaves(&mut self, handle: Handle, servers: &[Handle]) {
        if self.0 == Some(handle) {
            let at = servers.iter().position(|other| *other == handle);
            self.0 = at.and_then(|at| servers.get(at.checked_sub(1)?)).copied();
        }
    }

    pub(super) fn pick(&mut self, servers: &[Handle], all: &Slab<Server>) -> Option<Handle> {
        let last = self.0.and_then(|last| servers.iter().position(|handle| *handle == last));
        let (before, after) = servers.split_at(last.map_or(0, |last| last + 1));
        let open = |handle: &&Handle| all.get(**handle).is_some_and(|s| s.destination.weight > 0);
        self.0 = after.iter().chain(before).find(open).copied();
        self.0
    }
}
