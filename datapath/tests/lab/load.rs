//! Labs that load: everything spelled out, everything derived, and the lab of the kernel traces.

use datapath::lab::model::{
    Condition, ConntrackSwitches, Endpoint, EniKind, GroupKind, GroupRule, IpvsSwitches,
    KubeProxyVersion, Lab, Limits, Listener, LocalNoEndpoint, Peer, Profile, RpFilter, Scheduler,
    SchedulerFlags, Service, ServicePort, Switches, TcpTimeouts, VipPing, VpcRoute,
};
use datapath::lab::{derive, load};
use datapath::wire::{Mac, Protocol};

const FULL: &str = include_str!("../labs/full.yaml");
const DERIVED: &str = include_str!("../labs/derived.yaml");
const KERNEL: &str = include_str!("../labs/kernel.yaml");

fn loaded(text: &str) -> Lab {
    load(text, "lab.yaml").unwrap_or_else(|error| panic!("{error}"))
}

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

/// `DERIVED` with `line` added at its end.
fn derived_with(line: &str) -> Lab {
    loaded(&format!("{DERIVED}{line}\n"))
}

#[test]
fn full_settings() {
    let lab = loaded(FULL);
    assert_eq!(lab.profile, Profile::P2);
    assert_eq!(lab.seed, u64::MAX);
    let switches = Switches {
        from_rule_iif: true,
        vlan_push: false,
        vs_conntrack: false,
        snat_reroute: false,
        kube_proxy: KubeProxyVersion::V1_20,
        cluster_cidr: Some("10.0.5.0/24".parse().unwrap()),
        masquerade_all: true,
        masquerade_random_fully: false,
        icmp_ratelimit_ms: 0,
        local_no_endpoint: LocalNoEndpoint::Fail,
        vip_ping: VipPing::Answer,
        strict_arp: true,
        rp_filter: RpFilter::Loose,
        permanent_neighbours: true,
        flow_cache: false,
        ipvs: IpvsSwitches::default(),
        conntrack: ConntrackSwitches {
            tcp: TcpTimeouts {
                syn_sent: 1,
                syn_recv: 2,
                established: 3,
                fin_wait: 4,
                close_wait: 5,
                last_ack: 6,
                time_wait: 7,
                close: 8,
                max_retrans: 9,
                unacknowledged: 10,
            },
            udp: 11,
            udp_stream: 12,
            icmp: 13,
            generic: 14,
            be_liberal: true,
            loose: false,
            max_retrans: 15,
            ignore_invalid_rst: true,
        },
    };
    assert_eq!(lab.switches, switches);
    let limits = Limits {
        flows: 1,
        sessions: 2,
        neighbours: 3,
        neighbour_queue: 4,
        member_queue: 5,
        fragments: 7,
        link_queue: 6,
    };
    assert_eq!(lab.limits, limits);
}

#[test]
fn full_vpc() {
    let vpc = loaded(FULL).vpc;
    assert_eq!(vpc.cidr, "10.0.0.0/8".parse().unwrap());
    assert_eq!(vpc.gateway_mac, mac("ee:ff:ff:ff:ff:fe"));
    assert!(vpc.decrement_ttl);
    let vswitches: Vec<_> =
        vpc.vswitches.iter().map(|v| (v.id.as_str(), v.zone.as_str())).collect();
    assert_eq!(vswitches, [("vsw-nodes", "cn-hongkong-b"), ("vsw-pods", "cn-hongkong-c")]);
    assert_eq!(vpc.vswitches[1].gateway().to_string(), "10.0.5.253");
    let route = |cidr: &str, eni| VpcRoute { cidr: cidr.parse().unwrap(), eni };
    assert_eq!(vpc.routes, [route("192.0.2.0/24", 1), route("198.51.100.0/24", 2)]);
    let rule =
        |accept, proto, ports, peer, priority| GroupRule { accept, proto, ports, peer, priority };
    let cidr = |text: &str| Peer::Cidr(text.parse().unwrap());
    let [web, strict] = vpc.groups.as_slice() else { panic!("two groups") };
    assert_eq!((web.id.as_str(), web.kind, web.inner_accept), ("sg-web", GroupKind::Basic, false));
    let ingress = [
        rule(true, Some(Protocol::TCP), Some((80, 80)), cidr("0.0.0.0/0"), 1),
        rule(false, Some(Protocol::UDP), Some((53, 5353)), cidr("10.0.4.7/32"), 100),
        rule(true, None, None, Peer::Group(0), 2),
    ];
    assert_eq!(web.ingress, ingress);
    assert_eq!(web.egress, [rule(true, Some(Protocol::ICMP), None, cidr("10.0.0.0/8"), 1)]);
    assert_eq!((strict.kind, strict.inner_accept), (GroupKind::Advanced, false));
    assert_eq!(strict.ingress, [rule(true, None, None, cidr("10.0.0.0/8"), 1)]);
}

#[test]
fn full_machines() {
    let lab = loaded(FULL);
    let node = &lab.nodes[0];
    assert_eq!(node.name, "cn-hongkong.10.0.4.20");
    assert_eq!((node.primary, node.trunk), (0, 1));
    assert_eq!((node.primary_mtu, node.trunk_mtu), (1400, 1450));
    let [primary, trunk, client, nginx] = lab.enis.as_slice() else { panic!("four ENIs") };
    assert_eq!(primary.kind, EniKind::Primary);
    assert_eq!(primary.id, "eni-node1-primary");
    assert_eq!(primary.ip.to_string(), "10.0.4.20");
    assert_eq!(primary.mac, mac("02:00:00:00:01:00"));
    assert_eq!((primary.vswitch, primary.groups.as_slice()), (0, [0].as_slice()));
    assert!(primary.src_dst_check && trunk.src_dst_check && !client.src_dst_check);
    assert_eq!(trunk.kind, EniKind::Trunk);
    assert_eq!((trunk.vswitch, trunk.groups.as_slice()), (0, [1].as_slice()));
    assert_eq!((client.id.as_str(), client.vswitch, client.node), ("eni-client", 1, 0));
    assert_eq!((client.mac, nginx.mac), (trunk.mac, trunk.mac));
    assert_eq!(client.kind, EniKind::Member { vid: lab.pods[0].vid, pod: 0 });
    assert_eq!((nginx.vswitch, lab.pods[1].vid.get()), (1, 101));
    let pod = &lab.pods[0];
    assert_eq!((pod.name.as_str(), pod.node, pod.member), ("web/client", 0, 2));
    assert_eq!((pod.ip.to_string().as_str(), pod.vid.get(), pod.mtu), ("10.0.5.27", 7, 1300));
    assert_eq!((pod.mac, pod.cali_mac), (mac("02:00:00:00:00:0a"), mac("02:ca:00:00:00:0a")));
    assert_eq!(pod.cali, "caliA");
    assert_eq!((lab.outside[0].ips.len(), lab.outside[0].mac), (2, mac("02:00:00:00:00:ee")));
}

#[test]
fn full_services() {
    let lab = loaded(FULL);
    let port =
        |proto, port, target_port, node_port| ServicePort { proto, port, target_port, node_port };
    let endpoint = |pod, weight, condition| Endpoint { pod, weight, upper: 0, lower: 0, condition };
    let service = Service {
        name: "web/nginx".to_owned(),
        cluster_ip: Some("192.168.31.83".parse().unwrap()),
        external_ips: vec!["47.243.87.204".parse().unwrap(), "47.243.87.205".parse().unwrap()],
        load_balancer: vec!["8.210.162.178".parse().unwrap()],
        external_local: true,
        internal_local: true,
        affinity: Some(86_400),
        one_packet: false,
        source_ranges: vec!["10.0.0.0/8".parse().unwrap(), "203.0.113.0/24".parse().unwrap()],
        scheduler: Scheduler::Rr,
        scheduler_flags: SchedulerFlags::default(),
        fnat: None,
        ports: vec![
            port(Protocol::TCP, 80, 8080, Some(30_080)),
            port(Protocol::UDP, 53, 5353, Some(30_080)),
            port(Protocol::TCP, 443, 443, None),
        ],
        endpoints: vec![
            endpoint(1, 3, Condition::Ready),
            endpoint(0, 0, Condition::ServingTerminating),
        ],
    };
    assert_eq!(lab.services, [service]);
    let slb = &lab.slbs[0];
    assert_eq!(slb.id, "lb-j6cmv8aaojf7nqdai2a6a");
    let listeners = [
        Listener { proto: Protocol::TCP, port: 80, backend_port: 8080, backends: vec![3, 2] },
        Listener { proto: Protocol::UDP, port: 53, backend_port: 53, backends: vec![3] },
    ];
    assert_eq!(slb.listeners, listeners);
}

#[test]
fn derived_values() {
    let lab = loaded(DERIVED);
    let enis: Vec<String> = lab
        .enis
        .iter()
        .map(|eni| format!("{} {} {} {:?}", eni.id, eni.ip, eni.mac, eni.groups))
        .collect();
    assert_eq!(enis, GOLDEN_ENIS);
    let nodes: Vec<String> =
        lab.nodes.iter().map(|n| format!("{} {} {}", n.name, n.host0_mac, n.host_mac)).collect();
    assert_eq!(nodes, GOLDEN_NODES);
    let pods: Vec<String> = lab
        .pods
        .iter()
        .map(|p| format!("{} {} {} {} {}", p.cali, p.ip, p.mac, p.cali_mac, p.vid))
        .collect();
    assert_eq!(pods, GOLDEN_PODS);
    assert_eq!(lab.outside[0].mac.to_string(), GOLDEN_OUTSIDE);
    assert!(lab.nodes.iter().all(|n| (n.primary_mtu, n.trunk_mtu) == (1500, 1500)));
    assert!(lab.pods.iter().all(|p| p.mtu == 1500));
    assert!(lab.enis.iter().all(|e| e.vswitch == 0 && !e.src_dst_check));
}

/// Worked out apart from the code, as are the others: ID, address, MAC, security groups.
const GOLDEN_ENIS: [&str; 7] = [
    "eni-fb31d2879929f2da48ad 10.0.4.1 02:fb:31:d2:87:99 [0]",
    "eni-5796f8e2e374f0b3abed 10.0.4.2 02:57:96:f8:e2:e3 [0]",
    "eni-313226df496c99f613fc 10.0.4.3 02:31:32:26:df:49 [0]",
    "eni-5ea08a0bbe5eccf7a77d 10.0.4.4 02:5e:a0:8a:0b:be [0]",
    "eni-11529dc5e4c299c75a99 10.0.4.5 02:57:96:f8:e2:e3 [0]",
    "eni-8060c423c2a11c92c81b 10.0.4.6 02:57:96:f8:e2:e3 [0]",
    "eni-3c9330f4df4b91c0b2d2 10.0.4.7 02:5e:a0:8a:0b:be [0]",
];
/// Name, MACs of host0 and its peer.
const GOLDEN_NODES: [&str; 2] =
    ["n1 02:98:91:4b:cb:00 02:d2:c4:40:55:29", "n2 02:56:7a:16:c6:e8 02:a8:9b:24:4c:36"];
/// Host-side veth, address, MACs of both ends, VID.
const GOLDEN_PODS: [&str; 3] = [
    "cali7d5bd3feb5f 10.0.4.5 02:f6:85:4b:a5:7f 02:ca:b1:81:a7:ef 101",
    "cali146beb6a241 10.0.4.6 02:29:de:25:b4:1b 02:3f:47:7c:2c:ee 102",
    "cali7404cdaedc9 10.0.4.7 02:02:73:4b:35:3d 02:07:21:ce:a6:7d 101",
];
/// MAC of the outside host.
const GOLDEN_OUTSIDE: &str = "02:02:2a:bf:93:c2";

#[test]
fn defaults_by_profile() {
    let old = derived_with("profile: terway-1.3").switches;
    let article = derived_with("profile: terway-1.4.0").switches;
    let modern = derived_with("profile: Terway-1.4.2").switches;
    let generation = |s: &Switches| (s.from_rule_iif, s.vlan_push, s.local_no_endpoint, s.vip_ping);
    let (fail, fallback) = (LocalNoEndpoint::Fail, LocalNoEndpoint::Fallback);
    assert_eq!(generation(&old), (true, false, fail, VipPing::Answer));
    assert_eq!(generation(&article), (true, true, fail, VipPing::Answer));
    assert_eq!(generation(&modern), (false, true, fallback, VipPing::Reject));
    assert_eq!(loaded(DERIVED).switches, article);
    assert_eq!(loaded(DERIVED).profile, Profile::P1);
    let Switches { vs_conntrack, snat_reroute, masquerade_random_fully, .. } = article;
    assert!(vs_conntrack && snat_reroute && masquerade_random_fully);
    assert!(!article.masquerade_all && !article.strict_arp && article.cluster_cidr.is_none());
    assert_eq!((article.icmp_ratelimit_ms, article.rp_filter), (1000, RpFilter::Off));
    let limits = Limits {
        flows: 16_384,
        sessions: 65_536,
        neighbours: 1024,
        neighbour_queue: 64,
        member_queue: 128,
        fragments: 512,
        link_queue: 256,
    };
    let lab = loaded(DERIVED);
    assert_eq!((lab.limits, lab.seed), (limits, 1));
    assert_eq!(lab.vpc.gateway_mac, mac("ee:ff:ff:ff:ff:ff"));
    assert!(!lab.vpc.decrement_ttl && lab.vpc.groups[0].inner_accept);
}

#[test]
fn kernel_lab() {
    let lab = loaded(KERNEL);
    let enis: Vec<String> = lab.enis.iter().map(|e| format!("{} {}", e.ip, e.mac)).collect();
    let expected = [
        "10.0.0.11 02:00:00:00:01:00",
        "10.0.1.11 02:00:00:00:01:01",
        "10.0.0.12 02:00:00:00:02:00",
        "10.0.1.12 02:00:00:00:02:01",
        "10.0.2.101 02:00:00:00:01:01",
        "10.0.2.102 02:00:00:00:01:01",
        "10.0.2.103 02:00:00:00:02:01",
        "10.0.2.104 02:00:00:00:02:01",
    ];
    assert_eq!(enis, expected);
    let pods: Vec<_> = lab.pods.iter().map(|p| (p.cali.as_str(), p.node, p.vid.get())).collect();
    assert_eq!(pods, [("caliA", 0, 101), ("caliB", 0, 102), ("caliC", 1, 201), ("caliD", 1, 202)]);
    let endpoints: Vec<Vec<usize>> =
        lab.services.iter().map(|s| s.endpoints.iter().map(|e| e.pod).collect()).collect();
    let expected: [&[usize]; 8] = [&[2], &[1], &[0], &[1, 2, 3], &[2], &[1], &[2], &[1, 2]];
    assert_eq!(endpoints, expected);
    let local: Vec<bool> = lab.services.iter().map(|s| s.external_local).collect();
    assert_eq!(local, [false, false, false, false, false, false, true, true]);
    assert_eq!(lab.services[3].ports.len(), 2);
    assert_eq!(lab.services[7].ports.len(), 1);
    assert_eq!(lab.switches.cluster_cidr, Some("10.0.2.0/24".parse().unwrap()));
}

#[test]
fn the_same_file_gives_the_same_lab() {
    for text in [FULL, DERIVED, KERNEL] {
        assert_eq!(loaded(text), loaded(text));
    }
}

#[test]
fn addresses_skip_what_is_given() {
    let text = DERIVED
        .replace("member: {securityGroups: sg-open}}\n  - {name: trunking/nginx-96", "ip: 10.0.4.1, member: {vid: 102, securityGroups: sg-open}}\n  - {name: trunking/nginx-96")
        .replace("clusterIP: 192.168.31.83", "clusterIP: 10.0.4.3");
    let lab = loaded(&text);
    let ips: Vec<u8> = lab.enis.iter().map(|e| e.ip.octets()[3]).collect();
    assert_eq!(ips, [2, 4, 5, 6, 1, 7, 8]);
    let vids: Vec<u16> = lab.pods.iter().map(|p| p.vid.get()).collect();
    assert_eq!(vids, [102, 101, 101]);
}

#[test]
fn a_full_vswitch_is_said() {
    let text = DERIVED.replace("10.0.4.0/24", "10.0.4.0/29");
    let error = load(&text, "lab.yaml").unwrap_err().to_string();
    let expected = "lab.yaml:13:12: vSwitch `vsw-a` has no address left for \
                    member ENI of pod `trunking/centos-59cdc5c9c4-l5vf9`";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn a_full_trunk_is_said() {
    let mut text = String::from(
        "vpc: {cidr: 10.0.0.0/8, vSwitches: {v: {cidr: 10.0.0.0/16}}, securityGroups: {s: {}}}\n\
         nodes: [{name: n, eth0: {securityGroups: s}}]\npods:\n",
    );
    for n in 0..4094 {
        text.push_str(&format!("- {{name: p/p{n}, node: n, member: {{securityGroups: s}}}}\n"));
    }
    let lab = loaded(&text);
    let mut vids: Vec<u16> = lab.pods.iter().map(|p| p.vid.get()).collect();
    assert_eq!((vids[0], vids[3993], vids[3994], vids[4093]), (101, 4094, 1, 100));
    vids.sort_unstable();
    vids.dedup();
    assert_eq!(vids.len(), 4094);
    text.push_str("- {name: p/q, node: n, member: {securityGroups: s}}\n");
    let error = load(&text, "lab.yaml").unwrap_err().to_string();
    assert!(error.starts_with("lab.yaml:4098:10: node `n` has more than 4094 pods"), "{error}");
}

#[test]
fn cali_names_are_terways() {
    let pods = [
        ("trunking", "centos-59cdc5c9c4-l5vf9", "cali7d5bd3feb5f"),
        ("default", "centos-59cdc5c9c4-l5vf9", "cali15798db94e2"),
        ("trunking", "nginx-96bb9b7bb-wwrdm", "cali146beb6a241"),
        ("default", "nginx-96bb9b7bb-wwrdm", "cali72ecbd9b4a8"),
        ("trunking", "nginx-6f545cb57c-kt7r8", "cali7404cdaedc9"),
        ("default", "nginx-6f545cb57c-kt7r8", "calidada2528ae4"),
        ("default", "client-b6989bf87-2bgtc", "calic95a4947e07"),
    ];
    for (namespace, pod, cali) in pods {
        assert_eq!(derive::cali_name(namespace, pod), cali);
    }
}

#[test]
fn every_mistake_is_reported_in_file_order() {
    let text = FULL
        .replace("seed: 18446744073709551615", "seed: x")
        .replace("vid: 7", "vid: 0")
        .replace("vSwitch: vsw-nodes", "vSwitch: vsw-node")
        .replace("scheduler: rr", "scheduler: lcc");
    let error = load(&text, "my lab.yaml").unwrap_err();
    let lines: Vec<u32> = error.problems.iter().map(|p| p.at.line).collect();
    assert_eq!(lines, [35, 43, 56, 74, 127]);
    let shown = "my lab.yaml:35:16: there is no vSwitch `vsw-node` in this lab\n \
                 35 |       vSwitch: vsw-node\n    |                ^\n    \
                 = help: did you mean `vsw-nodes`?\n\nmy lab.yaml:43:16: ";
    let error = error.to_string();
    assert!(error.starts_with(shown), "{error}");
}

#[test]
fn schema_has_the_keys() {
    let schema = datapath::lab::schema();
    let keys = |of: Option<&str>| {
        let object = match of {
            None => schema.as_value(),
            Some(name) => &schema.as_value()["$defs"][name],
        };
        let mut keys: Vec<&str> =
            object["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys.join(" ")
    };
    assert_eq!(
        keys(None),
        "limits links nodes outside pods profile seed services slbs switches vpc"
    );
    assert_eq!(keys(Some("Vpc")), "cidr decrementTtl gatewayMac routes securityGroups vSwitches");
    assert_eq!(keys(Some("SecurityGroup")), "egress ingress inner type");
    assert_eq!(keys(Some("Rule")), "peer policy ports priority proto");
    assert_eq!(keys(Some("Interface")), "eni ip mac mtu securityGroups srcDstCheck vSwitch");
    assert_eq!(keys(Some("Node")), "eth0 localAddresses localPorts name trunk");
    assert_eq!(keys(Some("Pod")), "cali caliMac ip mac member mtu name node");
    assert_eq!(keys(Some("Member")), "eni securityGroups vSwitch vid");
    assert_eq!(
        keys(Some("Service")),
        "clusterIP endpoints externalIPs externalTrafficPolicy internalTrafficPolicy \
         loadBalancer loadBalancerSourceRanges localAddresses mode name onePacket ports scheduler \
         schedulerFlags sessionAffinity sessionAffinityConfig toa type"
    );
    assert_eq!(keys(Some("ServicePort")), "nodePort port proto targetPort");
    assert_eq!(keys(Some("Endpoint")), "lower pod ready serving terminating upper weight");
    assert_eq!(keys(Some("Slb")), "id listeners vip");
    assert_eq!(keys(Some("Listener")), "backendPort backends port proto");
    assert_eq!(keys(Some("Outside")), "ips mac name");
    assert_eq!(
        keys(Some("Switches")),
        "clusterCIDR conntrack flowCache fromRuleIif icmpRatelimit ipvs kubeProxy localNoEndpoint \
         masqueradeAll \
         masqueradeRandomFully permanentNeighbours rpFilter snatReroute strictArp vipPing vlanPush vsConntrack"
    );
}

#[test]
fn conditions_left_out_are_as_the_control_plane_sets_them() {
    for (written, expected) in [
        ("", Condition::Ready),
        ("ready: false", Condition::NotReady),
        ("serving: false", Condition::NotReady),
        ("terminating: true", Condition::ServingTerminating),
        ("ready: false, terminating: true", Condition::ServingTerminating),
        ("serving: true, terminating: true", Condition::ServingTerminating),
        ("serving: false, terminating: true", Condition::NotReady),
        ("ready: false, serving: true", Condition::NotReady),
        // As a service with publishNotReadyAddresses has it.
        ("ready: true, terminating: true", Condition::Ready),
    ] {
        let endpoint = format!("{{pod: web/client, weight: 0, {written}}}");
        let text = FULL.replacen("{pod: web/client, weight: 0, terminating: true}", &endpoint, 1);
        assert_eq!(loaded(&text).services[0].endpoints[1].condition, expected, "{written}");
    }
}

#[test]
fn a_kube_proxy_brings_its_defaults() {
    let old = (KubeProxyVersion::V1_20, LocalNoEndpoint::Fail, VipPing::Answer);
    let new = (KubeProxyVersion::V1_28, LocalNoEndpoint::Fallback, VipPing::Reject);
    for (lines, expected) in [
        ("", old),
        ("profile: terway-1.4.2", new),
        ("switches: {kubeProxy: v1.28}", new),
        ("profile: terway-1.4.2\nswitches: {kubeProxy: v1.20}", old),
        ("switches: {kubeProxy: v1.28, vipPing: answer}", (new.0, new.1, VipPing::Answer)),
    ] {
        let switches = derived_with(lines).switches;
        let found = (switches.kube_proxy, switches.local_no_endpoint, switches.vip_ping);
        assert_eq!(found, expected, "{lines}");
    }
}
