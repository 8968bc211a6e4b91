//! Mode fnat of a node: local addresses and their ports, both rewrites, conntrack's view, errors
//! (spec FNAT-5 to FNAT-19).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::common::*;
use datapath::journey::{Rewriter, Step};
use datapath::node::ETH0;
use datapath::node::ipvs::LocalPorts;
use datapath::verdict::DropReason;
use datapath::wire::Protocol;

const SECOND: u64 = 1_000_000_000;
const SERVER: Addr = (C, 8080);
const PORT_UNREACHABLE: (u8, u8) = (3, 3);

fn bench(ports: &str) -> Bench {
    Bench::new(lab_fnat(ports, "toa: false"))
}

/// The outside client's SYN from this port, as it leaves.
fn open(bench: &mut Bench, port: u16) -> View {
    bench.sent(ETH0, &tcp((CLIENT, port), (FNAT, 80), SYN)).view()
}

/// What is counted of the first local address.
fn first(bench: &Bench) -> LocalPorts {
    bench.node.ipvs().local_addresses().ports().next().expect("an address")
}

#[test]
fn requests_go_from_a_local_address_to_the_destination_and_answers_back_to_the_client() {
    let mut bench = bench("2000-2999");
    let seen = bench.sent(ETH0, &tcp((CLIENT, 40_000), (FNAT, 80), SYN));
    assert_eq!(seen.port, ETH0);
    let local = seen.view().src;
    assert_eq!((seen.view().tuple(), seen.view().ttl), ((local, SERVER), 63));
    assert!(LOCALS.contains(&local.0) && local.1 == 2000, "{local:?}");
    assert_eq!(bench.rewriters(), [Rewriter::IpvsFnat]);
    assert!(!bench.steps().iter().any(|step| matches!(step, Step::Marked(_))), "no mark");

    let seen = bench.sent(ETH0, &tcp(SERVER, local, SYN_ACK));
    assert_eq!(seen.port, ETH0);
    assert_eq!((seen.view().tuple(), seen.view().ttl), (((FNAT, 80), (CLIENT, 40_000)), 63));
    assert_eq!(bench.rewriters(), [Rewriter::IpvsUnFnat]);
    assert_eq!(bench.states(), ["SYN_RECV"]);

    let (ip, port) = local;
    let flow = format!("tcp {CLIENT}:40000 > {FNAT}:80 | tcp {C}:8080 > {ip}:{port}");
    assert_eq!(bench.flows(), [flow]);
}

#[test]
fn datagrams_are_exchanged_alike() {
    let mut bench = bench("2000-2999");
    let seen = bench.sent(ETH0, &udp((CLIENT, 40_000), (FNAT, 53), b"?"));
    let local = seen.view().src;
    assert_eq!(seen.view().dst, (C, 5353));
    let seen = bench.sent(ETH0, &udp((C, 5353), local, b"!")).view();
    assert_eq!((seen.tuple(), &seen.data[..]), (((FNAT, 53), (CLIENT, 40_000)), &b"!"[..]));
}

#[test]
fn pods_and_the_node_itself_are_clients_as_any_other() {
    for (port, client) in [(CALI_A, (A, 40_000)), (HOST, (N1, 40_000))] {
        let mut bench = bench("2000-2999");
        let sent = bench.sent(port, &tcp(client, (FNAT, 80), SYN));
        assert_eq!((sent.port, sent.view().dst), (ETH0, SERVER), "{client:?}");
        assert!(LOCALS.contains(&sent.view().from()));
        let answer = bench.sent(ETH0, &tcp(SERVER, sent.view().src, SYN_ACK));
        assert_eq!((answer.port, answer.view().tuple()), (port, ((FNAT, 80), client)));
    }
}

#[test]
fn without_conntrack_both_ways_are_the_same() {
    let switches = "switches: {vsConntrack: false}";
    let mut bench = Bench::new(lab_fnat_with("2000-2999", "toa: false", switches));
    let local = open(&mut bench, 40_000).src;
    let answer = bench.sent(ETH0, &tcp(SERVER, local, SYN_ACK)).view();
    assert_eq!(answer.tuple(), ((FNAT, 80), (CLIENT, 40_000)));
    assert!(bench.flows().is_empty());
}

#[test]
fn local_addresses_take_turns_and_skip_one_now_and_then() {
    let mut bench = bench("1025-65535");
    let sources: Vec<_> = (0..1_000).map(|n| open(&mut bench, 10_000 + n).from()).collect();
    let repeated = sources.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!((20..=90).contains(&repeated), "about 5 in 100 of 999 skip: {repeated}");
}

#[test]
fn a_connection_keeps_its_local_address_and_port() {
    let mut bench = bench("2000-2999");
    let first = open(&mut bench, 40_000).src;
    open(&mut bench, 40_001);
    assert_eq!(open(&mut bench, 40_000).src, first);
}

#[test]
fn no_two_connections_to_a_destination_have_the_same_source_and_the_last_is_refused_loudly() {
    let mut bench = bench("2000-2009");
    let sources: BTreeSet<_> = (0..20).map(|n| open(&mut bench, 40_000 + n).src).collect();
    let every = LOCALS.iter().flat_map(|ip| (2000..2010).map(|port| (*ip, port)));
    assert_eq!(sources, every.collect());
    let reason = bench.dropped(ETH0, &tcp((CLIENT, 50_000), (FNAT, 80), SYN));
    assert_eq!(reason, DropReason::LocalPortsExhausted);
    let counts: Vec<_> = bench.node.ipvs().local_addresses().ports().collect();
    for (counted, ip) in counts.iter().zip(LOCALS) {
        let LocalPorts { used, free, missed, .. } = *counted;
        assert_eq!((counted.ip, used, free), (ip, 10, 16 * 10 - 10));
        assert!(missed >= 1, "the refused one has asked here too");
    }
    // Another destination has ports of its own.
    bench.sent(ETH0, &udp((CLIENT, 50_000), (FNAT, 53), b"?"));
    let locals = bench.node.ipvs().local_addresses();
    let service = locals.of_service((Protocol::TCP, FNAT, 80), &LOCALS);
    assert_eq!(service.map(|local| local.connections).collect::<Vec<_>>(), [10, 10]);
}

#[test]
fn a_port_is_free_when_its_connection_has_ended_and_then_the_last_to_be_taken() {
    let mut bench = Bench::new(lab_fnat("2000-2003", &format!("localAddresses: {}", LOCALS[0])));
    let source = open(&mut bench, 40_000).src;
    bench.sent(ETH0, &tcp(SERVER, source, SYN_ACK));
    bench.sent(ETH0, &tcp((CLIENT, 40_000), (FNAT, 80), ACK));
    bench.sent(ETH0, &tcp((CLIENT, 40_000), (FNAT, 80), FIN));
    bench.sent(ETH0, &tcp(SERVER, source, FIN));
    assert_eq!(bench.states(), ["TIME_WAIT"]);
    assert_eq!(first(&bench).used, 1, "TIME_WAIT holds its port");
    bench.wait(125 * SECOND);
    assert_eq!(first(&bench).used, 0);
    let ports: Vec<_> = (0..4).map(|n| open(&mut bench, 41_000 + n).src.1).collect();
    assert_eq!(ports, [2001, 2002, 2003, 2000]);
}

#[test]
fn conntrack_forgets_a_connection_with_its_port() {
    let one = format!("localAddresses: {}", LOCALS[0]);
    let mut bench = Bench::new(lab_fnat("2000-2000", &one));
    let source = open(&mut bench, 40_000).src;
    bench.sent(ETH0, &tcp(SERVER, source, SYN_ACK));
    bench.sent(ETH0, &tcp((CLIENT, 40_000), (FNAT, 80), ACK));
    // ipvs gives up on the silent connection long before conntrack would.
    bench.wait(901 * SECOND);
    assert_eq!((bench.states().len(), bench.flows().len()), (0, 0));
    assert_eq!(open(&mut bench, 41_000).src, source);
    let flow = format!("tcp {CLIENT}:41000 > {FNAT}:80 | tcp {C}:8080 > {}:2000", LOCALS[0]);
    assert_eq!(bench.flows(), [flow]);
}

#[test]
fn a_node_without_a_local_address_of_the_service_drops_what_comes_for_it() {
    let lab = lab_fnat("2000-2999", "toa: false");
    let mut node = Bench::new(lab.clone());
    node.node = datapath::node::Node::new(&lab, 1).expect("node 2");
    let reason = node.dropped(ETH0, &tcp((CLIENT, 40_000), (FNAT, 80), SYN));
    assert_eq!(reason, DropReason::LocalPortsExhausted);
}

#[test]
fn a_local_address_answers_pings_and_refuses_strangers() {
    let mut bench = Bench::new(lab_fnat_with("2000-2999", "toa: false", "profile: terway-1.4.2"));
    let echo = bench.sent(ETH0, &ping(C, LOCALS[0], 7)).view();
    assert_eq!((echo.kind.as_str(), echo.tuple().0), ("icmp 0/0", (LOCALS[0], 7)));
    let (reason, answer) = bench.refused(ETH0, &tcp((C, 9), (LOCALS[0], 2000), SYN));
    assert_eq!((reason, answer.kind.as_str()), (DropReason::NoService, "tcp RA"));
}

#[test]
fn errors_about_requests_and_answers_are_translated_both_ways() {
    let mut bench = bench("2000-2999");
    let request = bench.sent(ETH0, &udp((CLIENT, 40_000), (FNAT, 53), b"?"));
    let local = request.view().src;
    // About the request, for the client.
    let about = error(C, local.0, PORT_UNREACHABLE, 0, packet_of(&request.bytes));
    let told = bench.sent(ETH0, &about).view();
    assert_eq!((told.from(), told.dst.0, told.kind.as_str()), (FNAT, CLIENT, "icmp 3/3"));
    assert_eq!(quoted(&told.data), ((CLIENT, 40_000), (FNAT, 53)));
    // About the answer, for the destination.
    let answer = bench.sent(ETH0, &udp((C, 5353), local, b"!"));
    let about = error(CLIENT, FNAT, PORT_UNREACHABLE, 0, packet_of(&answer.bytes));
    let told = bench.sent(ETH0, &about).view();
    assert_eq!((told.from(), told.dst.0, told.kind.as_str()), (local.0, C, "icmp 3/3"));
    assert_eq!(quoted(&told.data), ((C, 5353), local));
}

#[test]
fn the_node_tells_the_client_when_a_request_is_too_large_to_go_on() {
    let mut lab = lab_fnat("2000-2999", "toa: false");
    lab.nodes[0].primary_mtu = 1_400;
    let mut bench = Bench::new(lab);
    let (reason, told) = bench.refused(CALI_A, &udp((A, 40_000), (FNAT, 53), &[0; 1_400]));
    assert_eq!(reason, DropReason::MtuExceeded);
    assert_eq!((told.dst.0, told.kind.as_str()), (A, "icmp 3/4"));
    assert_eq!(quoted(&told.data), ((A, 40_000), (FNAT, 53)));
}

/// Source and destination of a quoted packet with ports.
fn quoted(data: &[u8]) -> (Addr, Addr) {
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&data[at..at + 4]).unwrap());
    let port = |at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
    ((address(12), port(20)), (address(16), port(22)))
}
