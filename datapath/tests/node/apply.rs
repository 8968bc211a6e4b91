//! Another version of a running lab: what it does from then on is what a lab brought up with that
//! version does (spec LAB-29).

use std::fmt::Debug;

use crate::common::*;
use datapath::lab::Lab;
use datapath::link::{ElementId, HostId};

/// A version of the lab.
fn version(profile: &str, switches: &str) -> Lab {
    let quiet = "masqueradeRandomFully: false, icmpRatelimit: 0, permanentNeighbours: true";
    lab_with(&format!("profile: {profile}\nswitches: {{{quiet}, {switches}}}"))
}

/// Conversations over every kind of way: what the wires carried, and what elements and VPC have
/// counted and kept.
fn conversations(run: &mut Run) -> Vec<String> {
    let servers = [(C, 8_080), (FAR, 80), (FAR_XIP, 80), (NEAR_XIP, 80), (CLIENT, 443), (SLB, 80)];
    for (port, server) in (40_001..).zip(servers) {
        run.send(HostId::Pod(POD_A), &tcp((A, port), server, SYN));
        let (host, view) = run.delivered();
        run.send(host, &tcp(view.dst, view.src, SYN_ACK));
        for _ in 0..3 {
            run.send(HostId::Pod(POD_A), &tcp((A, port), server, ACK));
            run.send(host, &tcp(view.dst, view.src, ACK));
        }
        while run.link.take_delivery().is_some() {}
    }
    let mut seen = run.trace();
    let link = &run.link;
    let mut add = |what: &dyn Debug| seen.push(format!("{what:?}"));
    for id in ElementId::all(link.lab()) {
        add(&link.element(id).expect("an element").ledger());
    }
    for node in 0..link.lab().nodes.len() {
        add(&link.node(node).expect("a node").cache_counters());
    }
    for eni in 0..link.lab().enis.len() {
        add(&(eni, link.vpc().eni_counters(eni)));
    }
    add(&link.vpc().cache_counters());
    link.vpc().sessions(link.now()).for_each(|session| add(&session));
    seen
}

#[test]
fn a_version_that_is_applied_and_one_brought_up_do_the_same() {
    let versions = [
        ("terway-1.4.0", ""),
        ("terway-1.3", ""),
        ("terway-1.4.2", ""),
        ("terway-1.4.0", "vlanPush: false"),
        ("terway-1.4.0", "flowCache: false"),
        ("terway-1.4.2", "masqueradeAll: true, vsConntrack: false"),
    ];
    for to in versions {
        let mut fresh = Run::new(version(to.0, to.1));
        let expected = conversations(&mut fresh);
        for from in versions {
            let mut run = Run::new(version(from.0, from.1));
            assert!(run.link.apply(version(to.0, to.1)));
            assert_eq!(run.link.lab(), fresh.link.lab());
            assert_eq!(conversations(&mut run), expected, "{from:?}, then {to:?}");
        }
    }
}
