//! A lab that is up takes over another version of its file, under load (spec LAB-29): what takes
//! time is done on the caller's thread, and the forwarder stands still only to change over, one
//! node at a time.

use std::time::{Duration, Instant};

use anyhow::bail;
use datapath::lab::Lab;
use datapath::link::{Replaced, Snapshot};

use super::worker::{Forwarding, Worker};

/// What has been taken over, and what was there before. To drop it takes time.
#[derive(Debug)]
pub struct Swap {
    /// How long the forwarder did nothing else, to put that node's picture in place which took
    /// longest.
    pub stalled: Duration,
    _before: (Vec<Replaced>, Snapshot),
}

/// The lab of a file that a running lab, forwarded in this way, is to take over.
///
/// # Errors
/// A mistake in the file with its place, or the key that needs other machines than are up.
pub fn read(running: &Lab, forwarding: Forwarding, text: &str) -> anyhow::Result<Lab> {
    let lab = forwarding.of(datapath::lab::load(text, "the lab file")?);
    if let Some(key) = running.other_machines(&lab) {
        bail!(
            "`{key}` differs from what is up: a running lab takes over its profile, switches and \
             services; for the rest take it down and up again"
        );
    }
    Ok(lab)
}

/// Has a forwarder take over what was made ready on another thread, each node between two polls.
///
/// # Errors
/// Where it has stopped, or runs other machines; nothing has changed then.
pub fn swap(worker: &Worker, mut snapshot: Snapshot) -> anyhow::Result<Swap> {
    let (mut longest, mut before) = (Duration::ZERO, Vec::new());
    loop {
        let (replaced, stalled, rest) = worker.call(move |link, now| {
            let began = Instant::now();
            let replaced = link.apply_next(&mut snapshot, now);
            (replaced, began.elapsed(), snapshot)
        })?;
        snapshot = rest;
        longest = longest.max(stalled);
        let Some(replaced) = replaced? else {
            return Ok(Swap { stalled: longest, _before: (before, snapshot) });
        };
        before.push(replaced);
    }
}
