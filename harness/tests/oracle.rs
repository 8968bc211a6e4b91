//! Cases on nodes of a real kernel, where a guest can be had.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Runs `trunkline oracle` in the workspace's folder.
fn oracle(arguments: &[&str]) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    command.arg("oracle").args(arguments).current_dir(folder);
    command.output().expect("trunkline")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One instance of every case in which little time passes.
#[test]
fn memory_and_kernel_agree() {
    let output = oracle(&["--smoke"]);
    let (said, complaint) = (text(&output.stdout), text(&output.stderr));
    if output.status.code() == Some(2) && complaint.contains("no guest can be had") {
        let _ = writeln!(io::stderr(), "skipped: {}", complaint.trim());
        return;
    }
    assert!(output.status.success(), "{said}{complaint}");
    assert!(said.contains(" 0 different; 0 not played"), "{said}");
}

/// Requests and answers of real TCP stacks pass the kernel's nodes as they pass memory's, and where
/// a security group denies them it is the same one.
#[test]
fn scenarios_go_the_same_way_on_a_kernel() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    let output = command
        .args(["run", "S8", "S8/mem2-in", "hairpin", "--on", "memory,kernel", "--brief"])
        .output()
        .expect("trunkline");
    let (said, complaint) = (text(&output.stdout), text(&output.stderr));
    if output.status.code() == Some(2) && complaint.contains("no guest can be had") {
        let _ = writeln!(io::stderr(), "skipped: {}", complaint.trim());
        return;
    }
    assert!(output.status.success(), "{said}{complaint}");
    assert_eq!(said.matches("(on kernel)").count(), 3, "{said}");
}

/// Whether a guest runs that has its folder below this one.
fn has_guests(folder: &Path) -> bool {
    let argument = format!("uml_dir={}", folder.display());
    let processes = fs::read_dir("/proc").expect("list the processes").flatten();
    // Of a process that has ended nothing is left to read.
    let commands = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    commands.into_iter().any(|command| text(&command).contains(&argument))
}

#[test]
fn a_command_that_is_ended_takes_its_guests_with_it() {
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().canonicalize().expect("its place");
        let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
        command.args(["oracle", "--smoke"]).env("TMPDIR", &home);
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        let mut oracle = command.stdout(Stdio::null()).spawn().expect("trunkline");
        while !has_guests(&home) {
            if let Some(status) = oracle.try_wait().expect("look after it") {
                assert_eq!(status.code(), Some(2), "ended without a guest");
                let _ = writeln!(io::stderr(), "skipped: no guest can be had");
                return;
            }
        }
        kill(Pid::from_raw(oracle.id().cast_signed()), signal).expect("end it");
        oracle.wait().expect("wait for it");
        let deadline = Instant::now() + Duration::from_secs(30);
        while has_guests(&home) {
            assert!(Instant::now() < deadline, "{signal}: a guest goes on");
        }
    }
}

#[test]
fn a_node_is_programmed_by_a_script() {
    let output = oracle(&["--script", "scenarios/article.yaml", "cn-hongkong.10.0.4.20"]);
    let script = text(&output.stdout);
    for line in [
        "rule add from 10.0.4.27 iif cali7d5bd3feb5f lookup 1003 pref 2048",
        "filter add dev eth1 egress prio 50001 protocol ip u32 match ip src 10.0.4.27/32 action \
         vlan push id 101 pipe",
        "add KUBE-CLUSTER-IP 192.168.31.83,tcp:80",
        "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
        "-A -t 192.168.31.83:80 -s rr",
        "-a -t 192.168.31.83:80 -r 10.0.5.35:80 -m -w 1",
    ] {
        assert!(script.lines().any(|written| written == line), "{line:?} is not in\n{script}");
    }
}

#[test]
fn a_node_that_is_not_there_is_named() {
    let output = oracle(&["--script", "scenarios/article.yaml", "nobody"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("nobody"), "{}", text(&output.stderr));
}
