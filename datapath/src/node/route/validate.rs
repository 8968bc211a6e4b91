//! Source validation of arriving packets: martians and the reverse-path filter (kernel:
//! net/ipv4/route.c `ip_route_input_slow`, net/ipv4/fib_frontend.c `__fib_validate_source`;
//! spec ROUTE-16 to ROUTE-18).

use std::net::Ipv4Addr;

use super::super::config::{ETH0, ETH1};
use super::{Found, Iif, Query, RouteKind};
use crate::journey::PortId;
use crate::lab::RpFilter;
use crate::verdict::DropReason;

/// Whether a packet's addresses alone forbid it.
#[must_use]
pub(in crate::node) fn martian(src: Ipv4Addr, dst: Ipv4Addr) -> Option<DropReason> {
    if src.is_multicast() || src.is_broadcast() || src.is_loopback() || src.is_unspecified() {
        return Some(DropReason::MartianSource);
    }
    if dst.is_multicast() || dst.is_broadcast() || dst.is_loopback() || dst.is_unspecified() {
        return Some(DropReason::MartianDestination);
    }
    None
}

/// The look-up by which a packet's source is validated, from the packet's destination to where the
/// packet `leaves`, or to the node where that is `None`. That the leaving interface is its iif makes
/// the strict filter pass on the trunk and drop on eth0.
#[must_use]
pub(in crate::node) fn reverse(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    leaves: Option<PortId>,
) -> Query<Ipv4Addr> {
    let iif = leaves.map_or(Iif::Lo, Iif::Port);
    Query { dst: src, src: dst, iif, oif: None, mark: 0 }
}

/// Whether a packet that came in by `came` may have come that way, by what the reverse look-up
/// found. On an interface without an address of its own, as a cali is, the loose filter is strict.
#[must_use]
pub(in crate::node) fn judge_source(
    found: Option<Found<Ipv4Addr>>,
    came: PortId,
    filter: RpFilter,
) -> Option<DropReason> {
    let Some(found) = found else {
        return (filter != RpFilter::Off).then_some(DropReason::ReversePath);
    };
    match found.route.kind {
        RouteKind::Local | RouteKind::Broadcast => Some(DropReason::MartianSource),
        RouteKind::Port(port) if port == came => None,
        RouteKind::Port(_) => {
            let forbidden = match filter {
                RpFilter::Off => false,
                RpFilter::Strict => true,
                RpFilter::Loose => !matches!(came, ETH0 | ETH1),
            };
            forbidden.then_some(DropReason::ReversePath)
        }
    }
}
