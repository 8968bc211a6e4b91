//! The scenarios on AF_XDP, with real curl and real nginx, are what they are in memory.

use serde_json::Value;

use crate::support::{is_root, run};

/// Hop by hop: hook, port, VID, rule, route, service, security-group rule, tuple, with the
/// client's and the masquerade's ports as symbols.
fn takes_the_same_hops(scenario: &str, profile: &str, poll: &str) {
    if !is_root() {
        return;
    }
    let how = ["--profile", profile, "--on", "memory,afxdp", "--poll", poll];
    let args = [&["run", scenario, "--all-variants", "--json"], &how[..]].concat();
    let report: Value = serde_json::from_str(&run(&args)).expect("a report");
    assert_eq!(report["passed"], true, "{report:#}");
    for pair in report["cases"].as_array().expect("cases").chunks(2) {
        let [memory, live] = pair else { panic!("each case on both: {pair:#?}") };
        assert_eq!([&memory["datapath"], &live["datapath"]], ["memory", "afxdp"]);
        assert_eq!(live["comparison"], memory["comparison"]);
        let forward = live["comparison"]["forward"].as_array().expect("hops");
        assert!(!forward.is_empty(), "{live:#} has hops to compare");
        let checks = live["checks"].as_array().expect("checks");
        assert!(checks.iter().any(|check| check["what"] == "hops = memory"));
    }
}

// Two tests, as they run side by side: a client that gets no answer waits.

#[test]
fn every_scenario_takes_the_same_hops_as_in_memory() {
    takes_the_same_hops("all", "terway-1.4.0", "adaptive");
}

#[test]
fn every_scenario_of_the_later_profile_takes_the_same_hops_as_in_memory() {
    takes_the_same_hops("all", "terway-1.4.2", "adaptive");
}

/// A forwarder that never sleeps forwards the same.
#[test]
fn a_busy_forwarder_takes_the_same_hops() {
    takes_the_same_hops("S5", "terway-1.4.0", "busy");
}
