//! `bench compare`: every forwarder is measured with right frames or missed with a reason, and
//! nothing is left behind. How fast any of them is, no test says.

use std::process::Stdio;

use harness::bench::compare::name;
use harness::bench::generator::Input;
use harness::bench::load::Load;
use harness::bench::report::{Case, Report};
use harness::doctor::receives_when_asked;

use crate::support::{is_root, remains, trunkline};

/// The shortest comparison of these rows with further arguments, which has to pass. Nothing is left
/// behind.
fn compare(only: &str, more: &[&str]) -> Report {
    let folder = tempfile::tempdir().expect("make a folder");
    let [json, html] = ["report.json", "report.html"].map(|name| folder.path().join(name));
    let paths = [&json, &html].map(|path| path.to_str().expect("a path"));
    let mut command = trunkline(&["bench", "compare", "--rounds", "1", "--seconds", "0.2"]);
    command.args(["--only", only, "--json", paths[0], "--html", paths[1]]).args(more);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("start the bench");
    let lab = format!("run{}x0", child.id());
    let output = child.wait_with_output().expect("its output");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{told}");
    assert_eq!(remains(&lab), Vec::<String>::new());
    let text = std::fs::read_to_string(&json).expect("the report was written");
    let report: Report = serde_json::from_str(&text).expect("a report");
    assert!(report.passed && !report.interrupted, "{told}");
    let page = std::fs::read_to_string(&html).expect("the page was written");
    for name in only.split(',') {
        assert!(told.contains(name), "{told}");
        assert!(page.contains(name), "{page}");
    }
    // A report of a comparison is one of those that `diff` reads.
    let diff = trunkline(&["bench", "diff", paths[0], paths[0]]).output().expect("run");
    let shown = String::from_utf8_lossy(&diff.stdout).into_owned();
    assert_eq!((diff.status.code(), shown.contains("no difference shown")), (Some(0), true));
    report
}

/// A row under a load: the figure that has the costs.
fn row<'a>(report: &'a Report, load: &Load, name: &str) -> Option<&'a Case> {
    let mut cases = report.cases.iter().filter(|case| case.load.as_ref() == Some(load));
    cases.find(|case| case.name == name && case.cost.is_some())
}

/// Every frame that was offered arrived right or was lost at a known place, and it is known what
/// kept the rate from being higher.
fn check(case: &Case) {
    assert_eq!(case.faults, Vec::<String>::new());
    assert!(case.rounds[0] > 0.0 && case.cost.is_some_and(|cost| cost.ns.median > 0.0), "{case:?}");
    assert!(case.losses.values().sum::<u64>() < case.offered, "{case:?}");
    let limit = case.limit.as_deref().expect("a limit");
    assert!(limit.starts_with("the ") || case.losses.contains_key(limit), "{case:?}");
}

/// Every row of these is measured under an input, or absent there.
fn check_rows(report: &Report, only: &str) {
    for load in report.loads() {
        for name in only.split(',') {
            let row = row(report, load, name);
            let mut absent = report.absent.iter().filter(|absent| {
                absent.name == name && absent.load.as_ref().is_none_or(|of| of == load)
            });
            match (row, absent.next()) {
                (Some(row), None) => {
                    check(row);
                    is_held(report, load, name);
                }
                (None, Some(absent)) => {
                    eprintln!("skipped: {name}: {}", absent.reason);
                    let known = ["not installed", "XDP", "ip_vs", "several buffers"];
                    // Programs of others may have a bad start on a busy machine.
                    let ours = !["testpmd", "ovs"].contains(&name);
                    let is_known = known.iter().any(|reason| absent.reason.contains(reason));
                    assert!(is_known || !ours, "{absent:?}");
                }
                both => panic!("{name} is both or neither: {both:?}"),
            }
        }
    }
}

/// The node is held against a row in the same rounds.
fn is_held(report: &Report, load: &Load, row: &str) {
    let comparison = format!("{} node to {row}", name(load));
    let mut cases = report.cases.iter();
    let case = cases.find(|case| case.comparison() == comparison).expect("a ratio");
    assert_eq!(case.ratios().map(|ratios| ratios.len()), Some(1), "{case:?}");
}

#[test]
fn the_kernel_and_the_reference_are_measured_under_both_inputs() {
    if !is_root() {
        return;
    }
    let only = "l2fwd,devmap,kernel-forward,kernel-rules,kernel-nft";
    let report = compare(only, &["--expect", "l2fwd=0.0001"]);
    let inputs: Vec<_> = report.loads().map(|load| load.input).collect();
    assert_eq!(inputs, [Input::Skb, Input::Live]);
    for load in report.loads() {
        let node = row(&report, load, "node").expect("the node");
        check(node);
        assert_eq!(node.cost.map(|cost| cost.cores), Some(2));
        // The kernel forwards in the sender's time.
        let kernel = row(&report, load, "kernel-nft").and_then(|row| row.cost);
        assert!(kernel.is_none_or(|cost| cost.cores == 1));
    }
    check_rows(&report, only);
}

#[test]
fn the_node_is_measured_in_other_ways_beside_the_usual_one() {
    if !is_root() {
        return;
    }
    let only = "l2fwd,node-trunk,node-fused,node-busy";
    let report = compare(only, &["--expect", "node-fused/l2fwd=0.0001"]);
    let absent: Vec<_> = report.absent.iter().map(|absent| &*absent.name).collect();
    let asked = receives_when_asked().expect("a frame gets through");
    assert_eq!(absent, if asked { vec![] } else { vec!["node-busy"] });
    check_rows(&report, only);
    for load in report.loads() {
        let fused = row(&report, load, "node-fused").expect("the row");
        assert!(fused.expected.is_some_and(|expected| expected.reached));
    }
}

#[test]
fn many_flows_are_a_load_beside_few() {
    if !is_root() {
        return;
    }
    let expected = ["--expect", "l2fwd=0.0001", "--expect", "l2fwd@50001=0.00001"];
    let load = ["--input", "skb", "--flows", "50001,100"];
    let report = compare("l2fwd,kernel-nft", &[&load[..], &expected].concat());
    let flows: Vec<_> = report.loads().map(|load| (load.flows, load.services)).collect();
    assert_eq!(flows, [(100, 1), (50_001, 2)]);
    let nodes = report.loads().map(|load| row(&report, load, "node").expect("the node"));
    let expected = nodes.map(|node| node.expected.map(|expected| expected.ratio));
    assert_eq!(expected.collect::<Vec<_>>(), [Some(0.0001), Some(0.00001)]);
    for case in report.cases.iter().filter(|case| case.cost.is_some()) {
        check(case);
    }
    // It has one service, so not the many.
    let absent = report.absent.iter().filter(|absent| absent.name == "kernel-nft");
    assert!(absent.clone().count() > 0, "{:?}", report.absent);
}

/// What takes no packets of several buffers is named with that reason.
#[test]
fn jumbo_frames_are_a_load_of_all_that_take_them() {
    if !is_root() {
        return;
    }
    let only = "l2fwd,devmap,kernel-nft,node-fused,testpmd";
    let report = compare(only, &["--input", "skb", "--size", "64:1,8518:1"]);
    check_rows(&report, only);
    let loads: Vec<_> = report.loads().collect();
    assert!(loads.len() == 1 && loads[0].sizes.is_jumbo(), "{loads:?}");
    check(row(&report, loads[0], "node").expect("the node"));
    assert!(report.absent.iter().any(|absent| absent.name == "testpmd"));
    // The longest that fit into a page, as XDP frames.
    let report = compare("l2fwd", &["--input", "live", "--size", "3400"]);
    check_rows(&report, "l2fwd");
}

#[test]
fn other_programs_and_other_places_of_the_kernel_are_measured_where_they_are() {
    if !is_root() {
        return;
    }
    let only = "kernel-200-rules,kernel-nft-rps,kernel-forward-threaded,kernel-ipvs,testpmd,ovs";
    let report = compare(only, &["--input", "skb"]);
    assert_eq!(report.loads().count(), 1);
    check_rows(&report, only);
}

#[test]
fn what_cannot_be_expected_is_refused_before_anything_is_made() {
    for arguments in [
        ["--only", "l2fwd", "--expect", "kernel-nft=2"],
        ["--only", "l2fwd", "--expect", "l2fwd=0"],
        ["--only", "no-such-row", "--expect", "l2fwd=1"],
        ["--only", "l2fwd", "--expect", "l2fwd@2000=1"],
        ["--only", "l2fwd", "--expect", "l2fwd@far=1"],
        ["--only", "l2fwd", "--expect", "l2fwd/l2fwd=1"],
        ["--only", "node-fused", "--expect", "node-fused/l2fwd=1"],
        ["--only", "l2fwd", "--flows", "50001"],
        ["--only", "l2fwd", "--size", "64,128"],
        ["--only", "l2fwd", "--size", "3401"],
    ] {
        let output = trunkline(&["bench", "compare"]).args(arguments).output().expect("run");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
