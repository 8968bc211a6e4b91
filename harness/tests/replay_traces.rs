//! Traces of a Linux 6.1 kernel with IPVS, kube-proxy's sets and Terway's rules come out of the
//! lab in memory as the kernel made them, at every hop.

mod replay_trace;

use std::path::Path;

use datapath::lab::{Lab, load};
use replay_trace::{Trace, compare, kernel, text};

fn lab() -> Lab {
    load(include_str!("../../datapath/tests/labs/kernel.yaml"), "kernel.yaml").expect("the lab")
}

/// Plays a trace; `frames` is how many there are at all hops together.
fn equal(trace: Trace, frames: usize) {
    match compare(lab(), trace) {
        Ok(compared) => assert_eq!(compared, frames),
        Err(wrong) => panic!("{wrong}"),
    }
}

#[test]
fn pod_to_cluster_ip_on_the_other_node() {
    equal(text::read(&lab(), include_str!("traces/s01.txt")), 80);
}

#[test]
fn pod_to_external_ip_on_the_other_node() {
    equal(text::read(&lab(), include_str!("traces/s02.txt")), 80);
}

#[test]
fn outside_host_to_pod_through_its_member_eni() {
    equal(text::read(&lab(), include_str!("traces/s07.txt")), 50);
}

#[test]
fn errors_about_answers_are_translated_forwards() {
    equal(text::read(&lab(), include_str!("traces/s08c.txt")), 48);
}

#[test]
fn errors_about_requests_are_translated_back() {
    let mut lab = lab();
    let c = lab.pods.iter_mut().find(|pod| pod.name == "t/c").expect("pod C");
    c.mtu = 1300;
    let trace = text::read(&lab, include_str!("traces/s09d.txt"));
    assert_eq!(compare(lab, trace), Ok(24));
}

#[test]
fn a_difference_is_found_and_told() {
    let text = include_str!("traces/s01.txt").replacen(
        "ecs1.eth0>gw         -    A:40001 > C:8080 ttl=63",
        "ecs1.eth0>gw         -    A:40001 > C:8080 ttl=62",
        1,
    );
    let wrong = compare(lab(), text::read(&lab(), &text)).expect_err("a difference");
    assert!(wrong.starts_with("ecs1/eth0 Outbound #0\n  want 10.0.2.101:40001 > 10.0.2.103:8080"));
    assert_eq!(wrong.matches("want").count(), 1, "{wrong}");
}

/// Every `*.pcapng` in the folder TRUNKLINE_TRACES, on the lab in `NAME.yaml` beside it, else in
/// `lab.yaml` there, else on the lab of the other tests.
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
        let lab = own.iter().find(|path| path.exists()).map_or_else(lab, |path| {
            let text = std::fs::read_to_string(path).expect("a readable lab");
            load(&text, &path.display().to_string()).unwrap_or_else(|e| panic!("{e}"))
        });
        let trace = kernel::read(&lab, &file);
        match compare(lab, trace) {
            Ok(frames) => println!("{}: {frames} frames equal", file.display()),
            Err(differs) => wrong.push(format!("{}:\n{differs}", file.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
