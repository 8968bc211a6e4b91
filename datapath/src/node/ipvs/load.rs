//! How busy a destination is, and whether it takes more (kernel: net/netfilter/ipvs/ip_vs_conn.c,
//! ip_vs_ctl.c; spec IPVS-12, IPVS-70).

use super::live::Server;
use super::service::Destination;

impl Server {
    /// Whether schedulers may send it new connections.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.destination.weight > 0 && !self.overloaded
    }

    /// What its connections cost: an active one as much as 256 others.
    #[must_use]
    pub fn load(&self) -> u64 {
        u64::from(self.active) * 256 + u64::from(self.inactive)
    }

    /// It gets another weight or other thresholds. A weight of 0 leaves the memory of the one
    /// before it.
    pub(super) const fn set_up(&mut self, destination: Destination) {
        if destination.weight > 0 {
            self.last_weight = destination.weight;
        }
        if destination.upper == 0 || destination.upper > self.destination.upper {
            self.overloaded = false;
        }
        self.destination = destination;
    }

    /// A connection more: at the upper threshold it rests.
    pub(super) const fn gained(&mut self) {
        let upper = self.destination.upper;
        if upper > 0 && self.connections() >= upper {
            self.overloaded = true;
        }
    }

    /// A connection less: below the lower threshold, or three quarters of the upper where there is
    /// none, it rests no longer.
    pub(super) const fn lost(&mut self) {
        let Destination { upper, lower, .. } = self.destination;
        let connections = self.connections();
        let rested = match (upper, lower) {
            (0, 0) => true,
            (_, 0) => (connections as u64) * 4 < (upper as u64) * 3,
            (_, lower) => connections < lower,
        };
        if rested {
            self.overloaded = false;
        }
    }

    const fn connections(&self) -> u32 {
        self.active + self.inactive
    }
}
