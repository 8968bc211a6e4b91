//! `bench ndr` and `bench pdr`: the highest rate that the node forwards with no loss, or with a
//! small one, against the reference on the same devices.

use super::forwarder::Kind;
use super::load::Load;
use super::report::{Better, Case, Mode, Report, Unit, add_losses};
use super::run::Run;
use super::search::{Found, Goal, Outcome, search};
use super::session::{Progress, Session, order};

/// How often to search, for what, and what is expected.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Which of the two it is called.
    pub mode: Mode,
    /// Searches of each forwarder.
    pub rounds: u32,
    /// What is searched for.
    pub goal: Goal,
    /// The least median ratio that passes.
    pub expected: Option<f64>,
}

/// Searches.
///
/// # Errors
/// [`WrongFrame`](super::rehearsal::WrongFrame), a load that does not fit, or where the machine
/// cannot run it. Nothing is left behind in any case.
pub fn rate(load: &Load, plan: &Plan) -> anyhow::Result<Report> {
    load.check(false)?;
    let mut session = Session::open(load, |_| ())?;
    // Of l2fwd, and of the node.
    let mut found = [Vec::new(), Vec::new()];
    let interrupted = session.rounds(plan.rounds, |session, round| {
        for kind in order(round) {
            let of_kind = &mut found[usize::from(kind == Kind::Node)];
            let mpps = find(session, kind, &plan.goal, of_kind)? / 1e6;
            session.progress.line(&format!("{:<5} {mpps:.3} Mpps", kind.name()));
        }
        Ok(())
    })?;
    let cases = vec![case(load, plan, &found)];
    let mut report = session.report(plan.mode, cases, interrupted);
    report.goal = Some(plan.goal);
    if let Some(least) = plan.expected {
        report.expected = format!("a ratio of {least} or more");
        let ratio = |case: &Case| case.reference.as_ref().map_or(0.0, |r| r.ratio.median);
        report.passed &= report.cases.iter().all(|case| ratio(case) >= least);
    }
    Ok(report)
}

/// Searches the highest rate of one forwarder, and puts the search to those before it.
///
/// # Errors
/// As [`rate`], or an interruption: what was found until then is there then as well.
pub fn find(
    session: &mut Session,
    kind: Kind,
    goal: &Goal,
    searches: &mut Vec<Found>,
) -> anyhow::Result<f64> {
    let mut found = Found::default();
    let (setting, pods, progress) = session.parts();
    let searched = setting.start(kind, pods).and_then(|forwarder| {
        let mut run = Run::of(&setting, kind, &forwarder, pods, false)?;
        search(goal, &mut found, |rate, time| {
            say(progress, kind.name(), rate);
            let (offered, tally) = run.trial(rate, time)?;
            let outcome = Outcome {
                due: offered.due,
                offered: tally.offered,
                lost: tally.offered.saturating_sub(tally.right),
                seconds: offered.seconds,
                losses: tally.losses(),
                faults: tally.faults(),
            };
            tell(progress, kind.name(), &outcome);
            Ok(outcome)
        })
    });
    let rate = found.rate;
    searches.push(found);
    searched.map(|()| rate)
}

/// Tells of a trial that begins.
pub fn say(progress: &Progress, what: &str, rate: Option<f64>) {
    progress.say(match rate {
        Some(rate) => format!("{what} at {rate:.0}/s"),
        None => format!("{what} at full speed"),
    });
}

/// Tells of a trial that has ended.
pub fn tell(progress: &Progress, what: &str, outcome: &Outcome) {
    let Outcome { offered, lost, seconds, .. } = outcome;
    let rate = *offered as f64 / seconds.max(1e-9);
    progress.line(&format!("{what} at {rate:.0}/s: {lost} of {offered} lost in {seconds:.2} s"));
}

/// The searches of both as a figure. The last round may have searched one of the two only.
fn case(load: &Load, plan: &Plan, [l2fwd, node]: &[Vec<Found>; 2]) -> Case {
    let mut case = searched(plan.mode.name(), node).beside(searched(Kind::L2fwd.name(), l2fwd));
    case.gbps = (!case.rounds.is_empty()).then(|| load.sizes.gbps(case.estimate.median * 1e6));
    case
}

/// A rate that was searched for.
#[must_use]
pub fn searched(name: &str, searches: &[Found]) -> Case {
    let finished = searches.iter().filter(|found| found.finished);
    let rates = finished.map(|found| found.rate / 1e6).collect();
    Case::new("", name, Unit::Mpps, Better::Higher, rates).with_searches(searches)
}

impl Case {
    /// With what the trials of its searches have shown.
    #[must_use]
    pub fn with_searches(mut self, searches: &[Found]) -> Self {
        for found in searches.iter().filter(|found| !found.trials.is_empty()) {
            if found.finished {
                self.limit = Some(found.limit());
            } else {
                self.notes.push(found.so_far());
            }
            self.faults.extend(found.faults.iter().cloned());
            self.trials.push(found.trials.clone());
            for trial in &found.trials {
                self.offered += trial.offered;
                add_losses(&mut self.losses, &trial.losses);
            }
        }
        self
    }
}
