//! `trunkline explain`: one packet, its answer, and why.

use std::path::Path;
use std::process::{Command, Output};

const CLIENT: &str = "trunking/centos-59cdc5c9c4-l5vf9";

fn explain(lab: &str, args: &[&str]) -> (Output, String) {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(lab);
    let output = Command::new(env!("CARGO_BIN_EXE_trunkline"))
        .arg("explain")
        .args(args)
        .arg("--lab")
        .arg(lab)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap()
        + &String::from_utf8(output.stderr.clone()).unwrap();
    (output, text)
}

/// That the packet gets its answer, and every one of `says` is said.
fn answered(lab: &str, args: &[&str], says: &[&str]) {
    let (output, text) = explain(lab, args);
    assert!(output.status.success(), "{text}");
    for says in says {
        assert!(text.contains(says), "{says}: {text}");
    }
}

/// That the command cannot do its work, and every one of `says` is said.
fn refused(lab: &str, args: &[&str], says: &[&str]) {
    let (output, text) = explain(lab, args);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for says in says {
        assert!(text.contains(says), "{says}: {text}");
    }
}

/// That it gets none, and every one of `says` is said.
fn unanswered(lab: &str, args: &[&str], says: &[&str]) {
    let (output, text) = explain(lab, args);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for says in says {
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn a_syn_through_a_load_balancers_address() {
    answered(
        "article.yaml",
        &[CLIENT, "47.243.87.204:80"],
        &[
            "answered by ECS2 pod1 eth0",
            "mark 0x4000 by KUBE-LOAD-BALANCER",
            "service trunking/service-a 47.243.87.204:80, scheduled -> 10.0.5.35:80",
            "masquerade by KUBE-POSTROUTING, mark 0x4000",
            "accept by sg-a ingress rule 1: accept tcp/80 from 10.0.4.0/23 (priority 1)",
            "reply (SYN+ACK)",
        ],
    );
}

#[test]
fn destinations_by_name() {
    answered("article.yaml", &[CLIENT, "trunking/nginx-same:8080"], &["ECS1 pod2 eth0"]);
    answered(
        "article.yaml",
        &[CLIENT, "trunking/service-b:80"],
        &["service trunking/service-b 192.168.81.92:80", "again: 32766: from all lookup main"],
    );
}

#[test]
fn echo_and_udp() {
    answered(
        "article.yaml",
        &[CLIENT, "10.0.5.35"],
        &["icmp 10.0.4.27 > 10.0.5.35 type 8 code 0", "icmp 10.0.5.35 > 10.0.4.27 type 0 code 0"],
    );
    // Nothing drops a datagram between pods of one group.
    answered(
        "article.yaml",
        &[CLIENT, "10.0.4.30:53", "--udp"],
        &["udp 10.0.4.27:32768 >", "reply (9 bytes)"],
    );
    unanswered(
        "article.yaml",
        &[CLIENT, "10.0.5.35:53", "--udp"],
        &["security-group-in at eni-server-a", "the default of basic groups sg-pods-a, sg-a"],
    );
}

/// spec IPVS-27, IPVS-29, IPVS-30: the node answers for its virtual addresses itself.
#[test]
fn a_virtual_address_is_answered_by_its_node() {
    answered("article.yaml", &[CLIENT, "192.168.81.92"], &["answered by ECS1"]);
    unanswered(
        "article.yaml",
        &[CLIENT, "192.168.81.92:81"],
        &["refused, reset by ECS1", "dropped: no-service"],
    );
    unanswered(
        "article.yaml",
        &[CLIENT, "192.168.81.92:81", "--udp"],
        &["refused, ICMP error by ECS1"],
    );
}

#[test]
fn nobody_has_the_address() {
    unanswered(
        "article.yaml",
        &[CLIENT, "10.0.9.9:80"],
        &["no-such-address at vpc, request", "-> dropped: no-such-address"],
    );
}

#[test]
fn nodes_and_outside_hosts_ask_too() {
    answered("article.yaml", &["node:cn-hongkong.10.0.4.20", "10.0.4.27:80"], &["ECS1 host0 ->"]);
    answered(
        "article-slb.yaml",
        &["outside:client", "8.210.162.178:80"],
        &["lb-j6cmv8aaojf7nqdai2a6a listener tcp/80", "SLB to backend"],
    );
}

#[test]
fn what_the_lab_does_not_have() {
    let of_lab = |args: &[&str], says: &[&str]| refused("article.yaml", args, says);
    of_lab(&["trunking/nobody", "10.0.4.27:80"], &["there is no trunking/nobody"]);
    let forms = "expected an address, a pod as NS/NAME or a service as NS/NAME";
    of_lab(&[CLIENT, "nowhere:80"], &["`nowhere` is no address and no NS/NAME", forms]);
    of_lab(&[CLIENT, "10.0.4.300"], &["`10.0.4.300` is no address and no NS/NAME", forms]);
    of_lab(&[CLIENT, "trunking/nobody:80"], &["no pod and no service trunking/nobody", forms]);
    of_lab(&[CLIENT, "service-b:80"], &["lacks its namespace: trunking/service-b;", forms]);
    for port in ["0", "65536", "http", ""] {
        let found = format!("expected a port from 1 to 65535 behind the colon, found `{port}`");
        of_lab(&[CLIENT, &format!("10.0.4.27:{port}")], &[&found]);
    }
    of_lab(&[CLIENT, "10.0.4.30", "--udp"], &["--udp needs a port, as 10.0.4.30:53"]);
    refused("nowhere.yaml", &[CLIENT, "10.0.4.30"], &["nowhere.yaml"]);
}
