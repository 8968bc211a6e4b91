//! `doctor`: what is missing, what was changed, and what to do about it.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::NO;
use crate::doctor::{examine, text, tune};
use crate::journey::Style;

/// Examine what Trunkline needs: rights, kernel, programs, and every veth of the labs that are up.
///
/// The answer is no where a check failed.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Names of labs; by default all that are up.
    #[arg(value_name = "LAB-NAME")]
    labs: Vec<String>,
    /// Repair what can be repaired: put a lab's links back as it made them, remove what is left of
    /// dead labs.
    #[arg(long)]
    fix: bool,
    /// Place a lab's work: the forwarder's thread on a processor of its own, with a larger weight,
    /// and what pods and wires receive on the others. Nothing else is examined or changed. What it
    /// changes goes with the lab, or by `--untune`.
    #[arg(long, conflicts_with_all = ["fix", "untune"])]
    tune: bool,
    /// Put back what `--tune` has changed.
    #[arg(long, conflicts_with = "fix")]
    untune: bool,
    /// Print a report for machines, of the form in docs/schema/doctor.json.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Runs the command.
    ///
    /// # Errors
    /// Nothing could be examined, or the report cannot be printed.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let report = if self.tune || self.untune {
            tune(&self.labs, self.untune)?
        } else {
            examine(&self.labs, self.fix)?
        };
        let text = if self.json {
            format!("{}\n", serde_json::to_string_pretty(&report)?)
        } else {
            text(&report, Style::of_stdout())
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(if report.passed { ExitCode::SUCCESS } else { NO })
    }
}
