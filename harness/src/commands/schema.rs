//! `trunkline schema`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use schemars::{Schema, schema_for};

use super::Versioned;
use crate::case;
use crate::live::protocol::Ledger;
use crate::oracle::Exception;
use crate::replay;
use crate::scenario::{Report, file::File};
use crate::show::Table;

/// Print the JSON Schema of a form that trunkline reads or writes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The form.
    #[arg(value_enum, default_value_t)]
    form: Form,
}

/// What there is a schema of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// The lab file.
    #[default]
    Lab,
    /// The scenario file.
    Scenario,
    /// The case.yaml of a case.
    Case,
    /// The exceptions.yaml beside cases.
    Exceptions,
    /// What `run --json` prints.
    Run,
    /// The outcomes.json of `replay`.
    Outcomes,
    /// What `ledger --json` prints.
    Ledger,
    /// What `show -o json` prints.
    Show,
    /// What `bench` writes with --json.
    Bench,
    /// What `doctor --json` prints.
    Doctor,
}

impl Form {
    /// Its JSON Schema. `docs/schema` has a copy of each.
    #[must_use]
    pub fn schema(self) -> Schema {
        match self {
            Self::Lab => datapath::lab::schema(),
            Self::Scenario => schema_for!(File),
            Self::Case => schema_for!(case::file::File),
            Self::Exceptions => schema_for!(Vec<Exception>),
            Self::Run => Report::schema(),
            Self::Outcomes => replay::schema(),
            Self::Ledger => schema_for!(Versioned<Ledger>),
            Self::Show => schema_for!(Versioned<Table>),
            Self::Doctor => crate::doctor::Report::schema(),
            Self::Bench => schema_for!(crate::bench::report::Report),
        }
    }
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// Standard output takes no more.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let text = serde_json::to_string_pretty(&self.form.schema())?;
        writeln!(std::io::stdout(), "{text}")?;
        Ok(ExitCode::SUCCESS)
    }
}
