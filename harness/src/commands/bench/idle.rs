//! `bench idle`.

use std::process::ExitCode;

use clap::Args;

use super::args::{OutputArgs, RoundsArgs};
use crate::bench::idle::{Plan, idle};

/// What ports on which nothing arrives cost a busy one: the rate of a node with many idle pods beside
/// that of a node without them, under `skb` and `live` input, and how long a turn of the forwarder
/// takes in which nothing has arrived.
#[derive(Debug, Args)]
pub(super) struct Idle {
    /// Pods on which nothing arrives.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=250))]
    ports: u16,
    #[command(flatten)]
    how_long: RoundsArgs,
    /// The least ratio of the two rates that passes, by the median, for every input.
    #[arg(long, value_name = "RATIO")]
    expect: Option<f64>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Idle {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let RoundsArgs { rounds, seconds: time } = self.how_long;
        let plan = Plan { idle: self.ports, rounds, time, expected: self.expect };
        self.output.answer(&idle(&plan)?)
    }
}
