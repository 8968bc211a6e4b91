//! Neighbours, as `ip neigh` prints them.

use std::fmt;
use std::net::Ipv4Addr;

use datapath::lab::Lab;
use datapath::node::{NeighbourState, Node};
use datapath::port::Buffer;
use datapath::time::Time;
use datapath::wire::Mac;
use schemars::JsonSchema;
use serde::Serialize;

/// A neighbour; its fields are named as `ip -j neigh` names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Neighbour {
    /// Its address.
    pub dst: Ipv4Addr,
    /// The interface.
    pub dev: String,
    /// Its MAC, once known.
    #[schemars(with = "Option<String>")]
    pub lladdr: Option<Mac>,
    /// What is known of it: PERMANENT, REACHABLE or INCOMPLETE.
    pub state: &'static str,
}

/// The neighbours of a node, in the order of their records.
pub(super) fn neighbours<B: Buffer>(_: &Lab, node: &Node<B>, _: Time) -> Vec<Neighbour> {
    let of = |(port, dst, state)| {
        let dev = node.config().interface(port).map_or("?", |i| &i.name).to_owned();
        let (lladdr, state) = match state {
            NeighbourState::Permanent(mac) => (Some(mac), "PERMANENT"),
            NeighbourState::Reachable(mac) => (Some(mac), "REACHABLE"),
            NeighbourState::Incomplete { .. } => (None, "INCOMPLETE"),
        };
        Neighbour { dst, dev, lladdr, state }
    };
    node.neighbours().map(of).collect()
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {} ", self.dst, self.dev)?;
        if let Some(mac) = self.lladdr {
            write!(f, "lladdr {mac} ")?;
        }
        write!(f, "{} ", self.state)
    }
}
