//! Round robin (kernel: net/netfilter/ipvs/ip_vs_rr.c; spec IPVS-10).

use super::Pool;
use crate::table::Handle;

/// How many of the list have had their turn: the last one picked and all before it.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::node::ipvs) struct RoundRobin(usize);

impl RoundRobin {
    /// A new first destination waits for the next round, unless this one has not begun.
    pub(super) const fn joined(&mut self) {
        if self.0 > 0 {
            self.0 += 1;
        }
    }

    /// Where the destination picked last leaves, the one before it counts as that.
    pub(super) const fn left(&mut self, place: usize) {
        if place < self.0 {
            self.0 -= 1;
        }
    }

    pub(super) fn pick(&mut self, pool: Pool<'_>) -> Option<Handle> {
        let mut places = (self.0..pool.len()).chain(0..self.0);
        let open = |place| pool.at(place).filter(|(_, server)| server.is_open());
        let (place, handle) = places.find_map(|place| Some((place, open(place)?.0)))?;
        self.0 = place + 1;
        Some(handle)
    }
}
