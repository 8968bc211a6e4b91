//! `lint`: what lab files say without meaning it, probably.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use datapath::lab;

use super::NO;

/// Warn of what is legal in lab files, and loses packets or hides clients without a word.
///
/// The answer is no where there is a warning.
#[derive(Debug, Args)]
pub struct Lint {
    /// Lab files.
    #[arg(required = true)]
    labs: Vec<PathBuf>,
}

impl Lint {
    /// Runs the command.
    ///
    /// # Errors
    /// A file cannot be read or is no lab; every mistake in it is told with its place.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let mut out = std::io::stdout().lock();
        let mut clean = true;
        for file in &self.labs {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(file).with_context(|| format!("read {name}"))?;
            let (_, lints) = lab::load_linted(&text, &name)?;
            if !lints.problems.is_empty() {
                clean = false;
                writeln!(out, "{lints}")?;
            }
        }
        Ok(if clean { ExitCode::SUCCESS } else { NO })
    }
}
