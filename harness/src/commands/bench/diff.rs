//! `bench diff`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::args::share;
use crate::bench::diff::diff;
use crate::bench::report::{Report, VERSION};
use crate::commands::NO;

/// Two reports that a measurement has written with --json: for each figure whether the second is
/// faster, slower, or no difference is shown, by the rounds of both.
///
/// Figures with a reference are compared by their ratios to it, others only where the machine was
/// as fast both times. Reports of other loads or machines are refused. Four rounds of each are the
/// least that can show a difference.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The first report.
    first: PathBuf,
    /// The second.
    second: PathBuf,
    /// How much slower, as a share, a figure may be; beyond that the answer is no.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    threshold: f64,
}

impl Diff {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let diff = diff(&read(&self.first)?, &read(&self.second)?, self.threshold)?;
        std::io::stdout().write_all(diff.text().as_bytes())?;
        Ok(if diff.passes() { ExitCode::SUCCESS } else { NO })
    }
}

fn read(file: &Path) -> anyhow::Result<Report> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("read {name}"))?;
    let document: Value =
        serde_json::from_str(&text).with_context(|| format!("{name} is no JSON"))?;
    let version = document.get("version").and_then(Value::as_u64);
    if let Some(version) = version.filter(|version| *version != u64::from(VERSION)) {
        anyhow::bail!("{name} is a report of form {version}; this command reads {VERSION}");
    }
    serde_json::from_value(document).with_context(|| format!("{name} is no report of a bench"))
}
