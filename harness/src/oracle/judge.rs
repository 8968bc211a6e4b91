//! What memory and a kernel saw of the same instances, held against each other.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::boot::GuestKernel;
use super::exceptions::Exceptions;
use super::guests::{not_judged, play_in_guests};
use super::job::Answer;
use crate::case::{
    CannotJudge, CaseDatapath, Difference, Instance, Judged, Memory, Observation, Played, Suite,
    compare, play, play_by_clock, render,
};

/// Seconds by which remaining times may differ.
const TOLERANCE: u64 = 2;

/// What came of an instance.
#[derive(Debug)]
pub enum Judgement {
    /// Memory and kernel show the same; of so many differences each is an exception.
    Equal {
        /// Differences that are exceptions.
        explained: usize,
    },
    /// They do not.
    Different {
        /// Where, memory's line as the expected one.
        differences: Vec<Difference>,
        /// What memory saw.
        memory: Box<Observation>,
        /// What the kernel saw.
        kernel: Box<Observation>,
    },
    /// One of them cannot judge it, because of this.
    NotJudged(String),
    /// It could not be played.
    Failed(String),
}

/// Guests that run at the same time unless somebody wants more or fewer.
pub const GUESTS: usize = 2;

/// Plays a suite's instances in guests and holds them against what is expected.
///
/// # Errors
/// What kept a guest from being had or from doing its share, or an instance from being played.
pub fn judge_expected(
    suite: &Suite,
    guests: Option<usize>,
    tolerance: u64,
) -> anyhow::Result<Vec<Judged<'_>>> {
    let kernel = GuestKernel::get().context("no guest can be had")?;
    let work = tempfile::tempdir()?;
    let bar = suite.bar();
    let guests = guests.unwrap_or(GUESTS);
    let progress = |done| bar.inc(done);
    let answers = answers(&kernel, &suite.instances, guests, work.path(), progress)?;
    bar.finish_and_clear();
    let judged = suite.instances.iter().zip(answers).map(|(instance, answer)| {
        let played = match answer {
            Answer::Played(observation) => without_delays(instance, observation)
                .map(|observation| Played { observation, recording: None }),
            Answer::NotJudged(why) => Err(CannotJudge::new(why).into()),
            Answer::Failed(why) => Err(anyhow!(why)),
        };
        let verdict = suite.hold(instance, played, tolerance);
        let verdict = verdict.with_context(|| instance.name.clone())?;
        // Those that wait wait together: no instance has a time of its own.
        Ok(Judged { instance, verdict, took: Duration::ZERO })
    });
    judged.collect()
}

/// What a kernel would have shown if its tools took no time: what memory shows, where that shows
/// the same as the kernel once as much time passes in it (spec ORA-8).
fn without_delays(instance: &Instance, kernel: Observation) -> anyhow::Result<Observation> {
    if instance.not_on.contains_key(Memory.name()) {
        return Ok(kernel);
    }
    let delayed = play_by_clock(&Memory, instance, &kernel.clock)?.observation;
    let comparison = compare(&lines(instance, &delayed), &render(instance, &kernel), TOLERANCE);
    if comparison.differences.is_empty() {
        return play(&Memory, instance).map(|played| played.observation);
    }
    Ok(kernel)
}

/// An answer for each instance: from a guest, or why none was asked.
fn answers(
    kernel: &GuestKernel,
    instances: &[Instance],
    guests: usize,
    work: &Path,
    progress: impl Fn(u64),
) -> anyhow::Result<Vec<Answer>> {
    let asked: Vec<&Instance> =
        instances.iter().filter(|instance| not_judged(instance).is_none()).collect();
    let mut played = if asked.is_empty() {
        Vec::new()
    } else {
        play_in_guests(kernel, &asked, guests, work, progress)?
    }
    .into_iter();
    let answer = |instance: &Instance| match not_judged(instance) {
        Some(why) => Some(Answer::NotJudged(why)),
        None => played.next(),
    };
    instances.iter().map(answer).collect::<Option<_>>().context("an instance has no answer")
}

/// Plays the instances in memory and in guests and holds the observations against each other.
///
/// # Errors
/// What kept a guest from doing its share.
pub fn judge(
    kernel: &GuestKernel,
    instances: &[Instance],
    exceptions: &Exceptions,
    guests: usize,
    work: &Path,
    progress: impl Fn(u64),
) -> anyhow::Result<Vec<Judgement>> {
    let answers = answers(kernel, instances, guests, work, progress)?;
    let pairs = instances.iter().zip(answers);
    Ok(pairs.map(|(instance, answer)| against_memory(instance, answer, exceptions)).collect())
}

fn against_memory(instance: &Instance, answer: Answer, exceptions: &Exceptions) -> Judgement {
    let kernel = match answer {
        Answer::Played(observation) => observation,
        Answer::NotJudged(why) => return Judgement::NotJudged(why),
        Answer::Failed(why) => return Judgement::Failed(why),
    };
    if let Some(why) = instance.not_on.get(Memory.name()) {
        return Judgement::NotJudged(why.clone());
    }
    let memory = match play_by_clock(&Memory, instance, &kernel.clock) {
        Ok(played) => played.observation,
        Err(error) => return Judgement::Failed(format!("{error:#}")),
    };
    let wanted = lines(instance, &memory);
    let all = compare(&wanted, &render(instance, &kernel), TOLERANCE).differences;
    let before = all.len();
    let differences: Vec<_> = all
        .into_iter()
        .filter(|difference| !exceptions.explain(&instance.name, difference))
        .collect();
    if differences.is_empty() {
        return Judgement::Equal { explained: before };
    }
    Judgement::Different { differences, memory: Box::new(memory), kernel: Box::new(kernel) }
}

/// What is expected of a datapath that is to show the same.
fn lines(instance: &Instance, observation: &Observation) -> Vec<String> {
    render(instance, observation).into_iter().map(|line| line.text).collect()
}
