//! Mistakes in nodes and pods: each is found alone, in its place.

use crate::support::{check, mistakes};

#[test]
fn nodes() {
    check(mistakes! {
        "- name: n2\n" => "- name: n2\n    eth0: {ip: 10.0.4.30, securityGroups: sg-open}\n  - name: ^n1\n",
            "node `n1` is given twice";
        "- name: n2\n" => "- name: ^vpc\n    eth0: {securityGroups: sg-open, vSwitch: vsw-a}\n  - name: n2\n",
            "it names the fabric's namespace";
        "- name: n2\n" => "- name: ^pod-n\n    eth0: {securityGroups: sg-open, vSwitch: vsw-a}\n  - name: n2\n",
            "`pod-n` cannot name a node";
        "- name: n2\n" => "- name: ^n-host\n    eth0: {securityGroups: sg-open, vSwitch: vsw-a}\n  - name: n2\n",
            "ends in `-host`";
        "- name: n2\n" => "- name: ^a/b\n    eth0: {securityGroups: sg-open, vSwitch: vsw-a}\n  - name: n2\n",
            "expected a node name";
        "- name: n2\n" => "- name: n2\n    ^eth1: {}\n", "`eth1` is no key here";
        "- name: n2\n" => "- ^name: n3\n  - name: n2\n", "this map lacks the key `eth0`";
        "- name: n2\n" => "- name: ^n3\n    eth0: {ip: 10.0.4.30}\n  - name: n2\n",
            "eth0 of node `n3` has no `securityGroups`";
        "- name: n2\n" => "- name: ^n3\n    eth0: {securityGroups: sg-open}\n  - name: n2\n",
            "eth0 of node `n3` has neither `ip` nor `vSwitch`";
        "securityGroups: [sg-open]}" => "securityGroups: ^[]}", "expected at least one";
        "securityGroups: [sg-open]}" => "securityGroups: [^sg-opem]}", "did you mean `sg-open`?";
        "securityGroups: [sg-open]}" => "securityGroups: [sg-open, ^sg-open]}", "is listed twice";
        "securityGroups: [sg-open]}" => "securityGroups: [sg-open, ^sg-adv]}",
            "eth0 of node `n2` mixes basic and advanced security groups: `sg-open` and `sg-adv`";
        "trunk: {mac: 02:00:00:00:02:01," => "trunk: {eni: ^eni-p1,", "ENI `eni-p1` is given twice";
        "    eth0: {ip: 10.0.4.22, securityGroups: [sg-open]}\n    trunk: {mac" =>
            "    eth0: {eni: eni-2, ip: 10.0.4.22, securityGroups: [sg-open]}\n    trunk: {eni: ^eni-2, mac",
            "eth0 and trunk of node `n2` are one ENI";
    });
}

#[test]
fn interfaces() {
    check(mistakes! {
        "mtu: 1500" => "mtu: ^575", "mtu: expected a whole number from 576 to 8500";
        "mtu: 1500" => "mtu: ^9000", "found `9000`";
        "mtu: 1500" => "mtu: ^1500.5", "found `1500.5`";
        "mac: 02:00:00:00:01:01" => "mac: ^03:00:00:00:01:01", "is a group address";
        "mac: 02:00:00:00:01:01" => "mac: ^02-00-00-00-01-01", "expected a MAC address";
        "mac: 02:00:00:00:01:01" => "mac: ^02:00:00:00:01:00", "it is eth0 of node `n1`'s";
        "mac: 02:00:00:00:01:01" => "mac: ^ee:ff:ff:ff:ff:ff", "it is the VPC's gateway's";
        "ip: 10.0.4.21" => "ip: ^10.0.4.20", "address `10.0.4.20` is given twice";
        "ip: 10.0.4.21" => "ip: ^10.0.4.0", "the network address";
        "ip: 10.0.4.21" => "ip: ^10.0.4.253", "the gateway of vSwitch `vsw-a`";
        "ip: 10.0.4.21" => "ip: ^10.0.4.254", "a reserved address";
        "ip: 10.0.4.21" => "ip: ^10.0.4.255", "its ENIs can have 10.0.4.1 to 10.0.4.252";
        "ip: 10.0.4.21" => "ip: ^10.0.6.1", "`10.0.6.1` lies in no vSwitch of the VPC";
        "ip: 10.0.4.21" => "ip: ^10.0.4.256", "ip: expected an IPv4 address";
        "ip: 10.0.4.21" => "ip: ^10.0.4.21/24", "leave the prefix length out: `10.0.4.21`";
        "ip: 10.0.4.21" => "ip: ^fd00::1", "IPv6 is not supported yet";
        "ip: 10.0.4.21" => "vSwitch: vsw-b, ip: ^10.0.4.21", "lies outside 10.0.5.0/24";
        "vSwitch: vsw-b}" => "vSwitch: ^vsw-c}", "there is no vSwitch `vsw-c`";
        "srcDstCheck: false" => "srcDstCheck: ^off", "expected `true` or `false`, found `off`";
        "mtu: 1500, eni: eni-p1" => "eni: ^eni/p1", "expected an ID of letters";
        "mac: 02:00:00:00:02:01" => "eni: ^eni-p1", "ENI `eni-p1` is given twice";
    });
}

#[test]
fn pods() {
    check(mistakes! {
        "- name: demo/c" => "- name: ^c", "write `default/c` for namespace `default`";
        "- name: demo/c" => "- name: ^Demo/c", "expected a namespace";
        "- name: demo/c" => "- name: ^demo/C", "expected a pod name";
        "- name: demo/c" => "- name: ^demo/c..d", "expected a pod name";
        "- name: demo/c" => "- name: ^demo/c/d", "expected a pod name";
        "- name: demo/c" => "- name: ^demo/b", "pod `demo/b` is given twice";
        "node: n2" => "node: ^n3", "did you mean `n";
        "cali: caliA" => "cali: ^caliAAAAAAAAAAAA", "1 to 15 characters, found 16";
        "cali: caliA" => "cali: ^''", "found 0";
        "cali: caliA" => "cali: ^cali/A", "without spaces, `/`, `:` and `%`";
        "cali: caliA" => "cali: ^cali%d", "found `cali%d`";
        "cali: caliA" => "cali: ^'cali A'", "without spaces";
        "cali: caliA" => "cali: ^eth0", "`eth0` is an interface every node has already";
        "cali: caliA" => "cali: ^lo", "every node has already";
        "ip: 10.0.5.36" => "cali: ^caliA\n    ip: 10.0.5.36", "host-side veth `caliA` is given twice";
        "caliMac: 02:ca:00:00:00:0a" => "caliMac: ^02:00:00:00:00:0a", "it is pod `demo/a`'s";
        "ip: 10.0.5.36" => "mtu: ^100\n    ip: 10.0.5.36", "mtu: expected";
        "ip: 10.0.5.36" => "ip: ^10.0.5.35", "it is pod `demo/b`'s";
        "ip: 10.0.5.36" => "ip: ^10.0.5.0", "the network address of vSwitch `vsw-b`";
        "ip: 10.0.5.36" => "ip: ^172.16.0.1", "lies in no vSwitch";
        "ip: 10.0.4.27" => "ip: ^10.0.5.27", "lies outside 10.0.4.0/24 of vSwitch `vsw-a`";
        "vid: 102" => "vid: ^101", "vid: `101` is given twice on the trunk of node `n1`";
        "vid: 102" => "vid: ^0", "vid: expected a whole number from 1 to 4094";
        "vid: 102" => "vid: ^4095", "found `4095`";
        "member: {securityGroups: sg-adv}" => "^membr: {securityGroups: sg-adv}", "did you mean `member`?";
        "securityGroups: sg-adv}" => "securityGroups: ^sg-avd}", "did you mean `sg-adv`?";
        "[sg-open, sg-web]" => "[sg-adv, ^sg-web]", "mixes basic and advanced";
    });
}

/// As Terway fills in what a PodNetworking leaves out.
#[test]
fn a_pod_without_member_is_in_its_nodes_vswitch_and_groups() {
    let bare = crate::support::BASE.replacen(
        "    ip: 10.0.5.36\n    member: {securityGroups: sg-adv}\n",
        "",
        1,
    );
    let lab = datapath::lab::load(&bare, "lab.yaml").expect("a lab");
    let pod = lab.pods.iter().find(|pod| pod.name == "demo/c").expect("the pod");
    let (member, node) = (&lab.enis[pod.member], &lab.enis[lab.nodes[pod.node].primary]);
    assert_eq!((member.vswitch, &member.groups), (node.vswitch, &node.groups));
}

#[test]
fn long_names() {
    let long = format!("- name: demo/{}", "c".repeat(64));
    let text = crate::support::BASE.replace("- name: demo/c", &long);
    let error = datapath::lab::load(&text, "l").unwrap_err();
    assert!(error.to_string().contains("expected a pod name"), "{error}");
    let long = format!("- name: demo/{}", vec!["c".repeat(60); 4].join("."));
    let text = crate::support::BASE.replace("- name: demo/c", &long);
    let error = datapath::lab::load(&text, "l").unwrap_err();
    assert!(error.to_string().contains("at most 200 characters, found 248"), "{error}");
}
