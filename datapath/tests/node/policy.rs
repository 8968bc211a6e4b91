//! Which endpoints kube-proxy gives each address of a service, and what its sets say, by traffic
//! policy and generation (spec IPVS-5, IPVS-6, IPVS-91, MARK).

use std::net::Ipv4Addr;

use crate::common::*;
use datapath::journey::{MarkRule, Step};
use datapath::lab::{self, Lab};
use datapath::link::HostId;
use datapath::node::ETH0;
use datapath::node::ipvs::{Persistence, VipKind};
use datapath::verdict::DropReason;
use datapath::wire::Protocol;

const CIP: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 99);
const XIP: Ipv4Addr = Ipv4Addr::new(47, 1, 1, 98);
const LB: Ipv4Addr = Ipv4Addr::new(47, 1, 1, 99);
const NODE_PORT: u16 = 30_080;

/// The lab with one more service, `keys` of it given.
fn with_service(kube_proxy: &str, keys: &str) -> Lab {
    let text = include_str!("../common/lab.yaml");
    let ports = "ports: [{port: 80, targetPort: 8080, nodePort: 30080}], ";
    let ports = if keys.contains("ports:") { "" } else { ports };
    let service = format!("  - {{name: t/policy, clusterIP: {CIP}, {ports}{keys}}}\nslbs:\n");
    let switches = format!(
        "switches: {{kubeProxy: {kube_proxy}, masqueradeRandomFully: false, icmpRatelimit: 0}}\n"
    );
    let text = text.replacen("slbs:\n", &service, 1) + &switches;
    lab::load(&text, "lab.yaml").unwrap_or_else(|error| panic!("{error}"))
}

/// Every address of the service on node 1, with its destinations.
fn destinations(kube_proxy: &str, keys: &str) -> Vec<(VipKind, Vec<Ipv4Addr>)> {
    let bench = Bench::new(with_service(kube_proxy, keys));
    let services = bench.node.config().services.all().iter();
    let ours = services.filter(|service| {
        [CIP, XIP, LB].contains(&service.vip) || service.kind == VipKind::NodePort
    });
    let mut ours: Vec<_> =
        ours.map(|s| (s.kind, s.destinations.iter().map(|d| d.ip).collect())).collect();
    ours.sort_by_key(|(kind, _)| *kind);
    ours
}

/// The same destinations for each kind of address that something outside the cluster knows.
fn outward(near: &[Ipv4Addr], all: &[Ipv4Addr]) -> Vec<(VipKind, Vec<Ipv4Addr>)> {
    vec![
        (VipKind::ClusterIp, all.to_vec()),
        (VipKind::External, near.to_vec()),
        (VipKind::LoadBalancer, near.to_vec()),
        (VipKind::NodePort, near.to_vec()),
    ]
}

const REACHED: &str = "type: LoadBalancer, externalIPs: 47.1.1.98, loadBalancer: 47.1.1.99";

#[test]
fn policy_local_takes_local_endpoints_for_every_outward_address() {
    for kube_proxy in ["v1.20", "v1.28"] {
        let keys = format!("{REACHED}, endpoints: [{{pod: t/a}}, {{pod: t/c}}]");
        assert_eq!(destinations(kube_proxy, &keys), outward(&[A, C], &[A, C]));
        let keys = format!("{keys}, externalTrafficPolicy: Local");
        assert_eq!(destinations(kube_proxy, &keys), outward(&[A], &[A, C]));
        let keys = keys.replace("external", "internal").replace("internalIPs", "externalIPs");
        assert_eq!(destinations(kube_proxy, &keys), outward(&[A, C], &[A]));
    }
}

#[test]
fn policy_local_without_a_local_endpoint_is_of_its_generation() {
    let keys = format!("{REACHED}, externalTrafficPolicy: Local, endpoints: [{{pod: t/c}}]");
    assert_eq!(destinations("v1.20", &keys), outward(&[], &[C]));
    assert_eq!(destinations("v1.28", &keys), outward(&[C], &[C]));
    // What nothing from outside leads to has no endpoints but those of its node.
    let internal = "ports: [{port: 80}], internalTrafficPolicy: Local, endpoints: [{pod: t/c}]";
    for kube_proxy in ["v1.20", "v1.28"] {
        assert_eq!(destinations(kube_proxy, internal), [(VipKind::ClusterIp, vec![])]);
    }
    let keys = format!("{REACHED}, internalTrafficPolicy: Local, endpoints: [{{pod: t/c}}]");
    assert_eq!(destinations("v1.28", &keys), outward(&[C], &[C]));
}

#[test]
fn terminating_endpoints_are_the_last_resort_of_the_new_generation() {
    let keys = |endpoints: &str| {
        format!("{REACHED}, externalTrafficPolicy: Local, endpoints: [{endpoints}]")
    };
    let both = keys("{pod: t/a, terminating: true}, {pod: t/c}");
    // The old one knows ready endpoints only, and has none here.
    assert_eq!(destinations("v1.20", &both), outward(&[], &[C]));
    // The new one looks for them in each scope by itself.
    assert_eq!(destinations("v1.28", &both), outward(&[A], &[C]));
    let all = keys("{pod: t/a, terminating: true}, {pod: t/c, terminating: true}");
    assert_eq!(destinations("v1.20", &all), outward(&[], &[]));
    assert_eq!(destinations("v1.28", &all), outward(&[A], &[A, C]));
    let ready = keys("{pod: t/a, terminating: true}, {pod: t/b}");
    assert_eq!(destinations("v1.28", &ready), outward(&[B], &[B]));
    let broken = keys("{pod: t/a, serving: false, terminating: true}, {pod: t/b, ready: false}");
    for kube_proxy in ["v1.20", "v1.28"] {
        assert_eq!(destinations(kube_proxy, &broken), outward(&[], &[]), "neither serves");
    }
}

/// Which rule marks a pod's first packet to an address of node 1.
fn marked(lab: Lab, from: Addr, to: Addr) -> Option<MarkRule> {
    let mut bench = Bench::new(lab);
    bench.packet(CALI_A, &tcp(from, to, SYN));
    bench.steps().iter().find_map(|step| match step {
        Step::Marked(rule) => Some(*rule),
        _ => None,
    })
}

#[test]
fn outward_addresses_are_marked_with_policy_cluster_only() {
    for kube_proxy in ["v1.20", "v1.28"] {
        let keys = format!("{REACHED}, endpoints: [{{pod: t/b}}]");
        let cluster = with_service(kube_proxy, &keys);
        let local = with_service(kube_proxy, &format!("{keys}, externalTrafficPolicy: Local"));
        for (to, rule) in [
            ((CIP, 80), None),
            ((XIP, 80), Some(MarkRule::ExternalIp)),
            ((LB, 80), Some(MarkRule::LoadBalancer)),
            ((N1, NODE_PORT), Some(MarkRule::NodePort)),
        ] {
            assert_eq!(marked(cluster.clone(), (A, 1), to), rule, "{to:?}");
            assert_eq!(marked(local.clone(), (A, 1), to), None, "{to:?}");
        }
    }
}

#[test]
fn a_node_port_marks_at_every_address_of_the_node() {
    // KUBE-NODE-PORT-TCP has ports without addresses: another service's ClusterIP with the same
    // port is masqueraded too. An external IP is accepted before.
    let keys = "type: NodePort, externalIPs: 47.1.1.98, externalTrafficPolicy: Local, \
        ports: [{port: 30081, targetPort: 8080, nodePort: 30081}], endpoints: [{pod: t/b}]}\n  \
        - {name: t/other, clusterIP: 192.168.0.98, type: NodePort, \
        ports: [{port: 80, targetPort: 8080, nodePort: 30082}, {port: 30081, targetPort: 1, \
        nodePort: 30083}, {port: 30083, nodePort: 30084}], endpoints: [{pod: t/b}]";
    let lab = with_service("v1.28", keys);
    let other = Ipv4Addr::new(192, 168, 0, 98);
    assert_eq!(marked(lab.clone(), (A, 1), (other, 30_083)), Some(MarkRule::NodePort));
    assert_eq!(marked(lab.clone(), (A, 1), (other, 30_081)), None, "policy Local returns");
    assert_eq!(marked(lab.clone(), (A, 1), (other, 80)), None);
    assert_eq!(marked(lab, (A, 1), (XIP, 30_081)), None);
}

#[test]
fn an_outside_client_is_served_by_a_node_port() {
    let keys = "type: NodePort, endpoints: [{pod: t/c}]";
    let mut bench = Bench::new(with_service("v1.20", keys));
    let out = bench.sent(ETH0, &tcp((CLIENT, 5_000), (N1, NODE_PORT), SYN));
    assert_eq!((out.port, out.view().tuple()), (ETH0, ((N1, 5_000), (C, 8080))));
    let back = bench.sent(ETH0, &tcp((C, 8080), (N1, 5_000), SYN_ACK));
    assert_eq!((back.port, back.view().tuple()), (ETH0, ((N1, NODE_PORT), (CLIENT, 5_000))));
    // Policy Local keeps the client's address; the answer leaves by eth0 all the same.
    let keys = "type: NodePort, externalTrafficPolicy: Local, endpoints: [{pod: t/b}, {pod: t/c}]";
    let mut bench = Bench::new(with_service("v1.20", keys));
    let out = bench.sent(ETH0, &tcp((CLIENT, 5_000), (N1, NODE_PORT), SYN));
    assert_eq!((out.port, out.view().tuple()), (CALI_B, ((CLIENT, 5_000), (B, 8080))));
    let back = bench.sent(CALI_B, &tcp((B, 8080), (CLIENT, 5_000), SYN_ACK));
    assert_eq!((back.port, back.view().tuple()), (ETH0, ((N1, NODE_PORT), (CLIENT, 5_000))));
}

#[test]
fn the_rest_of_the_node_s_address_is_its_stack_s() {
    let keys = "type: NodePort, endpoints: [{pod: t/c}]";
    let mut bench = Bench::new(with_service("v1.28", keys));
    for packet in [
        tcp((CLIENT, 5_000), (N1, 22), SYN),
        tcp((CLIENT, 5_000), (N1, NODE_PORT), ACK),
        udp((CLIENT, 5_000), (N1, NODE_PORT), b"no such"),
        ping(CLIENT, N1, 1),
    ] {
        assert_eq!(bench.sent(ETH0, &packet).port, HOST);
    }
    // A ClusterIP does not listen on the node's port.
    let refused = bench.refused(CALI_A, &tcp((A, 1), (CIP, NODE_PORT), SYN));
    assert_eq!(refused.0, DropReason::NoService);
}

#[test]
fn a_node_port_without_a_destination_refuses() {
    let keys = "type: NodePort, externalTrafficPolicy: Local, endpoints: [{pod: t/c}]";
    let mut bench = Bench::new(with_service("v1.20", keys));
    let (reason, view) = bench.refused(ETH0, &tcp((CLIENT, 5_000), (N1, NODE_PORT), SYN));
    assert_eq!((reason, view.kind.as_str()), (DropReason::NoDestination, "icmp 3/3"));
    assert_eq!((view.src, view.dst), ((N1, 0), (CLIENT, 0)));
    // The new generation serves it from the other node; nobody masquerades.
    let mut bench = Bench::new(with_service("v1.28", keys));
    let out = bench.sent(ETH0, &tcp((CLIENT, 5_000), (N1, NODE_PORT), SYN));
    assert_eq!(out.view().tuple(), ((CLIENT, 5_000), (C, 8080)));
}

#[test]
fn pods_and_nodes_reach_a_node_port_over_the_lab() {
    let keys = "type: NodePort, endpoints: [{pod: t/c}]";
    for (host, from, seen) in [
        // By the pod's own node, by another one, and from the other node itself.
        (HostId::Pod(POD_A), A, N1),
        (HostId::Pod(POD_D), D, N1),
        (HostId::NodeHost(1), N2, N1),
        (HostId::Outside(0), CLIENT, N1),
    ] {
        let mut run = Run::new(with_service("v1.28", keys));
        run.send(host, &tcp((from, 7_000), (N1, NODE_PORT), SYN));
        let (to, view) = run.delivered();
        assert_eq!(to, HostId::Pod(POD_C), "{host:?}");
        assert_eq!((view.from(), view.dst), (seen, (C, 8080)), "{host:?}");
        run.send(to, &tcp(view.dst, view.src, SYN_ACK));
        let (to, view) = run.delivered();
        assert_eq!((to, view.tuple()), (host, ((N1, NODE_PORT), (from, 7_000))), "{host:?}");
    }
}

#[test]
fn what_the_node_itself_sends_is_marked_as_what_arrives() {
    let keys = format!("{REACHED}, endpoints: [{{pod: t/c}}]");
    for kube_proxy in ["v1.20", "v1.28"] {
        for (to, rule) in [
            ((CIP, 80), None),
            ((XIP, 80), Some(MarkRule::ExternalIp)),
            ((LB, 80), Some(MarkRule::LoadBalancer)),
            ((N1, NODE_PORT), Some(MarkRule::NodePort)),
        ] {
            let mut bench = Bench::new(with_service(kube_proxy, &keys));
            let seen = bench.sent(HOST, &tcp((N1, 7_000), to, SYN));
            assert_eq!((seen.port, seen.view().tuple()), (ETH0, ((N1, 7_000), (C, 8080))));
            let marked = bench.steps().iter().find_map(|step| match step {
                Step::Marked(rule) => Some(*rule),
                _ => None,
            });
            assert_eq!(marked, rule, "{to:?}");
        }
    }
}

#[test]
fn a_virtual_address_as_a_source_is_marked_by_the_destination_s_port() {
    // KUBE-CLUSTER-IP src,dst: the source's address with the port that is asked (spec MARK-6).
    let lab = || with_service("v1.28", "type: NodePort, endpoints: [{pod: t/c}]");
    for (to, rule) in [((FAR, 80), Some(MarkRule::FromVip)), ((FAR, 53), None)] {
        let mut bench = Bench::new(lab());
        bench.packet(HOST, &tcp((CIP, 7_000), to, SYN));
        let marked = bench.steps().iter().any(|step| matches!(step, Step::Marked(_)));
        assert_eq!(marked, rule.is_some(), "{to:?}");
    }
}

#[test]
fn session_affinity_is_persistence_at_every_address() {
    for (keys, expected) in [
        ("", None),
        ("sessionAffinity: None, ", None),
        ("sessionAffinity: ClientIP, ", Some(10_800)),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}, ",
            Some(60),
        ),
    ] {
        let keys = format!("{keys}{REACHED}, endpoints: [{{pod: t/b}}, {{pod: t/c}}]");
        let mut bench = Bench::new(with_service("v1.28", &keys));
        let expected = expected.map(Persistence::of_client);
        for address in [(CIP, 80), (XIP, 80), (LB, 80), (N1, NODE_PORT)] {
            let key = (Protocol::TCP, address.0, address.1);
            let service = bench.node.config().services.get(key).expect("a virtual server");
            assert_eq!(service.persistence, expected, "{address:?}");
            let mut destination =
                |port| bench.sent(CALI_A, &tcp((A, port), address, SYN)).view().dst;
            let (first, second) = (destination(7_000), destination(7_001));
            assert_eq!(first == second, expected.is_some(), "{address:?}");
        }
    }
}
