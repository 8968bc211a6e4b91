//! `apply`: another version of the lab file in force, while connections live on (spec LAB-29).

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use datapath::link::HostId;
use harness::live::topology::host_namespace;
use harness::net::namespace::run_in;

use crate::support::{TestLab, is_root, run, trunkline};

const LAB: &str = "
vpc:
  cidr: 10.0.0.0/16
  vSwitches: {vsw-a: {cidr: 10.0.4.0/24}}
  securityGroups: {sg-open: {ingress: [{peer: 0.0.0.0/0}]}}
nodes:
  - {name: n1, eth0: {ip: 10.0.4.20, securityGroups: sg-open}, trunk: {ip: 10.0.4.120}}
  - {name: n2, eth0: {ip: 10.0.4.21, securityGroups: sg-open}, trunk: {ip: 10.0.4.121}}
pods:
  - {name: demo/client, node: n1, ip: 10.0.4.31, member: {vid: 101, securityGroups: sg-open}}
  - {name: demo/old, node: n2, ip: 10.0.4.41, member: {vid: 201, securityGroups: sg-open}}
  - {name: demo/new, node: n2, ip: 10.0.4.42, member: {vid: 202, securityGroups: sg-open}}
services:
  - name: demo/dns
    clusterIP: 192.168.0.10
    ports: [{port: 53, targetPort: 5353, proto: udp}]
    endpoints: [{pod: demo/old}]
";
const SERVICE: &str = "192.168.0.10:53";

/// A socket in a pod's namespace, with a bound on what it waits for.
fn udp(test: &TestLab, pod: usize, port: u16) -> UdpSocket {
    let lab = datapath::lab::load(LAB, "apply").expect("a lab");
    let namespace = host_namespace(&test.name, &lab, HostId::Pod(pod)).expect("a pod");
    let bind = move || UdpSocket::bind(("0.0.0.0", port));
    let socket = run_in(&namespace, bind).expect("enter").expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set a bound");
    socket
}

/// Sends a datagram to the service, which `server` must get and answers.
fn exchange(client: &UdpSocket, server: &UdpSocket, words: &[u8]) {
    let mut buffer = [0; 64];
    client.send_to(words, SERVICE).expect("send");
    let (len, from) = server.recv_from(&mut buffer).expect("a request at the endpoint");
    assert_eq!(&buffer[..len], words);
    server.send_to(words, from).expect("answer");
    let (len, from) = client.recv_from(&mut buffer).expect("an answer");
    assert_eq!((&buffer[..len], from), (words, SERVICE.parse::<SocketAddr>().expect("an address")));
}

fn apply(test: &TestLab, text: &str) -> std::process::Output {
    std::fs::write(&test.path, text).expect("write the lab");
    let path = test.path.to_str().expect("a path");
    trunkline(&["apply", path, "--lab", &test.name]).output().expect("run")
}

#[test]
fn new_connections_go_to_the_new_endpoint_and_old_ones_live_on() {
    if !is_root() {
        return;
    }
    let test = TestLab::up(LAB);
    let (old, new) = (udp(&test, 1, 5353), udp(&test, 2, 5353));
    let first = udp(&test, 0, 40_001);
    exchange(&first, &old, b"before");
    // Both serve; the one that comes last is the first whose turn it is.
    let both = LAB.replace("[{pod: demo/old}]", "[{pod: demo/old}, {pod: demo/new}]");
    let output = apply(&test, &both);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    exchange(&first, &old, b"the same connection");
    exchange(&udp(&test, 0, 40_002), &new, b"a new one");
    let shown = run(&["show", "ipvs", "--lab", &test.name, "--node", "n1"]);
    assert!(shown.contains("10.0.4.42:5353"), "{shown}");
    // What is asked of the lab from now on is asked of the new file.
    let way = ["explain", "demo/client", SERVICE, "--udp", "--lab", &test.name];
    assert!(!run(&way).is_empty());
    assert_eq!(test.ledger()["imbalances"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_applied_is_refused_and_changes_nothing() {
    if !is_root() {
        return;
    }
    let test = TestLab::up(LAB);
    let services = || run(&["show", "ipvs", "--lab", &test.name]);
    let before = services();
    for (text, complaint) in [
        (LAB.replace("pod: demo/old}", "pod: demo/gone}"), "demo/gone"),
        (LAB.replace("10.0.4.42", "10.0.4.43"), "`pods` differs"),
        (LAB.replace("vid: 202", "vid: 203"), "differs"),
        (LAB.to_owned() + "seed: 7\n", "`seed` differs"),
    ] {
        let refused = apply(&test, &text);
        assert_eq!(refused.status.code(), Some(2));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(complaint), "{said}");
        assert_eq!(services(), before);
    }
}
