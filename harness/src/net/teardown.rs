//! Taking a lab's network away, knowing nothing but the lab's name.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::NetError;
use super::namespace::{self, NamespaceId};
use super::plan::invalid;
use super::process::{self, ProcessId};

/// How long processes of a lab may take to end on SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

/// How often processes that were started by those just ended are looked for again.
const ROUNDS: usize = 8;

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Processes that lived in the lab's namespaces.
    pub processes: Vec<ProcessId>,
    /// Names of namespaces, those that stood for nothing included.
    pub namespaces: Vec<String>,
}

/// What all names of namespaces of the lab `lab` begin with.
///
/// # Errors
/// When `lab` cannot be the name of a lab: it is empty, or contains `-` or `/`.
pub fn prefix(lab: &str) -> Result<String, NetError> {
    let prefix = format!("{lab}-");
    check(&prefix)?;
    Ok(prefix)
}

/// Removes every namespace whose name begins with `prefix`, after ending the processes that live
/// there; the caller itself is spared.
///
/// All namespaces of a lab `L` are named `L-...`, and **no lab has a `-` in its name**. So the
/// prefix is `L-`, the name of exactly one lab can be read from it, and neither `L2-...` nor
/// anything else that is not of lab `L` begins with it. Any other prefix is refused.
///
/// It needs no record of what was made: it works on a lab that was made half-way or removed
/// half-way, and on one that is not there, where it removes nothing. It cannot find a namespace
/// that lost its name while something still held it. One that is held by a socket of a process
/// outside, such as the lab's own forwarder, loses its name here and is gone when that ends; so
/// the forwarder is to be ended first.
///
/// # Errors
/// When a process outlives SIGKILL, and nothing was unnamed then; or when a name cannot be
/// removed. The other names are removed even so, and the first such error is returned.
pub fn remove(prefix: &str) -> Result<Removed, NetError> {
    check(prefix)?;
    let names = namespace::list(prefix)?;
    let mut removed = Removed { processes: end_processes(&names)?, namespaces: Vec::new() };
    let mut failure = None;
    for name in names {
        match namespace::delete(&name) {
            Ok(true) => removed.namespaces.push(name),
            Ok(false) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        None => Ok(removed),
        Some(error) => Err(error),
    }
}

/// Ends what lives in the namespaces `names`, again and again until nothing does: a process may
/// start another between the look and the signal.
fn end_processes(names: &[String]) -> Result<Vec<ProcessId>, NetError> {
    // A name that stands for nothing has nobody in it.
    let ids: Vec<NamespaceId> = names.iter().filter_map(|name| namespace::id(name).ok()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut ended = Vec::new();
    for _ in 0..ROUNDS {
        let living = process::living_in(&ids)?;
        if living.is_empty() {
            return Ok(ended);
        }
        process::stop_all(&living, GRACE)?;
        ended.extend(living);
    }
    Err(NetError::StillRunning(process::living_in(&ids)?))
}

fn check(prefix: &str) -> Result<(), NetError> {
    match prefix.split_once('-') {
        Some((lab, "")) if !lab.is_empty() && !lab.contains('/') => Ok(()),
        _ => Err(invalid("prefix", prefix, "is not a lab's name, without '-', and then '-'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_of_exactly_one_lab() {
        assert_eq!(prefix("demo").expect("a name"), "demo-");
        for wrong in ["", "-", "demo", "demo-n1", "demo-n1-", "a/b-"] {
            assert!(remove(wrong).is_err(), "{wrong:?}");
        }
        assert!(prefix("de-mo").is_err());
    }
}
