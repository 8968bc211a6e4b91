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
mod report;
mod service;
mod settings;
mod settle;
mod syntax;

use super::error::LabError;
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
    let file = syntax::parse(text, source_name)?;
    let mut report = Report::default();
    let lab = build(&file, &mut report);
    match (lab, report.into_findings()) {
        (Some(lab), findings) if findings.is_empty() => Ok(lab),
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
    let book = Book::read(file, fabric.gateway_mac(), report);
    if !report.is_empty() {
        return None;
    }
    let settled = settle::settle(machines, outside, &fabric, book, report);
    let (enis, nodes, pods, outside) = settled?;
    let vpc = fabric.into_model(routes);
    Some(Lab { profile, switches, limits, seed, vpc, enis, nodes, pods, services, slbs, outside })
}
