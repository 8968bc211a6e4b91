//! A small lab for tests of the node: two nodes, four pods, services of every kind.
//!
//! ```text
//! n1 10.0.4.20   a 10.0.4.27 VID 101   b 10.0.4.31 VID 102
//! n2 10.0.4.244  c 10.0.5.35 VID 201   d 10.0.4.30 VID 202
//! ```
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

mod bench;
mod fragments;
mod packet;
mod run;
mod view;

use std::net::Ipv4Addr;

use datapath::journey::PortId;
use datapath::lab::{self, Lab};

pub(crate) use bench::{Bench, ENI_PORTS, HOST, Seen, who_has};
pub(crate) use fragments::*;
pub(crate) use packet::*;
pub(crate) use run::Run;
pub(crate) use view::{View, checksums_hold, header_holds};

pub(crate) const N1: Ipv4Addr = Ipv4Addr::new(10, 0, 4, 20);
pub(crate) const N2: Ipv4Addr = Ipv4Addr::new(10, 0, 4, 244);
pub(crate) const A: Ipv4Addr = Ipv4Addr::new(10, 0, 4, 27);
pub(crate) const B: Ipv4Addr = Ipv4Addr::new(10, 0, 4, 31);
pub(crate) const C: Ipv4Addr = Ipv4Addr::new(10, 0, 5, 35);
pub(crate) const D: Ipv4Addr = Ipv4Addr::new(10, 0, 4, 30);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// ClusterIP of a service whose endpoint is c.
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 10);
/// External IP of the same service, policy Cluster.
pub(crate) const FAR_XIP: Ipv4Addr = Ipv4Addr::new(47, 1, 1, 10);
/// ClusterIP of a service whose endpoint is b.
pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 11);
/// External IP of the same service, policy Cluster.
pub(crate) const NEAR_XIP: Ipv4Addr = Ipv4Addr::new(47, 1, 1, 11);
/// ClusterIP of a service with the endpoints a, b, c, d.
pub(crate) const MANY: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 12);
/// ClusterIP of a service whose endpoint is a.
pub(crate) const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 13);
/// ClusterIP of a service without endpoints.
pub(crate) const EMPTY: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 14);
/// External IP with policy Local of a service whose endpoint is b.
pub(crate) const LOCAL_XIP: Ipv4Addr = Ipv4Addr::new(47, 1, 1, 12);
/// ClusterIP of a service with the endpoints a (weight 0), b, d.
pub(crate) const SOME: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 16);
/// Address of the load balancer in front of c, unknown to kube-proxy.
pub(crate) const SLB: Ipv4Addr = Ipv4Addr::new(47, 1, 1, 20);

// Pods by index.
pub(crate) const POD_A: usize = 0;
pub(crate) const POD_B: usize = 1;
pub(crate) const POD_C: usize = 2;
pub(crate) const POD_D: usize = 3;

// Ports of node 1.
pub(crate) const CALI_A: PortId = PortId(3);
pub(crate) const CALI_B: PortId = PortId(4);

const LAB: &str = include_str!("lab.yaml");

/// The lab as the file has it, profile P1.
pub(crate) fn lab() -> Lab {
    lab_with("")
}

/// The lab with keys added, as `profile: terway-1.4.2`.
pub(crate) fn lab_with(keys: &str) -> Lab {
    lab::load(&format!("{LAB}{keys}\n"), "lab.yaml").expect("a lab")
}

/// Local addresses of node 1.
pub(crate) const LOCALS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 4, 41), Ipv4Addr::new(10, 0, 4, 42)];
/// External IP of a service in mode fnat whose endpoint is c.
pub(crate) const FNAT: Ipv4Addr = Ipv4Addr::new(47, 1, 1, 30);

/// The quiet lab with a service in mode fnat: node 1 has `ports` and two local addresses for it,
/// and `keys` are added to the service, as `toa: true`.
pub(crate) fn lab_fnat(ports: &str, keys: &str) -> Lab {
    lab_fnat_with(ports, keys, "switches: {icmpRatelimit: 0}")
}

/// The same with other keys of the file.
pub(crate) fn lab_fnat_with(ports: &str, keys: &str, file: &str) -> Lab {
    let [one, two] = LOCALS;
    let node = format!("- name: n1\n    localAddresses: [{one}, {two}]\n    localPorts: {ports}\n");
    let service = format!(
        "  - {{name: t/fnat, mode: fnat, {keys}, externalIPs: {FNAT}, endpoints: [{{pod: t/c}}], \
         ports: [{{port: 80, targetPort: 8080}}, {{port: 53, targetPort: 5353, proto: udp}}]}}\n\
         slbs:\n"
    );
    let text = LAB.replace("- name: n1\n", &node).replace("slbs:\n", &service);
    lab::load(&format!("{text}{file}\n"), "lab.yaml").expect("a lab")
}

/// The lab with some switches besides those it needs to be quiet and predictable.
pub(crate) fn lab_switched(switches: &str) -> Lab {
    lab_with(&format!("switches: {{masqueradeRandomFully: false, icmpRatelimit: 0, {switches}}}"))
}
