//! Source and destination hashing: sh and dh (kernel: net/netfilter/ipvs/ip_vs_sh.c, ip_vs_dh.c;
//! spec IPVS-13, IPVS-73, IPVS-74).

use super::{Pool, Request};
use crate::table::Handle;

/// How many buckets there are, as Debian builds the kernel.
const BUCKETS: u32 = 256;
/// 2^32 divided by the square of the golden ratio: Knuth's multiplicative hashing (`hash_32`).
const GOLDEN_RATIO: u32 = 0x61c8_8647;

/// Which destination each hash belongs to; empty where the service has no destinations.
#[derive(Clone, Debug, Default)]
pub(in crate::node::ipvs) struct Buckets(Vec<Handle>);

impl Buckets {
    /// sh: each destination in turn gets as many buckets as it weighs, and at least one.
    pub(super) fn fill_by_weight(&mut self, pool: Pool<'_>) {
        let times = pool.iter().flat_map(|(handle, server)| {
            std::iter::repeat_n(handle, server.destination.weight.clamp(1, BUCKETS) as usize)
        });
        self.fill(times);
    }

    /// dh: each destination in turn gets one bucket, whatever it weighs.
    pub(super) fn fill_evenly(&mut self, pool: Pool<'_>) {
        self.fill(pool.iter().map(|(handle, _)| handle));
    }

    /// Fills all buckets with a sequence that begins again where it ends.
    fn fill(&mut self, sequence: impl Iterator<Item = Handle>) {
        let once: Vec<_> = sequence.take(BUCKETS as usize).collect();
        self.0 = once.iter().copied().cycle().take(BUCKETS as usize).collect();
    }

    pub(super) fn pick_by_source(&self, pool: Pool<'_>, request: Request<'_>) -> Option<Handle> {
        let Request { packet, flags, .. } = request;
        let port = if flags.port { u32::from(packet.src_port) } else { 0 };
        let first = hash(u32::from(packet.src).wrapping_add(port));
        let tries = if flags.fallback { BUCKETS } else { 0 };
        // The bucket itself, then from as far on as its own number, one after the other.
        let places = std::iter::once(first).chain((0..tries).map(|further| 2 * first + further));
        places.map(|place| place % BUCKETS).find_map(|place| self.open(pool, place))
    }

    pub(super) fn pick_by_destination(
        &self,
        pool: Pool<'_>,
        request: Request<'_>,
    ) -> Option<Handle> {
        self.open(pool, hash(request.packet.dst.into()))
    }

    /// The destination of a bucket, where it takes new connections.
    fn open(&self, pool: Pool<'_>, bucket: u32) -> Option<Handle> {
        let handle = *self.0.get(bucket as usize)?;
        pool.server(handle)?.is_open().then_some(handle)
    }
}

/// The bucket of a number.
const fn hash(number: u32) -> u32 {
    number.wrapping_mul(GOLDEN_RATIO) >> (u32::BITS - BUCKETS.trailing_zeros())
}
