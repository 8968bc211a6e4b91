//! Whether this machine has all that Trunkline needs, and whether somebody has changed a lab that
//! is up.
//!
//! Each file examines one family of checks. What a lab should be like is its own plan
//! ([`topology`](crate::live::topology)), held against what is there by
//! [`net::audit`](crate::net::audit) (spec LAB-28).

mod host;
mod kernel;
mod lab;
mod print;
mod privileges;
mod report;
mod smoke;
mod tune;

pub use print::text;
pub use report::{About, Check, Family, Finding, Remedy, Report, Status, VERSION};
pub use smoke::receives_when_asked;

use crate::live::client::{self, Client};
use crate::live::state::State;

/// Examines the machine and the labs of these names, or all that are up where none is named. With
/// `fix`, repairs what can be repaired.
///
/// # Errors
/// Where a named lab is not up, or the labs cannot be listed.
pub fn examine(labs: &[String], fix: bool) -> anyhow::Result<Report> {
    let clients = clients(labs)?;
    let family = |about, checks| Family { about, lab: None, checks };
    let mut families = vec![
        family(About::Privileges, privileges::examine()),
        family(About::Kernel, kernel::examine()),
        family(About::Host, host::examine(labs, fix)),
    ];
    // A dead one may just have been removed.
    let there = clients.iter().filter(|client| client.state().exists());
    families.extend(there.map(|client| Family {
        about: About::Lab,
        lab: Some(client.state().name().to_owned()),
        checks: lab::examine(client, fix),
    }));
    Ok(Report::new(families))
}

/// Moves the work of the labs of these names, or of all that are up where none is named, off the
/// processors on which they are forwarded; or, where `back` is set, puts back what that has changed
/// (spec LAB-31).
///
/// # Errors
/// Where a named lab is not up, or cannot be examined.
pub fn tune(labs: &[String], back: bool) -> anyhow::Result<Report> {
    let tuned = clients(labs)?.into_iter().map(|client| {
        let state = client.state();
        let checks = if back { tune::untune(state) } else { tune::tune(&client) }?;
        Ok(Family { about: About::Tuning, lab: Some(state.name().to_owned()), checks })
    });
    Ok(Report::new(tuned.collect::<anyhow::Result<_>>()?))
}

fn clients(named: &[String]) -> anyhow::Result<Vec<Client>> {
    if !named.is_empty() {
        return named.iter().map(|name| client::find(Some(name))).collect();
    }
    let up = State::all()?.into_iter().filter(|state| state.daemon().is_some());
    up.map(|state| client::find(Some(state.name()))).collect()
}
