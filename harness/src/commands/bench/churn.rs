//! `bench churn`.

use std::process::ExitCode;

use clap::Args;

use super::args::{GoalArgs, LoadArgs, OutputArgs, RoundsArgs, share};
use crate::bench::churn::{Plan, churn};

/// Other versions of the lab put in place under load, as `trunkline apply` does it: what frames are
/// lost by that (none may be), and how long the forwarder stands still.
///
/// Every round has a time with swaps and one without. A lab with a mistake and one with other machines
/// are tried, which have to be refused; the latter is also handed to the forwarder under load, which
/// has to refuse it and to lose and change nothing by that.
#[derive(Debug, Args)]
pub(super) struct Churn {
    #[command(flatten)]
    load: LoadArgs,
    /// Swaps a second.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    swaps: u32,
    /// Pods of the lab beside those of the load, fifty to a node.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(3..=2_000))]
    others: u16,
    /// Services of those pods. Each swap changes all endpoints of each.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    other_services: u16,
    /// Frames a second. Without it, --share of the highest rate without a loss, which is searched
    /// for.
    #[arg(long, value_parser = clap::value_parser!(u32).range(100..))]
    rate: Option<u32>,
    /// See --rate.
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    share: f64,
    #[command(flatten)]
    goal: GoalArgs,
    #[command(flatten)]
    how_long: RoundsArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Churn {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let plan = Plan {
            rounds: self.how_long.rounds,
            time: self.how_long.seconds,
            swaps: f64::from(self.swaps),
            others: self.others,
            services: self.other_services,
            rate: self.rate.map(f64::from),
            share: self.share,
            goal: self.goal.goal(0.0)?,
        };
        self.output.answer(&churn(&self.load.load(), &plan)?)
    }
}
