//! What a forwarder that never sleeps asks of the kernel: that it sends, once for a batch, and
//! nothing else (spec LAB-33).

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use datapath::link::HostId;
use harness::live::state::State;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{BOUND, TWO_NODES, TestLab, is_root, run, say, udp};

const PODS: &str = "\
pods:
  - {name: demo/client, node: n1, ip: 10.0.4.31, member: {vid: 101, securityGroups: sg-open}}
  - {name: demo/server, node: n2, ip: 10.0.4.41, member: {vid: 201, securityGroups: sg-open}}
";
/// Datagrams that wait for the forwarder at a time: as many as it takes from a queue in one turn.
const BATCH: u64 = 64;
const BATCHES: u64 = 20;

/// The thread that forwards, and its folder in `/proc`.
struct Forwarder {
    folder: String,
    thread: Pid,
}

impl Forwarder {
    fn of(lab: &TestLab) -> Self {
        let state = State::of(&lab.name).expect("a name");
        let tasks = format!("/proc/{}/task", state.daemon().expect("a daemon").pid);
        let named = |task: &fs::DirEntry| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "forwarder\n")
        };
        let task = fs::read_dir(tasks).expect("list threads").flatten().find(named);
        let folder = task.expect("a forwarder").path();
        let number = folder.file_name().expect("a number").to_string_lossy();
        let thread = Pid::from_raw(number.parse().expect("a number"));
        Self { folder: folder.to_string_lossy().into_owned(), thread }
    }

    fn wait(&self, what: &str, file: &str, holds: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + BOUND;
        while !holds(&fs::read_to_string(format!("{}/{file}", self.folder)).expect("a thread")) {
            assert!(Instant::now() < deadline, "the forwarder never {what}");
            std::thread::yield_now();
        }
    }

    /// Stops it, and with it its process. Returns when it has stopped.
    fn stop(&self) {
        kill(self.thread, Signal::SIGSTOP).expect("stop it");
        let stopped = |stat: &str| {
            let state = stat.rsplit_once(") ").expect("a state").1;
            state.starts_with(['T', 't'])
        };
        self.wait("stopped", "stat", stopped);
    }

    fn go_on(&self) {
        kill(self.thread, Signal::SIGCONT).expect("have it go on");
    }

    /// Begins to count its system calls.
    fn count_calls(&self, into: &str) -> Child {
        let mut strace = Command::new("strace");
        strace.args(["-c", "-U", "calls,name", "-o", into, "-p", &self.thread.to_string()]);
        let strace = strace.stderr(Stdio::null()).spawn().expect("run strace");
        let tracer = format!("\nTracerPid:\t{}\n", strace.id());
        self.wait("was traced", "status", |status| status.contains(&tracer));
        strace
    }
}

/// System calls by name.
fn counted(mut strace: Child, from: &str) -> BTreeMap<String, u64> {
    let pid = Pid::from_raw(strace.id().cast_signed());
    kill(pid, Signal::SIGINT).expect("end strace");
    strace.wait().expect("wait");
    let text = fs::read_to_string(from).expect("read");
    let calls = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
    });
    calls.filter(|(_, name)| name != "total").map(|(count, name)| (name, count)).collect()
}

/// What the forwarder calls while batches of datagrams go from a pod to one on the other node.
fn calls_of(links: &str) -> BTreeMap<String, u64> {
    let text = format!("links: {links}\n{TWO_NODES}{PODS}");
    let lab = datapath::lab::load(&text, "syscalls").expect("a lab");
    let test = TestLab::new(&text);
    let path = test.path.to_str().expect("a path");
    run(&["up", path, "--name", &test.name, "--poll", "busy"]);
    let client = udp(&test, &lab, HostId::Pod(0), 40_000);
    let server = udp(&test, &lab, HostId::Pod(1), 5_353);
    let (to, mut bytes) = ((lab.pods[1].ip, 5_353), [0; 8]);
    let mut exchange = |count: u64, between: &dyn Fn()| {
        for number in 0..count {
            client.send_to(&number.to_le_bytes(), to).expect("send");
        }
        between();
        for number in 0..count {
            assert_eq!(server.recv(&mut bytes).expect("a datagram"), bytes.len());
            assert_eq!(bytes, number.to_le_bytes(), "{links}");
        }
    };
    let forwarder = Forwarder::of(&test);
    // Before it is counted the nodes ask for their neighbours, the flow begins, and what holds a
    // batch grows to its size.
    exchange(1, &|| ());
    forwarder.stop();
    exchange(BATCH, &|| forwarder.go_on());
    let table = tempfile::NamedTempFile::new().expect("a file");
    let table = table.path().to_str().expect("a path");
    let strace = forwarder.count_calls(table);
    for _ in 0..BATCHES {
        forwarder.stop();
        exchange(BATCH, &|| forwarder.go_on());
    }
    counted(strace, table)
}

#[test]
fn a_busy_forwarder_calls_the_kernel_once_for_a_batch_that_it_sends() {
    if !is_root() {
        return;
    }
    if Command::new("strace").arg("-V").output().is_err() {
        say("skipped: needs strace");
        return;
    }
    // By wires a batch is sent three times: by a node, the VPC and a node; by fused links once.
    for (links, sends) in [("wired", 3 * BATCHES), ("fused", BATCHES)] {
        let calls = calls_of(links);
        assert_eq!(calls.keys().collect::<Vec<_>>(), ["sendto"], "{links}: {calls:?}");
        // A batch that came late is sent in two; the last call may not have returned.
        assert!((sends - 1..=2 * sends).contains(&calls["sendto"]), "{links}: {calls:?}");
    }
}
