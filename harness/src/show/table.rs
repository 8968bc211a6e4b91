//! A table that was taken, and how it is printed.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Columns, Connection, ConntrackEntry, ElementDrops, Eni, Filter, Group, LocalEntry, Neighbour,
    Route, Rule, Session, TableId, Timeouts, VirtualServer, drops, eni, ipvsadm, laddr,
    security_group, session, tc,
};

/// What one node has of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OnNode<T> {
    /// The node's name.
    pub node: String,
    /// Its entries, in the order in which the real tool prints them.
    pub entries: Vec<T>,
}

/// A table of a lab at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Table {
    /// Policy rules.
    Rules {
        /// By node.
        nodes: Vec<OnNode<Rule>>,
    },
    /// One route table.
    Routes {
        /// Which.
        table: TableId,
        /// By node.
        nodes: Vec<OnNode<Route>>,
    },
    /// Neighbours.
    Neighbours {
        /// By node.
        nodes: Vec<OnNode<Neighbour>>,
    },
    /// Virtual servers and the real servers behind them.
    Ipvs {
        /// What of them the text has.
        #[serde(skip)]
        columns: Columns,
        /// By node.
        nodes: Vec<OnNode<VirtualServer>>,
    },
    /// Timeouts of connections.
    IpvsTimeouts {
        /// By node.
        nodes: Vec<OnNode<Timeouts>>,
    },
    /// Connections of virtual servers.
    IpvsConnections {
        /// By node.
        nodes: Vec<OnNode<Connection>>,
    },
    /// Local addresses of services in mode fnat, then those of the node with their ports.
    LocalAddresses {
        /// By node.
        nodes: Vec<OnNode<LocalEntry>>,
    },
    /// Tracked flows.
    Conntrack {
        /// By node.
        nodes: Vec<OnNode<ConntrackEntry>>,
    },
    /// Filters of the trunk.
    Tc {
        /// By node.
        nodes: Vec<OnNode<Filter>>,
    },
    /// Security groups.
    SecurityGroups {
        /// In file order.
        groups: Vec<Group>,
    },
    /// Sessions of security groups and load balancers.
    Sessions {
        /// In the order of their records.
        sessions: Vec<Session>,
    },
    /// ENIs.
    Enis {
        /// In the lab's order.
        enis: Vec<Eni>,
    },
    /// Dropped frames.
    Drops {
        /// By element, the VPC last.
        elements: Vec<ElementDrops>,
    },
}

impl Table {
    /// The table as the tool of a real node prints it.
    #[must_use]
    pub fn text(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules { nodes } => per_node(f, nodes, lines),
            Self::Routes { nodes, .. } => per_node(f, nodes, lines),
            Self::Neighbours { nodes } => per_node(f, nodes, lines),
            Self::Ipvs { columns, nodes } => {
                per_node(f, nodes, |f, servers| ipvsadm::servers(f, *columns, servers))
            }
            Self::IpvsTimeouts { nodes } => per_node(f, nodes, lines),
            Self::IpvsConnections { nodes } => per_node(f, nodes, |f, connections| {
                f.write_str(ipvsadm::CONNECTIONS_HEADER)?;
                lines(f, connections)
            }),
            Self::LocalAddresses { nodes } => per_node(f, nodes, |f, entries| {
                f.write_str(laddr::HEADER)?;
                lines(f, entries)
            }),
            Self::Conntrack { nodes } => per_node(f, nodes, lines),
            Self::Tc { nodes } => per_node(f, nodes, tc::print),
            Self::SecurityGroups { groups } => security_group::print(f, groups),
            Self::Sessions { sessions } => session::print(f, sessions),
            Self::Enis { enis } => eni::print(f, enis),
            Self::Drops { elements } => drops::print(f, elements),
        }
    }
}

/// Each node's part, under its name where there are several.
fn per_node<T>(
    f: &mut fmt::Formatter<'_>,
    nodes: &[OnNode<T>],
    print: impl Fn(&mut fmt::Formatter<'_>, &[T]) -> fmt::Result,
) -> fmt::Result {
    for OnNode { node, entries } in nodes {
        if nodes.len() > 1 {
            writeln!(f, "# {node}")?;
        }
        print(f, entries)?;
    }
    Ok(())
}

/// One entry a line.
fn lines<T: fmt::Display>(f: &mut fmt::Formatter<'_>, entries: &[T]) -> fmt::Result {
    entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
}

/// Rows under a head, every column as wide as its widest cell.
pub(super) fn columns(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|r| r.get(at)).map(String::len).max();
    let widths: Vec<usize> = (0..count).map(|at| width(at).unwrap_or(0)).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(f, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// A row of [`columns`].
pub(super) fn row<const N: usize>(cells: [&dyn fmt::Display; N]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}
