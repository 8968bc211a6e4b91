//! Datagrams between real stacks. Those larger than the MTU are cut by the stacks; the nodes
//! gather, translate and cut them again, and the other stack has them whole (spec FRAG-1, FRAG-8,
//! VPC-22). Small ones take their flow's learned path (spec FLOW-1).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use datapath::link::HostId;
use harness::live::topology::host_namespace;
use harness::net::namespace::run_in;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::support::{DATAGRAM_BOUND, TWO_NODES, TestLab, is_root, udp};

/// What the lab has beside its nodes.
const PODS_AND_SERVICES: &str = "\
pods:
  - {name: demo/client, node: n1, ip: 10.0.4.31, member: {vid: 101, securityGroups: sg-open}}
  - {name: demo/server, node: n2, ip: 10.0.4.41, member: {vid: 201, securityGroups: sg-open}}
services:
  - name: demo/dns
    clusterIP: 192.168.0.10
    externalIPs: 47.1.1.10
    ports: [{port: 53, targetPort: 5353, proto: udp}]
    endpoints: [{pod: demo/server}]
";

fn lab_text() -> String {
    format!("{TWO_NODES}{PODS_AND_SERVICES}")
}
const CLIENT: HostId = HostId::Pod(0);
const SERVER: HostId = HostId::Pod(1);
const NODE: HostId = HostId::NodeHost(0);

fn receive(socket: &UdpSocket, what: &str) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (len, from) = socket.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{what}: {e}"));
    buffer.truncate(len);
    (buffer, from)
}

#[test]
fn large_datagrams_reach_a_service_on_the_other_node_and_are_answered() {
    if !is_root() {
        return;
    }
    let test = TestLab::up(&lab_text());
    let lab = datapath::lab::load(&lab_text(), "datagrams").expect("a lab");
    let server = udp(&test, &lab, SERVER, 5353);
    for (host, to) in [
        (CLIENT, "192.168.0.10:53"),
        (CLIENT, "47.1.1.10:53"),
        (CLIENT, "10.0.4.41:5353"),
        (NODE, "192.168.0.10:53"),
    ] {
        let to: SocketAddr = to.parse().expect("an address");
        for len in [1_473, 4_000, 20_000] {
            let client = udp(&test, &lab, host, 0);
            let sent: Vec<u8> = (0..len).map(|n: u32| n.to_le_bytes()[0]).collect();
            client.send_to(&sent, to).expect("send a request");
            let (request, from) = receive(&server, "a request");
            assert!(request == sent, "{to}: the request of {len} bytes came otherwise");
            server.send_to(&request, from).expect("send an answer");
            let (answer, from) = receive(&client, "an answer");
            assert!(answer == sent, "{to}: the answer of {len} bytes came otherwise");
            assert_eq!(from, to);
        }
    }
    let books = test.ledger();
    assert_eq!(books["imbalances"], serde_json::json!([]));
    for node in ["n1", "n2"] {
        let node = &books["elements"][node];
        assert!(node["absorbed"].as_u64() > Some(0), "{books:#}");
        assert_eq!((node["dropped"].as_u64(), node["held"].as_u64()), (Some(0), Some(0)));
    }
}

#[test]
fn a_conversation_takes_the_paths_it_has_learned() {
    if !is_root() {
        return;
    }
    const TURNS: u64 = 50;
    let test = TestLab::up(&lab_text());
    let lab = datapath::lab::load(&lab_text(), "datagrams").expect("a lab");
    let (client, server) = (udp(&test, &lab, CLIENT, 0), udp(&test, &lab, SERVER, 5353));
    for turn in 0..TURNS {
        client.send_to(&turn.to_le_bytes(), "192.168.0.10:53").expect("send a request");
        let (request, from) = receive(&server, "a request");
        server.send_to(&request, from).expect("send an answer");
        assert_eq!(receive(&client, "an answer").0, turn.to_le_bytes());
    }
    let books = test.ledger();
    assert_eq!(books["imbalances"], serde_json::json!([]));
    for node in ["n1", "n2"] {
        // The first request begins the flow; one packet of each direction then teaches its path.
        assert_eq!(books["flowCaches"][node]["hits"], 2 * TURNS - 3, "{books:#}");
    }
}

/// An echo request from a pod's own stack; the message of the reply.
pub(crate) fn ping(namespace: &str, to: Ipv4Addr, data: &[u8]) -> Vec<u8> {
    let mut request = [&[8, 0, 0, 0, 0x12, 0x34, 0, 1], data].concat();
    let sum = datapath::wire::checksum::of(&request);
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    let exchange = move || {
        let raw = SockProtocol::Icmp;
        let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), raw)?;
        let bound = TimeVal::seconds(DATAGRAM_BOUND.as_secs().try_into().expect("a few seconds"));
        setsockopt(&socket, sockopt::ReceiveTimeout, &bound)?;
        let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
        sendto(socket.as_raw_fd(), &request, &to, MsgFlags::empty())?;
        let mut buffer = vec![0; 65_536];
        let len = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        buffer.truncate(len);
        nix::Result::Ok(buffer.split_off(20))
    };
    run_in(namespace, exchange).expect("enter").expect("a reply")
}

#[test]
fn a_large_ping_is_answered_by_a_pod_by_a_node_and_by_a_virtual_address() {
    if !is_root() {
        return;
    }
    let test = TestLab::up(&lab_text());
    let lab = datapath::lab::load(&lab_text(), "datagrams").expect("a lab");
    let namespace = host_namespace(&test.name, &lab, CLIENT).expect("a host");
    let data: Vec<u8> = (0..60_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for to in [[10, 0, 4, 41], [10, 0, 4, 20], [192, 168, 0, 10]] {
        let reply = ping(&namespace, to.into(), &data);
        assert_eq!((reply[0], &reply[4..8]), (0, [0x12, 0x34, 0, 1].as_slice()));
        assert!(reply[8..] == data, "{to:?}: the reply came otherwise");
    }
}
