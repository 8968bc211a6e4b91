//! The least loaded: lc, wlc, sed and nq (kernel: net/netfilter/ipvs/ip_vs_lc.c, ip_vs_wlc.c,
//! ip_vs_sed.c, ip_vs_nq.c; spec IPVS-12). The first in the list wins a tie.

use std::cmp::Ordering;

use super::Pool;
use crate::node::ipvs::live::Server;
use crate::table::Handle;

/// lc: the load alone.
pub(super) fn connections(pool: Pool<'_>) -> Option<Handle> {
    pool.open().min_by_key(|(_, server)| server.load()).map(|(handle, _)| handle)
}

/// wlc, among these destinations: the load for each unit of weight.
pub(super) fn weighted_connections<'a>(
    servers: impl Iterator<Item = (Handle, &'a Server)>,
) -> Option<Handle> {
    let least = servers.min_by(|(_, a), (_, b)| by_weight(Server::load, a, b));
    least.map(|(handle, _)| handle)
}

/// sed: the active connections for each unit of weight, the new one counted in.
pub(super) fn delay(pool: Pool<'_>) -> Option<Handle> {
    let least = pool.open().min_by(|(_, a), (_, b)| by_weight(with_one_more, a, b));
    least.map(|(handle, _)| handle)
}

/// nq: the first without an active connection, else as sed.
pub(super) fn idle_or_delay(pool: Pool<'_>) -> Option<Handle> {
    let idle = pool.open().find(|(_, server)| server.active == 0);
    idle.map(|(handle, _)| handle).or_else(|| delay(pool))
}

fn with_one_more(server: &Server) -> u64 {
    u64::from(server.active) + 1
}

/// Compares two costs, each divided by the weight.
pub(super) fn by_weight(cost: impl Fn(&Server) -> u64, a: &Server, b: &Server) -> Ordering {
    let of = |this: &Server, other: &Server| cost(this) * u64::from(other.destination.weight);
    of(a, b).cmp(&of(b, a))
}
