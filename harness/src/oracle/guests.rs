//! Several guests, each with its share of the instances.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::boot::{Guest, GuestKernel};
use super::job::{Answer, Asked, Job};
use crate::case::Instance;

/// Time that may pass in a case; beyond it the kernel does not judge, as its time is real.
const LONGEST: Duration = Duration::from_secs(150);
/// How long a guest may take to boot and to turn itself off.
const BOOT_BOUND: Duration = Duration::from_secs(120);
/// How long a guest may take for an instance, beside the time that passes in it.
const INSTANCE_BOUND: Duration = Duration::from_secs(10);

/// Why the kernel does not judge an instance; `None` where it does.
#[must_use]
pub fn not_judged(instance: &Instance) -> Option<String> {
    let passes = instance.passing();
    let too_long = passes > LONGEST;
    instance.not_on.get("kernel").cloned().or_else(|| {
        too_long.then(|| {
            let (passes, most) = (passes.as_secs(), LONGEST.as_secs());
            format!("{passes} s pass in it, more than the {most} s waited for in real time")
        })
    })
}

/// Plays instances in so many guests at a time and gives an answer for each, in their order.
///
/// # Errors
/// What kept a guest from doing its share, with the end of its console.
pub(super) fn play_in_guests(
    kernel: &GuestKernel,
    instances: &[&Instance],
    guests: usize,
    work: &Path,
    progress: impl Fn(u64),
) -> anyhow::Result<Vec<Answer>> {
    // Those that wait longest begin first, and every guest gets some of them.
    let mut order: Vec<usize> = (0..instances.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(instances.get(*at).map(|i| i.passing())));
    let guests = guests.clamp(1, instances.len().max(1));
    let mut shares = vec![Vec::new(); guests];
    for (turn, at) in order.into_iter().enumerate() {
        shares[turn % guests].push(at);
    }
    let mut running = Vec::new();
    for (number, share) in shares.into_iter().enumerate() {
        let folder = work.join(format!("guest{number}"));
        std::fs::create_dir_all(&folder)?;
        let asked = share.iter().filter_map(|at| instances.get(*at)).map(|i| Asked::of(i));
        Job { instances: asked.collect::<anyhow::Result<_>>()?, scenario: None }.write(&folder)?;
        let bound = BOOT_BOUND + LONGEST + INSTANCE_BOUND * u32::try_from(share.len())?;
        running.push((kernel.boot(&folder)?, folder, share, bound));
    }
    let mut answers: Vec<Option<Answer>> = vec![None; instances.len()];
    for (guest, folder, share, bound) in running {
        let ended = Guest::wait(guest, bound);
        for (number, at) in share.into_iter().enumerate() {
            let answer = Job::answer(&folder, number)?;
            progress(1);
            if let (Some(slot), Some(answer)) = (answers.get_mut(at), answer) {
                *slot = Some(answer);
            }
        }
        ended?;
    }
    let answered = answers.into_iter().collect::<Option<Vec<_>>>();
    answered.context("a guest has left an instance unanswered")
}
