//! loadBalancerSourceRanges of both generations of kube-proxy (spec MARK-12 to MARK-15).

use std::net::Ipv4Addr;

use crate::common::*;
use datapath::lab::{self, Lab};
use datapath::node::ETH0;
use datapath::time::Time;
use datapath::verdict::DropReason;

const LB: Ipv4Addr = Ipv4Addr::new(47, 1, 1, 99);
const CIP: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 99);

/// The lab with a load balancer's address that only some may use.
fn lab(kube_proxy: &str, ranges: &str) -> Lab {
    let text = include_str!("../common/lab.yaml");
    let service = format!(
        "  - {{name: t/ranges, clusterIP: {CIP}, loadBalancer: {LB}, type: LoadBalancer, \
         loadBalancerSourceRanges: [{ranges}], endpoints: [{{pod: t/b}}], \
         ports: [{{port: 80, targetPort: 8080, nodePort: 30080}}, \
         {{port: 53, targetPort: 5353, proto: udp}}]}}\nslbs:\n"
    );
    let switches =
        "switches: {kubeProxy: VERSION, masqueradeRandomFully: false, icmpRatelimit: 0}\n";
    let text = text.replacen("slbs:\n", &service, 1) + &switches.replace("VERSION", kube_proxy);
    lab::load(&text, "lab.yaml").unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn sources_outside_the_ranges_are_dropped() {
    for kube_proxy in ["v1.20", "v1.28"] {
        let mut bench = Bench::new(lab(kube_proxy, "10.0.4.27/32, 203.0.113.0/24"));
        assert_eq!(bench.sent(CALI_A, &tcp((A, 1), (LB, 80), SYN)).view().dst, (B, 8080));
        for (port, from) in [(CALI_B, B), (ETH0, CLIENT)] {
            let syn = tcp((from, 1), (LB, 80), SYN);
            assert_eq!(bench.dropped(port, &syn), DropReason::SourceRange, "{kube_proxy}");
            let datagram = udp((from, 1), (LB, 53), b"?");
            assert_eq!(bench.dropped(port, &datagram), DropReason::SourceRange, "{kube_proxy}");
        }
        // Only the address and ports of the load balancer are closed.
        assert_eq!(bench.sent(ETH0, &tcp((CLIENT, 1), (N1, 30_080), SYN)).view().dst, (B, 8080));
        assert_eq!(bench.sent(ETH0, &tcp((CLIENT, 1), (CIP, 80), SYN)).view().dst, (B, 8080));
        assert_eq!(bench.flows().len(), 3, "what is dropped leaves no entry");
        assert_eq!(bench.states().len(), 3, "and no connection");
    }
}

#[test]
fn an_established_flow_goes_on_as_its_generation_says() {
    // The old rules are in nat and see the first packet of a flow only; the new see every packet.
    for (kube_proxy, goes_on) in [("v1.20", true), ("v1.28", false)] {
        let mut bench = Bench::new(lab(kube_proxy, "10.0.4.27/32"));
        bench.sent(CALI_A, &tcp((A, 1), (LB, 80), SYN));
        bench.node.apply(&lab(kube_proxy, "203.0.113.0/24"), Time::from_secs(1));
        let again = tcp((A, 1), (LB, 80), SYN);
        if goes_on {
            assert_eq!(bench.sent(CALI_A, &again).view().dst, (B, 8080));
        } else {
            assert_eq!(bench.dropped(CALI_A, &again), DropReason::SourceRange);
        }
        assert_eq!(bench.dropped(CALI_A, &tcp((A, 2), (LB, 80), SYN)), DropReason::SourceRange);
    }
}

#[test]
fn the_node_itself_is_kept_out_by_the_old_rules_only() {
    let syn = tcp((N1, 1), (LB, 80), SYN);
    let mut bench = Bench::new(lab("v1.20", "203.0.113.0/24"));
    assert_eq!(bench.dropped(HOST, &syn), DropReason::SourceRange);
    // The new chain is in INPUT and FORWARD, not in OUTPUT.
    let mut bench = Bench::new(lab("v1.28", "203.0.113.0/24"));
    assert_eq!(bench.sent(HOST, &syn).view().dst, (B, 8080));
    let mut bench = Bench::new(lab("v1.20", "203.0.113.0/24, 10.0.4.20/32"));
    assert_eq!(bench.sent(HOST, &syn).view().dst, (B, 8080));
}

#[test]
fn a_range_of_everybody_lets_nobody_in() {
    // ipset takes no prefix length 0, and kube-proxy goes on without the entry.
    for kube_proxy in ["v1.20", "v1.28"] {
        let mut bench = Bench::new(lab(kube_proxy, "0.0.0.0/0"));
        let syn = tcp((A, 1), (LB, 80), SYN);
        assert_eq!(bench.dropped(CALI_A, &syn), DropReason::SourceRange);
        let mut bench = Bench::new(lab(kube_proxy, "0.0.0.0/1, 128.0.0.0/1"));
        assert_eq!(bench.sent(CALI_A, &syn).view().dst, (B, 8080));
    }
}
