//! What `trunkline bench compare --json` writes. Names and types of the fields are a committed
//! schema, docs/schema/compare.json.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bench::forwarder::Row;
use crate::bench::load::Load;
use crate::bench::machine::Machine;
use crate::bench::report::{Calibration, Expectation};
use crate::bench::window::Window;
use benches::statistics::Estimate;

/// Version of the report's form. Grows when a field changes its meaning or goes.
pub const VERSION: u32 = 2;
/// The report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "trunkline bench compare --json")]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// Whether every frame was right, the books add up, and the expected ratios were reached.
    pub passed: bool,
    /// Whether the user ended it before all rounds were measured.
    pub interrupted: bool,
    /// What was measured on.
    pub machine: Machine,
    /// The machine's speed meanwhile.
    pub calibration: Calibration,
    /// Rates, for each load.
    pub loads: Vec<LoadReport>,
    /// What was asked for and could not be measured.
    pub absent: Vec<Absent>,
}

/// What was measured under one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LoadReport {
    /// What was offered.
    pub load: Load,
    /// Every forwarder.
    pub rows: Vec<RowReport>,
}

/// What was measured of one forwarder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RowReport {
    /// Its name.
    pub name: String,
    /// What it is.
    pub about: String,
    /// Processors used, the sender's included.
    pub cores: usize,
    /// Million frames a second, over the rounds.
    pub mpps: Estimate,
    /// Processor time of the forwarder for each frame, in nanoseconds; that of sender and forwarder
    /// together where `withSender` says so.
    pub ns_per_packet: Estimate,
    /// Whether one processor sends and forwards, so that the two cannot be told apart.
    pub with_sender: bool,
    /// The node's rate divided by this one's of the same round; none of the node itself.
    pub node_ratio: Option<Estimate>,
    /// This rate divided by the reference's of the same round; none where that was not measured.
    pub reference_ratio: Option<Estimate>,
    /// What was expected of the node's ratio.
    pub expected: Option<Expectation>,
    /// What was expected of the ratio to the reference.
    pub expected_of_reference: Option<Expectation>,
    /// Every round, the first begun by the first row, each later one by the next.
    pub rounds: Vec<Window>,
}

/// A forwarder that was asked for and not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Absent {
    /// Its name.
    pub name: String,
    /// Under which load; none where it is under all.
    pub load: Option<Load>,
    /// Why.
    pub reason: String,
}

impl Absent {
    /// A row under one load.
    #[must_use]
    pub fn of(row: Row, load: &Load, reason: String) -> Self {
        Self { name: row.to_string(), load: Some(load.clone()), reason }
    }
}

impl RowReport {
    /// Sums up the rounds of a row.
    #[must_use]
    pub fn of(row: Row, rounds: &[Window]) -> Self {
        let over =
            |value: fn(&Window) -> f64| Estimate::of(&rounds.iter().map(value).collect::<Vec<_>>());
        Self {
            name: row.to_string(),
            about: row.about(),
            cores: row.cores(),
            mpps: over(|window| window.mpps),
            ns_per_packet: over(|window| window.forwarder_ns.unwrap_or(window.generator_ns)),
            with_sender: rounds.iter().any(|window| window.forwarder_ns.is_none()),
            node_ratio: None,
            reference_ratio: None,
            expected: None,
            expected_of_reference: None,
            rounds: rounds.to_vec(),
        }
    }

    /// Holds the node's rounds against this row's.
    pub fn compare_node(&mut self, node: &[Window]) {
        self.node_ratio = Some(ratio(node, &self.rounds));
    }

    /// Holds this row's rounds against the reference's.
    pub fn compare_reference(&mut self, reference: &[Window]) {
        self.reference_ratio = Some(ratio(&self.rounds, reference));
    }

    /// Whether its ratios reach what was expected of them.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        let expected = [self.expected, self.expected_of_reference];
        expected.iter().flatten().all(|expected| expected.reached)
    }

    /// Whatever was not as it must be.
    pub fn faults(&self) -> impl Iterator<Item = &str> {
        self.rounds.iter().flat_map(|window| window.faults.iter().map(String::as_str))
    }
}

/// One rate divided by another of the same round, over the rounds.
fn ratio(of: &[Window], to: &[Window]) -> Estimate {
    let each = of.iter().zip(to);
    let each = each.map(|(of, to)| if to.mpps > 0.0 { of.mpps / to.mpps } else { 0.0 });
    Estimate::of(&each.collect::<Vec<_>>())
}
