//! kube-proxy's sets and rules as the tools of a node read them (spec MARK-2, MARK-11).

use datapath::lab;
use datapath::node::NodeConfig;
use datapath::node::kube_proxy::Table;

/// Sets and both tables of node 1, for a lab with one service of every kind.
fn text(switches: &str) -> String {
    let lab = include_str!("../common/lab.yaml");
    let (before, rest) = lab.split_once("services:\n").expect("services");
    let (_, after) = rest.split_once("slbs:\n").expect("load balancers");
    let services = "services:
  - {name: t/all, type: LoadBalancer, clusterIP: 192.168.0.1, externalIPs: 47.1.1.1,
     loadBalancer: 47.1.1.2, loadBalancerSourceRanges: [10.0.4.0/24, 0.0.0.0/0],
     ports: [{port: 80, targetPort: 8080, nodePort: 30080}], endpoints: [{pod: t/a}, {pod: t/c}]}
  - {name: t/local, type: LoadBalancer, clusterIP: 192.168.0.2, externalIPs: 47.1.1.3,
     loadBalancer: 47.1.1.4, externalTrafficPolicy: Local,
     ports: [{port: 53, proto: udp, nodePort: 30053}], endpoints: [{pod: t/b, terminating: true}]}
slbs:
";
    let text = format!("{before}{services}{after}switches: {{{switches}}}\n");
    let lab = lab::load(&text, "lab.yaml").unwrap_or_else(|error| panic!("{error}"));
    let config = NodeConfig::new(&lab, 0, 1).expect("a node");
    let rules = &config.kube_proxy;
    format!("{}{}{}", rules.sets(), rules.restore(Table::Nat), rules.restore(Table::Filter))
}

const SETS: &str = "\
create KUBE-LOOP-BACK hash:ip,port,ip
add KUBE-LOOP-BACK 10.0.4.27,tcp:8080,10.0.4.27
add KUBE-LOOP-BACK 10.0.4.31,udp:53,10.0.4.31
create KUBE-CLUSTER-IP hash:ip,port
add KUBE-CLUSTER-IP 192.168.0.1,tcp:80
add KUBE-CLUSTER-IP 192.168.0.2,udp:53
create KUBE-EXTERNAL-IP hash:ip,port
add KUBE-EXTERNAL-IP 47.1.1.1,tcp:80
create KUBE-EXTERNAL-IP-LOCAL hash:ip,port
add KUBE-EXTERNAL-IP-LOCAL 47.1.1.3,udp:53
create KUBE-LOAD-BALANCER hash:ip,port
add KUBE-LOAD-BALANCER 47.1.1.2,tcp:80
add KUBE-LOAD-BALANCER 47.1.1.4,udp:53
create KUBE-LOAD-BALANCER-LOCAL hash:ip,port
add KUBE-LOAD-BALANCER-LOCAL 47.1.1.4,udp:53
create KUBE-LOAD-BALANCER-FW hash:ip,port
add KUBE-LOAD-BALANCER-FW 47.1.1.2,tcp:80
create KUBE-LOAD-BALANCER-SOURCE-CIDR hash:ip,port,net
add KUBE-LOAD-BALANCER-SOURCE-CIDR 47.1.1.2,tcp:80,10.0.4.0/24
create KUBE-LOAD-BALANCER-SOURCE-IP hash:ip,port,ip
add KUBE-LOAD-BALANCER-SOURCE-IP 47.1.1.2,tcp:80,47.1.1.2
create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
add KUBE-NODE-PORT-TCP 30080
create KUBE-NODE-PORT-LOCAL-TCP bitmap:port range 0-65535
create KUBE-NODE-PORT-UDP bitmap:port range 0-65535
add KUBE-NODE-PORT-UDP 30053
create KUBE-NODE-PORT-LOCAL-UDP bitmap:port range 0-65535
add KUBE-NODE-PORT-LOCAL-UDP 30053
create KUBE-IPVS-IPS hash:ip
add KUBE-IPVS-IPS 47.1.1.1
add KUBE-IPVS-IPS 47.1.1.2
add KUBE-IPVS-IPS 47.1.1.3
add KUBE-IPVS-IPS 47.1.1.4
add KUBE-IPVS-IPS 192.168.0.1
add KUBE-IPVS-IPS 192.168.0.2
";

const NEW: &str = "\
*nat
:KUBE-SERVICES -
:KUBE-POSTROUTING -
:KUBE-MARK-MASQ -
:KUBE-LOAD-BALANCER -
:KUBE-NODE-PORT -
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-SERVICES -m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER
-A KUBE-LOAD-BALANCER -m set --match-set KUBE-LOAD-BALANCER-LOCAL dst,dst -j RETURN
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-NODE-PORT -p udp -m set --match-set KUBE-NODE-PORT-LOCAL-UDP dst -j RETURN
-A KUBE-NODE-PORT -p udp -m set --match-set KUBE-NODE-PORT-UDP dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP src,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m set --match-set KUBE-EXTERNAL-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m set --match-set KUBE-EXTERNAL-IP dst,dst -m addrtype --dst-type LOCAL -j ACCEPT
-A KUBE-SERVICES -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -m addrtype --dst-type LOCAL -j ACCEPT
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
-A KUBE-SERVICES -m set --match-set KUBE-LOAD-BALANCER dst,dst -j ACCEPT
-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
*filter
:KUBE-IPVS-FILTER -
:KUBE-PROXY-FIREWALL -
:KUBE-SOURCE-RANGES-FIREWALL -
:KUBE-FORWARD -
-A INPUT -j KUBE-IPVS-FILTER
-A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT
-A INPUT -j KUBE-PROXY-FIREWALL
-A FORWARD -j KUBE-PROXY-FIREWALL
-A KUBE-PROXY-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-FW dst,dst -j KUBE-SOURCE-RANGES-FIREWALL
-A KUBE-SOURCE-RANGES-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN
-A KUBE-SOURCE-RANGES-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-SOURCE-IP dst,dst,src -j RETURN
-A KUBE-SOURCE-RANGES-FIREWALL -j DROP
-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";

#[test]
fn the_new_generation_as_text() {
    assert_eq!(text("kubeProxy: v1.28"), format!("{SETS}{NEW}"));
}

#[test]
fn the_old_generation_differs_in_the_firewall() {
    let (old, new) = (text("kubeProxy: v1.20"), text("kubeProxy: v1.28"));
    let without = |text: &str, other: &str| -> String {
        let other: Vec<&str> = other.lines().collect();
        let only = text.lines().filter(|line| !other.contains(line));
        only.map(|line| line.to_owned() + "\n").collect()
    };
    assert_eq!(
        without(&old, &new),
        "\
:KUBE-FIREWALL -
:KUBE-MARK-DROP -
-A KUBE-LOAD-BALANCER -m set --match-set KUBE-LOAD-BALANCER-FW dst,dst -j KUBE-FIREWALL
-A KUBE-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN
-A KUBE-FIREWALL -m set --match-set KUBE-LOAD-BALANCER-SOURCE-IP dst,dst,src -j RETURN
-A KUBE-FIREWALL -j KUBE-MARK-DROP
-A KUBE-MARK-DROP -j MARK --or-mark 0x8000
:KUBE-FIREWALL -
-A INPUT -j KUBE-FIREWALL
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
"
    );
    // It does not know of endpoints that are not ready.
    assert!(without(&new, &old).starts_with("add KUBE-LOOP-BACK 10.0.4.31,udp:53,10.0.4.31\n"));
}

#[test]
fn switches_decide_on_cluster_ips_and_ports() {
    for (switches, line) in [
        ("masqueradeAll: true", "KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ\n"),
        (
            "clusterCIDR: 10.0.4.0/24",
            "KUBE-CLUSTER-IP dst,dst ! -s 10.0.4.0/24 -j KUBE-MARK-MASQ\n",
        ),
        ("masqueradeRandomFully: false", "-A KUBE-POSTROUTING -j MASQUERADE\n"),
    ] {
        assert!(text(switches).contains(line), "{switches}");
    }
}
