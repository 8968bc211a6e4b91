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
    let mut found = Vec::new();
    let interrupted = session.rounds(plan.rounds, |session, round| {
        let mut both = [Found::default(), Found::default()];
        for kind in order(round) {
            let of_kind = find(session, kind, &plan.goal)?;
            let mpps = of_kind.rate / 1e6;
            session.progress.line(&format!("{:<5} {mpps:.3} Mpps", kind.name()));
            both[usize::from(kind == Kind::Node)] = of_kind;
        }
        found.push(both);
        Ok(())
    })?;
    let cases = if found.is_empty() { Vec::new() } else { vec![case(load, plan, &found)] };
    let mut report = session.report(plan.mode, cases, interrupted);
    report.goal = Some(plan.goal);
    if let Some(least) = plan.expected {
        report.expected = format!("a ratio of {least} or more");
        let ratio = |case: &Case| case.reference.as_ref().map_or(0.0, |r| r.ratio.median);
        report.passed &= report.cases.iter().all(|case| ratio(case) >= least);
    }
    Ok(report)
}

/// Searches the highest rate of one forwarder.
///
/// # Errors
/// As [`rate`], or an interruption.
pub fn find(session: &mut Session, kind: Kind, goal: &Goal) -> anyhow::Result<Found> {
    let (setting, pods, progress) = session.parts();
    let mut run = Run::start(&setting, kind, pods, false)?;
    search(goal, |rate, time| {
        say(progress, kind.name(), rate);
        let (offered, tally) = run.trial(rate, time)?;
        Ok(Outcome {
            due: offered.due,
            offered: tally.offered,
            lost: tally.offered.saturating_sub(tally.right),
            seconds: offered.seconds,
            losses: tally.losses(),
            faults: tally.faults(),
        })
    })
}

/// Tells of a trial that begins.
pub fn say(progress: &Progress, what: &str, rate: Option<f64>) {
    progress.say(match rate {
        Some(rate) => format!("{what} at {rate:.0}/s"),
        None => format!("{what} at full speed"),
    });
}

fn case(load: &Load, plan: &Plan, found: &[[Found; 2]]) -> Case {
    let rates = |at: usize| found.iter().map(|both| both[at].rate / 1e6).collect::<Vec<_>>();
    let name = plan.mode.name();
    let mut case = Case::new("", name, Unit::Mpps, Better::Higher, rates(1));
    case = case.against(Kind::L2fwd.name(), rates(0));
    case.gbps = Some(load.sizes.gbps(case.estimate.median * 1e6));
    for [l2fwd, node] in found {
        case.faults.extend(l2fwd.faults.iter().chain(&node.faults).cloned());
        case.trials.push(node.trials.clone());
        case.limit = Some(node.limit());
        for trial in &node.trials {
            case.offered += trial.offered;
            add_losses(&mut case.losses, &trial.losses);
        }
        if let Some(reference) = &mut case.reference {
            reference.limit = Some(l2fwd.limit());
            reference.trials.push(l2fwd.trials.clone());
            for trial in &l2fwd.trials {
                reference.offered += trial.offered;
                add_losses(&mut reference.losses, &trial.losses);
            }
        }
    }
    case
}
