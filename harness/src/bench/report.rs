//! What `trunkline bench` prints and writes. Names and types of the fields are a committed
//! schema, docs/schema/bench.json.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forwarder::Kind;
use super::generator::Input;
use super::machine::Machine;
use super::window::Window;
use benches::statistics::Estimate;

/// Version of the report's form. Grows when a field changes its meaning or goes.
pub const VERSION: u32 = 1;
/// A machine whose slowest calibration took so much longer than its fastest has changed speed.
const STEADY: f64 = 1.15;

/// The report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "trunkline bench --json")]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// Whether every frame was right, the books add up, and the expected ratio was reached.
    pub passed: bool,
    /// What was measured on.
    pub machine: Machine,
    /// What was measured, in place of `node` everywhere below.
    pub measured: Kind,
    /// Pods beside the client's on its node, each with a port on which nothing arrives.
    pub idle_pods: u16,
    /// Nanoseconds of a forwarder's turn in which nothing has arrived.
    pub empty_turn_ns: f64,
    /// Flows, all of them established both ways before.
    pub flows: u16,
    /// Bytes of a frame on a wire, checksum included.
    pub frame_bytes: usize,
    /// Each input.
    pub inputs: Vec<InputReport>,
    /// The machine's speed meanwhile.
    pub calibration: Calibration,
    /// The least ratio that was asked for.
    pub expected: Option<f64>,
}

/// What was measured under one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InputReport {
    /// Which.
    pub input: Input,
    /// The reference, in million frames a second, over the rounds.
    pub l2fwd_mpps: Estimate,
    /// The node.
    pub node_mpps: Estimate,
    /// The node's share of the reference of the same round, over the rounds.
    pub ratio: Estimate,
    /// Every round.
    pub rounds: Vec<Round>,
}

/// Both forwarders, one right after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Round {
    /// Which was measured first.
    pub first: Kind,
    /// The reference.
    pub l2fwd: Window,
    /// The node.
    pub node: Window,
    /// The node's share of the reference.
    pub ratio: f64,
}

/// How long a fixed piece of arithmetic took before each round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Calibration {
    /// The fastest, in milliseconds.
    pub fastest: f64,
    /// The slowest.
    pub slowest: f64,
    /// Whether they are so far apart that rates of different rounds cannot be compared. Ratios
    /// are of one round.
    pub varied: bool,
}

impl Calibration {
    /// Of some times in milliseconds.
    #[must_use]
    pub fn of(times: &[f64]) -> Self {
        let fastest = times.iter().copied().fold(f64::INFINITY, f64::min);
        let slowest = times.iter().copied().fold(0.0, f64::max);
        Self { fastest, slowest, varied: slowest > fastest * STEADY }
    }
}

impl InputReport {
    /// Sums up rounds.
    #[must_use]
    pub fn of(input: Input, rounds: Vec<Round>) -> Self {
        let over =
            |value: fn(&Round) -> f64| Estimate::of(&rounds.iter().map(value).collect::<Vec<_>>());
        Self {
            input,
            l2fwd_mpps: over(|round| round.l2fwd.mpps),
            node_mpps: over(|round| round.node.mpps),
            ratio: over(|round| round.ratio),
            rounds,
        }
    }

    /// Whatever was not as it must be.
    pub fn faults(&self) -> impl Iterator<Item = &str> {
        let windows = self.rounds.iter().flat_map(|round| [&round.l2fwd, &round.node]);
        windows.flat_map(|window| window.faults.iter().map(String::as_str))
    }
}

impl Report {
    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, to: &mut impl Write) -> fmt::Result {
        let machine = &self.machine;
        let run = match self.measured {
            Kind::Fused => "both nodes and the VPC, links fused",
            Kind::L2fwd | Kind::Node => "one node wired",
        };
        writeln!(to, "pod -> ClusterIP -> endpoint on another node, {run}")?;
        writeln!(to, "{} flows, {}-byte UDP", self.flows, self.frame_bytes)?;
        writeln!(
            to,
            "Linux {}, {}, generator on core {}, forwarder on core {} of {}",
            machine.kernel,
            machine.processor,
            machine.generator_core,
            machine.forwarder_core,
            machine.cores
        )?;
        let (idle, empty) = (self.idle_pods, self.empty_turn_ns);
        writeln!(to, "{idle} idle pods; a turn without a frame takes {empty:.0} ns")?;
        if !machine.optimised {
            writeln!(to, "built without optimisation: the figures mean nothing")?;
        }
        if !machine.priority_raised {
            writeln!(to, "the priority could not be raised: other work takes its share")?;
        }
        if self.calibration.varied {
            let Calibration { fastest, slowest, .. } = self.calibration;
            writeln!(to, "the machine's speed varied ({fastest:.0} to {slowest:.0} ms)")?;
        }
        for input in &self.inputs {
            input.write(self.measured.name(), to)?;
        }
        for fault in self.inputs.iter().flat_map(InputReport::faults) {
            writeln!(to, "FAULT {fault}")?;
        }
        match self.expected {
            Some(least) if self.passed => writeln!(to, "\nevery ratio is {least} or more"),
            Some(least) => writeln!(to, "\nexpected: every ratio {least} or more, no fault"),
            None => Ok(()),
        }
    }
}

impl InputReport {
    fn write(&self, measured: &str, to: &mut impl Write) -> fmt::Result {
        let Self { input, l2fwd_mpps, node_mpps, ratio, rounds } = self;
        writeln!(to, "\n{}, {} rounds", input.name(), rounds.len())?;
        for (name, estimate) in [("l2fwd", l2fwd_mpps), (measured, node_mpps)] {
            let Estimate { median, low, high, .. } = estimate;
            writeln!(to, "  {name:<6} {median:.3} Mpps ({low:.3} to {high:.3})")?;
        }
        let Estimate { median, low, high, confidence } = ratio;
        let confidence = confidence * 100.0;
        writeln!(to, "  ratio  {median:.3}      ({low:.3} to {high:.3}, {confidence:.0} % sure)")?;
        let windows = |of: fn(&Round) -> &Window| losses(rounds.iter().map(of));
        writeln!(to, "  lost   l2fwd: {}", windows(|round| &round.l2fwd))?;
        writeln!(to, "         {measured}: {}", windows(|round| &round.node))
    }
}

/// Where frames were lost in some windows, as shares of what was offered.
fn losses<'a>(windows: impl Iterator<Item = &'a Window>) -> String {
    let mut lost = BTreeMap::new();
    let mut offered = 0;
    for window in windows {
        offered += window.offered;
        for (place, count) in &window.losses {
            *lost.entry(place.as_str()).or_insert(0) += count;
        }
    }
    let share = |count: u64| 100.0 * count as f64 / offered.max(1) as f64;
    let each: Vec<_> =
        lost.into_iter().map(|(place, count)| format!("{place} {:.1} %", share(count))).collect();
    if each.is_empty() { "nothing".to_owned() } else { each.join(", ") }
}
