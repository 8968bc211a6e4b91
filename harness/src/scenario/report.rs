//! What `trunkline run --json` prints. Names and types of the fields are a committed schema,
//! docs/schema/run.json.

use datapath::counters::LedgerReport;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::datapath::Answer;
use super::file::{Expect, Outcome, Profile};
use super::run::Run;
use super::verdict::Denial;
use crate::journey::{Flow, Journey, Leg, Names, Row, Symbols, path, rows};

/// Version of the report's form. Grows when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

/// The report of `trunkline run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "trunkline run --json")]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// Whether every expectation of every case held.
    pub passed: bool,
    /// The cases, in the order in which they ran.
    pub cases: Vec<CaseReport>,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CaseReport {
    /// The scenario's name.
    pub scenario: String,
    /// The generation of Terway in its lab.
    pub profile: Profile,
    /// The variant's name; null for the scenario itself.
    pub variant: Option<String>,
    /// What it is about.
    pub title: String,
    /// The lab file.
    pub lab: String,
    /// The datapath it ran on.
    pub datapath: String,
    /// Whether every expectation held.
    pub passed: bool,
    /// Whether the client got a page.
    pub verdict: Outcome,
    /// What was expected.
    pub expected: Expect,
    /// The drop that denied the request; null where nothing was dropped.
    pub denial: Option<Denial>,
    /// What the client saw.
    pub client: Answer,
    /// Everything that was expected, and whether it is so.
    pub checks: Vec<Check>,
    /// What the short names in paths and rows stand for.
    pub legend: Vec<Name>,
    /// The packets that stand for the flow: of each direction the first one with data, or else
    /// the first one, and the one whose drop denied it.
    pub journeys: Vec<JourneyReport>,
    /// What must be the same on every datapath.
    pub comparison: Comparison,
    /// What every element has counted.
    pub elements: Vec<ElementReport>,
}

/// One expectation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Check {
    /// What is expected of.
    pub what: String,
    /// Whether it is so.
    pub ok: bool,
    /// What was seen.
    pub seen: String,
    /// What was expected.
    pub expected: String,
}

impl Check {
    /// One expectation and what was seen.
    #[must_use]
    pub fn new(what: &str, ok: bool, seen: String, expected: &str) -> Self {
        Self { what: what.into(), ok, seen, expected: expected.into() }
    }
}

/// A short name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Name {
    /// The name.
    pub name: String,
    /// What it stands for.
    pub meaning: String,
}

/// One packet's journey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct JourneyReport {
    /// Which way of the flow it went.
    pub leg: Leg,
    /// Bytes of data it carried.
    pub payload: u16,
    /// The places it passed, in the article's form.
    pub path: Vec<String>,
    /// What decided at every hook.
    pub rows: Vec<Row>,
}

/// For each direction the rows of the first packet with data (or else of the first), ports that
/// differ from run to run as `$client` and `$masq`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Comparison {
    /// From the client.
    pub forward: Vec<Row>,
    /// To the client.
    pub reply: Vec<Row>,
}

impl Comparison {
    /// The same without what only these nodes themselves can tell: of each is left which frame came
    /// in and which went out.
    #[must_use]
    pub fn frames(&self, nodes: &[&str]) -> Self {
        let of = |rows: &[Row]| {
            let rows = rows.iter().filter_map(|row| {
                if !nodes.contains(&row.element.as_str()) {
                    return Some(row.clone());
                }
                // The tuple as the frame had it on the wire.
                let tuple = match row.hook.as_str() {
                    "ingress" => &row.before,
                    "egress" => &row.after,
                    _ => return None,
                };
                let Row { element, hook, port, vid, .. } = row.clone();
                let (before, after) = (tuple.clone(), tuple.clone());
                Some(Row { element, hook, port, vid, before, after, ..Row::default() })
            });
            rows.collect()
        };
        Self { forward: of(&self.forward), reply: of(&self.reply) }
    }

    /// Whether another run's hops are these, as a check of that run.
    #[must_use]
    pub fn check(&self, on: &str, other: &Self) -> Check {
        let rows = |c: &Self| [&c.forward[..], &c.reply[..]].concat();
        let (here, there) = (rows(self), rows(other));
        let what = format!("hops = {on}");
        let differs = here.iter().zip(&there).find(|(here, there)| here != there);
        let (seen, expected) = match differs {
            Some((here, there)) => (format!("{there:?}"), format!("{here:?}")),
            None => (format!("{} hops", there.len()), format!("{} hops", here.len())),
        };
        Check::new(&what, here == there && self == other, seen, &expected)
    }
}

/// What one element has counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ElementReport {
    /// The node's name, or `vpc`.
    pub name: String,
    /// Its counts.
    pub ledger: LedgerReport,
}

impl Report {
    /// The report of some runs.
    #[must_use]
    pub fn new(runs: &[Run]) -> Self {
        let cases = runs.iter().map(CaseReport::new).collect();
        Self { version: VERSION, passed: runs.iter().all(Run::passed), cases }
    }

    /// The JSON Schema of a report.
    #[must_use]
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Self)
    }
}

impl CaseReport {
    fn new(run: &Run) -> Self {
        let names = run.names();
        let legend = names.legend().into_iter().map(|(name, meaning)| Name { name, meaning });
        let lab = &run.case.lab;
        let elements = run.recording.ledgers.iter().map(|(id, ledger)| ElementReport {
            name: id.name(lab).to_owned(),
            ledger: ledger.clone(),
        });
        Self {
            scenario: run.case.scenario.clone(),
            profile: run.case.profile,
            variant: run.case.variant.clone(),
            title: run.case.title.clone(),
            lab: run.case.lab_name.clone(),
            datapath: run.datapath.to_owned(),
            passed: run.passed(),
            verdict: run.verdict,
            expected: run.case.expect.clone(),
            denial: run.denial.clone(),
            client: run.answer.clone(),
            checks: run.checks.clone(),
            legend: legend.collect(),
            journeys: run
                .journeys()
                .map(|(flow, leg, j)| JourneyReport::new(&names, flow, leg, j))
                .collect(),
            comparison: run.comparison(),
            elements: elements.collect(),
        }
    }
}

impl JourneyReport {
    fn new(names: &Names<'_>, flow: &Flow, leg: Leg, journey: &Journey) -> Self {
        Self {
            leg,
            payload: journey.first().map_or(0, |hop| hop.payload_len),
            path: path(names, journey),
            rows: rows(names, flow, journey, &Symbols::none()),
        }
    }
}
