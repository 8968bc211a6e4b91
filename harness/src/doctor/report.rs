//! What an examination found. `trunkline doctor --json` prints it; names and types of the fields
//! are a committed schema, docs/schema/doctor.json.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of the report's form. Grows when a field changes its meaning or goes.
pub const VERSION: u32 = 1;

/// The report of `trunkline doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "trunkline doctor --json")]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// Whether no check failed.
    pub passed: bool,
    /// The checks, by what they are about.
    pub families: Vec<Family>,
}

/// Checks about the same thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Family {
    /// What they are about.
    pub about: About,
    /// The lab, where they are about one.
    pub lab: Option<String>,
    /// The checks, always in the same order.
    pub checks: Vec<Check>,
}

/// What checks are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// What this process may do.
    Privileges,
    /// What the kernel can do.
    Kernel,
    /// What is installed, and where labs live.
    Host,
    /// A lab that is up.
    Lab,
    /// Where the work of a lab that is up is done.
    Tuning,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Check {
    /// Its name, which never changes.
    pub id: String,
    /// What came of it: the worst of its findings.
    pub status: Status,
    /// What is there.
    pub found: String,
    /// What is wrong; empty where all is well.
    pub findings: Vec<Finding>,
}

/// What came of a check, from good to bad.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// All is well.
    Ok,
    /// It was wrong, and `--fix` has repaired it; or `--tune` has changed it.
    Fixed,
    /// It could not be tried.
    Unknown,
    /// Trunkline works, but not as well or not as told.
    Warn,
    /// Trunkline, or something in it, does not work.
    Fail,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub status: Status,
    /// The network namespace it is in.
    pub namespace: Option<String>,
    /// The interface there.
    pub interface: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What follows from it.
    pub consequence: String,
    /// What helps.
    pub remedy: Remedy,
}

/// What helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// What `--fix` changes.
    Fix(String),
    /// What `--tune` changes, and `--untune` changes back.
    Tune(String),
    /// The command that somebody has to run.
    Run(String),
}

impl Report {
    /// The report of these families.
    #[must_use]
    pub fn new(families: Vec<Family>) -> Self {
        let mut checks = families.iter().flat_map(|family| &family.checks);
        let passed = checks.all(|check| check.status != Status::Fail);
        Self { version: VERSION, passed, families }
    }

    /// The form of the report.
    #[must_use]
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Self)
    }
}

impl Check {
    /// The check of that name: what is there, and what is wrong with it.
    pub fn new(id: &str, found: impl Into<String>, findings: Vec<Finding>) -> Self {
        let status = findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok);
        Self { id: id.into(), status, found: found.into(), findings }
    }

    /// A check that could not be tried, and why.
    pub fn unknown(id: &str, why: impl Into<String>) -> Self {
        Self { id: id.into(), status: Status::Unknown, found: why.into(), findings: Vec::new() }
    }
}

impl Finding {
    /// Something that keeps Trunkline from working.
    pub fn fail(
        problem: impl Into<String>,
        consequence: impl Into<String>,
        remedy: Remedy,
    ) -> Self {
        Self {
            status: Status::Fail,
            namespace: None,
            interface: None,
            problem: problem.into(),
            consequence: consequence.into(),
            remedy,
        }
    }

    /// Something that Trunkline can live with.
    pub fn warn(
        problem: impl Into<String>,
        consequence: impl Into<String>,
        remedy: Remedy,
    ) -> Self {
        Self { status: Status::Warn, ..Self::fail(problem, consequence, remedy) }
    }

    /// After a repair: fixed, or as bad as before with what went wrong.
    #[must_use]
    pub fn repaired(mut self, outcome: anyhow::Result<()>) -> Self {
        match outcome {
            Ok(()) => self.status = Status::Fixed,
            Err(error) => {
                self.consequence = format!("{}; that failed: {error:#}", self.consequence);
            }
        }
        self
    }
}

impl Remedy {
    /// The command that somebody has to run.
    pub fn run(command: impl Into<String>) -> Self {
        Self::Run(command.into())
    }

    /// What `--fix` changes.
    pub fn fix(change: impl Into<String>) -> Self {
        Self::Fix(change.into())
    }
}
