//! `bench`: how fast the datapath forwards.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::NO;
use crate::bench::bed::Shape;
use crate::bench::forwarder::Kind;
use crate::bench::rehearsal::WrongFrame;
use crate::bench::smoke::{Plan, smoke};
use crate::bench::up;
use crate::live::worker::Forwarding;

/// Measure how fast the datapath forwards, against a reference taken in the same minute.
///
/// The answer is no where a frame was wrong, the books do not add up or --expect was not reached.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Smoke(Smoke),
    Up(Up),
}

/// How long a lab of many pods takes to come up on AF_XDP and to go, and what it takes of the
/// machine. Nodes, pods and addresses are made up.
#[derive(Debug, Args)]
struct Up {
    /// Pods, dealt to the nodes in turn.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    pods: u16,
    /// Nodes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: u16,
    /// How often.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[command(flatten)]
    forwarding: Forwarding,
}

impl Up {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let Self { pods, nodes, rounds, forwarding } = *self;
        let plan = up::Plan { pods, nodes, rounds, forwarding };
        let report = up::up(plan, |round| eprintln!("{round}"))?;
        write!(std::io::stdout(), "{report}")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// One node with its whole pipeline against a bare AF_XDP forwarder on the same veths: 64-byte
/// UDP from a pod to a ClusterIP, 1,000 flows, one core each for the load and the forwarder.
///
/// Every round measures both, under two inputs: `skb`, socket buffers as a pod's stack sends, and
/// `live`, XDP frames, of which more can be offered than any forwarder takes.
#[derive(Debug, Args)]
struct Smoke {
    /// Rounds of every input.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// How long each forwarder is measured in a round.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// The least ratio of node to reference that passes, by the median, for every input.
    #[arg(long, value_name = "RATIO")]
    expect: Option<f64>,
    /// Measure both nodes and the VPC with fused links in place of one node, from pod to pod.
    #[arg(long)]
    fused: bool,
    /// Pods beside the client's on its node, each with a port on which nothing arrives.
    #[arg(long, value_name = "N", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u16).range(..=200))]
    idle: u16,
    /// Also write a report for machines, of the form in docs/schema/bench.json.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let fits = (0.01..=600.0).contains(&seconds);
    fits.then(|| Duration::from_secs_f64(seconds)).ok_or_else(|| "not 0.01 to 600".to_owned())
}

impl Bench {
    /// Runs the command.
    ///
    /// # Errors
    /// It could not be measured.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let run = match &self.what {
            What::Smoke(smoke) => smoke.run(),
            What::Up(up) => up.run(),
        };
        match run {
            Err(error) if error.is::<WrongFrame>() => {
                eprintln!("trunkline: {error:#}");
                Ok(NO)
            }
            result => result,
        }
    }
}

impl Smoke {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let shape = Shape { fused: self.fused, idle: self.idle };
        let plan = Plan { rounds: self.rounds, time: self.seconds, expected: self.expect, shape };
        let report = smoke(plan, |input, round| {
            let (l2fwd, node) = (round.l2fwd.mpps, round.node.mpps);
            let (name, ratio) = (input.name(), round.ratio);
            let measured = if shape.fused { Kind::Fused } else { Kind::Node }.name();
            eprintln!(
                "{name:<5} l2fwd {l2fwd:.3} Mpps, {measured} {node:.3} Mpps, ratio {ratio:.3}"
            );
        })?;
        if let Some(file) = &self.json {
            let text = serde_json::to_string_pretty(&report)?;
            fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))?;
        }
        std::io::stdout().write_all(report.text().as_bytes())?;
        Ok(if report.passed { ExitCode::SUCCESS } else { NO })
    }
}
