//! Cases on AF_XDP show what they show in memory, frame for frame, by wires and by fused links.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use datapath::lab::Links;
use harness::case::CaseDatapath;
use harness::live::bed::Beds;
use harness::net::{namespace, sysfs};

use crate::support::{is_root, run, trunkline};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A folder with a case whose frames meet: two hosts of a node send in one step, not in the order
/// of their ports, and the nodes have yet to learn their neighbours.
fn meeting() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let lab = repository("cases/lab.yaml").canonicalize().expect("the lab");
    let case = format!(
        "why: A test.\nlab: {}\nswitches: {{permanentNeighbours: false}}\narp: true\ntimeline:\n  \
         - send: ['b:1 > cipm:80 S', 'a:1 > cipm:80 S', 'c:1 > cipm:80 S', 'b:2 > cipm:80 S']\n  \
         - advance: 30s\n  - tables: {{ECS1: [connections, conntrack]}}\n  - drops: [ECS1, vpc]\n",
        lab.display()
    );
    fs::write(folder.path().join("case.yaml"), case).expect("write");
    run(&["test", folder.path().to_str().expect("a path"), "--bless"]);
    folder
}

/// Plays cases of every family, and one whose frames meet, with links of a kind.
fn cases_show_what_they_show_in_memory(links: &str) {
    if !is_root() {
        return;
    }
    let meeting = meeting();
    let mut dirs = vec![meeting.path().to_owned()];
    let families =
        ["ways", "fragments/udp", "icmp/port-unreachable", "schedulers/drain", "tcp/life"];
    dirs.extend(families.map(|family| repository("cases").join(family)));
    let dirs = dirs.iter().map(|dir| dir.to_str().expect("a path"));
    let args: Vec<_> = ["test", "-j", "2"].into_iter().chain(dirs).collect();
    let in_memory = run(&args);
    assert!(in_memory.lines().count() > 12, "{in_memory}");

    let mut command = trunkline(&[&args[..], &["--on", "afxdp", "--links", links]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
    let labs = format!("run{}x", child.id());
    let output = child.wait_with_output().expect("wait");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, in_memory.replace("on memory", "on afxdp"), "{output:?}");
    assert_eq!(namespace::list(&labs).expect("namespaces"), [""; 0]);
}

#[test]
fn cases_show_on_wires_what_they_show_in_memory() {
    cases_show_what_they_show_in_memory("wired");
}

#[test]
fn cases_show_by_fused_links_what_they_show_in_memory() {
    cases_show_what_they_show_in_memory("fused");
}

/// What is said of a case that fails, the ways of its packets included, and what is kept of it.
fn failure(case: &Path, links: &str) -> (String, Vec<(OsString, Vec<u8>)>) {
    let kept = case.join("kept");
    let paths = [case, &kept].map(|path| path.to_str().expect("a path"));
    let args = ["test", paths[0], "--on", "afxdp", "--links", links, "--keep", paths[1]];
    let output = trunkline(&args).output().expect("run");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let files = fs::read_dir(&kept).expect("kept").map(|file| {
        let file = file.expect("a file");
        (file.file_name(), fs::read(file.path()).expect("read"))
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    fs::remove_dir_all(&kept).expect("remove");
    (String::from_utf8(output.stdout).expect("text"), files)
}

#[test]
fn a_wrong_expectation_fails_on_afxdp() {
    if !is_root() {
        return;
    }
    let own = meeting();
    let expected = own.path().join("expected.txt");
    let right = fs::read_to_string(&expected).expect("read");
    let wrong = right.replacen("vlan=201", "vlan=202", 1);
    assert_ne!(right, wrong, "a request leaves for ECS2");
    fs::write(&expected, wrong).expect("write");
    let (said, captures) = failure(own.path(), "wired");
    assert!(said.contains("expected vlan=202, seen vlan=201"), "{said}");
    assert!(said.contains("the packet's way"), "{said}");
    // What both datapaths have seen: the same, frame by frame.
    let [(_, on_afxdp), (_, in_memory)] = &captures[..] else { panic!("{captures:?}") };
    assert_eq!(on_afxdp, in_memory);
    // By fused links its packets take the same ways (spec LINK-5).
    assert_eq!(failure(own.path(), "fused"), (said, captures));
}

/// spec LINK-1
#[test]
fn a_case_has_the_links_that_are_asked_for() {
    if !is_root() {
        return;
    }
    let text = fs::read_to_string(repository("cases/lab.yaml")).expect("read");
    let lab = datapath::lab::load(&text, "cases").expect("a lab");
    for (links, there) in [(Links::Wired, true), (Links::Fused, false)] {
        let _bed = Beds::with_links(Some(links)).start(&lab, &text).expect("a bed");
        let all = namespace::list(&format!("run{}x", std::process::id())).expect("namespaces");
        let node = all.iter().find(|name| name.ends_with("-ECS1")).expect("the node's");
        let eth1 = sysfs::run_in(node, || sysfs::read("eth1", "ifindex")).expect("enter");
        assert_eq!(eth1.is_ok(), there, "{links:?}");
    }
}
