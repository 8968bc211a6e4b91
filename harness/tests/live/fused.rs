//! Fused links and several workers: what is seen is what is seen on wires (spec LINK-1 to LINK-5).

use datapath::lab::Lab;
use datapath::link::HostId;
use serde_json::{Value, json};

use crate::support::{TWO_MEMBERS, TestLab, is_root, port, remains, run, trunkline, udp};

/// The hops, verdicts and counts of a scenario are those of memory.
fn takes_the_same_hops(scenario: &str, how: &[&str]) {
    if !is_root() {
        return;
    }
    let args = [&["run", scenario, "--on", "memory,afxdp", "--json"], how].concat();
    let report: Value = serde_json::from_str(&run(&args)).expect("a report");
    assert_eq!(report["passed"], true, "{report:#}");
    let [memory, live] = &report["cases"].as_array().expect("cases")[..] else {
        panic!("on both: {report:#}")
    };
    assert_eq!(live["comparison"], memory["comparison"]);
    assert!(!live["comparison"]["forward"].as_array().expect("hops").is_empty());
}

#[test]
fn a_scenario_takes_the_same_hops_by_fused_links() {
    takes_the_same_hops("S8", &["--links", "fused"]);
}

#[test]
fn a_scenario_takes_the_same_hops_by_fused_links_between_threads() {
    takes_the_same_hops("S5", &["--links", "fused", "--workers", "2"]);
    takes_the_same_hops("S8/mem2-in", &["--links", "fused", "--workers", "3", "--poll", "busy"]);
}

#[test]
fn a_scenario_takes_the_same_hops_by_wires_between_threads() {
    takes_the_same_hops("S5", &["--workers", "2"]);
}

/// Two datagrams from outside to the first pod, and its answers.
fn ask_twice(test: &TestLab, lab: &Lab) {
    let pod = udp(test, lab, HostId::Pod(0), 5_353);
    let world = udp(test, lab, HostId::Outside(0), 40_000);
    let mut bytes = [0; 16];
    for question in [b"one", b"two"] {
        world.send_to(question, (lab.pods[0].ip, 5_353)).expect("ask");
        let (len, from) = pod.recv_from(&mut bytes).expect("the question");
        pod.send_to(&bytes[..len], from).expect("answer");
        let len = world.recv(&mut bytes).expect("the answer");
        assert_eq!(&bytes[..len], question);
    }
}

/// Brings a lab with links of a kind up on so many threads and asks twice; its books.
fn books_of(links: &str, workers: &str) -> (TestLab, Value) {
    let text = format!("links: {links}\n{TWO_MEMBERS}");
    let lab = datapath::lab::load(&text, links).expect("a lab");
    let test = TestLab::new(&text);
    let path = test.path.to_str().expect("a path");
    run(&["up", path, "--name", &test.name, "--workers", workers]);
    ask_twice(&test, &lab);
    let ledger = test.ledger();
    assert_eq!(ledger["imbalances"], json!([]), "{ledger:#}");
    (test, ledger)
}

/// What elements, learned paths and the queues of ports have counted; without what was copied from
/// one packet memory to another, which is no counter of the way.
fn counts(mut ledger: Value) -> Value {
    let ports = ledger["ports"].as_array_mut().expect("ports").iter_mut().map(|port| {
        for queue in port["queues"].as_array_mut().expect("queues") {
            queue.as_object_mut().expect("counters").remove("copied").expect("a counter");
        }
        json!([port["element"], port["port"], port["queues"]])
    });
    let ports: Vec<_> = ports.collect();
    json!([ledger["elements"], ledger["flowCaches"], ports])
}

/// What one end of the node's eth0 has sent the other has received, without a device, and every
/// counter is as on wires.
#[test]
fn a_fused_lab_has_no_devices_between_elements_and_counts_them_even_so() {
    if !is_root() {
        return;
    }
    let wired = counts(books_of("wired", "1").1);
    for workers in ["1", "2"] {
        let (test, ledger) = books_of("fused", workers);
        assert_eq!(counts(ledger.clone()), wired, "on {workers} threads");
        for (near, far) in [("eth0", "n0e0"), ("eth1", "n0e1")] {
            let (near, far) = (port(&ledger, "n1", near), port(&ledger, "vpc", far));
            assert_eq!([&near["namespace"], &far["namespace"]], [&Value::Null, &Value::Null]);
            assert_eq!(near["link"]["txPackets"], far["link"]["rxPackets"], "{ledger:#}");
            assert_eq!(near["link"]["rxPackets"], far["link"]["txPackets"], "{ledger:#}");
        }
        let by_trunk = &port(&ledger, "n1", "eth1")["queues"][1]["rx"];
        assert!(
            by_trunk.as_u64() >= Some(2),
            "the pod's requests came on its own queue: {ledger:#}"
        );
        let report: Value =
            serde_json::from_str(&run(&["doctor", &test.name, "--json"])).expect("json");
        assert_eq!(report["passed"], true, "{report:#}");
        run(&["down", &test.name]);
        assert_eq!(remains(&test.name), Vec::<String>::new());
    }
}

#[test]
fn more_workers_than_elements_are_refused_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let test = TestLab::new(TWO_MEMBERS);
    let path = test.path.to_str().expect("a path");
    let up = ["up", path, "--name", &test.name, "--workers", "3"];
    let output = trunkline(&up).output().expect("run trunkline");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("3 workers: the lab has 2 elements to run"), "{said}");
    assert_eq!(remains(&test.name), Vec::<String>::new());
}

#[test]
fn a_running_lab_keeps_its_links() {
    if !is_root() {
        return;
    }
    let test = TestLab::up(TWO_MEMBERS);
    std::fs::write(&test.path, format!("links: fused\n{TWO_MEMBERS}")).expect("write the lab");
    let apply = ["apply", test.path.to_str().expect("a path"), "--lab", &test.name];
    let output = trunkline(&apply).output().expect("run trunkline");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("`links` differs from what is up"), "{said}");
}
