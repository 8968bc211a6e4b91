//! Source validation of arriving packets: martians and the reverse-path filter (kernel:
//! net/ipv4/route.c `ip_route_input_slow`, net/ipv4/fib_frontend.c `__fib_validate_source`;
//! spec ROUTE-16 to ROUTE-18).

use std::net::Ipv4Addr;

use super::{Iif, Query, RouteKind, Tables};
use crate::journey::PortId;
use crate::lab::RpFilter;
use crate::verdict::DropReason;

/// Whether a packet's addresses alone forbid it.
#[must_use]
pub(in crate::node) fn martian(src: Ipv4Addr, dst: Ipv4Addr) -> Option<DropReason> {
    if src.is_multicast() || src.is_broadcast() || src.is_loopback() || src.octets()[0] == 0 {
        return Some(DropReason::MartianSource);
    }
    if dst.is_multicast() || dst.is_broadcast() || dst.is_loopback() || dst.octets()[0] == 0 {
        return Some(DropReason::MartianDestination);
    }
    None
}

impl Tables<Ipv4Addr> {
    /// Whether a packet from `src` to `dst`, come in by `came`, may have come that way. It will
    /// leave by `leaves`, or stays here where that is `None`. The reverse look-up has the leaving
    /// interface as its iif, which is what makes the strict filter pass on the trunk and drop on
    /// eth0.
    #[must_use]
    pub(in crate::node) fn validate_source(
        &self,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        came: PortId,
        leaves: Option<PortId>,
        filter: RpFilter,
    ) -> Option<DropReason> {
        let iif = leaves.map_or(Iif::Lo, Iif::Port);
        let reverse = Query { dst: src, src: dst, iif, oif: None, mark: 0 };
        let Some(found) = self.lookup(&reverse) else {
            return (filter != RpFilter::Off).then_some(DropReason::ReversePath);
        };
        match found.route.kind {
            RouteKind::Local | RouteKind::Broadcast => Some(DropReason::MartianSource),
            RouteKind::Port(port) if port == came => None,
            RouteKind::Port(_) => (filter == RpFilter::Strict).then_some(DropReason::ReversePath),
        }
    }
}
