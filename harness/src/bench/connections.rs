//! `bench cps` and `bench cc`: new TCP connections through the node, and connections held.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::bed::PRIMARY;
use super::far_end::FarEnd;
use super::forwarder::Row;
use super::load::{Load, PORTS, Proto};
use super::machine::pin;
use super::rate::{say, tell};
use super::report::{Better, Case, Mode, Report, Unit, add_losses};
use super::run::{Interrupted, Setting};
use super::search::{Found, Goal, Outcome, search};
use super::session::Session;
use super::talk::{Counts, Talk, Then};

/// How long all connections may take to begin.
const RAMP: Duration = Duration::from_secs(600);
/// How often what is not answered is sent again.
const REPEATS: u32 = 5;
/// Of a connection that was begun and did not come through, where nothing was counted on its way.
const UNKNOWN: &str = "elsewhere";

/// How to measure new connections.
#[derive(Clone, Copy, Debug)]
pub struct CpsPlan {
    /// Searches.
    pub rounds: u32,
    /// What is searched for.
    pub goal: Goal,
    /// What connections do once they are established.
    pub then: Then,
    /// The least median rate that passes.
    pub expected: Option<f64>,
}

/// Searches the highest rate of new connections at which no more than some are lost. Each trial
/// has a node with empty tables.
///
/// # Errors
/// Where the machine cannot run it. Nothing is left behind in any case.
pub fn cps(load: &Load, plan: &CpsPlan) -> anyhow::Result<Report> {
    check(load)?;
    let mut session = Session::open(load, |_| ())?;
    let mut found: Vec<Found> = Vec::new();
    let interrupted = session.rounds(plan.rounds, |session, _| {
        let (setting, pods, progress) = session.parts();
        let mut of_round = Found::default();
        let searched = search(&plan.goal, &mut of_round, |rate, time| {
            say(progress, "connections", rate);
            let outcome = trial(&setting, pods, plan.then, rate, time)?;
            tell(progress, "connections", &outcome);
            anyhow::Ok(outcome)
        });
        let rate = of_round.rate;
        found.push(of_round);
        searched?;
        progress.line(&format!("{rate:.0} connections a second"));
        Ok(())
    })?;
    let name = if plan.then == Then::End { "begun and ended" } else { "established" };
    let finished = found.iter().filter(|found| found.finished);
    let rates = finished.map(|found| found.rate).collect();
    let case = Case::new("", name, Unit::ConnectionsPerSecond, Better::Higher, rates);
    let cases = vec![case.with_searches(&found)];
    let mut report = session.report(Mode::Cps, cases, interrupted);
    report.goal = Some(plan.goal);
    if let Some(least) = plan.expected {
        report.expected = format!("{least} connections a second or more");
        report.passed &= report.cases.iter().all(|case| case.estimate.median >= least);
    }
    Ok(report)
}

/// What connections are, whatever else was asked for.
fn check(load: &Load) -> anyhow::Result<()> {
    ensure!(load.proto == Proto::Tcp, "connections are TCP's");
    load.check(false)
}

/// Connections at a rate through a node of their own.
fn trial(
    setting: &Setting<'_>,
    pods: &mut [FarEnd],
    then: Then,
    rate: Option<f64>,
    time: Duration,
) -> anyhow::Result<Outcome> {
    let (due, seconds, counts, shown) = with_node(setting, pods, then, |talk, stop| {
        let (due, seconds) = talk.begin(0..setting.frames.flows, rate, time, stop);
        (due, seconds, talk.counts())
    })
    .map(|((due, seconds, counts), shown)| (due, seconds, counts, shown))?;
    let through = if then == Then::End { counts.done } else { counts.established };
    let lost = counts.begun - through;
    let mut losses = shown.losses;
    if lost > 0 && losses.is_empty() {
        losses.insert(UNKNOWN.to_owned(), lost);
    }
    Ok(Outcome { due, offered: counts.begun, lost, seconds, losses, faults: shown.faults })
}

/// What the counters say after a talk.
struct Shown {
    losses: BTreeMap<String, u64>,
    faults: Vec<String>,
}

/// Has a talk through a node that is started for it, on the generator's core. What is to be done
/// is told when the user wants to stop.
fn with_node<T: Send>(
    setting: &Setting<'_>,
    pods: &mut [FarEnd],
    then: Then,
    what: impl FnOnce(&mut Talk<'_>, &dyn Fn() -> bool) -> T + Send,
) -> anyhow::Result<(T, Shown)> {
    let Setting { bed, frames, cores, interrupted, .. } = setting;
    let before = bed.lost(PRIMARY)?;
    let forwarder = Row::NODE.start(bed, frames, *cores)?;
    let mut talk = Talk::open(bed, frames, pods, then)?;
    let (met, stopped) = thread::scope(|scope| {
        let talking = scope.spawn(|| -> anyhow::Result<(T, bool)> {
            pin(cores.generator)?;
            let stopped = Cell::new(false);
            let stop = || {
                stopped.set(stopped.get() || interrupted.try_recv().is_ok());
                stopped.get()
            };
            let met = what(&mut talk, &stop);
            Ok((met, stopped.get()))
        });
        talking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    if stopped {
        return Err(Interrupted.into());
    }
    let books = forwarder.books(bed.clients)?.context("the node does not tell its counts")?;
    let after = bed.lost(PRIMARY)?;
    let wires = [0, 1].map(|at| after[at] - before[at]);
    let faults = talk.faults(&books, wires);
    let places = [
        ("podWire", wires[0]),
        ("rxRingFull", books.ring_full),
        ("rxDropped", books.rx_dropped),
        ("exitWire", wires[1]),
        ("theBench", talk.lost()),
    ];
    let places = places.into_iter().filter(|(_, count)| *count > 0);
    let places = places.map(|(place, count)| (place.to_owned(), count));
    Ok((met, Shown { losses: places.chain(books.dropped).collect(), faults }))
}

/// Begins connections, has every one of them answer once more when all are there, and says what
/// memory one takes.
///
/// # Errors
/// Where the machine cannot run it. Nothing is left behind in any case.
pub fn cc(load: &Load, rounds: u32) -> anyhow::Result<Report> {
    check(load)?;
    let mut session = Session::open(load, |_| ())?;
    let mut held: Vec<(Counts, f64)> = Vec::new();
    let (mut faults, mut losses) = (Vec::new(), BTreeMap::new());
    let interrupted = session.rounds(rounds, |session, _| {
        let nodes = session.bed.lab.nodes.len() as f64;
        let (setting, pods, progress) = session.parts();
        progress.say(format!("{} connections", load.flows));
        let before = resident()?;
        let ((counts, memory), shown) = with_node(&setting, pods, Then::Stay, |talk, stop| {
            talk.begin(0..load.flows, None, RAMP, stop);
            // A client sends again what is not answered.
            (0..REPEATS).all(|_| talk.repeat(stop));
            talk.ask_all(stop);
            (0..REPEATS).all(|_| talk.repeat(stop));
            (talk.counts(), resident())
        })?;
        // Each node of the lab has the same tables, and has taken their memory at its start.
        let room = f64::from(setting.bed.lab.limits.flows);
        let bytes = memory?.saturating_sub(before) as f64 / nodes / room;
        let (established, done) = (counts.established, counts.done);
        progress.line(&format!("{established} established, {done} answered, {bytes:.0} B each"));
        faults.extend(shown.faults);
        if done < u64::from(load.flows) {
            faults.push(format!(
                "{} of {} connections were not held",
                u64::from(load.flows) - done,
                load.flows
            ));
        }
        add_losses(&mut losses, &shown.losses);
        held.push((counts, bytes));
        Ok(())
    })?;
    let of = |value: fn(&(Counts, f64)) -> f64| held.iter().map(value).collect::<Vec<_>>();
    let mut answered = Case::new(
        "",
        "held",
        Unit::Connections,
        Better::Higher,
        of(|(counts, _)| counts.done as f64),
    );
    answered.offered = held.iter().map(|(counts, _)| counts.begun).sum();
    (answered.losses, answered.faults) = (losses, faults);
    answered.notes.push("established, and answered once more when all were there".to_owned());
    let mut memory =
        Case::new("", "memory", Unit::BytesPerConnection, Better::Lower, of(|(_, bytes)| *bytes));
    let room = session.bed.lab.limits.flows;
    memory.notes.push(format!(
        "resident memory that a node has taken since before its start, with room for {room} \
         connections, shared among these"
    ));
    let cases = if held.is_empty() { Vec::new() } else { vec![answered, memory] };
    Ok(session.report(Mode::Cc, cases, interrupted))
}

/// Resident memory of this process, in bytes.
fn resident() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("read our own memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|n| n.parse().ok());
    kib.map(|kib: u64| kib * 1024).context("the kernel does not say what memory is resident")
}

/// Services that so many connections need, each with a pod's ports to it.
#[must_use]
pub fn services_for(connections: u32, pods: u16) -> u16 {
    let pairs = connections.div_ceil(PORTS);
    // No more than a few dozen for any number of connections that fits into memory.
    u16::try_from(pairs.div_ceil(pods.max(1).into())).unwrap_or(u16::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_services_for_all_connections() {
        assert_eq!(services_for(1, 1), 1);
        assert_eq!(services_for(50_000, 1), 1);
        assert_eq!(services_for(50_001, 1), 2);
        assert_eq!(services_for(1_000_000, 4), 5);
    }

    #[test]
    fn the_memory_of_this_process_is_known() {
        assert!(resident().expect("it is told") > 1 << 20);
    }
}
