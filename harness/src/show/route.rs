//! A route table, as `ip route show table` prints it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use datapath::node::route::{self, MAIN, RouteKind};
use datapath::node::{ETH0, Node, NodeConfig};
use datapath::port::Buffer;
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::Serialize;

use super::TableId;
use super::rule::prefix;

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteType {
    /// Sends the packet on.
    Unicast,
    /// The address is the node's own.
    Local,
    /// The address is a network's broadcast address.
    Broadcast,
}

/// How far a route's destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// On the node.
    Host,
    /// On the link.
    Link,
}

/// Something special about a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Flag {
    /// The gateway needs no route of its own.
    Onlink,
}

/// A route; its fields are named as `ip -j route` names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Route {
    /// What it does.
    #[serde(rename = "type")]
    pub kind: RouteType,
    /// Its destination.
    #[schemars(with = "String")]
    pub dst: Ipv4Net,
    /// The next hop; the destination itself where there is none.
    pub gateway: Option<Ipv4Addr>,
    /// The interface.
    pub dev: String,
    /// Whether the kernel made it for an address of an interface.
    pub kernel: bool,
    /// How far its destination is; global where there is none.
    pub scope: Option<Scope>,
    /// The source address it prefers.
    pub prefsrc: Option<Ipv4Addr>,
    /// Anything special about it.
    pub flags: Vec<Flag>,
}

/// The routes of one table of a node, by prefix.
pub(super) fn routes(config: &NodeConfig, table: TableId) -> Vec<Route> {
    let found = config.routes.table(table.0);
    found.flat_map(|(dst, len, route)| of(config, table, dst, len, &route)).collect()
}

/// The tables that any of the nodes has, in order.
pub(super) fn tables<B: Buffer>(nodes: &[&Node<B>]) -> BTreeSet<TableId> {
    nodes.iter().flat_map(|node| node.config().routes.tables()).map(TableId).collect()
}

/// A route as the kernel would list it: the node's address is on both ENIs.
fn of(
    config: &NodeConfig,
    table: TableId,
    dst: Ipv4Addr,
    len: u8,
    route: &route::Route<Ipv4Addr>,
) -> Vec<Route> {
    let Ok(dst) = Ipv4Net::new(dst, len) else { return Vec::new() };
    let made = |kind, dev: &str, scope, src| Route {
        kind,
        dst,
        gateway: None,
        dev: dev.to_owned(),
        kernel: true,
        scope: Some(scope),
        prefsrc: Some(src),
        flags: Vec::new(),
    };
    let local = |dev: &str, src| made(RouteType::Local, dev, Scope::Host, src);
    match route.kind {
        RouteKind::Local if dst.addr().is_loopback() => vec![local("lo", Ipv4Addr::LOCALHOST)],
        RouteKind::Local if dst.addr() == config.ip => {
            vec![local("eth0", config.ip), local("eth1", config.ip)]
        }
        RouteKind::Local if config.local_addresses.contains(&dst.addr()) => {
            vec![local("eth0", dst.addr())]
        }
        RouteKind::Local => vec![local("kube-ipvs0", dst.addr())],
        RouteKind::Broadcast => {
            vec![made(RouteType::Broadcast, "eth0", Scope::Link, config.ip)]
        }
        RouteKind::Port(port) => {
            let dev = config.interface(port).map_or("?", |i| &i.name);
            let connected = route.via.is_none() && port == ETH0;
            let onlink = route.via.is_some() && table.0 != MAIN;
            vec![Route {
                gateway: route.via,
                kernel: connected,
                scope: route.via.is_none().then_some(Scope::Link),
                prefsrc: connected.then_some(config.ip),
                flags: onlink.then_some(Flag::Onlink).into_iter().collect(),
                ..made(RouteType::Unicast, dev, Scope::Link, config.ip)
            }]
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteType::Unicast => {}
            RouteType::Local => f.write_str("local ")?,
            RouteType::Broadcast => f.write_str("broadcast ")?,
        }
        let default = self.dst.prefix_len() == 0;
        f.write_str(&if default { "default".to_owned() } else { prefix(self.dst) })?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " dev {} ", self.dev)?;
        if self.kernel {
            f.write_str("proto kernel ")?;
        }
        match self.scope {
            Some(Scope::Host) => f.write_str("scope host ")?,
            Some(Scope::Link) => f.write_str("scope link ")?,
            None => {}
        }
        if let Some(src) = self.prefsrc {
            write!(f, "src {src} ")?;
        }
        for Flag::Onlink in &self.flags {
            f.write_str("onlink ")?;
        }
        Ok(())
    }
}
