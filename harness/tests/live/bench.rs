//! `bench`: what it measures is right, adds up, and leaves nothing behind. How fast anything
//! is, no test says.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use harness::bench::generator::Input;
use harness::bench::report::Report;
use harness::bench::window::Window;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{is_root, remains, trunkline};

/// How long anything a test waits for may take: other benches may come first.
const PATIENCE: Duration = Duration::from_secs(120);

/// The shortest bench of a kind, with more arguments; also the name of the lab it makes.
fn shortest(kind: &str, more: &[&str]) -> (Output, String) {
    let mut command = trunkline(&["bench", kind, "--rounds", "1", "--seconds", "0.2"]);
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

/// Every frame that was offered arrived right, was lost at a known place, or went through the
/// rehearsal: one of each flow, and what ARP takes.
fn check(window: &Window, flows: u32) {
    assert_eq!(window.faults, Vec::<String>::new());
    assert_eq!(window.wrong, 0);
    assert!(window.right > 0, "{window:?}");
    let lost: u64 = window.losses.values().sum();
    let rehearsed = window.offered - window.right - lost;
    let flows = u64::from(flows);
    assert!((flows..flows + 8).contains(&rehearsed), "{rehearsed} of {window:?}");
}

#[test]
fn smoke_measures_right_frames_and_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("make a folder");
    let file = folder.path().join("report.json");
    let (output, lab) = shortest("smoke", &["--json", file.to_str().expect("a path")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(remains(&lab), Vec::<String>::new());

    let report = read(&file);
    assert!(report.passed && !report.interrupted);
    assert_eq!(report.frame_bytes, 64);
    assert_ne!(report.machine.generator_core, report.machine.forwarder_core);
    let inputs: Vec<_> = report.loads.iter().map(|load| load.input).collect();
    assert_eq!(inputs, [Input::Skb, Input::Live]);
    for load in &report.loads {
        assert_eq!(load.flows, 1_000);
        let names: Vec<_> = load.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["node", "l2fwd"]);
        for row in &load.rows {
            assert_eq!(row.rounds.len(), 1);
            check(&row.rounds[0], load.flows);
        }
    }
    // Benches of other tests of this session take turns, and it is lowered between them.
    wait_until("the priority is lowered again", || priority().as_deref() != Some("-20"));
}

/// Client ports of more than one service port: 50,000 are of one.
const MANY: u32 = 50_002;

#[test]
fn every_forwarder_is_measured_or_missed_with_a_reason_and_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("make a folder");
    let file = folder.path().join("report.json");
    let only = "devmap,kernel-200-rules,kernel-nft-rps,kernel-forward-threaded,testpmd,ovs";
    let more = ["--only", only, "--json", file.to_str().expect("a path")];
    let (output, lab) = shortest("compare", &more);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(remains(&lab), Vec::<String>::new());

    let report = read(&file);
    for load in &report.loads {
        for name in only.split(',') {
            let row = load.rows.iter().find(|row| row.name == name);
            let of_load = |input: Option<Input>| input.is_none_or(|input| input == load.input);
            let mut absent = report.absent.iter().filter(|a| a.name == name && of_load(a.input));
            match (row, absent.next()) {
                (Some(row), None) => {
                    check(&row.rounds[0], load.flows);
                    assert!(row.node_ratio.is_some_and(|ratio| ratio.median > 0.0), "{row:?}");
                }
                (None, Some(absent)) => {
                    eprintln!("skipped: {name}: {}", absent.reason);
                    let known = ["not installed", "XDP"].iter().any(|r| absent.reason.contains(r));
                    assert!(known, "{absent:?}");
                }
                both => panic!("{name} is both or neither: {both:?}"),
            }
        }
    }
}

#[test]
fn flows_of_several_service_ports_are_measured() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("make a folder");
    let file = folder.path().join("report.json");
    let more = ["--only=node", "--input=skb", "--flows", &(MANY - 1).to_string(), "--json"];
    let file_name = file.to_str().expect("a path");
    let (output, lab) = shortest("compare", &[&more[..], &[file_name]].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(remains(&lab), Vec::<String>::new());
    for load in &read(&file).loads {
        assert_eq!(load.flows, MANY);
        check(&load.rows[0].rounds[0], MANY);
    }
}

#[test]
fn every_request_is_answered_by_every_way() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().expect("make a folder");
    let file = folder.path().join("report.json");
    let more = ["--latency", "--json", file.to_str().expect("a path")];
    let (output, lab) = shortest("compare", &more);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(remains(&lab), Vec::<String>::new());
    let report = read(&file);
    assert_eq!(report.latency.len(), 4);
    for way in &report.latency {
        let [times] = way.rounds[..] else { panic!("not one round: {way:?}") };
        assert!(times.answered > 0 && times.lost == 0, "{way:?}");
        assert!(times.p50 > 0.0 && times.p50 <= times.p99 && times.p99 <= times.max, "{way:?}");
    }
}

#[test]
fn what_cannot_be_expected_is_refused_before_anything_is_made() {
    for arguments in [
        ["--only", "l2fwd", "--expect", "kernel-nft=2"],
        ["--only", "l2fwd", "--expect", "l2fwd=0"],
        ["--only", "no-such-row", "--expect", "l2fwd=1"],
        ["--rounds", "1", "--latency", "--expect=l2fwd=1"],
    ] {
        let output = trunkline(&["bench", "compare"]).args(arguments).output().expect("run");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_ratio_that_is_not_reached_is_a_failure() {
    if !is_root() {
        return;
    }
    let (output, lab) = shortest("smoke", &["--expect", "1000"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(remains(&lab), Vec::<String>::new());
}

#[test]
fn an_interrupted_bench_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let mut bench = trunkline(&["bench", "smoke", "--rounds", "1000"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the bench");
    let lab = lab_of(bench.id());
    wait_until("the bench has made its lab", || !remains(&lab).is_empty());
    kill(Pid::from_raw(bench.id().cast_signed()), Signal::SIGINT).expect("interrupt it");
    let status = bench.wait().expect("its end");
    assert_eq!(status.code(), Some(2));
    assert_eq!(remains(&lab), Vec::<String>::new());
}
