//! `bench answers`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::args::{OutputArgs, RoundsArgs, named};
use crate::bench::answers::{Plan, Way, answers};

/// How long a request waits for its answer, one at a time: from a UDP socket of a pod through its
/// node to one of another pod there and back, beside a kernel that forwards between the same veths.
///
/// The node spins, or sleeps when idle; client and server share the core that is not the node's. The
/// kernel's client and server have a core each, as on two machines; how long it takes where all of
/// them share one is told beside.
#[derive(Debug, Args)]
pub(super) struct Answers {
    #[command(flatten)]
    how_long: RoundsArgs,
    /// How long the client rests before each request, in microseconds. Without a rest the adaptive
    /// node never falls asleep.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pause: u32,
    /// The most that the median of a way may be of the kernel's.
    #[arg(long, value_name = "WAY=RATIO", value_parser = expectation)]
    expect: Vec<(Way, f64)>,
    #[command(flatten)]
    output: OutputArgs,
}

fn expectation(text: &str) -> Result<(Way, f64), String> {
    let (way, ratio): (Way, f64) = named(text, "not WAY=RATIO", "the ratio is not a number")?;
    if way == Way::Kernel {
        return Err("the kernel is what ways are held against".to_owned());
    }
    Ok((way, ratio))
}

impl Answers {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let RoundsArgs { rounds, seconds: time } = self.how_long;
        let pause = Duration::from_micros(self.pause.into());
        let plan = Plan { rounds, time, pause, expected: self.expect.clone() };
        self.output.answer(&answers(&plan)?)
    }
}
