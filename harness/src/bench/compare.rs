//! `bench compare`: the node beside other forwarders on the same veths, one after the other in
//! every round (spec BENCH-13).

use std::time::Duration;

use anyhow::Context as _;

use super::forwarder::Row;
use super::generator::Input;
use super::load::Load;
use super::peer::tools;
use super::report::{Absent, Better, Case, Mode, Report, Unit};
use super::run::Interrupted;
use super::session::Session;
use super::window::Window;

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

/// The least that a rate has to be of another's, by the median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// The row whose rate it is about.
    pub row: Row,
    /// What that is held against: any row where it is the node's, and otherwise the reference.
    pub against: Row,
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

/// Measures in a lab that has room for every load. Once the user interrupts it, the report is of
/// what was measured until then.
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
    let interrupted =
        session.rounds(plan.rounds, |session, round| lanes.round(round, plan.time, session))?;
    Ok(plan.report(lanes, interrupted, &session))
}

impl Plan {
    fn report(&self, lanes: Lanes, interrupted: bool, session: &Session) -> Report {
        let Lanes { lanes, absent } = lanes;
        let cases = self.loads.iter().flat_map(|load| {
            // An interruption may come before a row has had its first turn.
            let lanes = lanes.iter().filter(|l| l.load == *load && !l.windows.is_empty());
            self.cases(load, &lanes.collect::<Vec<_>>())
        });
        let cases = cases.collect();
        let mut report = session.report(Mode::Compare, cases, interrupted);
        // What is expected of a row that is not there is not reached.
        report.passed &= self.expected.iter().all(|expected| {
            let (row, against) = (expected.row.to_string(), expected.against.to_string());
            report.cases.iter().any(|case| {
                let is_of = case.load.as_ref().is_some_and(|load| expected.is_of(load));
                let held = case.reference.as_ref().is_some_and(|of| of.name == against);
                is_of && case.name == row && held
            })
        });
        Report { load: None, absent, ..report }
    }

    /// The figures under one load: each row, held against the reference where that is there, and
    /// then the node held against each of the others.
    fn cases(&self, load: &Load, lanes: &[&Lane]) -> Vec<Case> {
        let group = name(load);
        let reference = lanes.iter().find(|lane| lane.row == Row::L2FWD);
        let mut cases = Vec::new();
        for lane in lanes {
            let windows: Vec<_> = lane.windows.iter().collect();
            let mut case = Case::of_windows(&group, &lane.row.to_string(), &windows);
            case.notes.insert(0, lane.row.about());
            case.load = Some(load.clone());
            cases.push(match reference {
                Some(reference) if lane.row != Row::L2FWD => self.held(case, lane, reference),
                _ => case,
            });
        }
        let node = lanes.iter().find(|lane| lane.row == Row::NODE);
        let others = lanes.iter().filter(|lane| ![Row::NODE, Row::L2FWD].contains(&lane.row));
        cases.extend(others.filter_map(|other| {
            let (node, name) = (node?, Row::NODE.to_string());
            let mut case = Case::new(&group, &name, Unit::Mpps, Better::Higher, node.rates());
            case.load = Some(load.clone());
            Some(self.held(case, node, other))
        }));
        cases
    }

    /// A figure held against another row's of the same rounds, and against what is expected of it.
    fn held(&self, case: Case, lane: &Lane, against: &Lane) -> Case {
        let case = case.against(&against.row.to_string(), against.rates());
        match self.expected(lane.row, against.row, &lane.load) {
            Some(expected) => case.expecting(expected.ratio),
            None => case,
        }
    }

    /// What is expected of two rows under a load: what says most of the load it is about.
    fn expected(&self, row: Row, against: Row, load: &Load) -> Option<&Expected> {
        let of = self.expected.iter();
        let of = of.filter(|one| (one.row, one.against) == (row, against) && one.is_of(load));
        of.max_by_key(|one| u8::from(one.input.is_some()) + u8::from(one.flows.is_some()))
    }
}

impl Lane {
    fn rates(&self) -> Vec<f64> {
        self.windows.iter().map(|window| window.mpps).collect()
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
                    Some(reason) => lanes.absent.push(absent(row, load, reason.to_owned())),
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
                    self.absent.push(absent(row, &load, reason));
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

/// A row that is not measured under one load.
fn absent(row: Row, load: &Load, reason: String) -> Absent {
    Absent { name: row.to_string(), load: Some(load.clone()), reason }
}

/// A load as it is told from the others.
#[must_use]
pub fn name(load: &Load) -> String {
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
            row: Row::NODE,
            against: Row::L2FWD,
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
        let of = |load: &Load| plan.expected(Row::NODE, Row::L2FWD, load);
        let found = loads.each_ref().map(|load| of(load).map(|one| one.ratio));
        assert_eq!(found, [Some(0.95), Some(0.93), Some(0.9)]);
        assert_eq!(plan.expected(Row::L2FWD, Row::NODE, &loads[0]), None);
    }
}
