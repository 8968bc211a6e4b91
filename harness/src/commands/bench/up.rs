//! `bench up`.

use std::process::ExitCode;

use clap::Args;

use super::args::{OutputArgs, named};
use crate::bench::up::{Plan, up};
use crate::live::topology::WiredOrFused;

/// How long a lab takes from its file to the moment at which all its ports forward, and to be gone
/// again: by wires and with fused links, in turn.
///
/// It is what `trunkline up` and `down` do, daemon included. How many sockets it opens and how much
/// memory that takes stands beside.
#[derive(Debug, Args)]
pub(super) struct Up {
    /// Pods of the lab.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    pods: u16,
    /// Its nodes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
    /// Rounds; each brings the lab up and down in both ways.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// The most seconds until it is up, by the median.
    #[arg(long, value_name = "LINKS=SECONDS", value_parser = expectation)]
    expect: Vec<(WiredOrFused, f64)>,
    #[command(flatten)]
    output: OutputArgs,
}

fn expectation(text: &str) -> Result<(WiredOrFused, f64), String> {
    named(text, "not LINKS=SECONDS", "not a number of seconds")
}

impl Up {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let Self { pods, nodes, rounds, .. } = *self;
        self.output.answer(&up(&Plan { rounds, pods, nodes, expected: self.expect.clone() })?)
    }
}
