//! A lab that is up takes over another version of its file, under load (spec LAB-29): what takes
//! time is done on the caller's thread, and the forwarder stands still only to change over, one
//! node at a time.

use std::time::{Duration, Instant};

use anyhow::bail;
use datapath::lab::Lab;
use datapath::link::Snapshot;

use super::worker::Worker;

/// How long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swap {
    /// To make the nodes' pictures, beside the forwarder.
    pub prepared: Duration,
    /// To put the one in place that took longest: the forwarder did nothing else meanwhile.
    pub stalled: Duration,
}

/// The lab of a file that a running lab is to take over.
///
/// # Errors
/// A mistake in the file with its place, or the key that needs other machines than are up.
pub fn read(running: &Lab, text: &str) -> anyhow::Result<Lab> {
    let lab = datapath::lab::load(text, "the lab file")?;
    if let Some(key) = running.other_machines(&lab) {
        bail!(
            "`{key}` differs from what is up: a running lab takes over its profile, switches and \
             services; for the rest take it down and up again"
        );
    }
    Ok(lab)
}

/// Has a forwarder take it over, each node between two polls.
///
/// # Errors
/// Where it has stopped, or runs other machines; nothing has changed then.
pub fn swap(worker: &Worker, lab: Lab) -> anyhow::Result<Swap> {
    let began = Instant::now();
    let mut snapshot = Snapshot::new(lab);
    let mut swap = Swap { prepared: began.elapsed(), ..Swap::default() };
    loop {
        // What was there before comes back, to be dropped on this thread.
        let (replaced, stalled, rest) = worker.call(move |link, now| {
            let began = Instant::now();
            let replaced = link.apply_next(&mut snapshot, now);
            (replaced, began.elapsed(), snapshot)
        })?;
        snapshot = rest;
        swap.stalled = swap.stalled.max(stalled);
        if replaced?.is_none() {
            return Ok(swap);
        }
    }
}
