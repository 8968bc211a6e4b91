//! What `trunkline show` is asked for.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use datapath::node::route::{DEFAULT, LOCAL, MAIN};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A table of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Policy rules, as `ip rule` prints them.
    Rule,
    /// A route table, as `ip route show table TABLE` prints it.
    Route,
    /// Neighbours, as `ip neigh` prints them.
    Neigh,
    /// Virtual servers, as `ipvsadm -Ln` prints them, and with its options -c, --stats, --timeout,
    /// --persistent-conn and --thresholds as it does with those; with --save as `ipvsadm -Sn`;
    /// with --laddr local addresses, as DPVS's `ipvsadm -G` and `dpip addr show -s`.
    Ipvs,
    /// Flows, as `conntrack -L` prints them.
    Conntrack,
    /// The trunk's filters, as `tc filter show dev eth1` prints them.
    Tc,
    /// Security groups with members and hits of their rules; with --sessions their sessions.
    Sg,
    /// ENIs with their counters and trunk queues.
    Eni,
    /// Dropped frames of each element, by reason.
    Drops,
}

/// Which table of which nodes.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Query {
    /// The table to show.
    #[arg(value_enum)]
    pub what: What,
    /// Only this node's; all nodes' unless given.
    #[arg(long, value_name = "NODE")]
    #[serde(default)]
    pub node: Option<String>,
    /// With route: main, local, default or a number.
    #[arg(long, value_name = "TABLE", default_value = "main")]
    #[serde(default)]
    pub table: TableId,
    /// With ipvs: what of it.
    #[command(flatten)]
    #[serde(flatten)]
    pub ipvs: IpvsOptions,
    /// With sg: the sessions instead of the groups.
    #[arg(long)]
    #[serde(default)]
    pub sessions: bool,
}

impl Query {
    /// A table of all nodes: table main of routes, servers of ipvs, groups of sg.
    #[must_use]
    pub fn new(what: What) -> Self {
        Self {
            what,
            node: None,
            table: TableId::default(),
            ipvs: IpvsOptions::default(),
            sessions: false,
        }
    }
}

/// What `trunkline show ipvs` shows instead of the virtual servers; at most one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[group(multiple = false)]
#[serde(default, rename_all = "camelCase")]
pub struct IpvsOptions {
    /// With ipvs: the connections.
    #[arg(short, long)]
    pub connections: bool,
    /// With ipvs: what the servers have counted.
    #[arg(long)]
    pub stats: bool,
    /// With ipvs: the timeouts of connections.
    #[arg(long)]
    pub timeout: bool,
    /// With ipvs: the servers with their persistent connections.
    #[arg(long)]
    pub persistent_conn: bool,
    /// With ipvs: the servers with their connection thresholds.
    #[arg(long)]
    pub thresholds: bool,
    /// With ipvs: the calls of ipvsadm that would make the servers.
    #[arg(short = 'S', long)]
    pub save: bool,
    /// With ipvs: the local addresses of services in mode fnat, and their ports.
    #[arg(long)]
    pub laddr: bool,
}

/// How a table is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As the tool of a real node prints it.
    #[default]
    Text,
    /// For machines, of the form in docs/schema/show.json.
    Json,
}

/// Arguments of `trunkline show`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ShowArgs {
    /// What to show.
    #[command(flatten)]
    pub query: Query,
    /// The running lab of this name (it may be left out when only one is up), or a lab file: its
    /// tables as they are when the lab begins.
    #[arg(long, value_name = "NAME|FILE")]
    pub lab: Option<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Number of a route table; prints as `ip` does, the known ones by name.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(into = "String", try_from = "String")]
pub struct TableId(pub u32);

/// The text names no route table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected main, local, default or a table's number")]
pub struct UnknownTable;

impl Default for TableId {
    fn default() -> Self {
        Self(MAIN)
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            LOCAL => f.write_str("local"),
            MAIN => f.write_str("main"),
            DEFAULT => f.write_str("default"),
            number => write!(f, "{number}"),
        }
    }
}

impl FromStr for TableId {
    type Err = UnknownTable;
    fn from_str(s: &str) -> Result<Self, UnknownTable> {
        Ok(Self(match s {
            "local" => LOCAL,
            "main" => MAIN,
            "default" => DEFAULT,
            number => number.parse().map_err(|_| UnknownTable)?,
        }))
    }
}

impl From<TableId> for String {
    fn from(id: TableId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for TableId {
    type Error = UnknownTable;
    fn try_from(s: String) -> Result<Self, UnknownTable> {
        s.parse()
    }
}
