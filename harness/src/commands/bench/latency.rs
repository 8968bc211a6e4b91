//! `bench latency`.

use std::process::ExitCode;

use clap::Args;

use super::args::{GoalArgs, LoadArgs, OutputArgs, RoundsArgs};
use crate::bench::latency::{Plan, latency};

/// How long frames are on their way through a node, one way, beside a bare AF_XDP forwarder on the
/// same veths: idle, and under shares of the highest rate without a loss.
///
/// A frame carries the time at which it was written; the program that counts it at the other end
/// reads the same clock. Nothing is left out: every frame of the load is timed.
#[derive(Debug, Args)]
pub(super) struct Latency {
    #[command(flatten)]
    load: LoadArgs,
    /// Shares of the highest rate without a loss, in percent, beside idle.
    #[arg(long, default_value = "10,50,90", value_delimiter = ',', value_name = "PERCENT",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    loads: Vec<u32>,
    /// That rate, in frames a second; without it, it is searched for.
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(100..))]
    ndr: Option<u32>,
    #[command(flatten)]
    goal: GoalArgs,
    #[command(flatten)]
    how_long: RoundsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Latency {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let plan = Plan {
            rounds: self.how_long.rounds,
            time: self.how_long.seconds,
            loads: self.loads.clone(),
            ndr: self.ndr.map(f64::from),
            goal: self.goal.goal(0.0)?,
        };
        self.output.answer(&latency(&self.load.load(), &plan)?)
    }
}
