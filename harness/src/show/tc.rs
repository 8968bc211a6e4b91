//! The trunk's filters, as `tc filter show dev eth1` prints them (spec ING-3, EGR-7, SCN-2 to
//! SCN-4).

use std::fmt;

use datapath::lab::{Lab, Profile};
use datapath::node::Node;
use datapath::port::Buffer;
use datapath::time::Time;
use datapath::wire::Vid;
use schemars::JsonSchema;
use serde::Serialize;

/// Which way a filtered packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Out by the trunk.
    Egress,
    /// In by it.
    Ingress,
}

/// What a filter's packets have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Match {
    /// The value of the word.
    pub value: u32,
    /// Which of its bits count.
    pub mask: u32,
    /// Where the word is, in bytes from the IP header.
    pub offset: u8,
}

/// What a filter does with its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "vlan", rename_all = "lowercase")]
pub enum Action {
    /// Adds a tag.
    Push {
        /// Its VID.
        #[schemars(with = "u16")]
        id: Vid,
    },
    /// Takes the tag off.
    Pop,
}

/// A u32 filter of the trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Filter {
    /// Which way its packets go.
    pub direction: Direction,
    /// The protocol it is asked for.
    pub protocol: &'static str,
    /// Its preference.
    pub pref: u32,
    /// Its hash table's number.
    pub table: u32,
    /// Its number in that table, from 2048 on.
    pub order: u32,
    /// What its packets have.
    #[serde(rename = "match")]
    pub matches: Match,
    /// What it does with them.
    pub action: Action,
    /// The action's number.
    pub index: usize,
}

/// Where u32 begins to number hash tables and filters.
const FIRST: u32 = 0x800;
/// Offset of the source address in an IPv4 header.
const SOURCE: u8 = 12;

/// The filters of a node's trunk: egress first.
pub(super) fn filters<B: Buffer>(lab: &Lab, node: &Node<B>, _: Time) -> Vec<Filter> {
    let config = node.config();
    let pop = Filter {
        direction: Direction::Ingress,
        protocol: "802.1Q",
        pref: 20_000,
        table: FIRST,
        order: FIRST,
        matches: Match { value: 0, mask: 0, offset: 0 },
        action: Action::Pop,
        index: 1,
    };
    if !config.switches.vlan_push {
        return vec![pop];
    }
    let pref = if lab.profile == Profile::P2 { 50_001 } else { 20_001 };
    let pods = lab.pods.iter().filter(|pod| pod.node == config.index);
    let push = |((order, index), pod): ((u32, usize), &datapath::lab::Pod)| Filter {
        direction: Direction::Egress,
        protocol: "ip",
        pref,
        table: FIRST + 1,
        order,
        matches: Match { value: pod.ip.to_bits(), mask: u32::MAX, offset: SOURCE },
        action: Action::Push { id: pod.vid },
        index,
    };
    (FIRST..).zip(2..).zip(pods).map(push).chain([pop]).collect()
}

/// Egress, then ingress, each under the command that prints it.
pub(super) fn print(f: &mut fmt::Formatter<'_>, filters: &[Filter]) -> fmt::Result {
    for (direction, name) in [(Direction::Egress, "egress"), (Direction::Ingress, "ingress")] {
        writeln!(f, "# tc filter show dev eth1 {name}")?;
        let mut filters = filters.iter().filter(|filter| filter.direction == direction).peekable();
        if let Some(Filter { protocol, pref, table, .. }) = filters.peek() {
            writeln!(f, "filter protocol {protocol} pref {pref} u32 chain 0 ")?;
            let head = format!("filter protocol {protocol} pref {pref} u32 chain 0 fh {table:x}:");
            writeln!(f, "{head} ht divisor 1 ")?;
        }
        filters.try_for_each(|filter| write!(f, "{filter}"))?;
    }
    Ok(())
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, pref, table, order, index, .. } = self;
        let Match { value, mask, offset } = self.matches;
        writeln!(
            f,
            "filter protocol {protocol} pref {pref} u32 chain 0 fh {table:x}::{order:x} \
             order {order} key ht {table:x} bkt 0 terminal flowid not_in_hw "
        )?;
        writeln!(f, "  match {value:08x}/{mask:08x} at {offset}")?;
        let action = match self.action {
            Action::Push { id } => format!("push id {id} protocol 802.1Q priority 0"),
            Action::Pop => "pop".to_owned(),
        };
        writeln!(f, "\taction order 1: vlan  {action} pipe")?;
        writeln!(f, "\t index {index} ref 1 bind 1\n")
    }
}
