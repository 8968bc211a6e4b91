//! The power of two choices: twos (kernel: net/netfilter/ipvs/ip_vs_twos.c; spec IPVS-78).

use super::{Pool, least};
use crate::node::ipvs::live::Server;
use crate::random::Random;
use crate::table::Handle;

/// The less loaded, for its weight, of two that are drawn by weight; the first one on a tie.
pub(super) fn pick(pool: Pool<'_>, random: &mut Random) -> Option<Handle> {
    let total = pool
        .open()
        .fold(0, |total: u32, (_, server)| total.saturating_add(server.destination.weight));
    // The kernel draws from 0 to the total, both included.
    let (first, second) =
        (random.below(total.saturating_add(1)), random.below(total.saturating_add(1)));
    let (first, second) = (drawn(pool, first)?, drawn(pool, second)?);
    let less =
        [first, second].into_iter().min_by(|(_, a), (_, b)| least::by_weight(Server::load, a, b));
    less.map(|(handle, _)| handle)
}

/// The destination at which the weights add up to a number.
fn drawn<'a>(pool: Pool<'a>, number: u32) -> Option<(Handle, &'a Server)> {
    let mut left = u64::from(number);
    pool.open().find(|(_, server)| {
        let weight = u64::from(server.destination.weight);
        let found = left <= weight;
        left = left.saturating_sub(weight);
        found
    })
}
