//! `bench idle`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::args::{OutputArgs, seconds};
use crate::bench::idle::{Plan, idle};

/// What ports on which nothing arrives cost a busy one: the rate of a node with many idle pods beside
/// that of a node without them, under `skb` and `live` input, and how long a turn of the forwarder
/// takes in which nothing has arrived.
#[derive(Debug, Args)]
pub(super) struct Idle {
    /// Pods on which nothing arrives.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=250))]
    ports: u16,
    /// Rounds; each measures both nodes.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// How long each is measured in a round, under each input.
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// The least ratio of the two rates that passes, by the median, for every input.
    #[arg(long, value_name = "RATIO")]
    expect: Option<f64>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Idle {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let Self { ports, rounds, seconds: time, expect: expected, .. } = *self;
        self.output.answer(&idle(&Plan { idle: ports, rounds, time, expected })?)
    }
}
