//! Lab files with services in mode fnat: what they may not say, and what is only warned of (spec
//! FNAT-1 to FNAT-4, LAB-30).

use crate::support::{check, mistakes};
use datapath::lab::{self, Lints};

#[test]
fn mistakes_are_found_in_their_places() {
    check(mistakes! {
        "scheduler: rr" => "mode: ^full", "mode: expected `nat` or `fnat`, found `full`";
        "scheduler: rr" => "toa: ^true", "toa: mode `nat` has none: expected `mode: fnat`";
        "scheduler: rr" => "localAddresses: ^10.0.4.41", "localAddresses: mode `nat` has none";
        "name: demo/y" => "mode: fnat\n    name: ^demo/y",
            "service `demo/y` has no local address to send from";
        "- name: n1" => "- localAddresses: [10.0.4.41, ^10.0.4.41]\n    name: n1",
            "it is local address of node `n1`'s";
        "- name: n2" => "- localAddresses: ^10.0.4.20\n    name: n2", "it is eth0 of node `n1`'s";
        "scheduler: rr" => "mode: fnat\n    localAddresses: ^10.0.4.41",
            "`10.0.4.41` is no local address of any node";
        "- name: n1" => "- localAddresses: ^10.9.4.41\n    name: n1", "lies outside 10.0.4.0/24";
        "- name: n1" => "- localAddresses: ^10.0.4.253\n    name: n1",
            "localAddresses: `10.0.4.253` is the gateway of vSwitch";
        "- name: n1" => "- localAddresses: ^0.0.0.0\n    name: n1", "is an unspecified address";
        "- name: n1" => "- localPorts: ^9-8\n    name: n1", "ends before it begins";
        "- name: n1" => "- localPorts: ^0-8\n    name: n1", "localPorts: expected a port";
    });
}

/// A lab with a service in mode fnat; nothing in it is warned of.
const LAB: &str = "
vpc:
  cidr: 10.0.0.0/16
  vSwitches: {vsw: {cidr: 10.0.4.0/24}}
  securityGroups:
    sg-node: {}
    sg-pod: {ingress: [{peer: 10.0.4.40/29}]}
nodes:
  - {name: n1, eth0: {securityGroups: sg-node}, localAddresses: 10.0.4.41}
  - {name: n2, eth0: {securityGroups: sg-node}, localAddresses: 10.0.4.42}
pods:
  - {name: d/p, node: n2, member: {securityGroups: sg-pod}}
services:
  - {name: d/s, mode: fnat, externalIPs: 47.1.1.1, ports: [{port: 80}], endpoints: [{pod: d/p}]}
";

/// What is warned of in the lab with `from` replaced by `to`.
fn lints(from: &str, to: &str) -> Lints {
    assert!(LAB.contains(from), "{from}");
    lab::load_linted(&LAB.replacen(from, to, 1), "lab.yaml").expect("a lab").1
}

#[test]
fn a_lab_that_means_what_it_says_has_no_warning() {
    assert_eq!(lints("", "").problems, []);
}

#[test]
fn what_loses_packets_or_clients_silently_is_warned_of_in_its_place() {
    let service = "{name: d/s, mode: fnat, ";
    // What is replaced by what, where the warning points, and what it says.
    let cases = [
        (", localAddresses: 10.0.4.41", "", "d/s", "node `n1` has no local address for service"),
        (
            service,
            "{name: d/s, ",
            "10.0.4.41",
            "local addresses of node `n1`, which no service uses",
        ),
        (
            "localAddresses: 10.0.4.41",
            "localAddresses: 10.0.4.41, localPorts: 2000-2099",
            "2000-2099",
            "has local ports for 100 connections to one endpoint, fewer than `limits.flows`, 16384",
        ),
        (
            "[{port: 80}]",
            "[{port: 80}, {port: 53, proto: udp}], toa: true",
            "udp",
            "datagrams have no TCP option",
        ),
        ("10.0.4.40/29", "10.0.4.42", "d/p", "of endpoint `d/p` do not let `10.0.4.41` reach 80"),
        ("sg-node: {}", "sg-node: {type: advanced}", "d/p", "of eth0 of node `n1` do not let"),
        (
            service,
            "{name: d/s, mode: fnat, externalTrafficPolicy: Local, ",
            "Local",
            "keeps the client's address",
        ),
    ];
    for (from, to, place, message) in cases {
        let found = lints(from, to);
        let said = found.to_string();
        let problem = found.problems.iter().find(|problem| problem.message.contains(message));
        let problem = problem.unwrap_or_else(|| panic!("expected {message}, found\n{said}"));
        assert!(problem.excerpt[problem.caret..].starts_with(place), "{said}");
        assert!(said.starts_with("lab.yaml:") && said.contains(": warning: "), "{said}");
    }
}

#[test]
fn full_segments_without_room_for_the_option_are_warned_of() {
    let wide = LAB.replacen("node: n2,", "node: n2, mtu: 1600,", 1);
    let told = wide.replacen("mode: fnat,", "mode: fnat, toa: true,", 1);
    let warned = |text: &str| lab::load_linted(text, "lab.yaml").expect("a lab").1.to_string();
    assert_eq!(warned(&wide), "");
    assert!(warned(&told).contains("eth0 of node `n1` has MTU 1500, endpoint `d/p` has 1600"));
}
