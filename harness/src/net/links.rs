//! Requests for links and for what is on them.

use std::fmt;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::connection::Connection;
use super::error::{NetError, Refusal};
use super::namespace;
use super::plan::{End, Route, Veth};

/// `lo` is the first link of every namespace.
const LOOPBACK: u32 = 1;

/// Makes `link` in one request, each end where it belongs and with all its properties. The
/// connection is to the namespace of the first end.
pub(super) fn make(connection: &Connection<'_>, link: &Veth) -> Result<(), NetError> {
    let [first, second] = link.in_order();
    let refused = |cause| {
        let End { namespace, ifname, .. } = second;
        let attempt = format!("create with peer {ifname} in network namespace {namespace}");
        failed(first, attempt, cause)
    };
    let home = File::open(namespace::path(&second.namespace)).map_err(|e| refused(e.into()))?;
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

/// Sets `ends` up and puts addresses, neighbours and routes on them. All of them are in the
/// connection's namespace, and the calling thread is in it too.
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
        for &(address, prefix) in &end.addresses {
            add_address(connection, index, address, prefix).map_err(|cause| {
                failed(end, format_args!("add address {address}/{prefix}"), cause)
            })?;
        }
        for (address, mac) in &end.neighbours {
            let handle = connection.handle().neighbours();
            let request = handle.add(index, IpAddr::V4(*address)).link_layer_address(mac);
            connection
                .wait(request.execute())
                .map_err(|cause| failed(end, format_args!("add neighbour {address}"), cause))?;
        }
    }
    for (end, index) in ends.iter().zip(indexes) {
        for route in &end.routes {
            let request = connection.handle().route().add(route_message(route, index));
            connection
                .wait(request.execute())
                .map_err(|cause| failed(end, format_args!("add route {route}"), cause))?;
        }
    }
    Ok(())
}

fn set_up(connection: &Connection<'_>, index: u32) -> Result<(), Refusal> {
    let message = LinkUnspec::new_with_index(index).up().build();
    connection.wait(connection.handle().link().change(message).execute())
}

fn add_address(
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

fn route_message(route: &Route, index: u32) -> RouteMessage {
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

fn failed(end: &End, attempt: impl fmt::Display, cause: Refusal) -> NetError {
    NetError::Link {
        namespace: end.namespace.clone(),
        ifname: end.ifname.clone(),
        attempt: attempt.to_string(),
        cause,
    }
}
