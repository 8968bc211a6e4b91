//! Jumbo frames, as on ECS: MTU 8,500 on both ENIs of the nodes and on the pods, between real stacks
//! (spec LAB-32).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use datapath::link::HostId;
use harness::live::topology::host_namespace;
use harness::net::namespace::run_in;

use crate::datagrams::ping;
use crate::support::{DATAGRAM_BOUND, TestLab, is_root, port, run};

const LAB: &str = "\
vpc:
  cidr: 10.0.0.0/16
  vSwitches: {vsw-a: {cidr: 10.0.4.0/24}}
  securityGroups: {sg-open: {ingress: [{peer: 0.0.0.0/0}]}}
nodes:
  - {name: n1, eth0: {ip: 10.0.4.20, mtu: 8500, securityGroups: sg-open}, trunk: {ip: 10.0.4.120, mtu: 8500}}
  - {name: n2, eth0: {ip: 10.0.4.21, mtu: 8500, securityGroups: sg-open}, trunk: {ip: 10.0.4.121, mtu: 8500}}
pods:
  - {name: demo/client, node: n1, ip: 10.0.4.31, mtu: 8500, member: {vid: 101, securityGroups: sg-open}}
  - {name: demo/server, node: n2, ip: 10.0.4.41, mtu: 8500, member: {vid: 201, securityGroups: sg-open}}
services:
  - name: demo/web
    clusterIP: 192.168.0.10
    ports: [{port: 80, targetPort: 8080}]
    endpoints: [{pod: demo/server}]
";
const CLIENT: HostId = HostId::Pod(0);
const SERVER: HostId = HostId::Pod(1);
/// Bytes sent each way.
const BYTES: usize = 4 << 20;

/// What is sent: no two stretches of it are alike.
fn pattern() -> Vec<u8> {
    (0..BYTES as u32 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Sends the pattern and reads as much, both ways at once.
fn exchange(mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(DATAGRAM_BOUND)).expect("set a bound");
    stream.set_write_timeout(Some(DATAGRAM_BOUND)).expect("set a bound");
    let mut sending = stream.try_clone().expect("the other direction");
    let sender = thread::spawn(move || sending.write_all(&pattern()).expect("send"));
    let mut got = vec![0; BYTES];
    stream.read_exact(&mut got).expect("receive");
    sender.join().expect("the sender");
    got
}

#[test]
fn jumbo_frames_cross_both_nodes_whole() {
    if is_root() {
        cross(&TestLab::up(LAB));
    }
}

#[test]
fn jumbo_frames_cross_fused_links_between_threads_whole() {
    if !is_root() {
        return;
    }
    let test = TestLab::new(LAB);
    let path = test.path.to_str().expect("a path");
    run(&["up", path, "--name", &test.name, "--links", "fused", "--workers", "2"]);
    cross(&test);
    // The workers have memories of their own.
    let books = test.ledger();
    let queues = port(&books, "n2", "eth1")["queues"].as_array().expect("queues").iter();
    assert!(queues.clone().any(|queue| queue["copied"].as_u64() > Some(0)), "{books:#}");
}

/// Packets and streams from one pod to the other, directly and by its service.
fn cross(test: &TestLab) {
    let lab = datapath::lab::load(LAB, "jumbo").expect("a lab");
    let place = |host| host_namespace(&test.name, &lab, host).expect("a host");

    // 8,000 bytes in one packet, sent like all with DF.
    let data: Vec<u8> = (0..8_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for to in [[10, 0, 4, 41], [192, 168, 0, 10]] {
        let reply = ping(&place(CLIENT), to.into(), &data);
        assert!(reply[8..] == data, "{to:?}: the reply came otherwise");
    }

    let listener = run_in(&place(SERVER), || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)))
        .expect("enter")
        .expect("listen");
    for to in ["10.0.4.41:8080", "192.168.0.10:80"] {
        let to: SocketAddr = to.parse().expect("an address");
        let connect = || TcpStream::connect_timeout(&to, DATAGRAM_BOUND);
        let client = run_in(&place(CLIENT), connect).expect("enter").expect("connect");
        let (server, _) = listener.accept().expect("accept");
        let other = thread::spawn(move || exchange(server));
        assert!(exchange(client) == pattern(), "{to}: it came otherwise");
        assert!(other.join().expect("the server") == pattern(), "{to}: it came otherwise");
    }

    let books = test.ledger();
    assert_eq!(books["imbalances"], serde_json::json!([]));
    for node in ["n1", "n2"] {
        let node = &books["elements"][node];
        assert_eq!((&node["dropped"], &node["absorbed"]), (&0.into(), &0.into()), "{books:#}");
    }
    // Full segments were longer than an ordinary frame.
    let received = port(&books, "n2", "eth1")["link"]["rxPackets"].as_u64().expect("a count");
    assert!((100..2 * BYTES as u64 / 2_000).contains(&received), "{received}: {books:#}");
}
