//! Locality-based least connection: lblc and, with more than one destination for an address, lblcr
//! (kernel: net/netfilter/ipvs/ip_vs_lblc.c, ip_vs_lblcr.c; spec IPVS-76, IPVS-77, IPVS-80).
//!
//! They remember which destination a destination address was sent to. A virtual service has one
//! address, so there is one thing to remember. A destination that has left the service is
//! remembered too: the kernel finds it again when it comes back.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Pool, least};
use crate::node::ipvs::live::Server;
use crate::table::Handle;
use crate::time::Time;

/// How long what is not used is remembered, and after how long a set that has not grown shrinks
/// (`lblc_expiration`, `lblcr_expiration`).
const EXPIRATION: Duration = Duration::from_secs(24 * 60 * 60);

/// What names a destination within its service, also when it is not there.
type Address = (Ipv4Addr, u16);

/// lblc: the destination in use, and when it was used last.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::node::ipvs) struct Locality(Option<(Address, Time)>);

impl Locality {
    pub(super) fn pick(&mut self, pool: Pool<'_>, now: Time) -> Option<Handle> {
        let kept = self.0.filter(|(_, used)| now.since(*used) < EXPIRATION);
        let kept = kept.and_then(|(address, _)| pool.find(address));
        let kept = kept.filter(|(_, s)| s.destination.weight > 0 && !is_relieved(s, pool));
        let kept = kept.map(|(handle, _)| handle);
        let picked = kept.or_else(|| least::weighted_connections(pool.open()))?;
        self.0 = Some((pool.server(picked)?.destination.address(), now));
        Some(picked)
    }
}

/// lblcr: the destinations in use, the last one added first.
#[derive(Clone, Debug, Default)]
pub(in crate::node::ipvs) struct Replicated {
    set: Vec<Address>,
    /// When the set changed last.
    changed: Time,
    /// When it was used last.
    used: Time,
}

impl Replicated {
    pub(super) fn pick(&mut self, pool: Pool<'_>, now: Time) -> Option<Handle> {
        if now.since(self.used) >= EXPIRATION {
            self.set.clear();
        }
        self.used = now;
        let members = self.members(pool).filter(|(_, server)| server.is_open());
        let least = least::weighted_connections(members);
        if self.set.len() > 1 && now.since(self.changed) > EXPIRATION {
            self.shrink(pool, now);
        }
        let kept =
            least.filter(|handle| !pool.server(*handle).is_some_and(|s| is_relieved(s, pool)));
        if kept.is_some() {
            return kept;
        }
        let picked = least::weighted_connections(pool.open())?;
        let address = pool.server(picked)?.destination.address();
        if !self.set.contains(&address) {
            self.set.insert(0, address);
            self.changed = now;
        }
        Some(picked)
    }

    fn members<'a>(&self, pool: Pool<'a>) -> impl Iterator<Item = (Handle, &'a Server)> {
        self.set.iter().filter_map(move |address| pool.find(*address))
    }

    /// The most loaded member leaves.
    fn shrink(&mut self, pool: Pool<'_>, now: Time) {
        let weighty = self.members(pool).filter(|(_, server)| server.destination.weight > 0);
        // The first of the equally loaded.
        let most = weighty.min_by(|(_, a), (_, b)| least::by_weight(Server::load, b, a));
        if let Some((_, most)) = most {
            self.set.retain(|address| *address != most.destination.address());
            self.changed = now;
        }
    }
}

/// Whether a destination has more active connections than its weight while another one has fewer
/// than half of its weight.
fn is_relieved(server: &Server, pool: Pool<'_>) -> bool {
    let is_free = |server: &Server| u64::from(server.active) * 2 < server.destination.weight.into();
    server.active > server.destination.weight && pool.iter().any(|(_, server)| is_free(server))
}
