//! A planned network is there in every detail, or not at all.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use harness::net::plan::{End, Namespace, Route, Sysctl, Topology, Veth};
use harness::net::{apply, namespace, stats};
use serde_json::{Value, json};

use crate::support::{GATEWAY, Lab, PODS, ip, mac, ping};

fn built() -> Option<Lab> {
    let lab = Lab::new()?;
    apply(&lab.topology()).expect("the plan is right");
    Some(lab)
}

/// The fields of `found` that `wanted` names.
fn like(found: &Value, wanted: &Value) -> Value {
    let names = wanted.as_object().expect("an object").keys();
    names.map(|name| (name.clone(), found[name].clone())).collect()
}

#[test]
fn every_detail_is_as_iproute2_sees_it() {
    let Some(lab) = built() else { return };
    assert_eq!(lab.names().len(), 3);
    for (number, queues, mtu, address) in [(0, 1, 1450, PODS[0]), (1, 4, 1450, PODS[1])] {
        let pod = lab.namespace(&format!("p{number}"));
        let link = &ip(&pod, "-d link show dev eth0")[0];
        let wanted = json!({
            "address": format!("02:00:00:00:01:0{number}"), "mtu": mtu, "operstate": "UP",
            "num_tx_queues": queues, "num_rx_queues": queues, "link_index": 100 + number,
        });
        assert_eq!(like(link, &wanted), wanted);
        let on_link = &ip(&pod, "address show dev eth0")[0]["addr_info"];
        assert_eq!(on_link.as_array().expect("a list").len(), 1, "IPv6 is off: {on_link}");
        let wanted = json!({
            "family": "inet", "local": address, "prefixlen": 32, "scope": "global",
            "broadcast": null,
        });
        assert_eq!(like(&on_link[0], &wanted), wanted);
        let routes = ip(&pod, "route show");
        let wanted = json!({ "dst": "default", "gateway": GATEWAY, "flags": ["onlink"] });
        assert_eq!(like(&routes[0], &wanted), wanted);
        assert_eq!(routes.as_array().expect("a list").len(), 1);
        let neighbours = ip(&pod, "neighbour show dev eth0");
        let lladdr = format!("02:00:00:00:02:0{number}");
        let wanted = json!({ "dst": GATEWAY, "lladdr": lladdr, "state": ["PERMANENT"] });
        assert_eq!(like(&neighbours[0], &wanted), wanted);

        let node = lab.namespace("n1");
        let link = &ip(&node, &format!("-d link show dev cali{number}"))[0];
        let wanted = json!({
            "ifindex": 100 + number, "mtu": 1500, "num_tx_queues": queues,
            "num_rx_queues": queues, "address": lladdr,
        });
        assert_eq!(like(link, &wanted), wanted);
        let routes = ip(&node, &format!("route show dev cali{number}"));
        let wanted = json!({ "dst": address, "scope": "link", "gateway": null });
        assert_eq!(like(&routes[0], &wanted), wanted);
    }
    let loopback = &ip(&lab.namespace("p0"), "address show dev lo")[0];
    assert_eq!(loopback["addr_info"][0]["local"], "127.0.0.1");
    assert_eq!(loopback["addr_info"].as_array().expect("a list").len(), 1, "no ::1");
}

#[test]
fn sysctls_are_the_namespaces_own() {
    let Some(lab) = built() else { return };
    let read = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("readable");
    let before = read();
    assert_eq!(namespace::run_in(&lab.namespace("n1"), read).expect("is there"), "1\n");
    assert_eq!(namespace::run_in(&lab.namespace("p0"), read).expect("is there"), "0\n");
    assert_eq!(read(), before);
}

#[test]
fn pods_reach_each_other_and_the_counters_are_iproute2s() {
    let Some(lab) = built() else { return };
    let [first, second] = ["p0", "p1"].map(|pod| lab.namespace(pod));
    for _ in 0..3 {
        ping(&first, PODS[1]).expect("an answer");
        ping(&second, PODS[0]).expect("an answer");
    }
    let names = [lab.namespace("n1"), first, second];
    let ours = stats::read_all(&names).expect("all are there");
    for name in &names {
        let mut theirs = BTreeMap::new();
        for link in ip(name, "-s link show").as_array().expect("a list") {
            let figure = |side: &str, what: &str| link["stats64"][side][what].as_u64();
            let figures = ["packets", "bytes", "dropped", "errors"]
                .map(|what| ["rx", "tx"].map(|side| figure(side, what).expect("a number")));
            theirs.insert(link["ifname"].as_str().expect("a name").to_owned(), figures);
        }
        let ours: BTreeMap<_, _> = ours[name]
            .iter()
            .map(|(ifname, s)| {
                let packets = [s.rx_packets, s.tx_packets];
                let dropped = [s.rx_dropped, s.tx_dropped];
                let errors = [s.rx_errors, s.tx_errors];
                (ifname.clone(), [packets, [s.rx_bytes, s.tx_bytes], dropped, errors])
            })
            .collect();
        assert_eq!(ours, theirs);
    }
    assert!(ours[&names[1]]["eth0"].rx_packets >= 6);
    assert_eq!(stats::read(&names[1]).expect("is there"), ours[&names[1]]);
}

#[test]
fn what_fails_half_way_leaves_nothing_and_says_where() {
    type Mistake = (fn(&Lab, &mut Topology), &'static [&'static str]);
    let mistakes: [Mistake; 6] = [
        (
            |_, plan| plan.links[1].b.ifname = "cali0".into(),
            &["link cali0 in", "-n1: create with peer eth0 in", "-p1: File exists"],
        ),
        (
            |_, plan| plan.links[0].b.ifindex = Some(101),
            &["link cali1 in", "-n1: create with peer eth0 in", "-p1: File exists"],
        ),
        (
            |_, plan| plan.links[1].a.routes[0].onlink = false,
            &["link eth0", "-p1: add route default via 169.254.1.1:", "invalid gateway"],
        ),
        (
            |_, plan| plan.links[0].a.addresses.push((PODS[0], 32)),
            &["-p0: add address 10.9.0.1/32", "File exists"],
        ),
        (
            |_, plan| plan.namespaces[2].sysctls.push(Sysctl::new("net/ipv4/ip_froward", "1")),
            &["-p1: sysctl net/ipv4/ip_froward = 1", "No such file"],
        ),
        (
            |lab, plan| {
                let taken = lab.namespace("taken");
                namespace::create(&taken).expect("free");
                plan.namespaces.push(Namespace::new(taken));
            },
            &["-taken: create its name", "File exists"],
        ),
    ];
    for (mistake, words) in mistakes {
        let Some(lab) = Lab::new() else { return };
        let mut plan = lab.topology();
        mistake(&lab, &mut plan);
        let before = lab.names();
        let error = apply(&plan).expect_err("the plan is wrong").to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in {error:?}");
        }
        assert_eq!(lab.names(), before, "{error}");
        let again = apply(&lab.topology());
        again.expect("nothing stands in the way of the right plan");
    }
}

#[test]
fn a_namespace_is_one_for_iproute2_and_the_caller_stays_outside() {
    let Some(lab) = Lab::new() else { return };
    let name = lab.namespace("n1");
    let outside = namespace::current().expect("readable");
    namespace::create(&name).expect("free");
    assert!(namespace::exists(&name));
    let inside = namespace::run_in(&name, namespace::current).expect("is there");
    assert_eq!(inside.expect("readable"), namespace::id(&name).expect("is there"));
    assert_eq!(namespace::current().expect("readable"), outside);
    let status = Command::new("ip").args(["netns", "delete", &name]).status();
    assert!(status.expect("installed").success(), "iproute2 takes ours for its own");
    assert!(!namespace::exists(&name));
    assert!(!namespace::delete(&name).expect("nothing to do"));
}

#[test]
fn five_hundred_veths() {
    let Some(lab) = Lab::new() else { return };
    let namespaces: Vec<String> = (0..20).map(|n| lab.namespace(&n.to_string())).collect();
    let mut plan = Topology::default();
    plan.namespaces.extend(namespaces.iter().map(Namespace::new));
    for number in 0..500_u16 {
        let [high, low] = number.to_be_bytes();
        let home = &namespaces[usize::from(number) % 19 + 1];
        let address = [10, 8, high, low].into();
        let a = End {
            addresses: vec![(address, 32)],
            neighbours: vec![(GATEWAY, mac(high + 4, low))],
            ..End::new(home, format!("pod{number}"), mac(high, low))
        };
        let b = End {
            routes: vec![Route::on_link(address, 32)],
            ..End::new(&namespaces[0], format!("cali{number}"), mac(high + 4, low))
        };
        plan.links.push(Veth { a, b, queues: 1 });
    }
    let start = Instant::now();
    apply(&plan).expect("the plan is right");
    eprintln!("500 veths between 20 namespaces in {:?}", start.elapsed());
    let links = stats::read(&namespaces[0]).expect("is there");
    assert_eq!(links.keys().filter(|name| name.starts_with("cali")).count(), 500);
}
