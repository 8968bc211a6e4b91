//! Running a case and holding what came of it against what was expected.

use datapath::link::{ElementId, Socket, ports_of};

use super::case::Case;
use super::datapath::{Answer, Datapath};
use super::file::{Outcome, Paths};
use super::report::{Check, Comparison};
use super::verdict::{Denial, denial, eni_of, flow_of};
use crate::journey::{
    ARROW, Flow, Journey, Leg, Names, PortCount, Recording, Symbols, flows, path, rows, stitch,
};

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Run {
    /// The case.
    pub case: Case,
    /// The datapath it ran on.
    pub datapath: &'static str,
    /// What the client saw.
    pub answer: Answer,
    /// Whether the server was reached.
    pub verdict: Outcome,
    /// The client's flow; `None` where nothing of it was recorded.
    pub flow: Option<Flow>,
    /// The drop that denied it.
    pub denial: Option<Denial>,
    /// The record.
    pub recording: Recording,
    /// Everything that was expected, and whether it is so.
    pub checks: Vec<Check>,
}

impl Run {
    /// Whether every expectation held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// The names in this run's lab, numbered along the client's flow.
    #[must_use]
    pub fn names(&self) -> Names<'_> {
        names(&self.case, self.flow.as_ref())
    }

    /// The packet that stands for a direction: the first with data, or else the first.
    #[must_use]
    pub fn shown(&self, leg: Leg) -> Option<&Journey> {
        let flow = self.flow.as_ref()?;
        flow.first_data(leg).or_else(|| flow.first(leg))
    }

    /// The packets that tell what happened: one of each direction, and the one whose drop denied
    /// the request.
    pub fn journeys(&self) -> impl Iterator<Item = (&Flow, Leg, &Journey)> {
        let of = move |leg| Some((leg, self.shown(leg)?));
        let mut told: Vec<(Leg, &Journey)> =
            [Leg::Request, Leg::Reply, Leg::Error].into_iter().filter_map(of).collect();
        let dropped = self.flow.as_ref().filter(|_| self.denial.is_some());
        if let Some(dropped) = dropped.and_then(Flow::first_dropped)
            && !told.contains(&dropped)
        {
            told.push(dropped);
        }
        let flow = self.flow.iter();
        flow.flat_map(move |flow| told.clone().into_iter().map(move |(l, j)| (flow, l, j)))
    }

    /// What of this run must be the same on every datapath.
    #[must_use]
    pub fn comparison(&self) -> Comparison {
        let names = self.names();
        let of = |leg| match (&self.flow, self.shown(leg)) {
            (Some(flow), Some(journey)) => rows(&names, flow, journey, &Symbols::of(flow)),
            _ => Vec::new(),
        };
        Comparison { forward: of(Leg::Request), reply: of(Leg::Reply) }
    }

    /// The check that the hops of another run of this case, on any datapath, are those of this one.
    #[must_use]
    pub fn same_hops(&self, other: &Self) -> Check {
        let frames_only = self.recording.frames_only || other.recording.frames_only;
        let (here, there) = (self.comparison(), other.comparison());
        if frames_only {
            let nodes: Vec<&str> = self.case.lab.nodes.iter().map(|node| &*node.name).collect();
            here.frames(&nodes).check(self.datapath, &there.frames(&nodes))
        } else {
            here.check(self.datapath, &there)
        }
    }
}

/// Runs a case on a datapath.
///
/// # Errors
/// What kept it from being run; a denied request is none.
pub fn run(datapath: &dyn Datapath, case: Case) -> anyhow::Result<Run> {
    let mut session = datapath.start(&case.lab, &case.lab_text)?;
    session.serve(case.server, case.port, &case.page())?;
    let answer = session.fetch(&case.request)?;
    let recording = session.finish()?;
    let flows = flows(stitch(&case.lab, &recording));
    let flow = flow_of(flows, case.request.client, &case.request.url);
    let verdict = if answer.is_ok() { Outcome::Reachable } else { Outcome::Denied };
    let names = names(&case, flow.as_ref());
    let denial = flow
        .as_ref()
        .filter(|_| verdict == Outcome::Denied)
        .and_then(|flow| flow.first_dropped())
        .and_then(|(leg, journey)| denial(&names, leg, journey));
    let mut checks = vec![client(&case, &answer)];
    checks.extend(way(&case, &names, flow.as_ref()));
    checks.extend(denied(&case, &names, flow.as_ref()));
    checks.extend(balances(&case, &recording));
    checks.push(counts(&case, &names, &recording));
    drop(names);
    let name = datapath.name();
    Ok(Run { case, datapath: name, answer, verdict, flow, denial, recording, checks })
}

fn names<'a>(case: &'a Case, flow: Option<&Flow>) -> Names<'a> {
    Names::new(&case.lab, flow.into_iter().flat_map(|f| f.journeys.iter().map(|(_, j)| j)))
}

/// The client's outcome is the expected one, and it was the right server that answered.
fn client(case: &Case, answer: &Answer) -> Check {
    let page = case.page();
    let (ok, expected) = match case.expect.verdict {
        Outcome::Reachable => (
            answer.is_ok() && answer.body.as_deref() == Some(page.as_str()),
            format!("HTTP 200, {:?}", page.trim_end()),
        ),
        Outcome::Denied => (!answer.is_ok(), "no page".to_owned()),
    };
    Check::new("client", ok, answer.to_string(), &expected)
}

/// The packets went the way the article says.
fn way(case: &Case, names: &Names<'_>, flow: Option<&Flow>) -> Vec<Check> {
    let Some(Paths { forward, reply }) =
        case.path.as_ref().filter(|_| case.expect.verdict == Outcome::Reachable)
    else {
        return Vec::new();
    };
    let went = |leg| {
        let journey = flow.and_then(|flow| flow.first_data(leg));
        journey.map_or_else(|| "no data segment".into(), |j| path(names, j).join(ARROW))
    };
    let check = |what, leg, expected: &str| {
        let went: String = went(leg);
        Check::new(what, went == expected, went, expected)
    };
    vec![check("forward path", Leg::Request, forward), check("reply path", Leg::Reply, reply)]
}

/// It was the expected ENI that denied, in the expected direction, and nothing else dropped
/// anything of the flow.
fn denied(case: &Case, names: &Names<'_>, flow: Option<&Flow>) -> Option<Check> {
    let by = case.expect.by.as_ref()?;
    let eni = eni_of(&case.lab, case.request.client, case.server, by);
    let wanted = eni.as_deref().unwrap_or("an ENI the lab does not have");
    let expected = format!("{} ({wanted}), {}, {}", by.eni, by.direction, by.leg.name());
    let packets = flow.into_iter().flat_map(|flow| &flow.journeys);
    let mut denials: Vec<_> = packets.filter_map(|(leg, j)| denial(names, *leg, j)).collect();
    denials.dedup();
    let as_expected = |denial: &Denial| {
        let from = (&denial.eni, denial.direction, denial.leg);
        eni.is_some() && from == (&eni, Some(by.direction), by.leg)
    };
    let ok = !denials.is_empty() && denials.iter().all(as_expected);
    let seen: Vec<_> = denials.iter().map(ToString::to_string).collect();
    let seen = if seen.is_empty() { "nothing was dropped".into() } else { seen.join("; ") };
    Some(Check::new("denied by", ok, seen, &expected))
}

/// Received + made = sent + delivered + dropped + absorbed + held, for every element.
fn balances(case: &Case, recording: &Recording) -> Vec<Check> {
    let ledger = |id: ElementId| {
        let what = format!("conservation {}", id.name(&case.lab));
        let report = recording.ledgers.iter().find(|(of, _)| *of == id).map(|(_, report)| report);
        let Some(report) = report else {
            return Check::new(&what, false, "no ledger".into(), "a ledger");
        };
        let seen = format!(
            "{} received + {} made = {} sent + {} delivered + {} dropped + {} absorbed + {} held",
            report.received,
            report.made,
            report.sent,
            report.delivered,
            report.dropped,
            report.absorbed,
            report.held
        );
        Check::new(&what, report.balanced, seen, "both sides equal")
    };
    // A kernel's nodes keep no such books.
    let keeps = |id: &ElementId| *id == ElementId::Vpc || !recording.frames_only;
    ElementId::all(&case.lab).filter(keeps).map(ledger).collect()
}

/// What the journals say of every port is what was counted there. Frames that an element holds at
/// the end are in no journal yet.
fn counts(case: &Case, names: &Names<'_>, recording: &Recording) -> Check {
    let journals = recording.journal_counts();
    let at = |counts: &[PortCount], socket| {
        counts.iter().find(|c| c.socket == socket).copied().unwrap_or(PortCount::new(socket))
    };
    let held = |id: ElementId| {
        recording.ledgers.iter().find(|(of, _)| *of == id).map_or(0, |(_, ledger)| ledger.held)
    };
    let (mut ports, mut frames, mut wrong) = (0, 0, Vec::new());
    for element in ElementId::all(&case.lab) {
        let mut missing = 0;
        for (port, _) in ports_of(&case.lab, element) {
            let socket = Socket { element, port };
            let (counted, journal) = (at(&recording.ports, socket), at(&journals, socket));
            ports += 1;
            frames += counted.received + counted.sent;
            missing += counted.received.saturating_sub(journal.received);
            if journal.received > counted.received || journal.sent != counted.sent {
                wrong.push(format!("{} {}", names.element(element), names.port(socket)));
            }
        }
        if missing > held(element) {
            wrong.push(format!("{}: {missing} frames in no journal", names.element(element)));
        }
    }
    let seen = if wrong.is_empty() {
        format!("{frames} frames at {ports} ports")
    } else {
        format!("differ at {}", wrong.join(", "))
    };
    Check::new("journal = counters", wrong.is_empty(), seen, "equal at every port")
}
