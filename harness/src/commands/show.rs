//! `trunkline show`.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use datapath::lab::{self, Lab};
use datapath::node::Node;
use datapath::port::Heap;
use datapath::time::Time;
use datapath::vpc::Vpc;

use crate::show::{Format, Query, Table, take};

/// Shows a table of a lab that has just begun, held in memory: `show --lab FILE`.
///
/// # Errors
/// The file cannot be read or is no lab, the query names a node that the lab does not have, or
/// `out` takes no more.
pub fn run_on_lab_file(
    file: &Path,
    query: &Query,
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    let lab = lab::load(&text, &name)?;
    print(&of_fresh_lab(&lab, query)?, format, out)
}

/// The table of a lab that has just begun.
fn of_fresh_lab(lab: &Lab, query: &Query) -> anyhow::Result<Table> {
    let nodes: Vec<Node<Heap>> =
        (0..lab.nodes.len()).filter_map(|index| Node::new(lab, index)).collect();
    let nodes: Vec<&Node<Heap>> = nodes.iter().collect();
    Ok(take(query, lab, &nodes, &Vpc::new(lab), Time::ZERO)?)
}

/// Prints a table.
///
/// # Errors
/// `out` takes no more.
pub fn print(table: &Table, format: Format, out: &mut impl Write) -> anyhow::Result<()> {
    match format {
        Format::Text => write!(out, "{table}")?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, table)?;
            writeln!(out)?;
        }
    }
    Ok(())
}
