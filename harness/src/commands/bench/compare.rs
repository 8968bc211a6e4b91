//! `bench compare`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args, ValueEnum};

use super::args::{OutputArgs, RoundsArgs};
use crate::bench::compare::{Expected, Plan, compare};
use crate::bench::forwarder::Row;
use crate::bench::generator::Input;
use crate::bench::load::{Load, Mix};
use crate::bench::peer::tools;

/// Most flows: as many as a lab's limit and a quarter more fit into.
const MOST_FLOWS: i64 = 12_000_000;

/// One node with its whole pipeline beside other forwarders on the same veths, one after the other
/// in every round: the same load, each frame checked where it arrives.
///
/// The node's rate is told as a multiple of each other's in the same round. Forwarders that are not
/// installed are left out and named, with the reason.
#[derive(Debug, Args)]
#[command(after_help = rows())]
pub(super) struct Compare {
    /// What to measure beside the node; everything where it is not given.
    #[arg(long, value_name = "ROW,...", value_delimiter = ',', value_parser = row)]
    only: Vec<Row>,
    /// How the load comes in.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["skb", "live"])]
    input: Vec<Input>,
    /// Sizes of frames in bytes, checksum included, 64 to 8518: one, `imix`, or several with their
    /// shares. With one above 1518 the lab has an MTU of 8500. XDP frames are of one size, up to
    /// 3400.
    #[arg(long, default_value = "64", value_name = "SIZES")]
    size: Mix,
    /// Numbers of flows; each is a load of its own. To a service a pod has 50,000: more flows ask
    /// more services.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1_000])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_FLOWS))]
    flows: Vec<u32>,
    #[command(flatten)]
    how_long: RoundsArgs,
    /// The least that the node's rate has to be of a row's, by the median, or a row's of l2fwd's:
    /// `kernel-nft=2`, `node-fused/l2fwd=0.9`. It is about every load but those that another one
    /// names: `l2fwd@1000000=0.9`, `l2fwd@live=0.93`.
    #[arg(long, value_name = "ROW[/l2fwd][@INPUT][@FLOWS]=RATIO", value_parser = expectation)]
    expect: Vec<Expected>,
    /// First install, by apt-get, the packages of what is to be measured.
    #[arg(long)]
    install: bool,
    #[command(flatten)]
    output: OutputArgs,
}

fn row(text: &str) -> Result<Row, String> {
    Row::named(text).ok_or_else(|| "no such row; `bench compare --help` lists them".to_owned())
}

fn expectation(text: &str) -> Result<Expected, String> {
    let (of, ratio) = text.split_once('=').ok_or("not ROW=RATIO")?;
    let ratio: f64 = ratio.parse().map_err(|_| "the ratio is not a number".to_owned())?;
    if !(ratio.is_finite() && ratio > 0.0) {
        return Err("the ratio is not above 0".to_owned());
    }
    let mut parts = of.split('@');
    let what = parts.next().unwrap_or_default();
    let (row, against) = match what.split_once('/') {
        None => (Row::NODE, row(what)?),
        Some((name, of)) if row(of)? == Row::L2FWD => (row(name)?, Row::L2FWD),
        Some(_) => return Err("a row other than the node is held against l2fwd only".to_owned()),
    };
    let mut expected = Expected { row, against, input: None, flows: None, ratio };
    for part in parts {
        match (part.parse(), Input::from_str(part, false)) {
            (Ok(flows), _) => expected.flows = Some(flows),
            (_, Ok(input)) => expected.input = Some(input),
            _ => return Err(format!("{part}: neither an input nor a number of flows")),
        }
    }
    Ok(expected)
}

/// The rows, for the help.
fn rows() -> String {
    let each = Row::all().map(|row| format!("  {:<26}{}", row.to_string(), row.about()));
    format!("Rows:\n{}", each.collect::<Vec<_>>().join("\n"))
}

impl Compare {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        self.output.answer(&compare(&self.plan()?)?)
    }

    fn plan(&self) -> anyhow::Result<Plan> {
        let named = |row: &Row| self.only.is_empty() || self.only.contains(row);
        let rows: Vec<_> = Row::all().filter(|row| *row == Row::NODE || named(row)).collect();
        let inputs = Input::value_variants().iter().filter(|input| self.input.contains(input));
        let flows: BTreeSet<_> = self.flows.iter().collect();
        let mut loads = Vec::new();
        for input in inputs {
            let load = Load { sizes: self.size.clone(), ..Load::smallest(*input) };
            loads.extend(flows.iter().map(|flows| load.clone().with_flows(**flows)));
        }
        loads.iter().filter(|load| load.input == Input::Live).try_for_each(Load::check_live)?;
        for expected in &self.expect {
            let Expected { row, against, .. } = expected;
            ensure!(row != against, "--expect {row}: held against itself");
            let measured = rows.contains(row) && rows.contains(against);
            ensure!(measured, "--expect {row}/{against}: not measured");
            let offered = loads.iter().any(|load| expected.is_of(load));
            ensure!(offered, "--expect {row}/{against}: no such load is offered");
        }
        if self.install {
            tools::install(&rows)?;
        }
        Ok(Plan {
            rows,
            loads,
            rounds: self.how_long.rounds,
            time: self.how_long.seconds,
            expected: self.expect.clone(),
        })
    }
}
