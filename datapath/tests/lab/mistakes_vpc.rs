//! Mistakes in YAML, in the settings and in the VPC: each is found alone, in its place.

use crate::support::{check, mistakes};

#[test]
fn base_loads() {
    let lab = datapath::lab::load(crate::support::BASE, "base.yaml");
    assert!(lab.is_ok(), "{}", lab.unwrap_err());
}

#[test]
fn yaml() {
    check(mistakes! {
        "seed: 1" => "^sed: 1", "did you mean `seed`?";
        "seed: 1" => "^colour: red", "the keys are `profile`, `vpc`";
        "  cidr: 10.0.0.0/16" => "  ^cird: 10.0.0.0/16", "did you mean `cidr`?";
        "clusterIP: 192.168.0.10" => "^clusterIp: 192.168.0.10", "did you mean `clusterIP`?";
        "{eni: eni-a, vid: 101," => "{eni: eni-a, ^mac: 02:00:00:00:00:0a, vid: 101,",
            "`mac` is no key here";
        "seed: 1" => "seed: 1\n^seed: 2", "the key `seed` is given twice";
        "vsw-b: {cidr: 10.0.5.0/24}" => "^vsw-a: {cidr: 10.0.5.0/24}",
            "the key `vsw-a` is given twice";
        "sg-web: {ingress" => "^sg-open: {ingress", "the key `sg-open` is given twice";
        "vsw-b: {cidr: 10.0.5.0/24}" => "vsw-b: {^zone: b}", "this map lacks the key `cidr`";
        "vpc:\n  cidr" => "vpc:\n  cidr: ^[10.0.0.0/16]\n  cidr", "expected one value, not a list";
        "nodes:\n" => "nodes: ^{name: n0}\nxnodes:\n", "expected a list";
        "limits: {flows: 1024}" => "limits: ^[1]", "expected a map";
        "limits: {flows: 1024}" => "limits: ^16384", "expected a map";
        "  - name: n2\n    eth0" => "  - name^:\n    eth0", "expected a value, found nothing";
        "seed: 1" => "seed: 1\n---\n^seed: 2", "expected one YAML document";
        "seed: 1" => "seed: ^*nowhere", "there is no anchor of this name";
        "limits: {flows: 1024}" => "limits: {flows: 1024\nx^: 1", "not valid YAML";
    });
}

/// What people write who know the field, but not this file.
#[test]
fn forms_of_elsewhere() {
    check(mistakes! {
        "{peer: sg-open}" => "{^proto: tcp}", "`peer: 0.0.0.0/0` is everybody";
        "proto: tcp, ports: 80" => "proto: all, ports: ^80", "ports go with `proto: tcp`";
        "proto: tcp, ports: 80" => "proto: tcp, ports: ^[80, 443]", "write a rule for each";
        "vipPing: answer" => "strictArp: ^1", "did you mean `true`?";
        "vipPing: answer" => "strictArp: ^no", "did you mean `false`?";
        "rpFilter: 0" => "rpFilter: ^true", "did you mean `1`?";
        "clusterIP: 192.168.0.10" => "clusterIP: ^None", "leave it out of the lab";
        "endpoints: [{pod: demo/a}," => "endpoints: [^demo/a,", "is written `{pod: NS/NAME}`";
        "endpoints: [{pod: demo/a}, {pod: demo/b, weight: 2}]" => "endpoints:\n      - ^demo/a",
            "is written `{pod: NS/NAME}`";
        "ports: [{port: 443}]" => "ports: [^443]", "is written `{port: 80}`";
        "backends: [eni-a]" => "backends: [^{eni: eni-a}]", "the ID of a member ENI";
        "listeners: [{port: 80," => "listeners: [^80, {port: 80,", "a listener is written";
        "trunk: {" => "trunk: {mtu: ^9000, ", "8500 is the MTU of jumbo frames on ECS";
    });
}

#[test]
fn settings() {
    check(mistakes! {
        "profile: terway-1.4.0" => "profile: ^terway-1.4.9",
            "profile: expected `terway-1.4.0`, `terway-1.4.2` or `terway-1.3`, found `terway-1.4.9`";
        "profile: terway-1.4.0" => "profile: ^terway-1.4", "did you mean";
        "vipPing: answer" => "vipPing: ^anser", "did you mean `answer`?";
        "vipPing: answer" => "vipPing: ^drop", "expected `answer` or `reject`";
        "vipPing: answer" => "localNoEndpoint: ^all", "expected `fail` or `fallback`";
        "rpFilter: 0" => "rpFilter: ^3", "rpFilter: expected `0`, `1` or `2`, found `3`";
        "rpFilter: 0" => "strictArp: ^maybe", "strictArp: expected `true` or `false`";
        "rpFilter: 0" => "icmpRatelimit: ^-1", "whole number from 0 to 3600000, found `-1`";
        "clusterCIDR: 10.0.5.0/24" => "clusterCIDR: ^10.0.5.1/24", "the range is `10.0.5.0/24`";
        "clusterCIDR: 10.0.5.0/24" => "clusterCIDR: ^none", "expected an IPv4 range";
        "flows: 1024" => "flows: ^0", "flows: expected a whole number from 1 to 16777216, found `0`";
        "flows: 1024" => "neighbourQueue: ^1000000", "from 1 to 4096";
        "flows: 1024" => "linkQueue: ^many", "linkQueue: expected a whole number";
        "seed: 1" => "seed: ^18446744073709551616", "seed: expected a whole number";
        "seed: 1" => "seed: ^0x10", "found `0x10`";
    });
}

#[test]
fn fabric() {
    check(mistakes! {
        "  cidr: 10.0.0.0/16" => "  cidr: ^10.0.0.1/16", "`10.0.0.1/16` has bits set after its prefix";
        "  cidr: 10.0.0.0/16" => "  cidr: ^10.0.0.0/33", "cidr: expected an IPv4 range";
        "  cidr: 10.0.0.0/16" => "  cidr: ^10.0.0.0", "one address is `10.0.0.0/32`";
        "  cidr: 10.0.0.0/16" => "  cidr: ^0.0.0.0/0", "overlaps 0.0.0.0/8";
        "gatewayMac: ee:ff" => "gatewayMac: ^ef:ff", "is a group address";
        "gatewayMac: ee:ff:ff:ff:ff:ff" => "gatewayMac: ^ee:ff:ff:ff:ff", "expected a MAC address";
        "gatewayMac: ee:ff:ff:ff:ff:ff" => "gatewayMac: ^00:00:00:00:00:00", "never all zeros";
        "gatewayMac: ee:ff:ff:ff:ff:ff" => "decrementTtl: ^2", "expected `true` or `false`";
        "vsw-b: {cidr: 10.0.5.0/24}" => "vsw-c: {cidr: ^10.1.5.0/24}\n    vsw-b: {cidr: 10.0.5.0/24}",
            "`10.1.5.0/24` lies outside the VPC's range 10.0.0.0/16";
        "vsw-b: {cidr: 10.0.5.0/24}" => "vsw-b: {cidr: 10.0.5.0/24}\n    vsw-c: {cidr: ^10.0.4.128/25}",
            "overlaps 10.0.4.0/24 of vSwitch `vsw-a`";
        "vsw-b: {cidr: 10.0.5.0/24}" => "vsw-b: {cidr: 10.0.5.0/24}\n    vsw-c: {cidr: ^10.0.6.0/30}",
            "too small for a vSwitch";
        "    vsw-a: {cidr" => "    ^vsw a: {cidr: 10.0.6.0/24}\n    vsw-a: {cidr",
            "expected an ID of letters";
        "    vsw-a: {cidr" => "    ^10.0: {cidr: 10.0.6.0/24}\n    vsw-a: {cidr",
            "an ID needs a letter";
        "dst: 192.0.2.0/24" => "dst: ^192.0.2.1/24", "has bits set";
        "dst: 192.0.2.0/24" => "dst: ^10.0.4.0/25", "lies in vSwitch `vsw-a`, whose system route wins";
        "nextHop: eni-t1}" => "nextHop: ^eni-t9}", "did you mean `eni-t1`?";
        "nextHop: eni-t1}" => "nextHop: ^demo/z}", "there is no pod `demo/z` in this lab";
        "nextHop: eni-t1}" => "nextHop: eni-t1}\n    - {dst: ^192.0.2.0/24, nextHop: eni-a}",
            "a route for `192.0.2.0/24` is given twice";
    });
}

#[test]
fn security_groups() {
    check(mistakes! {
        "sg-web: {ingress" => "^-sg: {}\n    sg-web: {ingress", "expected an ID";
        "{type: basic" => "{type: ^basics", "did you mean `basic`?";
        "inner: accept" => "inner: ^refuse", "inner: expected `accept` or `drop`";
        "{type: advanced" => "{inner: ^drop, type: advanced", "no access within the group";
        "policy: accept" => "policy: ^allow", "policy: expected `accept` or `drop`, found `allow`";
        "proto: tcp, ports: 80, peer" => "proto: ^sctp, ports: all, peer",
            "proto: expected `tcp`, `udp`, `icmp` or `all`";
        "proto: tcp, ports: 80" => "proto: icmp, ports: ^80", "protocol `icmp` has no ports";
        "proto: tcp, ports: 80" => "proto: all, ports: ^80", "protocol `all` has no ports";
        "proto: tcp, ports: 80" => "ports: ^80", "ports go with `proto: tcp`";
        "ports: 80," => "ports: ^90-80,", "write \"80-90\"";
        "ports: 80," => "ports: ^0,", "ports: expected a port, a range of ports";
        "ports: 80," => "ports: ^80-,", "found `80-`";
        "ports: 80," => "ports: ^65536,", "found `65536`";
        "peer: 0.0.0.0/0" => "peer: ^10.0.0.1/8", "the range is `10.0.0.0/8`";
        "peer: 0.0.0.0/0" => "peer: ^10.0.0", "peer: expected an IPv4 range";
        "peer: 0.0.0.0/0" => "peer: ^fd00::/8", "expected an IPv4 range";
        "peer: sg-open" => "peer: ^sg-opne", "did you mean `sg-open`?";
        "peer: 10.0.0.0/8" => "peer: ^sg-open", "an advanced security group cannot name another";
        "priority: 1" => "priority: ^0", "priority: expected a whole number from 1 to 100";
        "priority: 1" => "priority: ^101", "found `101`";
    });
}

#[test]
fn nothing_there() {
    let without = |key: &str| {
        let lab = format!("vpc:\n  cidr: 10.0.0.0/16\n{key}");
        datapath::lab::load(&lab, "lab.yaml").unwrap_err().to_string()
    };
    let error = without("nodes: []\n");
    assert!(error.contains("lab.yaml:3:8: the lab has no node"), "{error}");
    assert!(error.contains("lab.yaml:2:9: the VPC has no vSwitch"), "{error}");
    let error = without("");
    assert!(error.contains("lab.yaml:1:1: the lab has no node"), "{error}");
    let error = datapath::lab::load("", "lab.yaml").unwrap_err().to_string();
    assert!(error.starts_with("lab.yaml:1:1: "), "{error}");
}
