//! How the kernel of a node is set: the lab's switches as sysctls and `ipvsadm --set`.

use datapath::lab::{IpvsTimeouts, Lab, RpFilter};

use crate::net::plan::Sysctl;

/// Settings of Terway and kube-proxy, and the lab's switches.
pub(super) fn sysctls(lab: &Lab) -> Vec<Sysctl> {
    let switches = &lab.switches;
    let rp_filter = match switches.rp_filter {
        RpFilter::Off => 0,
        RpFilter::Strict => 1,
        RpFilter::Loose => 2,
    };
    // Forwarding first: changing it puts other settings back.
    let mut settings = vec![
        ("ipv4/ip_forward", 1),
        ("ipv4/icmp_ratelimit", switches.icmp_ratelimit_ms),
        // Beside that there is a limit for all receivers together.
        ("ipv4/icmp_msgs_per_sec", 1_000_000),
        ("ipv4/icmp_msgs_burst", 1_000_000),
        // Redirects: spec ROUTE-19.
        ("ipv4/conf/all/send_redirects", 0),
        ("ipv4/conf/default/send_redirects", 0),
        ("ipv4/conf/all/rp_filter", rp_filter),
        ("ipv4/conf/default/rp_filter", rp_filter),
    ];
    if switches.strict_arp {
        settings.extend([("ipv4/conf/all/arp_ignore", 1), ("ipv4/conf/all/arp_announce", 2)]);
    }
    settings.extend(ipvs(lab));
    settings.extend(conntrack(lab));
    let path = |(path, value): (&str, u32)| Sysctl::new(format!("net/{path}"), value.to_string());
    settings.into_iter().map(path).collect()
}

fn ipvs(lab: &Lab) -> [(&'static str, u32); 8] {
    let ipvs = &lab.switches.ipvs;
    [
        ("ipv4/vs/conntrack", lab.switches.vs_conntrack.into()),
        ("ipv4/vs/snat_reroute", lab.switches.snat_reroute.into()),
        ("ipv4/vs/conn_reuse_mode", ipvs.conn_reuse_mode.into()),
        ("ipv4/vs/expire_nodest_conn", ipvs.expire_nodest_conn.into()),
        ("ipv4/vs/expire_quiescent_template", ipvs.expire_quiescent_template.into()),
        ("ipv4/vs/sloppy_tcp", ipvs.sloppy_tcp.into()),
        ("ipv4/vs/drop_entry", ipvs.drop_entry.into()),
        ("ipv4/vs/nat_icmp_send", ipvs.nat_icmp_send.into()),
    ]
}

fn conntrack(lab: &Lab) -> [(&'static str, u32); 18] {
    let set = &lab.switches.conntrack;
    let tcp = &set.tcp;
    [
        ("netfilter/nf_conntrack_tcp_timeout_syn_sent", tcp.syn_sent),
        ("netfilter/nf_conntrack_tcp_timeout_syn_recv", tcp.syn_recv),
        ("netfilter/nf_conntrack_tcp_timeout_established", tcp.established),
        ("netfilter/nf_conntrack_tcp_timeout_fin_wait", tcp.fin_wait),
        ("netfilter/nf_conntrack_tcp_timeout_close_wait", tcp.close_wait),
        ("netfilter/nf_conntrack_tcp_timeout_last_ack", tcp.last_ack),
        ("netfilter/nf_conntrack_tcp_timeout_time_wait", tcp.time_wait),
        ("netfilter/nf_conntrack_tcp_timeout_close", tcp.close),
        ("netfilter/nf_conntrack_tcp_timeout_max_retrans", tcp.max_retrans),
        ("netfilter/nf_conntrack_tcp_timeout_unacknowledged", tcp.unacknowledged),
        ("netfilter/nf_conntrack_udp_timeout", set.udp),
        ("netfilter/nf_conntrack_udp_timeout_stream", set.udp_stream),
        ("netfilter/nf_conntrack_icmp_timeout", set.icmp),
        ("netfilter/nf_conntrack_generic_timeout", set.generic),
        ("netfilter/nf_conntrack_tcp_be_liberal", set.be_liberal.into()),
        ("netfilter/nf_conntrack_tcp_loose", set.loose.into()),
        ("netfilter/nf_conntrack_tcp_max_retrans", set.max_retrans.into()),
        ("netfilter/nf_conntrack_tcp_ignore_invalid_rst", set.ignore_invalid_rst.into()),
    ]
}

/// The line for `ipvsadm -R` that sets ipvs's timeouts.
pub(super) fn timeouts(lab: &Lab) -> String {
    let IpvsTimeouts { tcp, tcp_fin, udp, .. } = lab.switches.ipvs.timeouts;
    format!("--set {tcp} {tcp_fin} {udp}\n")
}

/// Why a kernel cannot be set like this; `None` where it can.
pub(super) fn cannot_be_set(lab: &Lab) -> Option<&'static str> {
    let IpvsTimeouts { tcp, tcp_fin, udp, .. } = lab.switches.ipvs.timeouts;
    let settable = IpvsTimeouts { tcp, tcp_fin, udp, ..IpvsTimeouts::default() };
    (lab.switches.ipvs.timeouts != settable)
        .then_some("of ipvs's timeouts a kernel has only tcp, tcpFin and udp to be set")
}
