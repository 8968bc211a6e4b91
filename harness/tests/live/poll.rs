//! The ways in which the forwarder waits for frames (spec LAB-33).

use datapath::link::HostId;
use harness::doctor::receives_when_asked;
use harness::live::topology::host_namespace;
use harness::net::sysfs;

use crate::datagrams::ping;
use crate::support::{TWO_MEMBERS, TestLab, is_root, remains, run, trunkline};

#[test]
fn every_way_of_waiting_forwards() {
    if !is_root() {
        return;
    }
    let lab = datapath::lab::load(TWO_MEMBERS, "poll").expect("a lab");
    let receives_when_asked = receives_when_asked().expect("a frame gets through");
    for poll in ["busy", "adaptive", "kernel-busy"] {
        let test = TestLab::new(TWO_MEMBERS);
        let path = test.path.to_str().expect("a path");
        if poll == "kernel-busy" && !receives_when_asked {
            let refused = trunkline(&["up", path, "--name", &test.name, "--poll", poll]).output();
            let refused = refused.expect("run trunkline");
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(!refused.status.success() && said.contains("use --poll busy"), "{said}");
            assert_eq!(remains(&test.name), [""; 0]);
            continue;
        }
        run(&["up", path, "--name", &test.name, "--poll", poll]);
        let namespace = host_namespace(&test.name, &lab, HostId::Pod(0)).expect("a host");
        let to = lab.pods[1].ip;
        for turn in 0..20_u8 {
            assert_eq!(ping(&namespace, to, &[turn; 56])[8..], [turn; 56], "{poll}");
        }
        // The kernel leaves the interrupts alone only where it is asked to receive.
        let node = format!("{}-{}", test.name, lab.nodes[0].name);
        for (setting, deferred) in [("napi_defer_hard_irqs", "2"), ("gro_flush_timeout", "200000")]
        {
            let read = sysfs::run_in(&node, || sysfs::read("eth0", setting));
            let expected = if poll == "kernel-busy" { deferred } else { "0" };
            assert_eq!(read.expect("enter").expect("read"), expected, "{poll}");
        }
        assert_eq!(test.ledger()["imbalances"], serde_json::json!([]), "{poll}");
    }
}
