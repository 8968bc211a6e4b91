//! `bench compare`: the node beside other forwarders on the same veths, one after the other in
//! every round (spec BENCH-13).

pub mod report;
mod text;

use std::time::Duration;

use super::forwarder::{Kind, Row};
use super::generator::Input;
use super::load::Load;
use super::peer::tools;
use super::run::Interrupted;
use super::session::Session;
use super::window::Window;
use report::{Absent, Expectation, LoadReport, Report, RowReport, VERSION};

/// What to measure, for how long, and what is expected.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The forwarders. The node is among them.
    pub rows: Vec<Row>,
    /// How the load comes in; each is measured by itself.
    pub inputs: Vec<Input>,
    /// Rounds; each measures every forwarder under every input.
    pub rounds: u32,
    /// For how long each is measured.
    pub time: Duration,
    /// The least that the node's rate has to be of another's, by the median.
    pub expected: Vec<(Row, f64)>,
}

/// The measurements of one forwarder under one input.
#[derive(Debug)]
struct Lane {
    input: Input,
    row: Row,
    windows: Vec<Window>,
}

/// All measurements so far.
#[derive(Debug)]
struct Lanes {
    lanes: Vec<Lane>,
    absent: Vec<Absent>,
}

/// Measures with 64-byte UDP frames of 1,000 flows. Once the user interrupts it, the report is of
/// the rounds that were complete.
///
/// # Errors
/// [`WrongFrame`](super::rehearsal::WrongFrame) where the node or the reference is wrong, or where
/// the machine cannot run it. Nothing is left behind in any case. Whatever else keeps another
/// forwarder from being measured stands in the report.
pub fn compare(plan: &Plan) -> anyhow::Result<Report> {
    let load = Load::smallest(Input::Skb);
    let mut session = Session::open(&load, |_| ())?;
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
    Ok(plan.report(&load, lanes, interrupted, &session))
}

impl Plan {
    fn report(&self, load: &Load, lanes: Lanes, interrupted: bool, session: &Session) -> Report {
        let Lanes { lanes, absent } = lanes;
        let loads = self.inputs.iter().map(|input| {
            let lanes = lanes.iter().filter(|lane| lane.input == *input);
            self.load(*input, &lanes.collect::<Vec<_>>())
        });
        let loads: Vec<_> = loads.collect();
        let rows = || loads.iter().flat_map(|load| &load.rows);
        let sound = rows().all(|row| row.faults().next().is_none());
        let reached = rows().all(|row| row.expected.is_none_or(|expected| expected.reached));
        // What is expected of a row that is not there is not reached.
        let there = |row: &Row| rows().any(|report| report.name == row.to_string());
        let all = self.expected.iter().all(|(row, _)| there(row));
        Report {
            version: VERSION,
            passed: sound && reached && all,
            interrupted,
            machine: session.machine(),
            calibration: session.calibration(),
            load: load.clone(),
            loads,
            absent,
        }
    }

    fn load(&self, input: Input, lanes: &[&Lane]) -> LoadReport {
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
            let expected = self.expected.iter().find(|(row, _)| *row == lane.row);
            report.expected = expected
                .zip(report.node_ratio)
                .map(|((_, least), ratio)| Expectation::least(*least, ratio));
            report
        });
        LoadReport { input, rows: rows.collect() }
    }
}

impl Lanes {
    /// Those of a plan that this machine can measure, empty.
    fn of(plan: &Plan) -> Self {
        let mut lanes = Self { lanes: Vec::new(), absent: Vec::new() };
        for row in &plan.rows {
            if let Some(reason) = tools::missing(*row) {
                lanes.absent.push(Absent { name: row.to_string(), input: None, reason });
            }
        }
        for input in &plan.inputs {
            for row in plan.rows.iter().filter(|row| tools::missing(**row).is_none()) {
                match row.refuses(*input) {
                    None => lanes.lanes.push(Lane { input: *input, row: *row, windows: vec![] }),
                    Some(reason) => lanes.absent.push(Absent {
                        name: row.to_string(),
                        input: Some(*input),
                        reason: reason.to_owned(),
                    }),
                }
            }
        }
        lanes
    }

    /// Measures every lane once, input by input; in each round another begins, and every second
    /// goes the other way round.
    fn round(&mut self, number: u32, time: Duration, session: &mut Session) -> anyhow::Result<()> {
        for (input, row) in self.order(number) {
            session.load.input = input;
            let (setting, pods, progress) = session.parts();
            progress.say(format!("{row} under {}", input.name()));
            let mut measured = setting.measure(row, time, pods);
            if measured.as_ref().is_err_and(|error| !(error.is::<Interrupted>() || is_ours(row))) {
                // The programs of others sometimes fail to open a port that was just given up.
                measured = setting.measure(row, time, pods);
            }
            let Some(lane) = self.lanes.iter_mut().find(|l| (l.input, l.row) == (input, row))
            else {
                continue;
            };
            match measured {
                Ok(window) => {
                    let (input, mpps) = (input.name(), window.mpps);
                    progress.line(&format!("{input:<7} {:<25} {mpps:.3} Mpps", row.to_string()));
                    lane.windows.push(window);
                }
                Err(error) if error.is::<Interrupted>() || is_ours(row) => return Err(error),
                Err(error) => {
                    let reason = format!("{error:#}");
                    progress.line(&format!("without {row}: {reason}"));
                    let absent = Absent { name: row.to_string(), input: Some(input), reason };
                    self.absent.push(absent);
                    self.lanes.retain(|lane| (lane.input, lane.row) != (input, row));
                }
            }
        }
        Ok(())
    }

    /// The order of a round. What is compared is measured close together: the machine's speed
    /// changes.
    fn order(&self, number: u32) -> Vec<(Input, Row)> {
        let mut all = Vec::new();
        for lanes in self.lanes.chunk_by(|a, b| a.input == b.input) {
            let mut some: Vec<_> = lanes.iter().map(|lane| (lane.input, lane.row)).collect();
            some.rotate_left((number / 2) as usize % lanes.len());
            if !number.is_multiple_of(2) {
                some.reverse();
            }
            all.extend(some);
        }
        all
    }
}

/// Whether it is a forwarder whose failure is the bench's own.
fn is_ours(row: Row) -> bool {
    matches!(row.kind, Kind::Node | Kind::L2fwd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_first_and_before_every_other_as_often() {
        let rows: Vec<_> = Row::all().take(3).collect();
        let lane = |input| rows.iter().map(move |row| Lane { input, row: *row, windows: vec![] });
        let lanes = [Input::Skb, Input::Live].into_iter().flat_map(lane).collect();
        let lanes = Lanes { lanes, absent: Vec::new() };
        let orders: Vec<_> = (0..6).map(|number| lanes.order(number)).collect();
        for row in &rows {
            let first = orders.iter().filter(|order| order[0] == (Input::Skb, *row)).count();
            assert_eq!(first, 2);
        }
        for order in &orders {
            // Inputs are not mixed, and every lane has its turn.
            assert_eq!(order.len(), 6);
            assert!(order[..3].iter().all(|(input, _)| *input == Input::Skb), "{order:?}");
            assert!(order[3..].iter().all(|(input, _)| *input == Input::Live), "{order:?}");
            for half in order.chunks(3) {
                assert!(rows.iter().all(|row| half.iter().any(|(_, r)| r == row)), "{order:?}");
            }
        }
    }
}
