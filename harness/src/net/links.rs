//! Requests for links and for what is on them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use datapath_io::link::{self, Offload};
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::connection::Connection;
use super::error::{NetError, Refusal};
use super::plan::{End, Mac, Route, User, Veth};

/// `lo` is the first link of every namespace.
const LOOPBACK: u32 = 1;

/// Makes `link` in one request, each end where it belongs and with all its properties. The
/// connection is to the namespace of the first end, `home` is the second's.
pub(super) fn make(
    connection: &Connection<'_>,
    link: &Veth,
    home: BorrowedFd<'_>,
) -> Result<(), NetError> {
    let [first, second] = link.in_order();
    let refused = |cause| {
        let End { namespace, ifname, .. } = second;
        let attempt = format!("create with peer {ifname} in network namespace {namespace}");
        failed(first, attempt, cause)
    };
    let peer = with_properties(LinkMessageBuilder::<LinkUnspec>::new(), second, link.queues)
        .name(&second.ifname)
        .setns_by_fd(home.as_raw_fd())
        .build();
    let message = LinkMessageBuilder::<LinkVeth>::new(&first.ifname, &second.ifname)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
    let message = with_properties(message, first, link.queues).build();
    connection.wait(connection.handle().link().add(message).execute()).map_err(refused)
}

fn with_properties<T>(
    message: LinkMessageBuilder<T>,
    end: &End,
    queues: u16,
) -> LinkMessageBuilder<T> {
    let message = message
        .address(end.mac.to_vec())
        .mtu(end.mtu)
        .append_extra_attribute(LinkAttribute::NumTxQueues(queues.into()))
        .append_extra_attribute(LinkAttribute::NumRxQueues(queues.into()));
    match end.ifindex {
        Some(index) => message.index(index),
        None => message,
    }
}

/// Sets `lo` up in the connection's namespace.
pub(super) fn set_loopback_up(
    connection: &Connection<'_>,
    namespace: &str,
) -> Result<(), NetError> {
    set_up(connection, LOOPBACK).map_err(|cause| NetError::Link {
        namespace: namespace.to_owned(),
        ifname: "lo".to_owned(),
        attempt: "set up".to_owned(),
        cause,
    })
}

/// Sets `ends` up and their offloads off, and puts addresses, neighbours and routes on them. All
/// of them are in the connection's namespace, and the calling thread is in it too.
///
/// Routes come last, because a gateway may be reached through another end.
pub(super) fn configure(connection: &Connection<'_>, ends: &[&End]) -> Result<(), NetError> {
    let mut indexes = Vec::with_capacity(ends.len());
    for end in ends {
        let index = if_nametoindex(end.ifname.as_str())
            .map_err(|errno| failed(end, "look up its index", errno.into()))?;
        indexes.push(index);
        if end.up {
            set_up(connection, index).map_err(|cause| failed(end, "set up", cause))?;
        }
        if end.user == User::Stack {
            Offload::ALL.into_iter().try_for_each(|offload| turn_off(end, offload))?;
        }
        for &(address, prefix) in &end.addresses {
            add_address(connection, index, address, prefix).map_err(|cause| {
                failed(end, format_args!("add address {address}/{prefix}"), cause)
            })?;
        }
        for (address, mac) in &end.neighbours {
            put_neighbour(connection, index, *address, mac)
                .map_err(|cause| failed(end, format_args!("add neighbour {address}"), cause))?;
        }
    }
    for (end, index) in ends.iter().zip(indexes) {
        for route in &end.routes {
            put_route(connection, index, route)
                .map_err(|cause| failed(end, format_args!("add route {route}"), cause))?;
        }
    }
    Ok(())
}

/// Sets a link up.
pub(super) fn set_up(connection: &Connection<'_>, index: u32) -> Result<(), Refusal> {
    change(connection, LinkUnspec::new_with_index(index).up())
}

/// Changes what is said about a link.
pub(super) fn change(
    connection: &Connection<'_>,
    message: LinkMessageBuilder<LinkUnspec>,
) -> Result<(), Refusal> {
    connection.wait(connection.handle().link().change(message.build()).execute())
}

/// Turns an offload of an end off. The calling thread is in its namespace.
pub(super) fn turn_off(end: &End, offload: Offload) -> Result<(), NetError> {
    link::turn_off(&end.ifname, offload)
        .map_err(|cause| failed(end, "set its offloads", io::Error::other(cause).into()))
}

/// Puts a permanent neighbour on a link, in the place of any it has for that address.
pub(super) fn put_neighbour(
    connection: &Connection<'_>,
    index: u32,
    address: Ipv4Addr,
    mac: &Mac,
) -> Result<(), Refusal> {
    let request = connection.handle().neighbours().add(index, IpAddr::V4(address));
    connection.wait(request.link_layer_address(mac).replace().execute())
}

/// Puts a route on a link, in the place of any to the same destination.
pub(super) fn put_route(
    connection: &Connection<'_>,
    index: u32,
    route: &Route,
) -> Result<(), Refusal> {
    let request = connection.handle().route().add(route_message(route, index));
    connection.wait(request.replace().execute())
}

/// Puts an address on a link.
pub(super) fn add_address(
    connection: &Connection<'_>,
    index: u32,
    address: Ipv4Addr,
    prefix: u8,
) -> Result<(), Refusal> {
    let mut request = connection.handle().address().add(index, IpAddr::V4(address), prefix);
    // The builder adds a broadcast address by itself, which `ip address add` does not.
    let attributes = &mut request.message_mut().attributes;
    attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
    connection.wait(request.execute())
}

/// A route as the kernel is asked for it, and as it tells it.
pub(super) fn route_message(route: &Route, index: u32) -> RouteMessage {
    let mut message = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index);
    if let Some((address, prefix)) = route.dst {
        message = message.destination_prefix(address, prefix);
    }
    if let Some(via) = route.via {
        message = message.gateway(via);
    }
    if route.onlink {
        message = message.onlink();
    }
    if route.scope_link {
        message = message.scope(RouteScope::Link);
    }
    message.build()
}

/// What went wrong with an end.
pub(super) fn failed(end: &End, attempt: impl fmt::Display, cause: Refusal) -> NetError {
    NetError::Link {
        namespace: end.namespace.clone(),
        ifname: end.ifname.clone(),
        attempt: attempt.to_string(),
        cause,
    }
}
