//! `up`, `ps`, `exec`, `down`.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::{TWO_MEMBERS, TestLab, is_root, remains, run, trunkline};

#[test]
fn a_lab_comes_up_and_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    assert!(run(&["ps"]).contains(&lab.name));
    let address = run(&["exec", "--lab", &lab.name, "demo/a", "--", "ip", "-o", "-4", "addr"]);
    assert!(address.contains("10.0.4.31/32"), "{address}");
    // What a pod sees of Terway: the link-local next hop, permanent (spec LAB-18).
    let neighbour = run(&["exec", "--lab", &lab.name, "demo/a", "--", "ip", "neigh"]);
    assert!(neighbour.contains("169.254.1.1") && neighbour.contains("PERMANENT"), "{neighbour}");
    assert_eq!(lab.ledger()["imbalances"], serde_json::json!([]));
    run(&["down", &lab.name]);
    assert_eq!(remains(&lab.name), Vec::<String>::new());
}

#[test]
fn a_name_that_is_taken_is_refused() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let path = lab.path.to_str().expect("a path");
    let again = trunkline(&["up", path, "--name", &lab.name]).output().expect("run");
    assert!(!again.status.success());
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("trunkline down"), "{said}");
    assert!(run(&["ps"]).contains(&lab.name), "the first lab is still up");
}

#[test]
fn a_bad_lab_is_refused_with_its_place_and_changes_nothing() {
    if !is_root() {
        return;
    }
    let lab =
        TestLab::new(&TWO_MEMBERS.replace("node: n1, ip: 10.0.4.31", "node: n2, ip: 10.0.4.31"));
    let path = lab.path.to_str().expect("a path");
    let refused = trunkline(&["up", path, "--name", &lab.name]).output().expect("run");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains(&format!("{path}:9:")), "{said}");
    assert_eq!(remains(&lab.name), Vec::<String>::new());
}

/// spec LAB-25
#[test]
fn exec_ends_as_its_program_does() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    let status = |host: &str, program: &[&str]| {
        let args = [&["exec", "--lab", &lab.name, host, "--"], program].concat();
        trunkline(&args).output().expect("run").status.code()
    };
    assert_eq!(status("demo/a", &["true"]), Some(0));
    assert_eq!(status("demo/a", &["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(status("demo/a", &["/nowhere/at/all"]), Some(127));
    assert_eq!(status("demo/a", &[lab.path.to_str().expect("a path")]), Some(126));
    assert_eq!(status("demo/none", &["true"]), Some(2));
}

#[test]
fn a_lab_that_may_not_be_asked_is_not_called_dead() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(TWO_MEMBERS);
    // The program where everybody may run it.
    let folder = tempfile::tempdir().expect("a folder");
    let all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), all).expect("open the folder");
    let program = folder.path().join("trunkline");
    std::fs::copy(env!("CARGO_BIN_EXE_trunkline"), &program).expect("copy the program");
    let nobody = |args: &[&str]| {
        Command::new(&program).args(args).uid(65_534).gid(65_534).output().expect("run")
    };
    let listed = String::from_utf8(nobody(&["ps"]).stdout).expect("text");
    let line = listed.lines().find(|line| line.starts_with(&lab.name)).expect("the lab");
    assert!(line.ends_with("running (no permission to ask)"), "{line}");
    let refused = nobody(&["ledger", "--lab", &lab.name]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("is another user's"), "{said}");
}

#[test]
fn two_labs_stand_side_by_side() {
    if !is_root() {
        return;
    }
    let (one, two) = (TestLab::up(TWO_MEMBERS), TestLab::up(TWO_MEMBERS));
    run(&["down", &one.name]);
    assert_eq!(remains(&one.name), Vec::<String>::new());
    assert!(
        run(&["exec", "--lab", &two.name, "node:n1", "--", "ip", "-o", "-4", "addr"])
            .contains("10.0.4.20/32")
    );
}
