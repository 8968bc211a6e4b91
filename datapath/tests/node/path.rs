//! The scenarios' paths, wire by wire (spec SCN-12 to SCN-21, SCN-29 to SCN-34), and the order of
//! the hooks.

use crate::common::*;
use datapath::journey::{Hook, Step};
use datapath::lab::Lab;
use datapath::link::HostId;
use datapath::node::{ETH0, pipeline};

const SP: u16 = 40_001;

fn quiet() -> Lab {
    lab_switched("")
}

fn p2() -> Lab {
    lab_with("profile: terway-1.4.2\nswitches: {masqueradeRandomFully: false}")
}

/// A request and its answer: what the wires carried.
fn exchange(lab: Lab, from: HostId, request: &[u8], flags: datapath::wire::tcp::Flags) -> String {
    let mut run = Run::new(lab);
    run.send(from, request);
    let (server, view) = run.delivered();
    run.send(server, &tcp(view.dst, view.src, flags));
    let (client, _) = run.delivered();
    assert_eq!(client, from);
    run.trace().join("\n")
}

fn syn_from_a(dst: Addr) -> Vec<u8> {
    tcp((A, SP), dst, SYN)
}

fn assert_path(actual: &str, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(actual.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn hooks_come_in_one_order() {
    let names: Vec<_> = pipeline::HOOKS.iter().map(|hook| hook.name()).collect();
    let expected =
        ["ingress", "PREROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POSTROUTING", "egress"];
    assert_eq!(names, expected);
    let mut bench = Bench::new(quiet());
    let passes = |bench: &Bench| -> Vec<Hook> {
        let hooks = bench.steps().iter().filter_map(|step| match step {
            Step::Hook(hook) => Some(*hook),
            _ => None,
        });
        hooks.filter(|hook| *hook != Hook::Ingress).collect()
    };
    bench.sent(CALI_A, &tcp((A, SP), (B, 80), SYN));
    let forwarded = [Hook::Prerouting, Hook::Forward, Hook::Postrouting, Hook::Egress];
    assert_eq!(passes(&bench), forwarded);
    bench.sent(CALI_A, &syn_from_a((NEAR, 80)));
    let translated = [Hook::Prerouting, Hook::LocalIn, Hook::LocalOut, Hook::Postrouting];
    assert_eq!(passes(&bench), [&translated[..], &[Hook::Egress]].concat());
    bench.sent(HOST, &tcp((N1, SP), (B, 80), SYN));
    assert_eq!(passes(&bench), [Hook::LocalOut, Hook::Postrouting, Hook::Egress]);
    bench.sent(ETH0, &tcp((N2, SP), (N1, 22), SYN));
    assert_eq!(passes(&bench), [Hook::Prerouting, Hook::LocalIn]);
}

#[test]
fn s1_pod_to_pod_on_one_node() {
    let path = exchange(quiet(), HostId::Pod(POD_A), &syn_from_a((B, 8080)), SYN_ACK);
    assert_path(
        &path,
        "
        a > caliA tcp S 10.0.4.27:40001 > 10.0.4.31:8080 ttl 64
        caliB > b tcp S 10.0.4.27:40001 > 10.0.4.31:8080 ttl 63
        b > caliB tcp SA 10.0.4.31:8080 > 10.0.4.27:40001 ttl 64
        caliA > a tcp SA 10.0.4.31:8080 > 10.0.4.27:40001 ttl 63
        ",
    );
}

#[test]
fn s2_pod_to_pod_on_another_node() {
    for lab in [quiet(), p2()] {
        let path = exchange(lab, HostId::Pod(POD_A), &syn_from_a((D, 8080)), SYN_ACK);
        assert_path(
            &path,
            "
            a > caliA tcp S 10.0.4.27:40001 > 10.0.4.30:8080 ttl 64
            n1.eth1 > gw [101] tcp S 10.0.4.27:40001 > 10.0.4.30:8080 ttl 63
            gw > n2.eth1 [202] tcp S 10.0.4.27:40001 > 10.0.4.30:8080 ttl 63
            caliD > d tcp S 10.0.4.27:40001 > 10.0.4.30:8080 ttl 62
            d > caliD tcp SA 10.0.4.30:8080 > 10.0.4.27:40001 ttl 64
            n2.eth1 > gw [202] tcp SA 10.0.4.30:8080 > 10.0.4.27:40001 ttl 63
            gw > n1.eth1 [101] tcp SA 10.0.4.30:8080 > 10.0.4.27:40001 ttl 63
            caliA > a tcp SA 10.0.4.30:8080 > 10.0.4.27:40001 ttl 62
            ",
        );
    }
}

#[test]
fn s2_in_p0_leaves_untagged() {
    let lab = lab_with("profile: terway-1.3");
    let path = exchange(lab, HostId::Pod(POD_A), &syn_from_a((D, 8080)), SYN_ACK);
    assert!(path.contains("n1.eth1 > gw tcp S"), "{path}");
    assert!(path.contains("n2.eth1 > gw tcp SA"), "{path}");
}

#[test]
fn s5_pod_to_cluster_ip_is_asymmetric_in_p1() {
    let path = exchange(quiet(), HostId::Pod(POD_A), &syn_from_a((FAR, 80)), SYN_ACK);
    assert_path(
        &path,
        "
        a > caliA tcp S 10.0.4.27:40001 > 192.168.0.10:80 ttl 64
        n1.eth0 > gw tcp S 10.0.4.27:40001 > 10.0.5.35:8080 ttl 63
        gw > n2.eth1 [201] tcp S 10.0.4.27:40001 > 10.0.5.35:8080 ttl 63
        caliC > c tcp S 10.0.4.27:40001 > 10.0.5.35:8080 ttl 62
        c > caliC tcp SA 10.0.5.35:8080 > 10.0.4.27:40001 ttl 64
        n2.eth1 > gw [201] tcp SA 10.0.5.35:8080 > 10.0.4.27:40001 ttl 63
        gw > n1.eth1 [101] tcp SA 10.0.5.35:8080 > 10.0.4.27:40001 ttl 63
        caliA > a tcp SA 192.168.0.10:80 > 10.0.4.27:40001 ttl 62
        ",
    );
}

#[test]
fn s5_in_p2_leaves_by_the_trunk() {
    let path = exchange(p2(), HostId::Pod(POD_A), &syn_from_a((FAR, 80)), SYN_ACK);
    assert!(
        path.contains("n1.eth1 > gw [101] tcp S 10.0.4.27:40001 > 10.0.5.35:8080 ttl 63"),
        "{path}"
    );
}

#[test]
fn s4_and_s7_stay_on_the_node() {
    let path = exchange(quiet(), HostId::Pod(POD_A), &syn_from_a((NEAR, 80)), SYN_ACK);
    assert_path(
        &path,
        "
        a > caliA tcp S 10.0.4.27:40001 > 192.168.0.11:80 ttl 64
        caliB > b tcp S 10.0.4.27:40001 > 10.0.4.31:8080 ttl 63
        b > caliB tcp SA 10.0.4.31:8080 > 10.0.4.27:40001 ttl 64
        caliA > a tcp SA 192.168.0.11:80 > 10.0.4.27:40001 ttl 63
        ",
    );
    let path = exchange(quiet(), HostId::Pod(POD_A), &syn_from_a((NEAR_XIP, 80)), SYN_ACK);
    assert_path(
        &path,
        "
        a > caliA tcp S 10.0.4.27:40001 > 47.1.1.11:80 ttl 64
        caliB > b tcp S 10.0.4.20:40001 > 10.0.4.31:8080 ttl 63
        b > caliB tcp SA 10.0.4.31:8080 > 10.0.4.20:40001 ttl 64
        caliA > a tcp SA 47.1.1.11:80 > 10.0.4.27:40001 ttl 63
        ",
    );
}

#[test]
fn s8_pod_to_external_ip_never_touches_its_own_eni() {
    let path = exchange(quiet(), HostId::Pod(POD_A), &syn_from_a((FAR_XIP, 80)), SYN_ACK);
    assert_path(
        &path,
        "
        a > caliA tcp S 10.0.4.27:40001 > 47.1.1.10:80 ttl 64
        n1.eth0 > gw tcp S 10.0.4.20:40001 > 10.0.5.35:8080 ttl 63
        gw > n2.eth1 [201] tcp S 10.0.4.20:40001 > 10.0.5.35:8080 ttl 63
        caliC > c tcp S 10.0.4.20:40001 > 10.0.5.35:8080 ttl 62
        c > caliC tcp SA 10.0.5.35:8080 > 10.0.4.20:40001 ttl 64
        n2.eth1 > gw [201] tcp SA 10.0.5.35:8080 > 10.0.4.20:40001 ttl 63
        gw > n1.eth0 tcp SA 10.0.5.35:8080 > 10.0.4.20:40001 ttl 63
        caliA > a tcp SA 47.1.1.10:80 > 10.0.4.27:40001 ttl 62
        ",
    );
}

#[test]
fn s8_in_p2_leaves_the_trunk_untagged() {
    let path = exchange(p2(), HostId::Pod(POD_A), &syn_from_a((FAR_XIP, 80)), SYN_ACK);
    assert!(path.contains("n1.eth1 > gw tcp S 10.0.4.20:40001 > 10.0.5.35:8080 ttl 63"), "{path}");
    assert!(path.contains("gw > n1.eth0 tcp SA"), "{path}");
}

#[test]
fn s10_outside_to_the_load_balancer() {
    let request = tcp((CLIENT, SP), (SLB, 80), SYN);
    let path = exchange(quiet(), HostId::Outside(0), &request, SYN_ACK);
    assert_path(
        &path,
        "
        client > gw tcp S 198.51.100.7:40001 > 47.1.1.20:80 ttl 64
        gw > n2.eth1 [201] tcp S 198.51.100.7:40001 > 10.0.5.35:8080 ttl 64
        caliC > c tcp S 198.51.100.7:40001 > 10.0.5.35:8080 ttl 63
        c > caliC tcp SA 10.0.5.35:8080 > 198.51.100.7:40001 ttl 64
        n2.eth1 > gw [201] tcp SA 10.0.5.35:8080 > 198.51.100.7:40001 ttl 63
        gw > client tcp SA 47.1.1.20:80 > 198.51.100.7:40001 ttl 63
        ",
    );
}

#[test]
fn hairpin_is_masqueraded_to_the_node() {
    let path = exchange(quiet(), HostId::Pod(POD_A), &syn_from_a((OWN, 80)), SYN_ACK);
    assert_path(
        &path,
        "
        a > caliA tcp S 10.0.4.27:40001 > 192.168.0.13:80 ttl 64
        caliA > a tcp S 10.0.4.20:40001 > 10.0.4.27:8080 ttl 63
        a > caliA tcp SA 10.0.4.27:8080 > 10.0.4.20:40001 ttl 64
        caliA > a tcp SA 192.168.0.13:80 > 10.0.4.27:40001 ttl 63
        ",
    );
}

#[test]
fn the_node_itself_reaches_services_and_pods() {
    let own = |dst| tcp((N1, SP), dst, SYN);
    let path = exchange(quiet(), HostId::NodeHost(0), &own((FAR, 80)), SYN_ACK);
    assert_path(
        &path,
        "
        n1.host > n1.host0 tcp S 10.0.4.20:40001 > 192.168.0.10:80 ttl 64
        n1.eth0 > gw tcp S 10.0.4.20:40001 > 10.0.5.35:8080 ttl 63
        gw > n2.eth1 [201] tcp S 10.0.4.20:40001 > 10.0.5.35:8080 ttl 63
        caliC > c tcp S 10.0.4.20:40001 > 10.0.5.35:8080 ttl 62
        c > caliC tcp SA 10.0.5.35:8080 > 10.0.4.20:40001 ttl 64
        n2.eth1 > gw [201] tcp SA 10.0.5.35:8080 > 10.0.4.20:40001 ttl 63
        gw > n1.eth0 tcp SA 10.0.5.35:8080 > 10.0.4.20:40001 ttl 63
        n1.host0 > n1.host tcp SA 192.168.0.10:80 > 10.0.4.20:40001 ttl 63
        ",
    );
    let path = exchange(quiet(), HostId::NodeHost(0), &own((A, 10_250)), SYN_ACK);
    assert!(path.contains("caliA > a tcp S 10.0.4.20:40001 > 10.0.4.27:10250 ttl 64"), "{path}");
}

#[test]
fn nat_changes_nothing_but_addresses_ports_ttl_and_checksums() {
    let mut run = Run::new(quiet());
    let packet = tcp_data((A, SP), (FAR_XIP, 80), SYN, b"options and data stay");
    let packet = with_ip(packet, |ip| {
        ip.dscp = etherparse::IpDscp::try_new(10).expect("a DSCP");
        ip.identification = 0xbeef;
    });
    run.send(HostId::Pod(POD_A), &packet);
    let (_, view) = run.delivered();
    assert_eq!((view.id, view.tos, view.dont_fragment), (0xbeef, 40, true));
    assert_eq!(view.data, b"options and data stay");
}

#[test]
fn same_input_and_seed_give_the_same_bytes() {
    let frames = |seed: u64| {
        let keys = format!("switches: {{masqueradeRandomFully: true}}\nseed: {seed}");
        let mut run = Run::new(lab_with(&keys));
        for port in 1..50 {
            run.send(HostId::Pod(POD_A), &tcp((A, port), (FAR_XIP, 80), SYN));
            run.send(HostId::Pod(POD_B), &udp((B, port), (MANY, 53), b"x"));
        }
        run.trace()
    };
    assert_eq!(frames(1), frames(1));
    assert_ne!(frames(1), frames(2), "random ports come from the seed");
}
