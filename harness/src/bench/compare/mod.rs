//! `bench compare`: the node beside other forwarders on the same veths, one after the other in
//! every round (spec BENCH-13).

pub mod report;
mod text;

use std::time::Duration;

use anyhow::Context as _;

use super::forwarder::Row;
use super::generator::Input;
use super::load::Load;
use super::peer::tools;
use super::report::Expectation;
use super::run::Interrupted;
use super::session::Session;
use super::window::Window;
use benches::statistics::Estimate;
use report::{Absent, LoadReport, Report, RowReport, VERSION};

/// What to measure, for how long, and what is expected.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The forwarders. The node is among them.
    pub rows: Vec<Row>,
    /// What is offered; each load is measured by itself.
    pub loads: Vec<Load>,
    /// Rounds; each measures every forwarder under every load.
    pub rounds: u32,
    /// For how long each is measured.
    pub time: Duration,
    /// What is expected of the node.
    pub expected: Vec<Expected>,
}

/// What is held against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The node against a row.
    Node,
    /// A row against the reference.
    Reference,
}

/// The least that a rate has to be of another's, by the median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// The row.
    pub row: Row,
    /// What it is held against.
    pub against: Side,
    /// Under loads that come in this way only.
    pub input: Option<Input>,
    /// Under loads of so many flows only.
    pub flows: Option<u32>,
    /// The least ratio.
    pub ratio: f64,
}

/// The measurements of one forwarder under one load.
#[derive(Debug)]
struct Lane {
    load: Load,
    row: Row,
    windows: Vec<Window>,
}

/// All measurements so far.
#[derive(Debug)]
struct Lanes {
    lanes: Vec<Lane>,
    absent: Vec<Absent>,
}

/// Measures in a lab that has room for every load. Once the user interrupts it, the report is of the
/// rounds that were complete.
///
/// # Errors
/// [`WrongFrame`](super::rehearsal::WrongFrame) where the node or the reference is wrong, or where
/// the machine cannot run it. Nothing is left behind in any case. Whatever else keeps another
/// forwarder from being measured stands in the report.
pub fn compare(plan: &Plan) -> anyhow::Result<Report> {
    let largest = plan.loads.iter().max_by_key(|load| load.flows).context("there is no load")?;
    let mut session = Session::open(largest, |_| ())?;
    let mut lanes = Lanes::of(plan);
    for Absent { name, reason, .. } in &lanes.absent {
        session.progress.line(&format!("without {name}: {reason}"));
    }
    let mut complete = 0;
    let interrupted = session.rounds(plan.rounds, |session, round| {
        lanes.round(round, plan.time, session)?;
        complete += 1;
        Ok(())
    })?;
    lanes.lanes.iter_mut().for_each(|lane| lane.windows.truncate(complete));
    Ok(plan.report(lanes, interrupted, &session))
}

impl Plan {
    fn report(&self, lanes: Lanes, interrupted: bool, session: &Session) -> Report {
        let Lanes { lanes, absent } = lanes;
        let loads = self.loads.iter().map(|load| {
            let lanes = lanes.iter().filter(|lane| lane.load == *load);
            self.load(load, &lanes.collect::<Vec<_>>())
        });
        let loads: Vec<_> = loads.collect();
        let rows = || loads.iter().flat_map(|load| &load.rows);
        let sound = rows().all(|row| row.faults().next().is_none());
        let reached = rows().all(RowReport::is_as_expected);
        // What is expected of a row that is not there is not reached.
        let all = self.expected.iter().all(|expected| {
            let mut loads = loads.iter().filter(|load| expected.is_of(&load.load));
            let name = expected.row.to_string();
            loads.any(|load| load.rows.iter().any(|row| row.name == name))
        });
        Report {
            version: VERSION,
            passed: sound && reached && all,
            interrupted,
            machine: session.machine(),
            calibration: session.calibration(),
            loads,
            absent,
        }
    }

    fn load(&self, load: &Load, lanes: &[&Lane]) -> LoadReport {
        let of = |row: Row| lanes.iter().find(|lane| lane.row == row);
        let (node, reference) = (of(Row::NODE), of(Row::L2FWD));
        let rows = lanes.iter().map(|lane| {
            let mut report = RowReport::of(lane.row, &lane.windows);
            if let Some(node) = node.filter(|_| lane.row != Row::NODE) {
                report.compare_node(&node.windows);
            }
            if let Some(reference) = reference.filter(|_| lane.row != Row::L2FWD) {
                report.compare_reference(&reference.windows);
            }
            let expected = |against, ratio: Option<Estimate>| {
                let expected = self.expected(lane.row, against, load)?;
                Some(Expectation::least(expected.ratio, ratio?))
            };
            report.expected = expected(Side::Node, report.node_ratio);
            report.expected_of_reference = expected(Side::Reference, report.reference_ratio);
            report
        });
        LoadReport { load: load.clone(), rows: rows.collect() }
    }

    /// What is expected of a row under a load: what says most of the load it is about.
    fn expected(&self, row: Row, against: Side, load: &Load) -> Option<&Expected> {
        let of = self.expected.iter();
        let of = of.filter(|one| (one.row, one.against) == (row, against) && one.is_of(load));
        of.max_by_key(|one| u8::from(one.input.is_some()) + u8::from(one.flows.is_some()))
    }
}

impl Expected {
    /// Whether it is about a load.
    #[must_use]
    pub fn is_of(&self, load: &Load) -> bool {
        self.input.is_none_or(|input| input == load.input)
            && self.flows.is_none_or(|flows| flows == load.flows)
    }
}

impl Lanes {
    /// Those of a plan that this machine can measure, empty.
    fn of(plan: &Plan) -> Self {
        let mut lanes = Self { lanes: Vec::new(), absent: Vec::new() };
        let mut rows = Vec::new();
        for row in &plan.rows {
            match tools::missing(*row) {
                Some(reason) => {
                    lanes.absent.push(Absent { name: row.to_string(), load: None, reason });
                }
                None => rows.push(*row),
            }
        }
        for load in &plan.loads {
            for &row in &rows {
                match row.refuses(load) {
                    None => {
                        lanes.lanes.push(Lane { load: load.clone(), row, windows: vec![] });
                    }
                    Some(reason) => lanes.absent.push(Absent::of(row, load, reason.to_owned())),
                }
            }
        }
        lanes
    }

    /// Measures every lane once, load by load; in each round another begins, and every second
    /// goes the other way round.
    fn round(&mut self, number: u32, time: Duration, session: &mut Session) -> anyhow::Result<()> {
        for (load, row) in self.order(number) {
            session.offer(&load)?;
            let (setting, pods, progress) = session.parts();
            progress.say(format!("{row} under {}", name(&load)));
            let mut measured = setting.measure(row, time, pods);
            if measured
                .as_ref()
                .is_err_and(|error| !(error.is::<Interrupted>() || row.kind.is_ours()))
            {
                // The programs of others sometimes fail to open a port that was just given up.
                measured = setting.measure(row, time, pods);
            }
            let Some(lane) = self.lanes.iter_mut().find(|l| l.load == load && l.row == row) else {
                continue;
            };
            match measured {
                Ok(window) => {
                    let (load, mpps) = (name(&load), window.mpps);
                    progress.line(&format!("{load:<20} {:<25} {mpps:.3} Mpps", row.to_string()));
                    lane.windows.push(window);
                }
                Err(error) if error.is::<Interrupted>() || row.kind.is_ours() => return Err(error),
                Err(error) => {
                    let reason = format!("{error:#}");
                    progress.line(&format!("without {row}: {reason}"));
                    self.absent.push(Absent::of(row, &load, reason));
                    self.lanes.retain(|lane| lane.load != load || lane.row != row);
                }
            }
        }
        Ok(())
    }

    /// The order of a round. What is compared is measured close together: the machine's speed
    /// changes.
    fn order(&self, number: u32) -> Vec<(Load, Row)> {
        let mut all = Vec::new();
        for lanes in self.lanes.chunk_by(|a, b| a.load == b.load) {
            let mut some: Vec<_> = lanes.iter().map(|lane| (lane.load.clone(), lane.row)).collect();
            some.rotate_left((number / 2) as usize % lanes.len());
            if !number.is_multiple_of(2) {
                some.reverse();
            }
            all.extend(some);
        }
        all
    }
}

/// A load as it is told from the others.
fn name(load: &Load) -> String {
    format!("{}, {} flows", load.input.name(), load.flows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_first_and_before_every_other_as_often() {
        let rows: Vec<_> = Row::all().take(3).collect();
        let loads = [1_000, 1_000_000].map(|flows| Load::smallest(Input::Skb).with_flows(flows));
        let lane = |load: &Load| {
            let lane = |row: &Row| Lane { load: load.clone(), row: *row, windows: vec![] };
            rows.iter().map(lane).collect::<Vec<_>>()
        };
        let lanes = loads.iter().flat_map(lane).collect();
        let lanes = Lanes { lanes, absent: Vec::new() };
        let orders: Vec<_> = (0..6).map(|number| lanes.order(number)).collect();
        for row in &rows {
            let first = orders.iter().filter(|order| order[0] == (loads[0].clone(), *row));
            let first = first.count();
            assert_eq!(first, 2);
        }
        for order in &orders {
            // Loads are not mixed, and every lane has its turn.
            assert_eq!(order.len(), 6);
            assert!(order[..3].iter().all(|(load, _)| *load == loads[0]), "{order:?}");
            assert!(order[3..].iter().all(|(load, _)| *load == loads[1]), "{order:?}");
            for half in order.chunks(3) {
                assert!(rows.iter().all(|row| half.iter().any(|(_, r)| r == row)), "{order:?}");
            }
        }
    }

    #[test]
    fn what_says_more_of_the_load_is_expected_of_it() {
        let loads = [(Input::Skb, 1_000), (Input::Live, 1_000), (Input::Skb, 1_000_000)]
            .map(|(input, flows)| Load::smallest(input).with_flows(flows));
        let expected = |input, flows, ratio| Expected {
            row: Row::L2FWD,
            against: Side::Node,
            input,
            flows,
            ratio,
        };
        let plan = Plan {
            rows: vec![Row::NODE, Row::L2FWD],
            loads: loads.to_vec(),
            rounds: 1,
            time: Duration::ZERO,
            expected: vec![
                expected(None, Some(1_000_000), 0.9),
                expected(None, None, 0.95),
                expected(Some(Input::Live), None, 0.93),
            ],
        };
        let of = |load: &Load| plan.expected(Row::L2FWD, Side::Node, load);
        let found = loads.each_ref().map(|load| of(load).map(|one| one.ratio));
        assert_eq!(found, [Some(0.95), Some(0.93), Some(0.9)]);
        assert_eq!(plan.expected(Row::L2FWD, Side::Reference, &loads[0]), None);
    }
}
