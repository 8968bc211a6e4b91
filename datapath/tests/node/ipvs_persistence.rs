//! Affinity of clients, and one-packet scheduling (spec IPVS-22, IPVS-37 to IPVS-39).

use std::net::Ipv4Addr;

use crate::common::*;
use datapath::lab::{self, Lab};
use datapath::verdict::DropReason;

const SECOND: u64 = 1_000_000_000;
/// A service with affinity and the endpoints b and d.
const STICKY: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 30);
/// One whose datagrams are scheduled one by one.
const SINGLE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 31);

fn lab(timeout: u32, weight: u32, switches: &str, limits: &str) -> Lab {
    let services = format!(
        "  - {{name: t/sticky, clusterIP: {STICKY}, sessionAffinity: ClientIP, \
         sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {timeout}}}}}, \
         endpoints: [{{pod: t/b}}, {{pod: t/d, weight: {weight}}}], \
         ports: [{{port: 80, targetPort: 8080}}, {{port: 53, targetPort: 5353, proto: udp}}]}}\n  \
         - {{name: t/single, clusterIP: {SINGLE}, onePacket: true, \
         endpoints: [{{pod: t/b}}, {{pod: t/d}}], \
         ports: [{{port: 53, targetPort: 5353, proto: udp}}, {{port: 80, targetPort: 8080}}]}}\n\
         slbs:\n"
    );
    let text = include_str!("../common/lab.yaml").replace("slbs:\n", &services);
    let switches = format!(
        "switches: {{masqueradeRandomFully: false, icmpRatelimit: 0, ipvs: {{{switches}}}}}\n\
         limits: {{{limits}}}\n"
    );
    lab::load(&(text + &switches), "lab.yaml").expect("a lab")
}

fn bench(timeout: u32) -> Bench {
    Bench::new(lab(timeout, 1, "", ""))
}

/// Where a client's first segment goes.
fn open(bench: &mut Bench, port: u16) -> Ipv4Addr {
    bench.sent(CALI_A, &tcp((A, port), (STICKY, 80), SYN)).view().dst.0
}

/// Every connection and template: state, source, virtual and real address, seconds left.
fn table(bench: &Bench) -> Vec<String> {
    let all = bench.node.connections().iter(bench.now);
    let line = |c: datapath::node::ipvs::Connection| {
        let left = c.deadline.left(bench.now).as_secs();
        let (request, (ip, port)) = (c.request, c.destination());
        format!("{} {request} > {ip}:{port} {left}", c.state.name())
    };
    all.map(line).collect()
}

/// Connections of d as kube-proxy's service has it: active, inactive, templates.
fn counts(bench: &Bench) -> (u32, u32, u32) {
    let key = (datapath::wire::Protocol::TCP, STICKY, 80);
    let ipvs = bench.node.ipvs();
    let servers = &ipvs.service(key).expect("the service").servers;
    let found = servers.iter().filter_map(|handle| ipvs.server(*handle));
    let d = found.into_iter().find(|server| server.destination.ip == D).expect("d");
    (d.active, d.inactive, d.persistent)
}

#[test]
fn a_client_keeps_its_destination_by_a_template() {
    let mut bench = bench(100);
    assert_eq!(open(&mut bench, 1001), D);
    let template = "NONE tcp 10.0.4.27:0 > 192.168.0.30:80 > 10.0.4.30:8080 100";
    let first = "SYN_RECV tcp 10.0.4.27:1001 > 192.168.0.30:80 > 10.0.4.30:8080 60";
    assert_eq!(table(&bench), [template, first]);
    assert_eq!(counts(&bench), (1, 0, 1));
    bench.wait(3 * SECOND);
    // Packets of a connection do not renew the template; its handshake assures it.
    bench.tagged(101, &tcp((D, 8080), (A, 1001), SYN_ACK));
    bench.sent(CALI_A, &tcp((A, 1001), (STICKY, 80), ACK));
    let template = "ASSURED tcp 10.0.4.27:0 > 192.168.0.30:80 > 10.0.4.30:8080 97";
    assert_eq!(table(&bench)[0], template);
    for port in 1002..1006 {
        assert_eq!(open(&mut bench, port), D);
    }
    assert!(table(&bench)[0].ends_with(" 100"), "a new connection does");
    let other = bench.sent(CALI_B, &tcp((B, 1001), (STICKY, 80), SYN)).view();
    assert_eq!(other.dst.0, B, "another client is scheduled");
}

#[test]
fn an_answer_assures_a_udp_template() {
    let mut bench = bench(100);
    let asked = bench.sent(CALI_A, &udp((A, 5), (STICKY, 53), b"?")).view();
    assert_eq!(asked.dst, (D, 5353));
    assert!(table(&bench)[0].starts_with("NONE udp"));
    bench.tagged(101, &udp((D, 5353), (A, 5), b"!"));
    assert!(table(&bench)[0].starts_with("ASSURED udp"));
}

#[test]
fn a_template_outlives_its_connections_by_a_minute_at_a_time() {
    let mut bench = bench(3);
    open(&mut bench, 1001);
    bench.tagged(101, &tcp((D, 8080), (A, 1001), SYN_ACK));
    bench.sent(CALI_A, &tcp((A, 1001), (STICKY, 80), ACK));
    bench.wait(4 * SECOND);
    assert!(table(&bench)[0].ends_with(" 59"), "{:?}", table(&bench));
    // What it lives for after a new connection is a minute too, from then on.
    assert_eq!(open(&mut bench, 1002), D);
    assert!(table(&bench)[0].ends_with(" 60"), "{:?}", table(&bench));
    assert_eq!(counts(&bench), (2, 0, 1));
    for _ in 0..1000 {
        bench.wait(SECOND);
    }
    assert_eq!(table(&bench), [""; 0]);
    assert_eq!(counts(&bench), (0, 0, 0));
}

#[test]
fn a_template_without_connections_ends_at_its_time() {
    let mut bench = bench(100);
    open(&mut bench, 1001);
    bench.wait(60 * SECOND);
    assert_eq!(table(&bench).len(), 1, "the connection has ended");
    bench.wait(39 * SECOND);
    assert_eq!(table(&bench).len(), 1);
    bench.wait(SECOND);
    assert_eq!(table(&bench).len(), 0);
    assert_eq!(open(&mut bench, 1002), B, "the client is scheduled again");
}

#[test]
fn a_port_used_again_stays_with_the_template() {
    let mut bench = bench(100);
    open(&mut bench, 1001);
    bench.tagged(101, &tcp((D, 8080), (A, 1001), RST));
    assert_eq!(bench.states(), ["NONE", "CLOSE"]);
    assert_eq!(open(&mut bench, 1001), D);
    assert_eq!(bench.states(), ["NONE", "SYN_RECV"]);
}

#[test]
fn a_quiescent_destination_loses_its_clients_where_the_switch_says_so() {
    for (expires, next) in [(true, B), (false, D)] {
        let switches = format!("expireQuiescentTemplate: {expires}, expireNodestConn: false");
        let mut bench = Bench::new(lab(100, 1, &switches, ""));
        assert_eq!(open(&mut bench, 1001), D);
        bench.node.apply(&lab(100, 0, &switches, ""), bench.now);
        assert_eq!(open(&mut bench, 1002), next, "{expires}");
        let invalid = "NONE tcp 10.0.4.27:0 > 192.168.0.30:65535 > 10.0.4.30:65535 100";
        assert_eq!(table(&bench)[0] == invalid, expires, "{:?}", table(&bench));
        assert_eq!(counts(&bench).2, 1, "the old template counts until it ends");
        bench.wait(99 * SECOND);
        assert_eq!(open(&mut bench, 1003), next);
        bench.wait(SECOND);
        assert_eq!(counts(&bench).2, u32::from(!expires));
    }
}

#[test]
fn a_full_table_is_a_named_drop() {
    // Room for one: the template has it.
    let mut bench = Bench::new(lab(100, 1, "", "flows: 1"));
    let refused = tcp((A, 1001), (STICKY, 80), SYN);
    assert_eq!(bench.dropped(CALI_A, &refused), DropReason::ConnectionTableFull);
    let mut bench = Bench::new(lab(100, 1, "", "flows: 1"));
    bench.sent(CALI_A, &tcp((A, 1), (NEAR, 80), SYN));
    let refused = tcp((A, 2), (NEAR, 80), SYN);
    assert_eq!(bench.dropped(CALI_A, &refused), DropReason::ConnectionTableFull);
}

#[test]
fn single_datagrams_are_scheduled_without_a_connection() {
    let mut bench = bench(100);
    let ask = udp((A, 5), (SINGLE, 53), b"?");
    let went: Vec<_> = (0..4).map(|_| bench.sent(CALI_A, &ask).view().dst).collect();
    assert_eq!(went, [(D, 5353), (B, 5353), (D, 5353), (B, 5353)]);
    assert_eq!(bench.states(), [""; 0]);
    let flow = "udp 10.0.4.27:5 > 192.168.0.31:53 | udp 192.168.0.31:53 > 10.0.4.27:5";
    assert_eq!(bench.flows(), [flow], "conntrack knows of no destination");
    // Nobody knows whom an answer belongs to.
    let answer = bench.sent(CALI_B, &udp((B, 5353), (A, 5), b"!")).view();
    assert_eq!(answer.tuple(), ((B, 5353), (A, 5)));
    // TCP is not concerned.
    bench.sent(CALI_A, &tcp((A, 5), (SINGLE, 80), SYN));
    assert_eq!(bench.states(), ["SYN_RECV"]);
}
