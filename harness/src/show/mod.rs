//! The tables of a lab, as the tools of a real node print them: `ip rule`, `ip route`, `ip neigh`,
//! `ipvsadm`, `conntrack` and `tc`, and beside them what only this fabric has.
//!
//! [`take`] copies a table out of running elements, on whatever datapath they run; a [`Table`]
//! prints itself as text or serialises to JSON.

mod conntrack;
mod drops;
mod eni;
mod ipvs;
mod ipvsadm;
mod laddr;
mod neighbour;
mod query;
mod route;
mod rule;
mod security_group;
mod session;
mod table;
mod tc;

pub use conntrack::{ConntrackEntry, ConntrackTuple, entries};
pub use drops::{Drop, ElementDrops};
pub use eni::{Eni, PacketCounters, QueueCounters};
pub use ipvs::{Columns, Connection, Persistence, RealServer, Stats, Timeouts, VirtualServer};
pub use ipvs::{connections, virtual_servers};
pub use laddr::{LocalAddress, LocalEntry};
pub use neighbour::Neighbour;
pub use query::{Format, IpvsOptions, Query, ShowArgs, TableId, UnknownTable, What};
pub use route::{Flag, Route, RouteType, Scope};
pub use rule::Rule;
pub use security_group::{Group, GroupRule, Member};
pub use session::{Session, SessionOwner};
pub use table::{OnNode, Table};
pub use tc::{Action, Direction, Filter, Match};

use datapath::lab::Lab;
use datapath::node::Node;
use datapath::port::Buffer;
use datapath::time::Time;
use datapath::vpc::Vpc;

/// What a query asks for is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unknown {
    /// The lab has no node of this name.
    #[error("no node {name:?}; there are: {}", .known.join(", "))]
    Node {
        /// What was asked for.
        name: String,
        /// The nodes there are.
        known: Vec<String>,
    },
    /// No node that is asked about has this route table.
    #[error("FIB table {table} does not exist; there are: {}", .known.join(", "))]
    Table {
        /// What was asked for.
        table: TableId,
        /// The tables there are.
        known: Vec<String>,
    },
}

/// Copies the table that `query` asks for out of a lab's elements, as they are at `now`.
///
/// # Errors
/// The query names a node that is not among `nodes`, or a route table that none of them has.
pub fn take<B: Buffer>(
    query: &Query,
    lab: &Lab,
    nodes: &[&Node<B>],
    vpc: &Vpc<B>,
    now: Time,
) -> Result<Table, Unknown> {
    let view = View { lab, nodes: selected(query, lab, nodes)?, now };
    let one_node = query.node.is_some();
    Ok(match query.what {
        What::Rule => Table::Rules { nodes: view.each(rule::rules) },
        What::Route => {
            let table = query.table;
            let known = route::tables(&view.nodes);
            if !known.contains(&table) {
                let known = known.iter().map(TableId::to_string).collect();
                return Err(Unknown::Table { table, known });
            }
            let routes = |_: &Lab, node: &Node<B>, _| route::routes(node.config(), table);
            Table::Routes { table, nodes: view.each(routes) }
        }
        What::Neigh => Table::Neighbours { nodes: view.each(neighbour::neighbours) },
        What::Ipvs if query.ipvs.connections => {
            Table::IpvsConnections { nodes: view.each(ipvs::connections) }
        }
        What::Ipvs if query.ipvs.laddr => {
            Table::LocalAddresses { nodes: view.each(laddr::entries) }
        }
        What::Ipvs if query.ipvs.timeout => {
            Table::IpvsTimeouts { nodes: view.each(ipvs::timeouts) }
        }
        What::Ipvs => Table::Ipvs {
            columns: ipvs::Columns::of(query.ipvs),
            nodes: view.each(ipvs::virtual_servers),
        },
        What::Conntrack => Table::Conntrack { nodes: view.each(conntrack::entries) },
        What::Tc => Table::Tc { nodes: view.each(tc::filters) },
        What::Sg if query.sessions => {
            Table::Sessions { sessions: session::sessions(lab, vpc, now) }
        }
        What::Sg => Table::SecurityGroups { groups: security_group::groups(lab, vpc) },
        What::Eni => Table::Enis { enis: eni::enis(lab, &view.nodes, vpc) },
        What::Drops => {
            let vpc = (!one_node).then_some(vpc);
            Table::Drops { elements: drops::drops(lab, &view.nodes, vpc) }
        }
    })
}

/// The nodes that a query is about.
fn selected<'a, B: Buffer>(
    query: &Query,
    lab: &Lab,
    nodes: &[&'a Node<B>],
) -> Result<Vec<&'a Node<B>>, Unknown> {
    let Some(name) = &query.node else { return Ok(nodes.to_vec()) };
    let known = |node: &&Node<B>| node_name(lab, node.config().index).to_owned();
    match nodes.iter().find(|node| known(node) == *name) {
        Some(node) => Ok(vec![node]),
        None => Err(Unknown::Node { name: name.clone(), known: nodes.iter().map(known).collect() }),
    }
}

/// The name of a node of the lab.
fn node_name(lab: &Lab, node: usize) -> &str {
    lab.nodes.get(node).map_or("?", |node| &node.name)
}

/// What tables are taken from.
struct View<'a, B> {
    lab: &'a Lab,
    nodes: Vec<&'a Node<B>>,
    now: Time,
}

impl<B: Buffer> View<'_, B> {
    /// The same table of each node.
    fn each<T>(&self, entries: impl Fn(&Lab, &Node<B>, Time) -> Vec<T>) -> Vec<OnNode<T>> {
        let on = |node: &&Node<B>| OnNode {
            node: node_name(self.lab, node.config().index).to_owned(),
            entries: entries(self.lab, node, self.now),
        };
        self.nodes.iter().map(on).collect()
    }
}
