//! From the text of a lab file to a [`Lab`]: parse, resolve names, claim every given address,
//! and, where nothing is wrong, derive what was left out.
//!
//! Checks run to the end whatever they find. A value that was refused is replaced by a harmless
//! one and what depends on it stays silent, so that one mistake gives one message; the lab itself
//! is built only when nothing was found.

mod book;
mod cluster;
mod compute;
mod fabric;
mod fnat;
mod ident;
mod lint;
mod report;
mod service;
mod settings;
mod settle;
mod syntax;

use super::error::{LabError, Lints};
use super::file::File;
use super::model::Lab;
use book::Book;
use compute::Machines;
use fabric::Fabric;
use report::Report;

/// Loads the lab file `text`; `source_name` is what messages call it.
///
/// # Errors
/// Every mistake in the file, in file order; a YAML or structural mistake comes alone.
pub fn load(text: &str, source_name: &str) -> Result<Lab, LabError> {
    load_linted(text, source_name).map(|(lab, _)| lab)
}

/// Loads a lab file as [`load`] does, and tells what it says without meaning it, probably.
///
/// # Errors
/// Every mistake in the file, as [`load`] has them.
pub fn load_linted(text: &str, source_name: &str) -> Result<(Lab, Lints), LabError> {
    let file = syntax::parse(text, source_name)?;
    let mut report = Report::default();
    let lab = build(&file, &mut report);
    match (lab, report.into_findings()) {
        (Some(lab), findings) if findings.is_empty() => {
            let mut report = Report::default();
            lint::fnat(&file, &lab, &mut report);
            let lints = Lints::new(text, source_name, report.into_findings());
            Ok((lab, lints))
        }
        (_, findings) => Err(LabError::new(text, source_name, findings)),
    }
}

/// The lab of `file`, unless `report` has findings.
fn build(file: &File, report: &mut Report) -> Option<Lab> {
    let profile = report.read_opt("profile", file.profile.as_ref()).unwrap_or_default();
    let fabric = Fabric::read(&file.vpc, report);
    let machines = Machines::read(file, &fabric, report);
    let outside = cluster::outside(&file.outside, &fabric, report);
    let slbs = cluster::slbs(&file.slbs, &fabric, &machines, report);
    let routes = cluster::routes(&file.vpc.routes, &fabric, &machines, report);
    let services = service::services(&file.services, &fabric, &machines, report);
    let switches = settings::switches(file.switches.as_ref(), profile, report);
    let limits = settings::limits(file.limits.as_ref(), report);
    let seed = report.read_opt("seed", file.seed.as_ref()).map_or(1, |seed| seed.0);
    let links = report.read_opt("links", file.links.as_ref()).unwrap_or_default();
    let book = Book::read(file, fabric.gateway_mac(), report);
    if !report.is_empty() {
        return None;
    }
    let settled = settle::settle(machines, outside, &fabric, book, report);
    let (enis, nodes, pods, outside) = settled?;
    let vpc = fabric.into_model(routes);
    Some(Lab {
        profile,
        switches,
        limits,
        seed,
        links,
        vpc,
        enis,
        nodes,
        pods,
        services,
        slbs,
        outside,
    })
}
