//! `bench diff`: what two reports show, and which cannot be held against each other; and what a report tells.

use std::process::Output;

use benches::statistics::Estimate;
use harness::bench::generator::Input;
use harness::bench::load::Load;
use harness::bench::machine::Machine;
use harness::bench::report::{Better, Calibration, Case, Cost, Mode, Report, Unit, VERSION};
use harness::bench::search::{Goal, Trial};

use crate::support::trunkline;

/// A report of two figures: a rate with a reference, and a time without one.
fn report(rates: &[f64], times: &[f64]) -> Report {
    let reference = vec![0.5; rates.len()];
    let rate = Case::new("skb", "node", Unit::Mpps, Better::Higher, rates.to_vec());
    let time = Case::new("", "longest swap", Unit::Microseconds, Better::Lower, times.to_vec());
    Report {
        version: VERSION,
        mode: Mode::Smoke,
        passed: true,
        interrupted: false,
        machine: Machine {
            nearness: None,
            kernel: "6.1".to_owned(),
            processor: "one".to_owned(),
            cores: 2,
            generator_core: 0,
            forwarder_core: 1,
            priority_raised: true,
            optimised: true,
            governor: String::new(),
            steal: 0.0,
            mitigations: [("spectre_v2".to_owned(), "Mitigation: <b>".to_owned())].into(),
        },
        calibration: Calibration::of(&[20.0, 21.0]),
        load: Some(Load::smallest(Input::Skb)),
        goal: None,
        expected: String::new(),
        absent: Vec::new(),
        cases: vec![rate.against("l2fwd", reference), time],
    }
}

/// Rounds around a figure.
fn rounds(figure: f64) -> Vec<f64> {
    (0..6).map(|n| figure * (1.0 + f64::from(n) / 100.0)).collect()
}

fn usual() -> Report {
    report(&rounds(0.4), &rounds(50.0))
}

fn diff(first: &Report, second: &Report, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("make a folder");
    let files = [("a.json", first), ("b.json", second)].map(|(name, report)| {
        let path = folder.path().join(name);
        let text = serde_json::to_string(report).expect("JSON");
        std::fs::write(&path, text).expect("write a report");
        path
    });
    let files = [&files[0], &files[1]].map(|path| path.to_str().expect("a path"));
    trunkline(&[&["bench", "diff"], &files[..], more].concat()).output().expect("run")
}

/// The lines of a diff that is not refused, and its exit status.
fn shown(first: &Report, second: &Report, more: &[&str]) -> (String, Option<i32>) {
    let output = diff(first, second, more);
    (String::from_utf8(output.stdout).expect("text"), output.status.code())
}

#[test]
fn what_is_faster_or_slower_is_told_with_its_interval() {
    let (text, status) = shown(&usual(), &usual(), &[]);
    assert_eq!(text.matches("no difference shown").count(), 2, "{text}");
    assert_eq!(status, Some(0));
    // Less time is faster.
    let (text, status) = shown(&usual(), &report(&rounds(0.48), &rounds(25.0)), &[]);
    assert!(text.contains("skb node to l2fwd: faster 1.200 (1.1"), "{text}");
    assert!(text.contains("longest swap: faster 2.000 (1.9"), "{text}");
    assert_eq!(status, Some(0));
    let slower = report(&rounds(0.36), &rounds(50.0));
    let (text, status) = shown(&usual(), &slower, &[]);
    assert!(text.contains("NO skb node to l2fwd: slower 0.900"), "{text}");
    assert_eq!(status, Some(1));
    let (text, status) = shown(&usual(), &slower, &["--threshold", "0.2"]);
    assert!(text.contains("   skb node to l2fwd: slower 0.900"), "{text}");
    assert_eq!(status, Some(0));
}

#[test]
fn few_rounds_show_nothing() {
    let few = |figure| report(&rounds(figure)[..3], &rounds(50.0)[..3]);
    let (text, status) = shown(&few(0.4), &few(0.2), &[]);
    assert!(text.contains("skb node to l2fwd: no difference shown 0.500"), "{text}");
    assert_eq!(status, Some(0));
}

#[test]
fn a_figure_without_reference_needs_the_same_speed() {
    let mut later = usual();
    later.calibration = Calibration::of(&[30.0]);
    let (text, _) = shown(&usual(), &later, &[]);
    assert!(text.contains("skb node to l2fwd: no difference shown"), "{text}");
    assert!(text.contains("longest swap: has no reference"), "{text}");
}

#[test]
fn figures_under_other_loads_or_beside_other_references_are_not_compared() {
    type Change = fn(&mut Case);
    let changes: [Change; 2] = [
        |case| case.load = Some(Load::smallest(Input::Live)),
        |case| *case = case.clone().against("kernel", vec![0.5; 6]),
    ];
    for change in changes {
        let mut other = usual();
        change(&mut other.cases[0]);
        let (text, status) = shown(&usual(), &other, &[]);
        assert_eq!(text.matches("no difference shown").count(), 1, "{text}");
        assert!(
            text.contains("only in the first") && text.contains("only in the second"),
            "{text}"
        );
        assert_eq!(status, Some(0));
    }
}

#[test]
fn reports_that_are_not_comparable_are_refused_with_the_reason() {
    type Change = fn(&mut Report);
    let changes: [(Change, &str); 8] = [
        (|report| report.version = 1, "form 1"),
        (|report| report.interrupted = true, "interrupted"),
        (|report| report.mode = Mode::Ndr, "what was measured differs"),
        (|report| report.load = None, "the load differs"),
        (|report| report.machine.cores = 64, "the machine differs"),
        (|report| report.machine.optimised = false, "how they were built differs"),
        (|report| report.cases[0].faults.push("one is lost".to_owned()), "one is lost"),
        (|report| report.cases.clear(), "only in the first report"),
    ];
    for (change, why) in changes {
        let mut other = usual();
        change(&mut other);
        let output = diff(&usual(), &other, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{why}: {said}");
        assert!(said.contains(why), "{why}: {said}");
    }
    let nothing = trunkline(&["bench", "diff", "/nowhere", "/nowhere"]).output().expect("run");
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("read /nowhere"));
}

#[test]
fn a_page_has_every_figure_and_nothing_unescaped() {
    let mut report = usual();
    report.cases[0].faults.push("a < b".to_owned());
    let page = report.html();
    for part in ["skb node to l2fwd", "longest swap", "a &lt; b", "Mitigation: &lt;b&gt;", "<svg"] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

/// A report of a search.
fn search() -> Report {
    let trial = Trial {
        asked: Some(5e5),
        rate: 5e5,
        seconds: 0.25,
        offered: 1_000,
        unsent: 0,
        lost: 7,
        losses: [("rxRingFull".to_owned(), 7)].into(),
        held: false,
    };
    let mut report = usual();
    report.goal = Some(Goal {
        loss: 0.005,
        width: 0.02,
        initial: 0.25,
        last: 4.0,
        phases: 3,
        finals: 6,
        exceed: 0.5,
    });
    let case = &mut report.cases[0];
    case.trials.push(vec![trial]);
    case.limit = Some("rxRingFull".to_owned());
    (case.offered, case.losses) = (1_000, [("rxRingFull".to_owned(), 7)].into());
    let reference = case.reference.as_mut().expect("a reference");
    reference.limit = Some("the generator".to_owned());
    (reference.offered, reference.losses) = (2_000, [("exitWire".to_owned(), 3)].into());
    report
}

#[test]
fn a_page_begins_with_the_ratios_and_has_limits_and_losses() {
    let page = search().html();
    let sections = ["Ratios", "Trials", "Figures", "Where frames were lost", "Machine"];
    let headings: Vec<_> = page.split("<h2>").skip(1).collect();
    let names: Vec<_> = headings.iter().filter_map(|part| part.split("</h2>").next()).collect();
    assert_eq!(names, sections);
    let [_, _, figures, lost, machine] = &headings[..] else { panic!("{names:?}") };
    assert!(figures.contains("rxRingFull") && figures.contains("reference: the generator"));
    assert!(lost.contains("rxRingFull 7 (0.700 %)") && lost.contains("exitWire 3 (0.150 %)"));
    assert!(machine.contains("6.1") && machine.contains("Mitigation"));
}

#[test]
fn what_a_frame_costs_stands_beside_each_rate() {
    let cost = |ns, cores| Some(Cost { ns: Estimate::of(&[ns]), cores });
    let mut report = usual();
    report.cases[0].cost = cost(1_234.0, 2);
    report.cases[0].reference.as_mut().expect("a reference").cost = cost(2_345.0, 1);
    for told in [report.text(), report.html()] {
        let both = ["1234 ns a frame of the forwarder", "2345 ns a frame of sender and forwarder"];
        assert!(both.iter().all(|cost| told.contains(cost)), "{told}");
    }
}

#[test]
fn how_a_rate_was_searched_for_is_told() {
    let report = search();
    for told in [report.text(), report.html()] {
        for part in ["loss of 0.5 %", "within 2 %", "0.25 to 4 s", "6 of the last, 50 % of which"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
