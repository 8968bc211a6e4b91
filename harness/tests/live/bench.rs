//! `bench smoke`: what it measures is right, adds up, and leaves nothing behind. How fast anything
//! is, no test says.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use harness::bench::generator::Input;
use harness::bench::load::Load;
use harness::bench::machine::Cores;
use harness::bench::nearness::Nearness;
use harness::bench::report::{Case, Report, Unit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{is_root, remains, say, trunkline};

/// How long anything a test waits for may take: other benches may come first.
const PATIENCE: Duration = Duration::from_secs(120);

/// The shortest bench, with more arguments; also the name of the lab it makes.
fn shortest(more: &[&str]) -> (Output, String) {
    let mut command = trunkline(&["bench", "smoke", "--rounds", "1", "--seconds", "0.2"]);
    let command = command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
    let bench = command.spawn().expect("start the bench");
    let lab = lab_of(bench.id());
    (bench.wait_with_output().expect("its output"), lab)
}

fn lab_of(pid: u32) -> String {
    format!("run{pid}x0")
}

fn priority() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/autogroup").ok()?;
    text.rsplit_once(' ').map(|(_, nice)| nice.trim().to_owned())
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

fn read(file: &Path) -> Report {
    let text = std::fs::read_to_string(file).expect("the report was written");
    serde_json::from_str(&text).expect("a report")
}

/// Runs a mode of the bench that has to pass, and gives its report. Nothing is left behind.
fn bench(arguments: &[&str]) -> Report {
    let folder = tempfile::tempdir().expect("make a folder");
    let [json, html] = ["report.json", "report.html"].map(|name| folder.path().join(name));
    let paths = [&json, &html].map(|path| path.to_str().expect("a path"));
    let mut command = trunkline(&["bench"]);
    command.args(arguments).args(["--json", paths[0], "--html", paths[1]]);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("start the bench");
    let lab = lab_of(child.id());
    let output = child.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{told}");
    assert_eq!(remains(&lab), Vec::<String>::new());
    let page = std::fs::read_to_string(&html).expect("the page was written");
    assert!(page.contains("</html>") && !page.contains("http"), "{page}");
    let report = read(&json);
    assert!(report.passed && !report.interrupted);
    assert_eq!(report.faults().map(|(_, fault)| fault).collect::<Vec<_>>(), Vec::<&str>::new());
    report
}

/// A search with one short trial of each kind.
const SHORTEST: [&str; 8] =
    ["--rounds", "1", "--initial", "0.05", "--last", "0.05", "--width", "0.3"];

/// Beside the rates of both stands what a frame costs.
fn check_costs(case: &Case) {
    for cost in [case.cost, case.reference.as_ref().and_then(|reference| reference.cost)] {
        assert!(cost.is_some_and(|cost| cost.ns.median > 0.0 && cost.cores == 2), "{case:?}");
    }
}

#[test]
fn smoke_measures_right_frames_and_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let report = bench(&["smoke", "--rounds", "1", "--seconds", "0.2"]);
    assert_eq!(report.load, Some(Load::smallest(Input::Skb)));
    assert_ne!(report.machine.generator_core, report.machine.forwarder_core);
    let groups: Vec<_> = report.cases.iter().map(|case| case.group.as_str()).collect();
    assert_eq!(groups, ["skb", "live"]);
    for case in &report.cases {
        let reference = case.reference.as_ref().expect("a reference");
        assert_eq!((case.rounds.len(), reference.rounds.len()), (1, 1));
        assert!(case.rounds[0] > 0.0 && reference.rounds[0] > 0.0, "{case:?}");
        assert!(case.losses.values().sum::<u64>() < case.offered);
        assert!(case.limit.is_some() && reference.limit.is_some(), "{case:?}");
        check_costs(case);
    }
    // Benches of other tests of this session take turns, and it is lowered between them.
    wait_until("the priority is lowered again", || priority().as_deref() != Some("-20"));
}

#[test]
fn the_highest_rate_without_loss_is_found_for_mixed_segments_of_several_pods() {
    if !is_root() {
        return;
    }
    let load = ["--size", "imix", "--flows", "60", "--pods", "2", "--services", "3"];
    // A machine that does other work loses frames at any rate now and then.
    let report =
        bench(&[&["pdr", "--loss", "0.5", "--proto", "tcp"], &load[..], &SHORTEST].concat());
    let [case] = &report.cases[..] else { panic!("{:?}", report.cases) };
    assert!(case.rounds[0] > 0.0 && case.gbps.is_some() && case.limit.is_some());
    let trials = &case.trials[0];
    assert!(trials.iter().any(|trial| trial.held));
    for trial in trials {
        assert_eq!(trial.lost, trial.losses.values().sum::<u64>(), "{trial:?}");
        assert_eq!(trial.held, trial.lost as f64 <= 0.5 * trial.offered as f64, "{trial:?}");
    }
}

#[test]
fn datagrams_of_real_sockets_are_the_expected_ones() {
    if !is_root() {
        return;
    }
    let report = bench(
        &[&["pdr", "--loss", "0.5", "--input", "sockets", "--flows", "20"], &SHORTEST[..]].concat(),
    );
    assert!(report.cases[0].offered > 0);
}

#[test]
fn jumbo_frames_among_small_ones_are_all_accounted_for() {
    if !is_root() {
        return;
    }
    for (input, proto, flows) in [("skb", "tcp", "60"), ("sockets", "udp", "20")] {
        let load = ["--size", "64:1,8518:1", "--input", input, "--proto", proto, "--flows", flows];
        let report = bench(&[&["pdr", "--loss", "0.5"], &load[..], &SHORTEST].concat());
        assert!(report.load.is_some_and(|load| load.sizes.is_jumbo()));
        let [case] = &report.cases[..] else { panic!("{:?}", report.cases) };
        let reference = case.reference.as_ref().expect("a reference");
        for trial in case.trials.iter().chain(&reference.trials).flatten() {
            assert!(trial.offered > 0);
            assert_eq!(trial.lost, trial.losses.values().sum::<u64>(), "{trial:?}");
        }
    }
}

#[test]
fn every_frame_is_timed() {
    if !is_root() {
        return;
    }
    let report =
        bench(&["latency", "--ndr", "20000", "--loads", "50", "--rounds", "1", "--seconds", "0.2"]);
    let names: Vec<_> = report.cases.iter().map(Case::title).collect();
    let quantiles = ["p50", "p90", "p99", "p99.9", "max"];
    let levels =
        ["idle", "50 %"].map(|level| quantiles.map(|quantile| format!("{level} {quantile}")));
    assert_eq!(names, levels.concat());
    for level in report.cases.chunks(quantiles.len()) {
        let figures: Vec<_> = level.iter().map(|case| case.rounds[0]).collect();
        assert!(figures[0] > 0.0 && figures.is_sorted(), "{figures:?}");
        assert!(!level[0].distribution.is_empty());
    }
}

#[test]
fn answers_of_sockets_are_timed_through_the_node_and_the_kernel() {
    if !is_root() {
        return;
    }
    let report =
        bench(&["answers", "--rounds", "1", "--seconds", "0.1", "--expect", "adaptive=100000"]);
    let groups: Vec<_> = report.cases.iter().map(|case| case.group.as_str()).collect();
    let ways = ["kernel-one-core", "spinning", "adaptive"];
    assert_eq!(groups, ways.map(|way| [way; 3]).concat());
    for case in &report.cases {
        let reference = case.reference.as_ref().expect("a reference");
        assert!(case.rounds[0] > 0.0 && reference.rounds[0] > 0.0, "{case:?}");
        let expected = (case.title() == "adaptive p50").then_some(true);
        assert_eq!(case.expected.map(|expected| expected.reached), expected);
    }
    assert_eq!(report.load, None);
}

#[test]
fn a_lab_is_brought_up_and_down_in_both_ways() {
    if !is_root() {
        return;
    }
    let lab = ["--pods", "5", "--nodes", "2", "--expect", "fused=600"];
    let report = bench(&[&["up", "--rounds", "1"], &lab[..]].concat());
    let names: Vec<_> = report.cases.iter().map(Case::title).collect();
    assert_eq!(names, ["wired up", "wired down", "fused up", "fused down"]);
    assert!(report.cases.iter().all(|case| case.rounds.len() == 1 && case.rounds[0] > 0.0));
    // A pod's veth has a socket at one end.
    assert!(report.cases[2].notes[0].contains(" sockets, "), "{:?}", report.cases[2].notes);
}

#[test]
fn idle_ports_are_measured_beside_none() {
    if !is_root() {
        return;
    }
    let report = bench(&["idle", "--rounds", "1", "--seconds", "0.1", "--ports", "40"]);
    let names: Vec<_> = report.cases.iter().map(Case::title).collect();
    let groups = ["skb", "live", "empty turn"];
    assert_eq!(names, groups.map(|group| format!("{group} 40 idle")));
    report.cases.iter().filter(|case| case.unit == Unit::Mpps).for_each(check_costs);
    for case in &report.cases {
        let reference = case.reference.as_ref().expect("a reference");
        assert!(case.rounds[0] > 0.0 && reference.rounds[0] > 0.0, "{case:?}");
    }
}

#[test]
fn connections_are_established_ended_and_held() {
    if !is_root() {
        return;
    }
    let few = ["--connections", "2000"];
    let report = bench(&[&["cps", "--loss", "0.5", "--fin"], &few[..], &SHORTEST].concat());
    assert!(report.cases[0].rounds[0] > 0.0);
    let report = bench(&[&["cc", "--pods", "2"], &few[..]].concat());
    assert_eq!(report.cases[0].rounds, [2_000.0]);
    assert!(report.cases[1].rounds[0] > 0.0);
}

#[test]
fn no_frame_is_lost_while_the_lab_changes() {
    if !is_root() {
        return;
    }
    let lab = ["--others", "3", "--other-services", "2"];
    let load = ["--rate", "2000", "--swaps", "40", "--rounds", "1", "--seconds", "0.5"];
    let report = bench(&[&["churn"], &lab[..], &load].concat());
    let lost = &report.cases[0];
    assert_eq!((lost.name.as_str(), &lost.rounds[..]), ("frames lost", &[0.0][..]));
    assert!(lost.offered > 0 && lost.losses.is_empty());
    let swaps = lost.notes[0].split(' ').next().and_then(|n| n.parse::<u32>().ok());
    assert!(swaps.is_some_and(|swaps| swaps > 1), "{:?}", lost.notes);
}

#[test]
fn a_load_that_does_not_fit_is_refused_before_anything_is_made() {
    for (arguments, why) in [
        (&["ndr", "--flows", "50001"][..], "1 to 50000 flows"),
        (&["ndr", "--size", "64:1,8519:1"], "64 to 8518"),
        (&["ndr", "--input", "live"], "never at a given rate"),
        (&["latency", "--proto", "tcp"], "68 bytes"),
        (&["pdr", "--initial", "2"], "longer than --last"),
    ] {
        let output = trunkline(&[&["bench"], arguments].concat()).output().expect("run");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_ratio_that_is_not_reached_is_a_failure() {
    if !is_root() {
        return;
    }
    let (output, lab) = shortest(&["--expect", "1000"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(remains(&lab), Vec::<String>::new());
}

#[test]
fn an_interrupted_bench_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let bench = trunkline(&["bench", "smoke", "--rounds", "1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the bench");
    let lab = lab_of(bench.id());
    wait_until("the bench has made its lab", || !remains(&lab).is_empty());
    kill(Pid::from_raw(bench.id().cast_signed()), Signal::SIGINT).expect("interrupt it");
    let output = bench.wait_with_output().expect("its end");
    assert_eq!(output.status.code(), Some(2));
    // What was measured until then is told.
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("interrupted: the report is of what"), "{told}");
    assert_eq!(remains(&lab), Vec::<String>::new());
}

/// Interrupts a mode of the bench as soon as it has said something with `mark` in it, and gives its
/// report.
fn interrupted_at(mark: &str, arguments: &[&str]) -> Report {
    let folder = tempfile::tempdir().expect("make a folder");
    let [json, html] = ["report.json", "report.html"].map(|name| folder.path().join(name));
    let paths = [&json, &html].map(|path| path.to_str().expect("a path"));
    let mut command = trunkline(&[&["bench"], arguments].concat());
    command.args(["--rounds", "1", "--json", paths[0], "--html", paths[1]]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("start the bench");
    let lab = lab_of(child.id());
    let mut said = BufReader::new(child.stderr.take().expect("its errors")).lines();
    let line = said.find(|line| line.as_ref().is_ok_and(|line| line.contains(mark)));
    assert!(line.is_some(), "never said: {mark}");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).expect("interrupt it");
    // What else it says is taken, so that it can end.
    said.for_each(drop);
    let output = child.wait_with_output().expect("its end");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(remains(&lab), Vec::<String>::new());
    let report = read(&json);
    assert!(report.interrupted);
    let page = std::fs::read_to_string(&html).expect("the page was written");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    for case in &report.cases {
        assert!(case.rounds.iter().all(|figure| *figure > 0.0), "{case:?}");
        for part in case.notes.iter().chain([&case.name]) {
            assert!(page.contains(part) && told.contains(part), "{part}: {told}{page}");
        }
    }
    report
}

#[test]
fn an_interrupted_search_tells_the_rates_that_it_has_tried() {
    if !is_root() {
        return;
    }
    // Of all these the first round takes minutes.
    let long = ["--initial", "0.2", "--last", "60", "--finals", "10"];
    for mode in
        [&["ndr"][..], &["pdr"], &["latency"], &["churn"], &["cps", "--connections", "2000"]]
    {
        let report = interrupted_at("/s: ", &[mode, &long[..]].concat());
        let [case] = &report.cases[..] else { panic!("{mode:?}: {:?}", report.cases) };
        let reference = case.reference.iter().flat_map(|reference| &reference.trials);
        let trials: Vec<_> = case.trials.iter().chain(reference).flatten().collect();
        assert!(!trials.is_empty(), "{case:?}");
        assert_eq!(case.rounds, Vec::<f64>::new());
        let [note] = &case.notes[..] else { panic!("{case:?}") };
        assert!(note.contains("unfinished search of ") && note.contains("/s "), "{note}");
    }
}

#[test]
fn loads_that_were_timed_before_an_interruption_are_told() {
    if !is_root() {
        return;
    }
    let loads = ["--ndr", "20000", "--loads", "50", "--seconds", "0.2"];
    let report = interrupted_at("idle ", &[&["latency"], &loads[..]].concat());
    let case = report.cases.first().expect("a time");
    let reference = case.reference.as_ref().expect("a reference");
    assert_eq!((case.title().as_str(), case.rounds.len()), ("idle p50", 1));
    assert_eq!(reference.rounds.len(), 1);
}

#[test]
fn rows_that_were_measured_before_an_interruption_are_told() {
    if !is_root() {
        return;
    }
    let rows = ["--input", "skb", "--only", "l2fwd,kernel-forward", "--seconds", "2"];
    let report = interrupted_at(" Mpps", &[&["compare"], &rows[..]].concat());
    let first = report.cases.first().expect("a row");
    assert_eq!((first.name.as_str(), first.rounds.len()), ("node", 1));
}

#[test]
fn cores_much_farther_or_slower_than_they_have_been_are_apart() {
    if !is_root() {
        return;
    }
    let Ok(cores) = Cores::first_two() else { return say("skipped: needs two processors") };
    let usual = Nearness::of(cores).expect("look");
    assert!(usual.greatest >= usual.least && usual.greatest_work >= usual.least_work);
    let nearer = Nearness { least: 1e-9, ..usual };
    let quicker = Nearness { least_work: 1e-9, ..usual };
    for mut once in [nearer, quicker] {
        assert!(!once.is_near(cores).expect("look"), "{once:?}");
    }
    // Whatever comes is as near and as quick as the first time.
    let mut never = Nearness { least: f64::INFINITY, least_work: f64::INFINITY, ..usual };
    assert!(never.is_near(cores).expect("look"), "{never:?}");
    assert_eq!(usual.in_words(), None);
}
