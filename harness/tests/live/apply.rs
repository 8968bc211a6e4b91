//! `apply`: another version of the lab file in force, while connections live on (spec LAB-29).

use std::net::{SocketAddr, UdpSocket};

use datapath::link::HostId;

use crate::support::{TWO_NODES, TestLab, is_root, run, trunkline, udp};

/// What the lab has beside its nodes.
const PODS_AND_SERVICES: &str = "\
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

fn lab_text() -> String {
    format!("{TWO_NODES}{PODS_AND_SERVICES}")
}
const SERVICE: &str = "192.168.0.10:53";

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
    let text = lab_text();
    let test = TestLab::up(&text);
    let lab = datapath::lab::load(&text, "apply").expect("a lab");
    let socket = |pod, port| udp(&test, &lab, HostId::Pod(pod), port);
    let (old, new) = (socket(1, 5353), socket(2, 5353));
    let first = socket(0, 40_001);
    exchange(&first, &old, b"before");
    // Both serve; the one that comes last is the first whose turn it is.
    let both = text.replace("[{pod: demo/old}]", "[{pod: demo/old}, {pod: demo/new}]");
    let output = apply(&test, &both);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    exchange(&first, &old, b"the same connection");
    exchange(&socket(0, 40_002), &new, b"a new one");
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
    let text = lab_text();
    let test = TestLab::up(&text);
    let services = || run(&["show", "ipvs", "--lab", &test.name]);
    let before = services();
    for (text, complaint) in [
        (text.replace("pod: demo/old}", "pod: demo/gone}"), "demo/gone"),
        (text.replace("10.0.4.42", "10.0.4.43"), "`pods` differs"),
        (text.replace("vid: 202", "vid: 203"), "differs"),
        (text.clone() + "seed: 7\n", "`seed` differs"),
    ] {
        let refused = apply(&test, &text);
        assert_eq!(refused.status.code(), Some(2));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(complaint), "{said}");
        assert_eq!(services(), before);
    }
}
