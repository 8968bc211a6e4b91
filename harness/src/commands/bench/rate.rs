//! `bench ndr` and `bench pdr`.

use std::process::ExitCode;

use clap::Args;

use super::args::{GoalArgs, LoadArgs, OutputArgs, share};
use crate::bench::rate::{Plan, rate};
use crate::bench::report::Mode;

/// The highest rate that a node forwards without a loss (RFC 2544), beside that of a bare AF_XDP
/// forwarder on the same veths.
///
/// Trials grow longer while the bounds come closer, as in MLRsearch; the rate that is told has held
/// in several trials of the last length. The load is offered by the clock, whatever becomes of it.
#[derive(Debug, Args)]
pub(super) struct Ndr {
    #[command(flatten)]
    search: SearchArgs,
}

/// The highest rate at which a node loses no more than a small share, beside that of a bare AF_XDP
/// forwarder on the same veths. Otherwise as `ndr`.
#[derive(Debug, Args)]
pub(super) struct Pdr {
    /// The share of what is offered that may be lost in a trial.
    #[arg(long, default_value_t = 0.005, value_parser = share)]
    loss: f64,
    #[command(flatten)]
    search: SearchArgs,
}

#[derive(Debug, Args)]
struct SearchArgs {
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    goal: GoalArgs,
    /// Searches of each forwarder.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// The least ratio of node to reference that passes, by the median.
    #[arg(long, value_name = "RATIO")]
    expect: Option<f64>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Ndr {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        self.search.run(Mode::Ndr, 0.0)
    }
}

impl Pdr {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        self.search.run(Mode::Pdr, self.loss)
    }
}

impl SearchArgs {
    fn run(&self, mode: Mode, loss: f64) -> anyhow::Result<ExitCode> {
        let goal = self.goal.goal(loss)?;
        let plan = Plan { mode, rounds: self.rounds, goal, expected: self.expect };
        self.output.answer(&rate(&self.load.load(), &plan)?)
    }
}
