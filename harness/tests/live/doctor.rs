//! `doctor` on labs that are up: what somebody changes in one is told, and put back.

use std::process::Command;

use datapath::journey::PortId;
use datapath::link::{ElementId, Socket};
use harness::doctor::{About, Check, Finding, Remedy, Report, Status};
use harness::live::protocol::Request;
use harness::live::state::State;
use harness::net::sysfs;

use crate::support::{TWO_MEMBERS, TestLab, is_root, remains, run, say, trunkline};

/// What `doctor --json` says, which must be what its exit status says.
fn doctor(args: &[&str]) -> Report {
    let output = trunkline(&[&["doctor", "--json"], args].concat()).output().expect("run doctor");
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Report = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    assert_eq!(output.status.code(), Some(if report.passed { 0 } else { 1 }));
    report
}

/// The checks of the one lab in a report.
fn lab_checks(report: &Report) -> &[Check] {
    let mut labs = report.families.iter().filter(|family| family.about == About::Lab);
    let lab = labs.next().expect("a lab");
    assert_eq!(labs.next(), None);
    &lab.checks
}

/// Everything in the lab that is not as it should be: check, status, namespace, interface.
fn complaints(lab: &TestLab, report: &Report) -> Vec<String> {
    let of = |check: &Check, finding: &Finding| {
        let namespace = finding.namespace.as_deref().unwrap_or("-");
        let namespace = namespace.strip_prefix(&format!("{}-", lab.name)).unwrap_or(namespace);
        let interface = finding.interface.as_deref().unwrap_or("-");
        format!("{} {:?} {namespace} {interface}", check.id, finding.status)
    };
    let checks = lab_checks(report).iter();
    let found = checks.flat_map(|check| check.findings.iter().map(move |f| of(check, f)));
    let unknown = lab_checks(report).iter().filter(|check| check.status == Status::Unknown);
    found.chain(unknown.map(|check| format!("{} unknown", check.id))).collect()
}

/// `ip -n NAMESPACE ARGUMENTS`.
fn ip(lab: &TestLab, namespace: &str, arguments: &str) {
    let mut command = Command::new("ip");
    command.arg("-n").arg(format!("{}-{namespace}", lab.name)).args(arguments.split(' '));
    let status = command.status().expect("run ip");
    assert!(status.success(), "{command:?}");
}

/// A shell in a namespace, with the namespace's own `/sys`.
fn shell(lab: &TestLab, namespace: &str, line: &str) {
    let namespace = format!("--net=/run/netns/{}-{namespace}", lab.name);
    let line = format!("mount --make-rslave /sys; mount -t sysfs sysfs /sys; {line}");
    let mut command = Command::new("nsenter");
    command.args([&namespace, "unshare", "--mount", "--propagation", "unchanged"]);
    let output = command.args(["sh", "-ec", &line]).output().expect("run nsenter");
    assert!(output.status.success(), "{line}: {output:?}");
}

/// Whether a packet from pod a reaches pod b's stack and the answer comes back: b refuses the
/// connection, as nobody listens there.
fn refused_at_once(lab: &TestLab) -> bool {
    let url = "http://10.0.4.32:9";
    let curl = ["--", "curl", "-s", "--noproxy", "*", "--max-time", "3", url];
    let words = [&["exec", "--lab", &lab.name, "demo/a"][..], &curl].concat();
    const COULD_NOT_CONNECT: i32 = 7;
    trunkline(&words).output().expect("run curl").status.code() == Some(COULD_NOT_CONNECT)
}

/// Breaks something, and expects exactly these complaints; then has it repaired and expects none.
fn told_and_repaired(lab: &TestLab, what: &str, break_it: impl FnOnce(), expected: &[&str]) {
    break_it();
    assert_eq!(complaints(lab, &doctor(&[&lab.name])), expected, "{what}");
    let fixed: Vec<_> = expected
        .iter()
        .map(|line| line.replace(" Fail ", " Fixed ").replace(" Warn ", " Fixed "))
        .collect();
    let repair = doctor(&[&lab.name, "--fix"]);
    assert_eq!(complaints(lab, &repair), fixed, "{what}");
    let nothing: [&str; 0] = [];
    assert_eq!(complaints(lab, &doctor(&[&lab.name])), nothing, "{what}, repaired");
    assert!(refused_at_once(lab), "{what}: frames pass again");
}

#[test]
fn a_fresh_lab_has_nothing() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let report = doctor(&[&lab.name]);
    assert!(report.passed, "{report:#?}");
    let others = report.families.iter().filter(|family| family.about != About::Host);
    for check in others.flat_map(|family| &family.checks) {
        assert_eq!(check.status, Status::Ok, "{check:#?}");
    }
    let text = run(&["doctor", &lab.name]);
    assert!(text.contains("\n  ok      af-xdp-frame "), "{text}");
    assert!(text.ends_with(" failed\n"), "{text}");
}

#[test]
fn what_was_changed_on_a_stacks_end_is_put_back() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let pod = "pod-demo.a";
    let at = |check: &str| format!("{check} {pod} eth0");
    let ethtool = |words: &str| shell(&lab, pod, &format!("ethtool -K eth0 {words}"));
    let link = |words: &str| ip(&lab, pod, &format!("link set eth0 {words}"));
    let tx = || {
        ethtool("tx on");
        assert!(!refused_at_once(&lab), "with unfinished checksums nobody gets an answer");
    };
    told_and_repaired(&lab, "tx", tx, &[&at("tx-checksum Fail")]);
    told_and_repaired(&lab, "txvlan", || ethtool("txvlan on"), &[&at("tx-vlan Fail")]);
    told_and_repaired(&lab, "gro", || ethtool("gro on"), &[&at("receive-joining Warn")]);
    told_and_repaired(&lab, "mtu", || link("mtu 1300"), &[&at("mtu Fail")]);
    // The kernel forgets the neighbours of a link whose MAC changes, and with it set down the
    // routes as well.
    let (mac, lacks) = (at("mac-address Fail"), at("addressing Fail"));
    told_and_repaired(&lab, "mac", || link("address 02:00:00:00:00:77"), &[&mac, &lacks]);
    told_and_repaired(&lab, "down", || link("down"), &[&at("link-up Fail"), &lacks, &lacks]);
}

#[test]
fn what_was_changed_on_a_forwarders_end_is_put_back() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let model = datapath::lab::load(TWO_MEMBERS, "two members").expect("a lab");
    let cali = model.pods[0].cali.as_str();
    let at = |check: &str| format!("{check} n1 {cali}");
    let link = |words: &str| ip(&lab, "n1", &format!("link set {cali} {words}"));
    told_and_repaired(&lab, "down", || link("down"), &[&at("link-up Fail")]);
    told_and_repaired(&lab, "mtu", || link("mtu 1300"), &[&at("mtu Fail")]);
    let mac = || link("address 02:00:00:00:00:77");
    told_and_repaired(&lab, "mac", mac, &[&at("mac-address Warn")]);
    let ipv6 =
        || shell(&lab, "n1", &format!("echo 0 > /proc/sys/net/ipv6/conf/{cali}/disable_ipv6"));
    told_and_repaired(&lab, "ipv6", ipv6, &[&at("ipv6 Fail")]);
    let threaded = || shell(&lab, "n1", &format!("echo 1 > /sys/class/net/{cali}/threaded"));
    told_and_repaired(&lab, "threaded NAPI", threaded, &[&at("packet-steering Warn")]);
    let rps = "echo 1 > /sys/class/net/eth1/queues/rx-2/rps_cpus";
    let expected = ["packet-steering Warn n1 eth1"];
    told_and_repaired(&lab, "RPS", || shell(&lab, "n1", rps), &expected);
}

#[test]
fn a_program_that_was_taken_off_is_attached_again() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let model = datapath::lab::load(TWO_MEMBERS, "two members").expect("a lab");
    let interfaces = datapath::node::Interface::of_node(&model, 0).expect("a node");
    let cali = &model.pods[0].cali;
    let port = interfaces.iter().position(|interface| interface.name == *cali).expect("a port");
    let port = PortId(u16::try_from(port).expect("few ports"));
    let socket = Socket { element: ElementId::Node(0), port };
    // The daemon holds it by a link of its own, so nobody can take it off by name (spec LAB-26).
    let mut off = Command::new("ip");
    off.args(["-n", &format!("{}-n1", lab.name), "link", "set", cali, "xdp", "off"]);
    assert!(!off.output().expect("run ip").status.success());
    let off = || drop(lab.ask(Request::SetProgram { socket, attached: false }));
    told_and_repaired(&lab, "program", off, &[&format!("xdp-program Fail n1 {cali}")]);
}

#[test]
fn what_cannot_be_put_back_is_told_with_what_to_do() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    ip(&lab, "pod-demo.a", "link delete eth0");
    let report = doctor(&[&lab.name, "--fix"]);
    let lost = lab_checks(&report).iter().find(|check| check.id == "lab-links").expect("a check");
    // A veth goes with both its ends.
    assert_eq!(lost.findings.len(), 2, "{lost:#?}");
    for finding in &lost.findings {
        let Remedy::Run(command) = &finding.remedy else { panic!("{finding:?}") };
        assert!(command.contains(&format!("trunkline down {}", lab.name)), "{command}");
    }
    assert!(!report.passed);
}

#[test]
fn what_is_left_of_a_dead_lab_is_removed() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let client = harness::live::client::find(Some(&lab.name)).expect("the lab");
    let daemon = client.state().daemon().expect("a daemon");
    let pid = nix::unistd::Pid::from_raw(daemon.pid.cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("kill it");
    while daemon.is_running() {}
    let leftovers = |report: &Report| {
        let checks = report.families.iter().flat_map(|family| &family.checks);
        let left = checks.filter(|check| check.id == "leftovers").flat_map(|c| &c.findings);
        let of_it = left.filter(|f| f.problem.contains(&format!("lab {} ", lab.name)));
        of_it.map(|finding| finding.status).collect::<Vec<_>>()
    };
    let report = doctor(&[&lab.name]);
    assert_eq!(leftovers(&report), [Status::Warn]);
    assert_eq!(complaints(&lab, &report).first().map(String::as_str), Some("daemon Fail - -"));
    assert_eq!(leftovers(&doctor(&[&lab.name, "--fix"])), [Status::Fixed]);
    assert_eq!(remains(&lab.name), Vec::<String>::new());
}

#[test]
fn a_lab_that_is_not_there_is_an_error_of_its_own() {
    let output = trunkline(&["doctor", "nosuchlab"]).output().expect("run doctor");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nosuchlab"));
}

#[test]
fn without_rights_it_says_what_is_missing() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    // By way of a folder that anybody may enter.
    let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let folder = tempfile::Builder::new().permissions(anybody).tempdir().expect("make a folder");
    let copy = folder.path().join("trunkline");
    std::fs::copy(env!("CARGO_BIN_EXE_trunkline"), &copy).expect("copy the program");
    command.arg(&copy).args(["doctor", "--json", &lab.name]);
    let output = command.output().expect("run setpriv");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Report = serde_json::from_slice(&output.stdout).expect("a report");
    let checks = || report.families.iter().flat_map(|family| &family.checks);
    let status = |id: &str| checks().find(|check| check.id == id).map(|check| check.status);
    assert_eq!(status("root"), Some(Status::Fail));
    assert_eq!(status("capabilities"), Some(Status::Fail));
    assert_eq!(status("network-namespaces"), Some(Status::Fail));
    assert_eq!(status("af-xdp-frame"), Some(Status::Unknown));
    assert_eq!(status("tx-checksum"), Some(Status::Unknown));
}

/// The settings that `doctor` has changed or put back, and how each check ended.
fn tuning(lab: &TestLab, flag: &str) -> Vec<(String, Status)> {
    let report = doctor(&[&lab.name, flag]);
    let [family] = report.families.as_slice() else { panic!("one family: {report:#?}") };
    assert_eq!(family.about, About::Tuning);
    family.checks.iter().map(|check| (check.id.clone(), check.status)).collect()
}

#[test]
fn a_lab_is_tuned_without_complaint_and_tuned_back() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let link = |namespace: &str, setting: &str| {
        let namespace = format!("{}-{namespace}", lab.name);
        sysfs::run_in(&namespace, || sysfs::read("eth0", setting)).expect("enter").expect("read")
    };
    let settings = || {
        let state = State::of(&lab.name).expect("a name");
        let daemon = state.daemon().expect("a daemon").pid;
        let weight = std::fs::read_to_string(format!("/proc/{daemon}/autogroup")).expect("read");
        let weight = weight.trim().rsplit_once(' ').expect("a number").1.to_owned();
        [weight, link("n1", "threaded"), link("pod-demo.a", "queues/rx-0/rps_cpus")]
    };
    let before = settings();
    let first = tuning(&lab, "--tune");
    if first.iter().all(|(_, status)| *status == Status::Unknown) {
        say("skipped: needs two processors");
        return;
    }
    assert!(first.iter().all(|(_, status)| *status == Status::Fixed), "{first:?}");
    let tuned = settings();
    assert_eq!(tuned[..2], ["-10", "1"]);
    assert_ne!(tuned[2], before[2]);
    // It is what was asked for: no complaint, no repair, and frames pass.
    let nothing: [&str; 0] = [];
    assert_eq!(complaints(&lab, &doctor(&[&lab.name, "--fix"])), nothing);
    assert_eq!(settings(), tuned);
    assert!(refused_at_once(&lab));
    // Once is enough, and once is enough to put it back.
    let again = tuning(&lab, "--tune");
    assert!(again.iter().all(|(_, status)| *status == Status::Ok), "{again:?}");
    for expected in [Status::Fixed, Status::Ok] {
        assert_eq!(tuning(&lab, "--untune"), [("tuning".to_owned(), expected)]);
        assert_eq!(settings(), before);
    }
    assert!(refused_at_once(&lab));
    // All of it ends with the lab.
    assert_eq!(tuning(&lab, "--tune"), first);
    run(&["down", &lab.name]);
    assert_eq!(remains(&lab.name), [""; 0]);
}
