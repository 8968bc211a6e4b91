//! The report of a replay; its schema is committed as `docs/schema/outcomes.json`.

use std::collections::BTreeMap;

use datapath::counters::LedgerReport;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the report's form; a change that a reader could stumble over raises it.
pub(super) const VERSION: u32 = 1;

/// What became of the frames of a replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outcomes {
    /// Version of this form: 1.
    pub version: u32,
    /// Frames fed, by input port; every input port of the lab is listed.
    pub frames_in: BTreeMap<String, u64>,
    /// Frames that left the data link, ARP included, by outer port; every outer port of the lab
    /// is listed.
    pub frames_out: BTreeMap<String, u64>,
    /// What every element counted, by its name: the nodes' and `vpc`.
    pub elements: BTreeMap<String, LedgerReport>,
    /// Frames lost in full queues between elements.
    pub link_lost: u64,
    /// How long the lab ran, in seconds of virtual time.
    pub until: f64,
}

impl Outcomes {
    /// The names of the elements whose frames do not add up; none, if the code is right.
    #[must_use]
    pub fn unbalanced(&self) -> Vec<&str> {
        let unbalanced = self.elements.iter().filter(|(_, ledger)| !ledger.balanced);
        unbalanced.map(|(name, _)| name.as_str()).collect()
    }
}

/// The JSON Schema of [`Outcomes`].
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Outcomes)
}
