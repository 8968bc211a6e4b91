//! Traces of a Linux 6.1 kernel with IPVS, kube-proxy's sets and Terway's rules come out of the
//! lab in memory as the kernel made them, at every hop.

use std::path::Path;

use crate::replay_trace::{Trace, compare, kernel, text};
use datapath::lab::{Lab, load};

const LAB: &str = include_str!("../../../datapath/tests/labs/kernel.yaml");

fn lab() -> Lab {
    load(LAB, "kernel.yaml").expect("the lab")
}

/// The lab as it was when the trace `name` was taken.
fn lab_of(name: &str) -> Lab {
    let changes: &[(&str, &str)] = match name {
        // Pod C's cali has a smaller MTU.
        "s09d" => &[("    cali: caliC\n", "    cali: caliC\n    mtu: 1300\n")],
        // The service has one more port.
        "t01" => {
            &[("    ports: &ports\n", "    ports: &ports\n      - {port: 70, targetPort: 7000}\n")]
        }
        // Rule 2048 has no iif; the outside host's packets for one VIP are sent to node ecs1.
        "v07" => &[
            ("terway-1.4.0", "terway-1.4.2"),
            (
                "  securityGroups:",
                "  routes: [{dst: 47.1.1.13/32, nextHop: eni-1}]\n  securityGroups:",
            ),
            ("eth0: {ip: 10.0.0.11,", "eth0: {eni: eni-1, ip: 10.0.0.11,"),
        ],
        _ => &[],
    };
    let text = changes.iter().fold(LAB.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old:?} is not in the lab");
        text.replacen(old, new, 1)
    });
    load(&text, name).unwrap_or_else(|e| panic!("{e}"))
}

/// Plays a trace, with the flow cache and without; `frames` is how many there are at all hops
/// together.
fn equal(lab: &Lab, trace: &Trace, frames: usize) {
    for flow_cache in [true, false] {
        let mut lab = lab.clone();
        lab.switches.flow_cache = flow_cache;
        match compare(lab, trace.clone()) {
            Ok(compared) => assert_eq!(compared, frames),
            Err(wrong) => panic!("flowCache: {flow_cache}\n{wrong}"),
        }
    }
}

#[test]
fn pod_to_cluster_ip_on_the_other_node() {
    equal(&lab(), &text::read(&lab(), include_str!("../traces/s01.txt")), 80);
}

#[test]
fn pod_to_external_ip_on_the_other_node() {
    equal(&lab(), &text::read(&lab(), include_str!("../traces/s02.txt")), 80);
}

#[test]
fn outside_host_to_pod_through_its_member_eni() {
    equal(&lab(), &text::read(&lab(), include_str!("../traces/s07.txt")), 50);
}

#[test]
fn errors_about_answers_are_translated_forwards() {
    equal(&lab(), &text::read(&lab(), include_str!("../traces/s08c.txt")), 48);
}

#[test]
fn errors_about_requests_are_translated_back() {
    let lab = lab_of("s09d");
    let trace = text::read(&lab, include_str!("../traces/s09d.txt"));
    equal(&lab, &trace, 24);
}

#[test]
fn a_difference_is_found_and_told() {
    let text = include_str!("../traces/s01.txt").replacen(
        "ecs1.eth0>gw         -    A:40001 > C:8080 ttl=63",
        "ecs1.eth0>gw         -    A:40001 > C:8080 ttl=62",
        1,
    );
    let wrong = compare(lab(), text::read(&lab(), &text)).expect_err("a difference");
    assert!(wrong.starts_with("ecs1/eth0 Outbound #0\n  want 10.0.2.101:40001 > 10.0.2.103:8080"));
    assert_eq!(wrong.matches("want").count(), 1, "{wrong}");
}

/// Every `*.pcapng` in the folder TRUNKLINE_TRACES, on the lab in `NAME.yaml` beside it, else in
/// `lab.yaml` there, else on the lab of the other tests as [`lab_of`] changes it.
#[test]
fn traces_of_a_folder() {
    let Some(folder) = std::env::var_os("TRUNKLINE_TRACES") else {
        println!("skipped: TRUNKLINE_TRACES not set");
        return;
    };
    let folder = Path::new(&folder);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder TRUNKLINE_TRACES")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "pcapng"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no *.pcapng in {}", folder.display());
    let mut wrong = Vec::new();
    for file in files {
        let own = [file.with_extension("yaml"), folder.join("lab.yaml")];
        let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let lab = own.iter().find(|path| path.exists()).map_or_else(
            || lab_of(name),
            |path| {
                let text = std::fs::read_to_string(path).expect("a readable lab");
                load(&text, &path.display().to_string()).unwrap_or_else(|e| panic!("{e}"))
            },
        );
        let trace = kernel::read(&lab, &file);
        match compare(lab, trace) {
            Ok(frames) => println!("{}: {frames} frames equal", file.display()),
            Err(differs) => wrong.push(format!("{}:\n{differs}", file.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
