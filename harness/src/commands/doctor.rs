//! `doctor`: what is missing, what was changed, and what to do about it.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use crate::doctor::{examine, text};
use crate::journey::Style;

/// The exit status where nothing could be examined.
const COULD_NOT_RUN: u8 = 2;

/// Examine what Trunkline needs: rights, kernel, programs, and every veth of the labs that are up.
///
/// The exit status is 0 if no check failed, 1 if one did, 2 if nothing could be examined.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Names of labs; by default all that are up.
    #[arg(value_name = "LAB-NAME")]
    labs: Vec<String>,
    /// Repair what can be repaired: put a lab's links back as it made them, remove what is left of
    /// dead labs.
    #[arg(long)]
    fix: bool,
    /// Print a report for machines, of the form in docs/schema/doctor.json.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Runs the command.
    ///
    /// # Errors
    /// Where the report cannot be printed.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let report = match examine(&self.labs, self.fix) {
            Ok(report) => report,
            Err(error) => {
                writeln!(std::io::stderr(), "trunkline: {error:#}")?;
                return Ok(ExitCode::from(COULD_NOT_RUN));
            }
        };
        let text = if self.json {
            format!("{}\n", serde_json::to_string_pretty(&report)?)
        } else {
            text(&report, Style::of_stdout())
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
