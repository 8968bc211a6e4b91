//! `bench smoke`: the node against the reference, on the same devices, in turn.

use std::time::Duration;

use super::forwarder::Kind;
use super::generator::Input;
use super::load::Load;
use super::report::{Case, Mode, Report};
use super::session::{Session, order};
use super::window::Window;

/// How long to measure, and what is expected.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds of every input; each measures both forwarders.
    pub rounds: u32,
    /// For how long each is measured.
    pub time: Duration,
    /// The least median ratio that passes.
    pub expected: Option<f64>,
}

/// Measures with 64-byte UDP frames of 1,000 flows, as socket buffers and as XDP frames.
///
/// # Errors
/// [`WrongFrame`](super::rehearsal::WrongFrame), or where the machine cannot run it. Nothing is
/// left behind in any case.
pub fn smoke(plan: Plan) -> anyhow::Result<Report> {
    let load = Load::smallest(Input::Skb);
    let mut session = Session::open(&load, |_| ())?;
    let mut inputs = [(Input::Skb, Vec::new()), (Input::Live, Vec::new())];
    let interrupted = session.rounds(plan.rounds, |session, round| {
        for (input, windows) in &mut inputs {
            session.load.input = *input;
            let (setting, pods, progress) = session.parts();
            let mut both = Vec::new();
            for kind in order(round) {
                progress.say(format!("{} under {}", kind.name(), input.name()));
                both.push((kind, setting.measure(kind, plan.time, pods)?));
            }
            // l2fwd, then node.
            both.sort_by_key(|(kind, _)| *kind == Kind::Node);
            let mut both = both.into_iter().map(|(_, window)| window);
            if let (Some(l2fwd), Some(node)) = (both.next(), both.next()) {
                let (l, n, name) = (l2fwd.mpps, node.mpps, input.name());
                let ratio = if l > 0.0 { n / l } else { 0.0 };
                let said = format!("l2fwd {l:.3} Mpps, node {n:.3} Mpps, ratio {ratio:.3}");
                progress.line(&format!("{name:<5} {said}"));
                windows.push([l2fwd, node]);
            }
        }
        Ok(())
    })?;
    session.load = load;
    let cases = inputs.iter().map(|(input, windows)| case(*input, windows)).collect();
    let mut report = session.report(Mode::Smoke, cases, interrupted);
    if let Some(least) = plan.expected {
        report.expected = format!("every ratio {least} or more");
        let ratio = |case: &Case| case.reference.as_ref().map_or(0.0, |r| r.ratio.median);
        report.passed &= report.cases.iter().all(|case| ratio(case) >= least);
    }
    Ok(report)
}

/// The figure of an input: the node against l2fwd.
fn case(input: Input, windows: &[[Window; 2]]) -> Case {
    let [l2fwd, node] = [(0, Kind::L2fwd), (1, Kind::Node)].map(|(at, kind)| {
        let windows: Vec<_> = windows.iter().map(|both| &both[at]).collect();
        Case::of_windows(input.name(), kind.name(), &windows)
    });
    node.beside(l2fwd)
}
