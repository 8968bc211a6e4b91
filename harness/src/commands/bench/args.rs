//! What several subcommands are told, and how all of them answer.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::NO;
use crate::bench::generator::Input;
use crate::bench::load::{Load, Mix, Proto};
use crate::bench::report::Report;
use crate::bench::search::Goal;

/// What is offered.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// Sizes of frames in bytes, checksum included, 64 to 8518: one, `imix`, or several with their
    /// shares, as 64:7,570:4,1518:1. With one above 1518 the lab has an MTU of 8500.
    #[arg(long, default_value = "64", value_name = "SIZES")]
    size: Mix,
    /// Flows, all of them established both ways before anything is measured.
    #[arg(long, default_value_t = 1_000)]
    flows: u32,
    /// Pods that send, each with a member ENI and a VID of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=128))]
    pods: u16,
    /// Services that are asked, each with an endpoint of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    services: u16,
    /// The transport.
    #[arg(long, value_enum, default_value_t = Proto::Udp)]
    proto: Proto,
    /// Of the order in which flows have their turns.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How the load comes in.
    #[arg(long, value_enum, default_value_t = Input::Skb)]
    input: Input,
}

impl LoadArgs {
    pub(super) fn load(&self) -> Load {
        Load {
            sizes: self.size.clone(),
            flows: self.flows,
            pods: self.pods,
            services: self.services,
            proto: self.proto,
            seed: self.seed,
            input: self.input,
        }
    }
}

/// How often and for how long.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct RoundsArgs {
    /// Rounds; each measures everything.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) rounds: u32,
    /// How long each measurement of a round takes, in seconds.
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub(super) seconds: Duration,
}

/// How a rate is searched for.
#[derive(Debug, Args)]
pub(super) struct GoalArgs {
    /// How close the rate that held and one that did not have to be, as a share of the latter.
    #[arg(long, default_value_t = 0.02, value_parser = share)]
    width: f64,
    /// Length of the first trials, in seconds.
    #[arg(long, default_value = "0.1", value_parser = seconds)]
    initial: Duration,
    /// Length of the last trials, in seconds.
    #[arg(long, default_value = "1", value_parser = seconds)]
    last: Duration,
    /// Trials of the last length in which the rate has to hold.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    finals: u32,
    /// The share of these in which it may not hold; 0 is RFC 2544's, 0.5 MLRsearch's.
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    exceed: f64,
}

impl GoalArgs {
    /// With a share of what is offered that may be lost.
    pub(super) fn goal(&self, loss: f64) -> anyhow::Result<Goal> {
        if self.initial > self.last {
            bail!("--initial is longer than --last");
        }
        let (initial, last) = (self.initial.as_secs_f64(), self.last.as_secs_f64());
        let phases = if initial < last { 3 } else { 1 };
        let Self { width, finals, exceed, .. } = *self;
        Ok(Goal { loss, width, initial, last, phases, finals, exceed })
    }
}

/// Where the report goes beside standard output.
#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// Also write a report for machines, of the form in docs/schema/bench.json.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write a report for browsers, which needs nothing beside itself.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl OutputArgs {
    /// Writes the report, and says what the answer is.
    pub(super) fn answer(&self, report: &Report) -> anyhow::Result<ExitCode> {
        if let Some(file) = &self.json {
            write(file, &(serde_json::to_string_pretty(report)? + "\n"))?;
        }
        if let Some(file) = &self.html {
            write(file, &report.html())?;
        }
        std::io::stdout().write_all(report.text().as_bytes())?;
        if report.interrupted {
            bail!("interrupted");
        }
        Ok(if report.passed { ExitCode::SUCCESS } else { NO })
    }
}

/// Writes a file.
pub(super) fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// A number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let fits = (0.01..=600.0).contains(&seconds);
    fits.then(|| Duration::from_secs_f64(seconds)).ok_or_else(|| "not 0.01 to 600".to_owned())
}

/// `NAME=NUMBER`: one of the names there are, and what is expected of it; what is said where the text
/// has another `form`, or where the rest is `no_number`.
pub(super) fn named<T: ValueEnum>(
    text: &str,
    form: &str,
    no_number: &str,
) -> Result<(T, f64), String> {
    let (name, number) = text.split_once('=').ok_or(form)?;
    let name = T::from_str(name, false)?;
    Ok((name, number.parse().map_err(|_| no_number.to_owned())?))
}

/// A share, from 0 to below 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (0.0..1.0).contains(&share).then_some(share).ok_or_else(|| "not from 0 to below 1".to_owned())
}
