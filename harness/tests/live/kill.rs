//! `down` after the daemon was killed, at any moment of its life (spec LAW-8, LAB-21).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{TWO_MEMBERS, TestLab, is_root, remains, run, trunkline};

const MOMENTS: u32 = 20;
/// Coming up takes about a quarter of a second; the moments reach past it.
const SPREAD: Duration = Duration::from_millis(500);

/// The daemon that `up` has started, once there is one.
fn daemon_of(up: &mut Child) -> Option<Pid> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let children = format!("/proc/{0}/task/{0}/children", up.id());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        if let Some(pid) = children.split_whitespace().next() {
            return pid.parse().ok().map(Pid::from_raw);
        }
        if up.try_wait().ok().flatten().is_some() {
            return None;
        }
    }
    None
}

/// Begins to bring a lab up.
fn start_up(lab: &TestLab) -> Child {
    let path = lab.path.to_str().expect("a path");
    trunkline(&["up", path, "--name", &lab.name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start up")
}

#[test]
fn nothing_is_left_after_a_kill_at_twenty_random_moments() {
    if !is_root() {
        return;
    }
    // A fixed seed makes the delays the same on every run; where they fall in the daemon's life
    // is the machine's business.
    let mut seed = 0x5eed_u64;
    for moment in 0..MOMENTS {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = SPREAD.mul_f64((seed >> 40) as f64 / f64::from(1 << 24));
        let lab = TestLab::new(TWO_MEMBERS);
        let mut up = start_up(&lab);
        let daemon = daemon_of(&mut up).expect("a daemon");
        std::thread::sleep(delay);
        kill(daemon, Signal::SIGKILL).expect("kill the daemon");
        up.wait().expect("wait for up");
        // Where `up` was still waiting it has already cleaned; then there is no lab to take down.
        let _ = trunkline(&["down", &lab.name]).output().expect("run down");
        assert_eq!(remains(&lab.name), Vec::<String>::new(), "moment {moment}, {delay:?}");
    }
}

#[test]
fn down_ends_the_processes_in_the_pods_too() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let mut server = trunkline(&["exec", "--lab", &lab.name, "demo/b", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start a process in a pod");
    // What comes back proves that the process lives in the pod by now.
    server.stdin.as_mut().expect("its input").write_all(b"here\n").expect("write");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("its output")).read_line(&mut line).expect("read");
    assert_eq!(line, "here\n");
    run(&["down", &lab.name]);
    assert!(!server.wait().expect("it ended").success(), "ended by a signal");
    assert_eq!(remains(&lab.name), Vec::<String>::new());
}

/// Waits until nothing of a lab is left.
fn vanishes(name: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !remains(name).is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", remains(name));
    }
}

#[test]
fn a_run_that_is_ended_takes_its_lab_with_it() {
    if !is_root() {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut run = trunkline(&["run", "S8", "--on", "afxdp", "--variant", "mem2-in"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start a run");
        let name = format!("run{}x0", run.id());
        // From its first namespace on there is a daemon, which notices.
        let namespaces =
            || harness::net::namespace::list(&format!("{name}-")).expect("list namespaces");
        let deadline = Instant::now() + Duration::from_secs(20);
        while namespaces().is_empty() && Instant::now() < deadline {}
        assert!(!namespaces().is_empty(), "the run has a lab");
        kill(Pid::from_raw(run.id().cast_signed()), signal).expect("end the run");
        run.wait().expect("wait for the run");
        vanishes(&name);
    }
}

#[test]
fn an_up_that_is_interrupted_leaves_nothing() {
    if !is_root() {
        return;
    }
    let lab = TestLab::new(TWO_MEMBERS);
    let mut up = start_up(&lab);
    daemon_of(&mut up).expect("a daemon");
    kill(Pid::from_raw(up.id().cast_signed()), Signal::SIGKILL).expect("end up");
    up.wait().expect("wait for up");
    vanishes(&lab.name);
}
