//! `bench`: how fast the datapath forwards.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::NO;
use crate::bench::compare::{Plan, Progress};
use crate::bench::forwarder::Row;
use crate::bench::frames::Flows;
use crate::bench::generator::Input;
use crate::bench::latency::{self, Way};
use crate::bench::peer::tools;
use crate::bench::rehearsal::WrongFrame;
use crate::bench::report::Report;

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
    Compare(Compare),
}

/// One node with its whole pipeline against a bare AF_XDP forwarder on the same veths: 64-byte
/// UDP from a pod to a ClusterIP, 1,000 flows, one core each for the load and the forwarder.
///
/// Every round measures both, under two inputs: `skb`, socket buffers as a pod's stack sends, and
/// `live`, XDP frames, of which more can be offered than any forwarder takes. It is the shortest
/// `bench compare`.
#[derive(Debug, Args)]
struct Smoke {
    #[command(flatten)]
    rounds: Rounds,
    /// The least ratio of node to reference that passes, by the median, for every input.
    #[arg(long, value_name = "RATIO")]
    expect: Option<f64>,
}

/// One node with its whole pipeline beside other forwarders on the same veths, one after the other
/// in every round: the same load, each frame checked where it arrives.
///
/// The node's rate is told as a multiple of each other's in the same round. Forwarders that are not
/// installed are left out and named, with the reason.
#[derive(Debug, Args)]
#[command(after_help = rows())]
struct Compare {
    #[command(flatten)]
    rounds: Rounds,
    /// What to measure beside the node; everything where it is not given.
    #[arg(long, value_name = "ROW,...", value_delimiter = ',', value_parser = row)]
    only: Vec<Row>,
    /// How the load comes in.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["skb", "live"])]
    input: Vec<Input>,
    /// Flows of the load, each established both ways before; rounded up to what client ports and
    /// service ports make.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    flows: u32,
    /// The least that the node's rate has to be of a row's, by the median, under every input. With
    /// --latency: the most that the time through `node` or `node-adaptive` may be of the kernel's.
    #[arg(long, value_name = "ROW=RATIO", value_parser = expectation)]
    expect: Vec<(String, f64)>,
    /// Measure how long a request and its answer take, one at a time, through the node, spinning
    /// and adaptive, and through a kernel that forwards.
    #[arg(long, conflicts_with_all = ["only", "input", "flows", "install"])]
    latency: bool,
    /// First install, by apt-get, the packages of what is to be measured.
    #[arg(long)]
    install: bool,
}

/// How long to measure, and where the report goes.
#[derive(Debug, Args)]
struct Rounds {
    /// Rounds; each measures everything.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// How long each forwarder is measured in a round.
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Also write a report for machines, of the form in docs/schema/bench.json.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let fits = (0.01..=600.0).contains(&seconds);
    fits.then(|| Duration::from_secs_f64(seconds)).ok_or_else(|| "not 0.01 to 600".to_owned())
}

fn row(text: &str) -> Result<Row, String> {
    Row::named(text).ok_or_else(|| "no such row; `bench compare --help` lists them".to_owned())
}

fn expectation(text: &str) -> Result<(String, f64), String> {
    let (name, ratio) = text.split_once('=').ok_or("not ROW=RATIO")?;
    let ratio: f64 = ratio.parse().map_err(|_| "the ratio is not a number".to_owned())?;
    if !(ratio.is_finite() && ratio > 0.0) {
        return Err("the ratio is not above 0".to_owned());
    }
    Ok((name.to_owned(), ratio))
}

/// The rows, for the help.
fn rows() -> String {
    let each = Row::all().map(|row| format!("  {:<26}{}", row.to_string(), row.about()));
    format!("Rows:\n{}", each.collect::<Vec<_>>().join("\n"))
}

impl Bench {
    /// Runs the command.
    ///
    /// # Errors
    /// It could not be measured.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let result = match &self.what {
            What::Smoke(smoke) => smoke.run(),
            What::Compare(compare) => compare.run(),
        };
        match result {
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
        let plan = Plan {
            rows: vec![Row::NODE, Row::L2FWD],
            inputs: vec![Input::Skb, Input::Live],
            flows: Flows::at_least(1_000),
            rounds: self.rounds.rounds,
            time: self.rounds.seconds,
            expected: self.expect.map(|ratio| (Row::L2FWD, ratio)).into_iter().collect(),
        };
        finish(&measure(&plan)?, self.rounds.json.as_deref())
    }
}

impl Compare {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let report = if self.latency { self.latency()? } else { self.rates()? };
        finish(&report, self.rounds.json.as_deref())
    }

    fn rates(&self) -> anyhow::Result<Report> {
        let named = |row: &Row| self.only.is_empty() || self.only.contains(row);
        let rows: Vec<_> = Row::all().filter(|row| *row == Row::NODE || named(row)).collect();
        let mut expected = Vec::new();
        for (name, ratio) in &self.expect {
            let row = rows.iter().find(|row| **row != Row::NODE && row.to_string() == *name);
            let row = row.with_context(|| format!("--expect {name}: no row that is measured"))?;
            expected.push((*row, *ratio));
        }
        if self.install {
            tools::install(&rows)?;
        }
        let (mut inputs, rounds) = (self.input.clone(), self.rounds.rounds);
        inputs.sort_unstable();
        inputs.dedup();
        let (flows, time) = (Flows::at_least(self.flows), self.rounds.seconds);
        measure(&Plan { rows, inputs, flows, rounds, time, expected })
    }

    fn latency(&self) -> anyhow::Result<Report> {
        let mut expected = Vec::new();
        for (name, ratio) in &self.expect {
            let way = Way::ALL.into_iter().find(|way| *way != Way::Kernel && way.name() == name);
            expected.push((way.with_context(|| format!("--expect {name}: no such row"))?, *ratio));
        }
        let Rounds { rounds, seconds, .. } = self.rounds;
        let bar = bar(u64::from(rounds) * Way::ALL.len() as u64);
        let report = latency::Plan { rounds, time: seconds, expected }.measure(|way, times| {
            let (name, p50, p99) = (way.name(), times.p50, times.p99);
            bar.suspend(|| eprintln!("{name:<24} p50 {p50:.1} us, p99 {p99:.1} us"));
            bar.inc(1);
        });
        bar.finish_and_clear();
        report
    }
}

/// Measures, showing how far it is.
fn measure(plan: &Plan) -> anyhow::Result<Report> {
    let bar = bar(0);
    let report = plan.measure(|progress| match progress {
        Progress::Begun(length) => bar.set_length(length),
        Progress::Measured(round, input, row, window) => {
            let (input, mpps) = (input.name(), window.mpps);
            let name = row.to_string();
            bar.suspend(|| eprintln!("{:>4} {input:<5} {name:<25} {mpps:.3} Mpps", round + 1));
            bar.inc(1);
        }
        Progress::Absent(absent) => {
            bar.suspend(|| eprintln!("without {}: {}", absent.name, absent.reason));
        }
    });
    bar.finish_and_clear();
    report
}

fn bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Prints and writes a report. One that was interrupted is no answer.
fn finish(report: &Report, json: Option<&Path>) -> anyhow::Result<ExitCode> {
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(report)?;
        fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))?;
    }
    std::io::stdout().write_all(report.text().as_bytes())?;
    if report.interrupted {
        bail!("interrupted");
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { NO })
}
