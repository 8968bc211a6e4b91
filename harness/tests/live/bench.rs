//! `bench smoke`: what it measures is right, adds up, and leaves nothing behind. How fast anything
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

/// Every frame that was offered arrived right, was lost at a known place, or went through the
/// rehearsal: one of each flow, and what ARP takes.
fn check(window: &Window, flows: u16) {
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
    let (output, lab) = shortest(&["--json", file.to_str().expect("a path")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(remains(&lab), Vec::<String>::new());

    let report = read(&file);
    assert!(report.passed);
    assert_eq!((report.flows, report.frame_bytes), (1_000, 64));
    assert_ne!(report.machine.generator_core, report.machine.forwarder_core);
    let inputs: Vec<_> = report.inputs.iter().map(|input| input.input).collect();
    assert_eq!(inputs, [Input::Skb, Input::Live]);
    for input in &report.inputs {
        assert_eq!(input.rounds.len(), 1);
        for round in &input.rounds {
            check(&round.l2fwd, report.flows);
            check(&round.node, report.flows);
        }
    }
    // Benches of other tests of this session take turns, and it is lowered between them.
    wait_until("the priority is lowered again", || priority().as_deref() != Some("-20"));
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
