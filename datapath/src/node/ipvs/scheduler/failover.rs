//! One destination before all others: fo and ovf (kernel: net/netfilter/ipvs/ip_vs_fo.c,
//! ip_vs_ovf.c; spec IPVS-71, IPVS-72).

use std::cmp::Reverse;

use super::Pool;
use crate::node::ipvs::live::Server;
use crate::table::Handle;

/// fo: the heaviest that takes connections; the first in the list wins a tie.
pub(super) fn heaviest(pool: Pool<'_>) -> Option<Handle> {
    heaviest_of(pool.open())
}

/// ovf: the heaviest with no more active connections than its weight.
pub(super) fn heaviest_with_room(pool: Pool<'_>) -> Option<Handle> {
    heaviest_of(pool.open().filter(|(_, server)| server.active <= server.destination.weight))
}

fn heaviest_of<'a>(servers: impl Iterator<Item = (Handle, &'a Server)>) -> Option<Handle> {
    let heaviest = servers.min_by_key(|(_, server)| Reverse(server.destination.weight));
    heaviest.map(|(handle, _)| handle)
}
