//! `bench smoke`.

use std::process::ExitCode;

use clap::Args;

use super::args::{OutputArgs, RoundsArgs};
use crate::bench::smoke::{Plan, smoke};

/// One node with its whole pipeline against a bare AF_XDP forwarder on the same veths: 64-byte
/// UDP from a pod to a ClusterIP, 1,000 flows, one core each for the load and the forwarder.
///
/// Every round measures both, under two inputs: `skb`, socket buffers as a pod's stack sends, and
/// `live`, XDP frames, of which more can be offered than any forwarder takes.
#[derive(Debug, Args)]
pub(super) struct Smoke {
    #[command(flatten)]
    how_long: RoundsArgs,
    /// The least ratio of node to reference that passes, by the median, for every input.
    #[arg(long, value_name = "RATIO")]
    expect: Option<f64>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Smoke {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let plan = Plan {
            rounds: self.how_long.rounds,
            time: self.how_long.seconds,
            expected: self.expect,
        };
        self.output.answer(&smoke(plan)?)
    }
}
