//! `bench churn`: other versions of the lab put in place under load, as `trunkline apply` does it.
//! No frame may be lost by that, and what is no version of the lab is refused and changes nothing
//! (spec LAW-7, LAB-29).

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use datapath::link::Snapshot;

use super::forwarder::Kind;
use super::generator::Offered;
use super::lab::Shape;
use super::load::Load;
use super::machine::pin;
use super::rate::{find, say, searched};
use super::report::{Better, Case, Mode, Report, Unit, add_losses};
use super::run::{Run, Setting};
use super::search::Goal;
use super::session::Session;
use super::tally::Tally;
use crate::live::takeover::{self, Swap};
use crate::live::worker::{Forwarding, Worker};
use benches::statistics::median;

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds, each with swaps and without.
    pub rounds: u32,
    /// For how long.
    pub time: Duration,
    /// Swaps a second.
    pub swaps: f64,
    /// Pods of the lab beside those of the load, and services of theirs that change.
    pub others: u16,
    /// See `others`.
    pub services: u16,
    /// Frames a second; a share of the highest rate without a loss where it is not given.
    pub rate: Option<f64>,
    /// That share.
    pub share: f64,
    /// How to search for it.
    pub goal: Goal,
}

/// What was seen in one window.
#[derive(Debug, Default)]
struct Window {
    offered: Offered,
    tally: Tally,
    gap: Duration,
    /// Of each swap: reading the lab and making the nodes' pictures, and how long the forwarder
    /// stood still.
    prepared: Vec<Duration>,
    stalled: Vec<Duration>,
    faults: Vec<String>,
}

/// Measures.
///
/// # Errors
/// [`WrongFrame`](super::rehearsal::WrongFrame), a load that does not fit, or where the machine
/// cannot run it. Nothing is left behind in any case.
pub fn churn(load: &Load, plan: &Plan) -> anyhow::Result<Report> {
    load.check(false)?;
    let crowd = |shape: &mut Shape| {
        (shape.others, shape.other_services) = (plan.others, plan.services);
    };
    let mut session = Session::open(load, crowd)?;
    let mut shape = Shape::of(load);
    crowd(&mut shape);
    let (mut rate, mut searches) = (plan.rate, Vec::new());
    // Without swaps, and with them.
    let mut windows: [Vec<Window>; 2] = [Vec::new(), Vec::new()];
    let interrupted = session.rounds(plan.rounds, |session, round| {
        let rate = match rate {
            Some(rate) => rate,
            None => {
                *rate.insert(find(session, Kind::Node, &plan.goal, &mut searches)? * plan.share)
            }
        };
        anyhow::ensure!(rate > 0.0, "the node forwards no rate without a loss");
        let (setting, pods, progress) = session.parts();
        let forwarder = setting.start(Kind::Node, pods)?;
        let mut run = Run::of(&setting, Kind::Node, &forwarder, pods, false)?;
        let order = if round.is_multiple_of(2) { [false, true] } else { [true, false] };
        let mut both = [Window::default(), Window::default()];
        for swapping in order {
            say(progress, if swapping { "with swaps" } else { "without" }, Some(rate));
            let swaps = if swapping { plan.swaps } else { 0.0 };
            let window = measure(&mut run, &setting, &mut shape, (rate, swaps, plan.time))?;
            let (lost, gap) = (window.tally.losses().values().sum::<u64>(), window.gap);
            let count = window.stalled.len();
            progress.line(&format!("{count} swaps: {lost} frames lost, longest gap {gap:.0?}"));
            both[usize::from(swapping)] = window;
        }
        let [without, with] = both;
        windows[0].push(without);
        windows[1].push(with);
        Ok(())
    })?;
    let mut cases = if windows[1].is_empty() { Vec::new() } else { cases(&windows, rate) };
    if plan.rate.is_none() {
        cases.push(searched("rate without a loss", &searches));
    }
    let mut report = session.report(Mode::Churn, cases, interrupted);
    report.goal = plan.rate.is_none().then_some(plan.goal);
    report.expected = "no frame lost while the lab changes".to_owned();
    Ok(report)
}

/// One window of load, with so many swaps a second.
fn measure(
    run: &mut Run<'_>,
    setting: &Setting<'_>,
    shape: &mut Shape,
    (rate, swaps, time): (f64, f64, Duration),
) -> anyhow::Result<Window> {
    // There are two processors, and both have work: what `trunkline apply` does on a third is done
    // before, and dropped afterwards.
    let (mut prepared, mut snapshots) = (Vec::new(), Vec::new());
    let (stranger, mut faults) = refuse(setting, shape)?;
    for _ in 0..(swaps * time.as_secs_f64()).ceil() as u64 {
        let began = Instant::now();
        shape.version += 1;
        snapshots.push(Snapshot::new(takeover::read(
            &setting.bed.lab,
            Forwarding::default(),
            &shape.text(),
        )?));
        prepared.push(began.elapsed());
    }
    let worker = run.forwarder().worker().context("the node has no thread")?;
    // What came before this window does not count.
    let _ = worker.take_longest_gap();
    let (offered, tally, ((swaps, more), gap)) = run.load(Some(rate), Some(time), |run| {
        let worker = run.forwarder().worker().context("the node has no thread")?;
        // Beside the generator, so that the forwarder has its core for itself.
        let swapped = thread::scope(|scope| {
            let swapping = scope.spawn(|| {
                pin(setting.cores.generator)?;
                swap_for(worker, setting, (snapshots, stranger), (swaps, time))
            });
            swapping.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        Ok((swapped, worker.take_longest_gap()))
    })?;
    let stalled = swaps.iter().map(|swap| swap.stalled).collect();
    drop(swaps);
    faults.extend(tally.faults().into_iter().chain(more));
    Ok(Window { offered, tally, gap, prepared, stalled, faults })
}

/// Puts one version after the other in place, at a rate, for some time, and after the first a stranger
/// to it, which has to be refused. Gives what went wrong with that.
fn swap_for(
    worker: &Worker,
    setting: &Setting<'_>,
    (snapshots, stranger): (Vec<Snapshot>, Snapshot),
    (swaps, time): (f64, Duration),
) -> anyhow::Result<(Vec<Swap>, Vec<String>)> {
    let began = Instant::now();
    let (mut done, mut faults, mut stranger) = (Vec::new(), Vec::new(), Some(stranger));
    for snapshot in snapshots {
        done.push(takeover::swap(worker, snapshot)?);
        if let Some(stranger) = stranger.take() {
            faults = hand_over(worker, stranger)?;
        }
        let next = Duration::from_secs_f64(done.len() as f64 / swaps).min(time);
        setting.wait(next.saturating_sub(began.elapsed()))?;
    }
    setting.wait(time.saturating_sub(began.elapsed()))?;
    Ok((done, faults))
}

/// Reads, as `trunkline apply` does, what is no version of the lab: a mistake, and other machines.
/// Gives the latter, made ready for a forwarder all the same, and what was not refused.
fn refuse(setting: &Setting<'_>, shape: &Shape) -> anyhow::Result<(Snapshot, Vec<String>)> {
    let text = shape.text();
    let nowhere = text.replace("{pod: bench/server0}", "{pod: bench/nobody}");
    let other = text.replace("seed: 1", "seed: 2");
    let bad = [("an endpoint that is nowhere", &nowhere), ("another seed", &other)];
    let taken = bad
        .into_iter()
        .filter(|(_, text)| takeover::read(&setting.bed.lab, Forwarding::default(), text).is_ok());
    let faults = taken.map(|(what, _)| format!("a lab with {what} was not refused")).collect();
    Ok((Snapshot::new(datapath::lab::load(&other, "the bench's lab")?), faults))
}

/// Hands a forwarder other machines than it runs. Gives what went wrong where it has taken them, or
/// where that has changed something.
fn hand_over(worker: &Worker, stranger: Snapshot) -> anyhow::Result<Vec<String>> {
    let state = || {
        worker.call(|link, _| {
            let nodes = link.nodes();
            let epochs = nodes.iter().map(|(_, node)| node.config().epoch);
            (link.lab().seed, epochs.collect::<Vec<_>>())
        })
    };
    let mut faults = Vec::new();
    let before = state()?;
    if takeover::swap(worker, stranger).is_ok() {
        faults.push("the forwarder has taken over other machines".to_owned());
    }
    if state()? != before {
        faults.push("other machines that it does not run have changed something".to_owned());
    }
    Ok(faults)
}

fn cases([without, with]: &[Vec<Window>; 2], rate: Option<f64>) -> Vec<Case> {
    let lost = |windows: &[Window]| {
        let lost = |window: &Window| window.tally.losses().values().sum::<u64>() as f64;
        windows.iter().map(lost).collect::<Vec<_>>()
    };
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let gaps = |windows: &[Window]| windows.iter().map(|w| us(w.gap)).collect::<Vec<_>>();
    let of_swaps = |value: fn(&[f64]) -> f64, of: fn(&Window) -> &[Duration]| {
        let each = |window: &Window| value(&of(window).iter().copied().map(us).collect::<Vec<_>>());
        with.iter().map(each).collect::<Vec<_>>()
    };
    let longest = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
    let time = |name: &str, rounds| Case::new("", name, Unit::Microseconds, Better::Lower, rounds);
    let mut losses = Case::new("", "frames lost", Unit::Frames, Better::Lower, lost(with));
    let mut others =
        Case::new("", "lost without swaps", Unit::Frames, Better::Lower, lost(without));
    let swaps: usize = with.iter().map(|window| window.stalled.len()).sum();
    let rate = rate.unwrap_or_default();
    losses.notes.push(format!("{swaps} swaps at {rate:.0} frames a second"));
    for window in with {
        losses.offered += window.tally.offered;
        add_losses(&mut losses.losses, &window.tally.losses());
    }
    for window in without {
        others.offered += window.tally.offered;
        add_losses(&mut others.losses, &window.tally.losses());
    }
    losses.faults.extend(without.iter().chain(with).flat_map(|w| w.faults.iter().cloned()));
    let unsent: u64 = with.iter().map(|w| w.offered.due - w.offered.sent).sum();
    if unsent > 0 {
        losses.notes.push(format!("{unsent} frames that were due could not be sent in time"));
    }
    if lost(with).iter().sum::<f64>() > 0.0 {
        losses.faults.push("frames were lost while the lab changed".to_owned());
    }
    vec![
        losses,
        others,
        time("longest poll gap", gaps(with)).against("without swaps", gaps(without)),
        time("longest swap", of_swaps(longest, |window| &window.stalled)),
        time("median swap", of_swaps(median, |window| &window.stalled)),
        time("median preparation", of_swaps(median, |window| &window.prepared)),
    ]
}
