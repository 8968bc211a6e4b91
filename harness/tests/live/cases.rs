//! Cases on AF_XDP show what they show in memory, frame for frame.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

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

#[test]
fn cases_show_on_afxdp_what_they_show_in_memory() {
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

    let mut command = trunkline(&[&args[..], &["--on", "afxdp"]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
    let labs = format!("run{}x", child.id());
    let output = child.wait_with_output().expect("wait");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, in_memory.replace("on memory", "on afxdp"), "{output:?}");
    let left = fs::read_dir("/run/netns").expect("namespaces").filter_map(Result::ok);
    let left: Vec<_> =
        left.filter(|n| n.file_name().to_string_lossy().starts_with(&labs)).collect();
    assert!(left.is_empty(), "{left:?}");
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
    let kept = own.path().join("kept");
    let paths = [own.path(), &kept].map(|path| path.to_str().expect("a path"));
    let output = trunkline(&["test", paths[0], "--on", "afxdp", "--keep", paths[1]]).output();
    let output = output.expect("run");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("expected vlan=202, seen vlan=201"), "{said}");
    // What both datapaths have seen.
    assert_eq!(fs::read_dir(&kept).expect("kept").count(), 2);
}
