//! Dropped frames of each element, by reason.

use std::fmt;

use datapath::element::Element;
use datapath::lab::Lab;
use datapath::node::Node;
use datapath::port::Buffer;
use datapath::vpc::Vpc;
use schemars::JsonSchema;
use serde::Serialize;

use super::table::{columns, row};

/// What one element dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ElementDrops {
    /// The element: a node's name, or vpc.
    pub element: String,
    /// Every reason with a count above zero, in the order of the way of a packet.
    pub drops: Vec<Drop>,
}

/// Frames dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Drop {
    /// The reason's name.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
    /// What the reason means.
    pub meaning: &'static str,
}

/// What `nodes` and the VPC dropped.
pub(super) fn drops<B: Buffer>(
    lab: &Lab,
    nodes: &[&Node<B>],
    vpc: Option<&Vpc<B>>,
) -> Vec<ElementDrops> {
    let mut elements: Vec<_> =
        nodes.iter().map(|node| of(super::node_name(lab, node.config().index), *node)).collect();
    elements.extend(vpc.map(|vpc| of("vpc", vpc)));
    elements
}

fn of<B: Buffer>(name: &str, element: &impl Element<B>) -> ElementDrops {
    let drops = element.ledger().dropped.nonzero().map(|(reason, count)| Drop {
        reason: reason.name(),
        count,
        meaning: reason.meaning().trim(),
    });
    ElementDrops { element: name.to_owned(), drops: drops.collect() }
}

/// Each element's reasons under its name.
pub(super) fn print(f: &mut fmt::Formatter<'_>, elements: &[ElementDrops]) -> fmt::Result {
    for ElementDrops { element, drops } in elements {
        if elements.len() > 1 {
            writeln!(f, "# {element}")?;
        }
        let rows: Vec<_> = drops
            .iter()
            .map(|d| row([&format!("{:>8}", d.count), &d.reason, &d.meaning]))
            .collect();
        columns(f, &rows)?;
    }
    Ok(())
}
