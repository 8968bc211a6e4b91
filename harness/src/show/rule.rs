//! Policy rules, as `ip rule` prints them.

use std::fmt;
use std::net::Ipv4Addr;

use datapath::lab::Lab;
use datapath::node::route::{self, Iif};
use datapath::node::{Node, NodeConfig};
use datapath::port::Buffer;
use datapath::time::Time;
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::Serialize;

use super::TableId;

/// A policy rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rule {
    /// The smaller is tried first.
    pub priority: u32,
    /// Sources it selects; all where there is none.
    #[schemars(with = "Option<String>")]
    pub src: Option<Ipv4Net>,
    /// Destinations it selects; all where there is none.
    #[schemars(with = "Option<String>")]
    pub dst: Option<Ipv4Net>,
    /// Value and mask of the marks it selects.
    pub fwmark: Option<(u32, u32)>,
    /// The interface the packet came in by.
    pub iif: Option<String>,
    /// The interface the packet is bound to leave by.
    pub oif: Option<String>,
    /// The table it names.
    pub table: TableId,
}

/// The rules of a node, in the order in which they are tried.
pub(super) fn rules<B: Buffer>(_: &Lab, node: &Node<B>, _: Time) -> Vec<Rule> {
    let config = node.config();
    config.routes.rules().iter().map(|rule| Rule::of(rule, config)).collect()
}

impl Rule {
    fn of(rule: &route::Rule<Ipv4Addr>, config: &NodeConfig) -> Self {
        let selector = rule.selector;
        let net = |(prefix, len)| Ipv4Net::new(prefix, len).ok();
        let name = |port| config.interface(port).map_or("?", |i| &i.name).to_owned();
        Self {
            priority: rule.priority,
            src: selector.from.and_then(net),
            dst: selector.to.and_then(net),
            fwmark: selector.fwmark,
            iif: selector.iif.map(|iif| match iif {
                Iif::Lo => "lo".to_owned(),
                Iif::Port(port) => name(port),
            }),
            oif: selector.oif.map(name),
            table: TableId(rule.table),
        }
    }
}

/// A prefix as `ip` prints it: a host without its length.
pub(super) fn prefix(net: Ipv4Net) -> String {
    if net.prefix_len() == 32 { net.addr().to_string() } else { net.to_string() }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:\tfrom {}", self.priority, self.src.map_or("all".to_owned(), prefix))?;
        if let Some(dst) = self.dst {
            write!(f, " to {}", prefix(dst))?;
        }
        match self.fwmark {
            Some((value, u32::MAX)) => write!(f, " fwmark {value:#x}")?,
            Some((value, mask)) => write!(f, " fwmark {value:#x}/{mask:#x}")?,
            None => {}
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {iif}")?;
        }
        if let Some(oif) = &self.oif {
            write!(f, " oif {oif}")?;
        }
        write!(f, " lookup {}", self.table)
    }
}
