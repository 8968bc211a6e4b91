//! `bench latency`: how long a frame is on its way through the node, from the moment at which it is
//! written to the one at which it arrives at the other end, idle and under shares of the highest
//! rate without a loss. Every frame is timed.

use std::time::Duration;

use hdrhistogram::Histogram;
use xdp_progs::Times;

use super::forwarder::Kind;
use super::load::Load;
use super::rate::{find, say, searched};
use super::report::{Better, Case, Mode, Report, Unit, add_losses};
use super::run::Run;
use super::search::Goal;
use super::session::{Session, order};

/// Frames a second that leave every queue empty.
const IDLE: f64 = 1_000.0;
/// Load before anything is timed, as a share of the time.
const WARM_UP: f64 = 0.1;
/// The shares of all frames whose time is told, with their names.
const QUANTILES: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")];
/// Digits of a time that are right, and the longest that is told apart, in nanoseconds.
const DIGITS: u8 = 3;
const LONGEST: u64 = 1 << 32;
/// Points of a distribution to every halving of what is left above them.
const POINTS: u32 = 4;

/// How to time.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds; each times both forwarders.
    pub rounds: u32,
    /// For how long under each load.
    pub time: Duration,
    /// Shares of the highest rate without a loss, in percent, beside idle.
    pub loads: Vec<u32>,
    /// That rate, in frames a second; searched for where it is not given.
    pub ndr: Option<f64>,
    /// How to search for it.
    pub goal: Goal,
}

/// What was timed of one forwarder under one load, all rounds together.
struct Timed {
    all: Histogram<u64>,
    /// Each quantile of each round, in microseconds.
    rounds: Vec<[f64; QUANTILES.len()]>,
    offered: u64,
    losses: std::collections::BTreeMap<String, u64>,
    faults: Vec<String>,
}

/// Times.
///
/// # Errors
/// [`WrongFrame`](super::rehearsal::WrongFrame), a load that does not fit, or where the machine
/// cannot run it. Nothing is left behind in any case.
pub fn latency(load: &Load, plan: &Plan) -> anyhow::Result<Report> {
    load.check(true)?;
    let mut session = Session::open(load, |_| ())?;
    let (mut ndr, mut searches) = (plan.ndr, Vec::new());
    let mut levels: Vec<(String, f64, [Timed; 2])> = Vec::new();
    let interrupted = session.rounds(plan.rounds, |session, round| {
        let ndr = match ndr {
            Some(ndr) => ndr,
            None => *ndr.insert(find(session, Kind::Node, &plan.goal, &mut searches)?),
        };
        if levels.is_empty() {
            levels = self::levels(plan, ndr)?;
        }
        for (name, rate, timed) in &mut levels {
            for kind in order(round) {
                let (setting, pods, progress) = session.parts();
                say(progress, &format!("{}, {name},", kind.name()), Some(*rate));
                let forwarder = setting.start(kind, pods)?;
                let mut run = Run::of(&setting, kind, &forwarder, pods, true)?;
                timed[usize::from(kind == Kind::Node)].take(&mut run, *rate, plan.time)?;
            }
            let [l2fwd, node] =
                timed.each_ref().map(|timed| timed.all.value_at_quantile(0.5) as f64 / 1e3);
            let said = format!("node p50 {node:.1} us, l2fwd {l2fwd:.1} us");
            session.progress.line(&format!("{name:<8} {rate:>9.0}/s  {said}"));
        }
        Ok(())
    })?;
    let of_search = plan.ndr.is_none().then(|| searched("rate without a loss", &searches));
    let levels = levels.iter().flat_map(|(name, rate, timed)| cases(name, *rate, timed));
    let cases = of_search.into_iter().chain(levels).collect();
    let mut report = session.report(Mode::Latency, cases, interrupted);
    report.goal = plan.ndr.is_none().then_some(plan.goal);
    Ok(report)
}

/// The loads: idle, and the shares of the highest rate.
fn levels(plan: &Plan, ndr: f64) -> anyhow::Result<Vec<(String, f64, [Timed; 2])>> {
    anyhow::ensure!(ndr > 0.0, "the node forwards no rate without a loss: there is no share of it");
    let idle = ("idle".to_owned(), IDLE);
    let shares =
        plan.loads.iter().map(|share| (format!("{share} %"), ndr * f64::from(*share) / 100.0));
    let levels = [idle].into_iter().chain(shares);
    levels.map(|(name, rate)| Ok((name, rate, [Timed::new()?, Timed::new()?]))).collect()
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST, DIGITS)?)
}

impl Timed {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            all: histogram()?,
            rounds: Vec::new(),
            offered: 0,
            losses: std::collections::BTreeMap::new(),
            faults: Vec::new(),
        })
    }

    fn take(&mut self, run: &mut Run<'_>, rate: f64, time: Duration) -> anyhow::Result<()> {
        run.trial(Some(rate), time.mul_f64(WARM_UP))?;
        let before = run.times()?;
        let (_, tally) = run.trial(Some(rate), time)?;
        let round = of(&run.times()?.since(&before))?;
        self.offered += tally.offered;
        add_losses(&mut self.losses, &tally.losses());
        self.faults.extend(tally.faults());
        self.rounds.push(QUANTILES.map(|(q, _)| round.value_at_quantile(q) as f64 / 1e3));
        self.all.add(round)?;
        Ok(())
    }

    /// The quantiles of all rounds, closer to each other the higher they are.
    fn distribution(&self) -> Vec<(f64, f64)> {
        let all = self.all.iter_quantiles(POINTS);
        all.map(|at| (at.quantile_iterated_to(), at.value_iterated_to() as f64 / 1e3)).collect()
    }
}

/// The counter's buckets as a histogram.
fn of(times: &Times) -> anyhow::Result<Histogram<u64>> {
    let mut histogram = histogram()?;
    for (ns, count) in times.iter() {
        histogram.record_n(ns.max(1), count)?;
    }
    Ok(histogram)
}

fn cases(name: &str, rate: f64, [l2fwd, node]: &[Timed; 2]) -> Vec<Case> {
    // A load that was interrupted was timed with one of the two only.
    let rounds = node.rounds.len().min(l2fwd.rounds.len());
    if rounds == 0 {
        return Vec::new();
    }
    let mut cases = Vec::new();
    for (at, (_, quantile)) in QUANTILES.iter().enumerate() {
        let of = |timed: &Timed| timed.rounds.iter().take(rounds).map(|r| r[at]).collect();
        let case = Case::new(name, quantile, Unit::Microseconds, Better::Lower, of(node));
        cases.push(case.against(Kind::L2fwd.name(), of(l2fwd)));
    }
    if let Some(first) = cases.first_mut() {
        first.offered = node.offered;
        first.losses.clone_from(&node.losses);
        first.faults.extend(l2fwd.faults.iter().chain(&node.faults).cloned());
        first.distribution = node.distribution();
        first.notes.push(format!("at {rate:.0} frames a second, one way, every frame timed"));
        if let Some(reference) = &mut first.reference {
            reference.offered = l2fwd.offered;
            reference.losses.clone_from(&l2fwd.losses);
            reference.distribution = l2fwd.distribution();
        }
    }
    cases
}
