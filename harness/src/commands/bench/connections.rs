//! `bench cps` and `bench cc`.

use std::process::ExitCode;

use clap::Args;

use super::args::{GoalArgs, OutputArgs, share};
use crate::bench::connections::{CpsPlan, cc, cps, services_for};
use crate::bench::generator::Input;
use crate::bench::load::{Load, Proto};
use crate::bench::talk::Then;

/// The highest rate of new TCP connections through a node, of which no more than some are lost:
/// from pods to ClusterIPs, with the whole handshake, the bench playing clients and servers.
///
/// Searched for as `ndr` does. Each trial has a node with empty tables.
#[derive(Debug, Args)]
pub(super) struct Cps {
    /// The share of connections that may be lost in a trial.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    loss: f64,
    /// Connections end in order as well, the client first, and count once the server knows.
    #[arg(long)]
    fin: bool,
    /// Pods that connect.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=128))]
    pods: u16,
    /// Most connections of a trial, which a node has room for.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    connections: u32,
    #[command(flatten)]
    goal: GoalArgs,
    /// Searches.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// The least rate that passes, by the median.
    #[arg(long, value_name = "RATE")]
    expect: Option<f64>,
    #[command(flatten)]
    output: OutputArgs,
}

/// TCP connections held by a node: so many are begun, and when all are there each has to answer
/// once more. Also what memory one takes.
#[derive(Debug, Args)]
pub(super) struct Cc {
    /// Connections.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    connections: u32,
    /// Pods that connect.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=128))]
    pods: u16,
    /// How often, each time with another node.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    #[command(flatten)]
    output: OutputArgs,
}

/// What connections are a load of.
fn load(connections: u32, pods: u16) -> Load {
    Load {
        flows: connections,
        pods,
        services: services_for(connections, pods),
        proto: Proto::Tcp,
        ..Load::smallest(Input::Skb)
    }
}

impl Cps {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let plan = CpsPlan {
            rounds: self.rounds,
            goal: self.goal.goal(self.loss)?,
            then: if self.fin { Then::End } else { Then::Stay },
            expected: self.expect,
        };
        self.output.answer(&cps(&load(self.connections, self.pods), &plan)?)
    }
}

impl Cc {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        self.output.answer(&cc(&load(self.connections, self.pods), self.rounds)?)
    }
}
