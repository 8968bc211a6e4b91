//! `bench smoke`: the node against the reference, on the same devices, in turn.

use std::time::Duration;

use anyhow::Context;
use crossbeam::channel::{Receiver, bounded};
use nix::sys::signal::{SigSet, Signal};

use super::bed::{Bed, CALI, Shape};
use super::far_end::{FarEnd, Host};
use super::forwarder::Kind;
use super::frames::Frames;
use super::generator::Input;
use super::machine::{Cores, Machine, Priority, alone, calibrate};
use super::report::{Calibration, InputReport, Report, Round, VERSION};
use super::window::Setting;

/// Flows of the load.
const FLOWS: u16 = 1_000;
/// Bytes of the checksum that a wire adds to a frame.
const FRAME_CHECK: usize = 4;

/// How long to measure, and what is expected.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds of every input; each measures both forwarders.
    pub rounds: u32,
    /// For how long each is measured.
    pub time: Duration,
    /// The least median ratio that passes.
    pub expected: Option<f64>,
    /// What is measured on.
    pub shape: Shape,
}

/// Measures, telling `progress` of each round.
///
/// # Errors
/// [`WrongFrame`](super::rehearsal::WrongFrame), an interruption, or where the machine cannot run
/// it. Nothing is left behind in any case.
pub fn smoke(plan: Plan, mut progress: impl FnMut(Input, &Round)) -> anyhow::Result<Report> {
    let _alone = alone()?;
    // Before anything is made, so that whatever is made is also taken down.
    let interrupted = interruption()?;
    let cores = Cores::first_two()?;
    let bed = Bed::make(plan.shape)?;
    let frames = Frames::of(&bed.lab, FLOWS, plan.shape.fused)?;
    let pod = bed.pod()?;
    let mut pod = FarEnd::new(bed.open_far(CALI)?, Host { ip: pod.ip, mac: pod.mac });
    let priority = Priority::raise();
    let machine = Machine::this(cores, &priority)?;
    let setting =
        Setting { bed: &bed, frames: &frames, cores, time: plan.time, interrupted: &interrupted };
    let measured = if plan.shape.fused { Kind::Fused } else { Kind::Node };
    let empty_turn = bed.empty_turn(cores.forwarder)?;
    let mut calibrations = Vec::new();
    let mut inputs = [(Input::Skb, Vec::new()), (Input::Live, Vec::new())];
    for number in 0..plan.rounds {
        let order = if number.is_multiple_of(2) {
            [Kind::L2fwd, measured]
        } else {
            [measured, Kind::L2fwd]
        };
        for (input, rounds) in &mut inputs {
            calibrations.push(calibrate().as_secs_f64() * 1e3);
            let [first, second] = order;
            let windows = [
                setting.measure(first, *input, &mut pod)?,
                setting.measure(second, *input, &mut pod)?,
            ];
            let round = round(first, windows);
            progress(*input, &round);
            rounds.push(round);
        }
    }
    let inputs: Vec<_> =
        inputs.into_iter().map(|(input, rounds)| InputReport::of(input, rounds)).collect();
    let sound = inputs.iter().all(|input| input.faults().next().is_none());
    let fast = inputs.iter().all(|input| plan.expected.is_none_or(|r| input.ratio.median >= r));
    Ok(Report {
        version: VERSION,
        passed: sound && fast,
        machine,
        measured,
        idle_pods: plan.shape.idle,
        empty_turn_ns: empty_turn,
        flows: FLOWS,
        frame_bytes: frames.request(0).len() + FRAME_CHECK,
        inputs,
        calibration: Calibration::of(&calibrations),
        expected: plan.expected,
    })
}

/// Two windows, of which the first was measured first.
fn round(first: Kind, [one, other]: [super::window::Window; 2]) -> Round {
    let (l2fwd, node) = if first == Kind::L2fwd { (one, other) } else { (other, one) };
    let ratio = if l2fwd.mpps > 0.0 { node.mpps / l2fwd.mpps } else { 0.0 };
    Round { first, l2fwd, node, ratio }
}

/// Catches the signals that end a command, from here on in every thread.
fn interruption() -> anyhow::Result<Receiver<()>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("block signals")?;
    let (interrupt, interrupted) = bounded(1);
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            // One that is waiting already says as much.
            let _ = interrupt.try_send(());
        }
    });
    Ok(interrupted)
}
