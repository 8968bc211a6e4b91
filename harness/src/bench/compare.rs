//! `bench compare`: the node beside other forwarders on the same veths, one after the other in
//! every round (spec BENCH-6). `bench smoke` is the comparison with the reference alone.

use std::time::Duration;

use anyhow::Context;
use crossbeam::channel::{Receiver, bounded};
use nix::sys::signal::{SigSet, Signal};

use super::bed::{Bed, CALI};
use super::far_end::{FarEnd, Host};
use super::forwarder::{Kind, Row};
use super::frames::{Flows, Frames};
use super::generator::Input;
use super::machine::{Cores, Machine, Priority, alone, calibrate};
use super::peer::tools;
use super::report::{Absent, Calibration, Expectation, LoadReport, Report, RowReport, VERSION};
use super::window::{Interrupted, Setting, Window};

/// Bytes of the checksum that a wire adds to a frame.
const FRAME_CHECK: usize = 4;

/// What to measure, for how long, and what is expected.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The forwarders. The node is among them.
    pub rows: Vec<Row>,
    /// How the load comes in; each is measured by itself.
    pub inputs: Vec<Input>,
    /// Flows of the load.
    pub flows: Flows,
    /// Rounds; each measures every forwarder under every input.
    pub rounds: u32,
    /// For how long each is measured.
    pub time: Duration,
    /// The least that the node's rate has to be of another's, by the median.
    pub expected: Vec<(Row, f64)>,
}

/// What is told while it is measured.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// So many measurements are to come in all.
    Begun(u64),
    /// One was made, in this round.
    Measured(u32, Input, Row, &'a Window),
    /// A forwarder cannot be measured.
    Absent(&'a Absent),
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

impl Plan {
    /// Measures, telling `progress` of it. Once the user interrupts it, the report is of the rounds
    /// that were complete.
    ///
    /// # Errors
    /// [`WrongFrame`](super::rehearsal::WrongFrame) where the node or the reference is wrong,
    /// [`Interrupted`] in the first round, or where the machine cannot run it. Nothing is left
    /// behind in any case. Whatever else keeps another forwarder from being measured stands in the
    /// report.
    pub fn measure(&self, mut progress: impl FnMut(Progress<'_>)) -> anyhow::Result<Report> {
        let _alone = alone()?;
        // Before anything is made, so that whatever is made is also taken down.
        let interrupted = interruption()?;
        let cores = Cores::first_two()?;
        let bed = Bed::make(self.flows)?;
        let frames = Frames::of(&bed.lab, self.flows)?;
        let pod = bed.pod()?;
        let mut pod = FarEnd::new(bed.open_far(CALI)?, Host { ip: pod.ip, mac: pod.mac });
        let priority = Priority::raise();
        let machine = Machine::this(cores, &priority)?;
        let setting = Setting {
            bed: &bed,
            frames: &frames,
            cores,
            time: self.time,
            interrupted: &interrupted,
        };
        let mut lanes = Lanes::of(self);
        lanes.absent.iter().for_each(|absent| progress(Progress::Absent(absent)));
        progress(Progress::Begun(lanes.lanes.len() as u64 * u64::from(self.rounds)));
        let mut calibrations = Vec::new();
        let mut complete = 0;
        for number in 0..self.rounds {
            calibrations.push(calibrate().as_secs_f64() * 1e3);
            match lanes.round(number, &setting, &mut pod, &mut progress) {
                Ok(()) => complete += 1,
                Err(error) if error.is::<Interrupted>() && complete > 0 => break,
                Err(error) => return Err(error),
            }
        }
        let frame_bytes = frames.request(0).len() + FRAME_CHECK;
        let calibration = Calibration::of(&calibrations);
        Ok(self.report(lanes, complete, machine, frame_bytes, calibration))
    }

    fn report(
        &self,
        Lanes { mut lanes, absent }: Lanes,
        complete: usize,
        machine: Machine,
        frame_bytes: usize,
        calibration: Calibration,
    ) -> Report {
        lanes.iter_mut().for_each(|lane| lane.windows.truncate(complete));
        let loads: Vec<_> = self
            .inputs
            .iter()
            .map(|input| {
                let lanes = lanes.iter().filter(|lane| lane.input == *input);
                self.load(*input, &lanes.collect::<Vec<_>>())
            })
            .collect();
        let rows = || loads.iter().flat_map(|load| &load.rows);
        let sound = rows().all(|row| row.faults().next().is_none());
        let reached = rows().all(|row| row.expected.is_none_or(|expected| expected.reached));
        // What is expected of a row that is not there is not reached.
        let there = |row: &Row| rows().any(|report| report.name == row.to_string());
        let all = self.expected.iter().all(|(row, _)| there(row));
        Report {
            version: VERSION,
            passed: sound && reached && all,
            interrupted: complete < self.rounds as usize,
            machine,
            frame_bytes,
            loads,
            absent,
            latency: Vec::new(),
            calibration,
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
                .map(|((_, least), r)| Expectation::least(*least, r));
            report
        });
        LoadReport { input, flows: self.flows.count(), rows: rows.collect() }
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
    fn round(
        &mut self,
        number: u32,
        setting: &Setting<'_>,
        pod: &mut FarEnd,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> anyhow::Result<()> {
        for (input, row) in self.order(number) {
            let mut measured = setting.measure(row, input, pod);
            if measured.as_ref().is_err_and(|error| !(error.is::<Interrupted>() || is_ours(row))) {
                // The programs of others sometimes fail to open a port that was just given up.
                measured = setting.measure(row, input, pod);
            }
            let Some(lane) = self.lanes.iter_mut().find(|l| (l.input, l.row) == (input, row))
            else {
                continue;
            };
            match measured {
                Ok(window) => {
                    progress(Progress::Measured(number, input, row, &window));
                    lane.windows.push(window);
                }
                Err(error) if error.is::<Interrupted>() || is_ours(row) => return Err(error),
                Err(error) => {
                    let reason = format!("{error:#}");
                    let absent = Absent { name: row.to_string(), input: Some(input), reason };
                    progress(Progress::Absent(&absent));
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

/// Catches the signals that end a command, from here on in every thread.
pub(super) fn interruption() -> anyhow::Result<Receiver<()>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("block signals")?;
    let (interrupt, interrupted) = bounded(1);
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            // One that is waiting already says as much.
            let _ = interrupt.try_send(());
        }
    });
    Ok(interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_first_and_before_every_other_as_often() {
        let rows: Vec<_> = Row::all().take(3).collect();
        let inputs = vec![Input::Skb, Input::Live];
        let lane = |input| rows.iter().map(move |row| Lane { input, row: *row, windows: vec![] });
        let lanes =
            Lanes { lanes: inputs.into_iter().flat_map(lane).collect(), absent: Vec::new() };
        let orders: Vec<_> = (0..6).map(|number| lanes.order(number)).collect();
        for row in &rows {
            let first = orders.iter().filter(|order| order[0] == (Input::Skb, *row)).count();
            assert_eq!(first, 2);
        }
        for order in &orders {
            // Inputs are not mixed, and every lane has its turn.
            assert!(order[..3].iter().all(|(input, _)| *input == Input::Skb), "{order:?}");
            assert!(order[3..].iter().all(|(input, _)| *input == Input::Live), "{order:?}");
            let mut sorted = order.clone();
            sorted.sort();
            sorted.dedup();
            assert_eq!(sorted.len(), 6);
        }
    }
}
