//! `trunkline show`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use datapath::lab::Lab;
use datapath::node::Node;
use datapath::port::Heap;
use datapath::time::Time;
use datapath::vpc::Vpc;

use serde::Serialize;

use super::Versioned;
use super::lab::is_file_name;
use crate::lab_file;
use crate::live::client;
use crate::show::{Format, Query, ShowArgs, Table, take};

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
    print(&of_fresh_lab(&lab_file::load(file)?, query)?, format, out)
}

/// The table of a lab that has just begun.
fn of_fresh_lab(lab: &Lab, query: &Query) -> anyhow::Result<Table> {
    let nodes: Vec<Node<Heap>> =
        (0..lab.nodes.len()).filter_map(|index| Node::new(lab, index)).collect();
    let nodes: Vec<&Node<Heap>> = nodes.iter().collect();
    Ok(take(query, lab, &nodes, &Vpc::new(lab), Time::ZERO)?)
}

/// Runs the command on a running lab or a lab file.
///
/// # Errors
/// There is no such lab, the file is no lab, or the query names a node that the lab does not have.
pub fn run(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if let Some(file) = args.lab.as_deref().map(Path::new).filter(|file| is_file_name(file)) {
        run_on_lab_file(file, &args.query, args.output, &mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (text, json) = client::find(args.lab.as_deref())?.show(args.query.clone())?;
    match args.output {
        Format::Text => write!(out, "{text}")?,
        Format::Json => print_json(&Versioned::new(json), &mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a table.
///
/// # Errors
/// `out` takes no more.
pub fn print(table: &Table, format: Format, out: &mut impl Write) -> anyhow::Result<()> {
    match format {
        Format::Text => write!(out, "{table}")?,
        Format::Json => print_json(&Versioned::new(table), out)?,
    }
    Ok(())
}

fn print_json(document: &impl Serialize, out: &mut impl Write) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)?;
    Ok(())
}
