//! What `trunkline bench` prints and writes: one form for everything that is measured. Names and
//! types of the fields are a committed schema, docs/schema/bench.json.

mod chart;
mod expectation;
mod html;
mod table;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::Load;
use super::machine::Machine;
use super::search::{Goal, Trial};
use benches::statistics::Estimate;
pub use expectation::Expectation;
pub use text::written;

/// Version of the report's form. Grows when a field changes its meaning or goes.
pub const VERSION: u32 = 2;
/// A machine whose slowest calibration took so much longer than its fastest has changed speed.
pub const STEADY: f64 = 1.15;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// A node against the reference, with as much load as there is.
    Smoke,
    /// The highest rate without a loss.
    Ndr,
    /// The highest rate with a small loss.
    Pdr,
    /// How long frames are on their way.
    Latency,
    /// How long requests wait for their answers.
    Answers,
    /// New connections.
    Cps,
    /// Connections held.
    Cc,
    /// Another version of the lab put in place under load.
    Churn,
    /// A lab brought up and down.
    Up,
    /// A node with idle ports beside one without.
    Idle,
    /// The node beside other forwarders.
    Compare,
}

impl Mode {
    /// Its name, which is the command's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Ndr => "ndr",
            Self::Pdr => "pdr",
            Self::Latency => "latency",
            Self::Answers => "answers",
            Self::Cps => "cps",
            Self::Cc => "cc",
            Self::Churn => "churn",
            Self::Up => "up",
            Self::Idle => "idle",
            Self::Compare => "compare",
        }
    }

    /// What is measured, in a line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Answers => "pod -> pod on the same node and back, one request at a time",
            Self::Up => "a lab's file -> all its ports forward -> nothing is left",
            _ => "pod -> ClusterIP -> endpoint on another node",
        }
    }
}

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unit {
    /// Million frames a second.
    Mpps,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Connections a second.
    #[serde(rename = "conn/s")]
    ConnectionsPerSecond,
    /// Connections.
    #[serde(rename = "connections")]
    Connections,
    /// Bytes for a connection.
    #[serde(rename = "B/conn")]
    BytesPerConnection,
    /// Frames.
    #[serde(rename = "frames")]
    Frames,
}

impl Unit {
    /// As it is written behind a figure.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mpps => "Mpps",
            Self::Microseconds => "us",
            Self::Nanoseconds => "ns",
            Self::Seconds => "s",
            Self::ConnectionsPerSecond => "conn/s",
            Self::Connections => "connections",
            Self::BytesPerConnection => "B/conn",
            Self::Frames => "frames",
        }
    }
}

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Better {
    /// The higher.
    Higher,
    /// The lower.
    Lower,
}

/// The report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "trunkline bench --json")]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// What was asked for.
    pub mode: Mode,
    /// Whether every frame was right, the books add up, and what was expected was reached.
    pub passed: bool,
    /// Whether the user stopped it: what is here is what was measured until then.
    pub interrupted: bool,
    /// What was measured on.
    pub machine: Machine,
    /// The machine's speed meanwhile.
    pub calibration: Calibration,
    /// What was offered; none where each case has its own, or where it is not frames of a load that
    /// are measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// How a rate was searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// What was expected, in words; empty where nothing was.
    pub expected: String,
    /// The figures.
    pub cases: Vec<Case>,
    /// What was asked for and could not be measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Absent>,
}

/// A forwarder that was asked for and not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Absent {
    /// Its name.
    pub name: String,
    /// Under which load; none where it is under all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// Why.
    pub reason: String,
}

impl Absent {
    /// The load in words; empty where it is under all.
    #[must_use]
    pub fn under(&self) -> String {
        self.load.as_ref().map(crate::bench::compare::name).unwrap_or_default()
    }
}

/// One figure, taken in several rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Case {
    /// Figures of one group belong together.
    pub group: String,
    /// What it is, different from the others of the group that have the same reference.
    pub name: String,
    /// What was offered, where figures of one report have different loads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// Its unit.
    pub unit: Unit,
    /// Which of two is the better one.
    pub better: Better,
    /// Of each round.
    pub rounds: Vec<f64>,
    /// Over the rounds.
    pub estimate: Estimate,
    /// The same of a reference, taken in the same rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// What was expected of the ratio to the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expectation>,
    /// A rate in Gb/s: by the frames (layer 2), and with what a wire takes beside them (layer 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gbps: Option<[f64; 2]>,
    /// What a frame costs at this rate, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// What kept it from being better, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Frames or connections offered, all rounds together.
    pub offered: u64,
    /// Of these, lost, by place; places without a loss are left out.
    pub losses: BTreeMap<String, u64>,
    /// The trials of each round, where it was searched for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<Vec<Trial>>,
    /// How it is distributed: shares of all frames, and the figure that these do not exceed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distribution: Vec<(f64, f64)>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What is not as it must be; empty when all is well.
    pub faults: Vec<String>,
}

/// The processor time of a frame (spec BENCH-15).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cost {
    /// In nanoseconds, over the rounds: the forwarder's, or where it has no core of its own that of
    /// sender and forwarder together.
    pub ns: Estimate,
    /// Processors used, the sender's included; 1 where one sends and forwards.
    pub cores: u32,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.ns.median;
        f.write_str(&match self.cores {
            1 => format!("{ns:.0} ns a frame of sender and forwarder, on one core"),
            cores => format!("{ns:.0} ns a frame of the forwarder, {cores} cores"),
        })
    }
}

/// What a figure is held against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Reference {
    /// What it is.
    pub name: String,
    /// Of each round.
    pub rounds: Vec<f64>,
    /// Over the rounds.
    pub estimate: Estimate,
    /// The case's share of the reference of the same round, over the rounds.
    pub ratio: Estimate,
    /// As in the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// What kept the reference from being better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Offered, all rounds together.
    pub offered: u64,
    /// Of these, lost.
    pub losses: BTreeMap<String, u64>,
    /// As in the case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<Vec<Trial>>,
    /// As in the case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distribution: Vec<(f64, f64)>,
}

/// How long a fixed piece of arithmetic took before each round.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Calibration {
    /// The fastest, in milliseconds.
    pub fastest: f64,
    /// The median.
    pub median: f64,
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
        let median = benches::statistics::median(times);
        Self { fastest, median, slowest, varied: slowest > fastest * STEADY }
    }
}

impl Case {
    /// A figure of some rounds.
    #[must_use]
    pub fn new(group: &str, name: &str, unit: Unit, better: Better, rounds: Vec<f64>) -> Self {
        Self {
            group: group.to_owned(),
            name: name.to_owned(),
            load: None,
            unit,
            better,
            estimate: Estimate::of(&rounds),
            rounds,
            reference: None,
            expected: None,
            gbps: None,
            cost: None,
            limit: None,
            offered: 0,
            losses: BTreeMap::new(),
            trials: Vec::new(),
            distribution: Vec::new(),
            notes: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// With a reference of the same rounds.
    #[must_use]
    pub fn against(mut self, name: &str, rounds: Vec<f64>) -> Self {
        let ratios: Vec<_> = ratios(&self.rounds, &rounds).collect();
        self.reference = Some(Reference {
            name: name.to_owned(),
            estimate: Estimate::of(&rounds),
            ratio: Estimate::of(&ratios),
            rounds,
            cost: None,
            limit: None,
            offered: 0,
            losses: BTreeMap::new(),
            trials: Vec::new(),
            distribution: Vec::new(),
        });
        self
    }

    /// With another figure of the same rounds as its reference.
    #[must_use]
    pub fn beside(self, of: Self) -> Self {
        let mut case = self.against(&of.name, of.rounds);
        let told = |said: String| format!("{}: {said}", of.name);
        case.notes.extend(of.notes.into_iter().map(told));
        case.faults.extend(of.faults.into_iter().map(told));
        case.reference = case.reference.map(|reference| Reference {
            cost: of.cost,
            limit: of.limit,
            offered: of.offered,
            losses: of.losses,
            trials: of.trials,
            distribution: of.distribution,
            ..reference
        });
        case
    }

    /// With the least that its ratio to the reference has to be, or the most where lower is better.
    #[must_use]
    pub fn expecting(mut self, ratio: f64) -> Self {
        let expectation = match self.better {
            Better::Higher => Expectation::least,
            Better::Lower => Expectation::most,
        };
        self.expected = self.reference.as_ref().map(|of| expectation(ratio, of.ratio));
        self
    }

    /// Whether its ratio is what was expected of it.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.expected.is_none_or(|expected| expected.reached)
    }

    /// The case's share of the reference in each round.
    #[must_use]
    pub fn ratios(&self) -> Option<Vec<f64>> {
        let reference = self.reference.as_ref()?;
        Some(ratios(&self.rounds, &reference.rounds).collect())
    }

    /// The title, with what it is held against.
    #[must_use]
    pub fn comparison(&self) -> String {
        let title = self.title();
        self.reference.as_ref().map_or(title.clone(), |of| format!("{title} to {}", of.name))
    }

    /// Group and name.
    #[must_use]
    pub fn title(&self) -> String {
        if self.group.is_empty() {
            self.name.clone()
        } else {
            format!("{} {}", self.group, self.name)
        }
    }
}

fn ratios<'a>(these: &'a [f64], those: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    these.iter().zip(those).map(|(this, that)| if *that > 0.0 { this / that } else { 0.0 })
}

impl Report {
    /// What was offered, each load once.
    pub fn loads(&self) -> impl Iterator<Item = &Load> {
        let mut loads: Vec<&Load> = Vec::new();
        for load in self.load.iter().chain(self.cases.iter().filter_map(|c| c.load.as_ref())) {
            if !loads.contains(&load) {
                loads.push(load);
            }
        }
        loads.into_iter()
    }

    /// Whatever was not as it must be.
    pub fn faults(&self) -> impl Iterator<Item = (&Case, &str)> {
        self.cases.iter().flat_map(|case| case.faults.iter().map(move |f| (case, f.as_str())))
    }
}

/// Losses of several rounds together.
pub fn add_losses<'a>(
    to: &mut BTreeMap<String, u64>,
    more: impl IntoIterator<Item = (&'a String, &'a u64)>,
) {
    for (place, count) in more {
        *to.entry(place.clone()).or_insert(0) += count;
    }
}
