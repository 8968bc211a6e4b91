//! What `trunkline bench` prints and writes. Names and types of the fields are a committed
//! schema, docs/schema/bench.json.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forwarder::Row;
use super::generator::Input;
use super::latency::LatencyReport;
use super::machine::Machine;
use super::window::Window;
use benches::statistics::{Estimate, median};

/// Version of the report's form. Grows when a field changes its meaning or goes.
pub const VERSION: u32 = 2;
/// A machine whose slowest calibration took so much longer than its fastest has changed speed.
const STEADY: f64 = 1.15;
/// Share of its core that a generator has when nothing else works there.
const ALONE: f64 = 0.95;
/// How sure the interval of a figure that holds has to be: few rounds have no more than their range.
const SURE: f64 = 0.95;
/// How wide the interval of a figure that holds may be (spec BENCH-10).
const NARROW: f64 = 0.06;

/// The report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "trunkline bench --json")]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// Whether every frame was right, the books add up, and the expected ratios were reached.
    pub passed: bool,
    /// Whether the user ended it before all rounds were measured.
    pub interrupted: bool,
    /// What was measured on.
    pub machine: Machine,
    /// Bytes of a frame on a wire, checksum included.
    pub frame_bytes: usize,
    /// Rates, for each load.
    pub loads: Vec<LoadReport>,
    /// Times of requests until their answers.
    pub latency: Vec<LatencyReport>,
    /// What was asked for and could not be measured.
    pub absent: Vec<Absent>,
    /// The machine's speed meanwhile.
    pub calibration: Calibration,
}

/// What was measured under one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LoadReport {
    /// How it came in.
    pub input: Input,
    /// Its flows, established both ways before where the forwarder keeps flows.
    pub flows: u32,
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
    /// Every round, the first begun by the first row, each later one by the next.
    pub rounds: Vec<Window>,
}

/// What was expected of a ratio, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expectation {
    /// The ratio asked for: the least of rates, the most of times.
    pub ratio: f64,
    /// Whether the median reaches it.
    pub reached: bool,
    /// Whether, besides, the interval is narrow enough to trust it: less than 0.06.
    pub holds: bool,
}

/// A forwarder that was asked for and not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Absent {
    /// Its name.
    pub name: String,
    /// Under which input; none where it is under all.
    pub input: Option<Input>,
    /// Why.
    pub reason: String,
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

impl Expectation {
    /// That a ratio is at least so much.
    #[must_use]
    pub fn least(ratio: f64, found: Estimate) -> Self {
        Self::of(ratio, found, found.median >= ratio)
    }

    /// That a ratio is at most so much.
    #[must_use]
    pub fn most(ratio: f64, found: Estimate) -> Self {
        Self::of(ratio, found, found.median <= ratio)
    }

    fn of(ratio: f64, found: Estimate, reached: bool) -> Self {
        let sure = found.confidence >= SURE && found.high - found.low < NARROW;
        Self { ratio, reached, holds: reached && sure }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = match (self.reached, self.holds) {
            (true, true) => "holds",
            (true, false) => "reached, interval wide",
            (false, _) => "NOT REACHED",
        };
        write!(f, "{}: {found}", self.ratio)
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
        writeln!(to, "pod -> ClusterIP -> endpoint on another node, one node wired")?;
        writeln!(to, "{}-byte UDP; {}", self.frame_bytes, self.machine)?;
        if !self.machine.optimised {
            writeln!(to, "built without optimisation: the figures mean nothing")?;
        }
        if !self.machine.priority_raised {
            writeln!(to, "the priority could not be raised: other work takes its share")?;
        }
        if self.calibration.varied {
            let Calibration { fastest, slowest, .. } = self.calibration;
            writeln!(to, "the machine's speed varied ({fastest:.0} to {slowest:.0} ms)")?;
        }
        for load in &self.loads {
            load.write(to)?;
        }
        LatencyReport::write_all(&self.latency, to)?;
        if !self.absent.is_empty() {
            writeln!(to, "\nnot measured")?;
        }
        for Absent { name, input, reason } in &self.absent {
            let input = input.map_or("", Input::name);
            writeln!(to, "  {name:<25} {input:<5} {reason}")?;
        }
        let rows = || self.loads.iter().flat_map(|load| &load.rows);
        for row in rows() {
            for fault in row.faults() {
                writeln!(to, "FAULT {}: {fault}", row.name)?;
            }
        }
        if self.interrupted {
            writeln!(to, "\ninterrupted: only the complete rounds are here")?;
        }
        Ok(())
    }
}

impl LoadReport {
    fn write(&self, to: &mut impl Write) -> fmt::Result {
        let Self { input, flows, rows } = self;
        let rounds = rows.first().map_or(0, |row| row.rounds.len());
        writeln!(to, "\n{} input, {flows} flows, {rounds} rounds", input.name())?;
        writeln!(
            to,
            "  {:<25} cores   Mpps  ns/packet  node/row  95 % interval    row/l2fwd  expected",
            "row"
        )?;
        for row in rows {
            row.write(to)?;
        }
        writeln!(to, "  lost, of what was offered")?;
        for row in rows {
            writeln!(to, "    {:<23} {}", row.name, row.losses())?;
        }
        let share = rows.iter().map(RowReport::generator_share).fold(f64::INFINITY, f64::min);
        if share < ALONE {
            let percent = share * 100.0;
            writeln!(to, "  other work ran: a generator had {percent:.0} % of its core")?;
        }
        if rows.iter().any(|row| row.with_sender) {
            writeln!(to, "  * sender and forwarder together, on one core")?;
        }
        Ok(())
    }
}

impl RowReport {
    fn write(&self, to: &mut impl Write) -> fmt::Result {
        let Self { name, cores, mpps, ns_per_packet, .. } = self;
        let sender = if self.with_sender { '*' } else { ' ' };
        let ns = ns_per_packet.median;
        write!(to, "  {name:<25} {cores:>5} {:>6.3}  {ns:>8.0}{sender}", mpps.median)?;
        match self.node_ratio {
            Some(Estimate { median, low, high, .. }) => {
                write!(to, "  {median:>8.3}  {low:.3} to {high:.3}")?;
            }
            None => write!(to, "  {:>8}  {:14}", "", "")?,
        }
        match self.reference_ratio {
            Some(Estimate { median, .. }) => write!(to, "  {median:>9.3}")?,
            None => write!(to, "  {:>9}", "")?,
        }
        match self.expected {
            Some(expected) => writeln!(to, "  {expected}"),
            None => writeln!(to),
        }
    }

    /// How much of its core the generator had, which never rests: the median over the rounds.
    fn generator_share(&self) -> f64 {
        let share = |window: &Window| window.generator_ns * window.mpps / 1e3;
        median(&self.rounds.iter().map(share).collect::<Vec<_>>())
    }

    /// Where frames were lost, as shares of what was offered.
    fn losses(&self) -> String {
        let mut lost = BTreeMap::new();
        let mut offered = 0;
        for window in &self.rounds {
            offered += window.offered;
            for (place, count) in &window.losses {
                *lost.entry(place.as_str()).or_insert(0) += count;
            }
        }
        let share = |count: u64| 100.0 * count as f64 / offered.max(1) as f64;
        let each = lost.into_iter().map(|(place, count)| format!("{place} {:.1} %", share(count)));
        let each: Vec<_> = each.collect();
        if each.is_empty() { "nothing".to_owned() } else { each.join(", ") }
    }
}
