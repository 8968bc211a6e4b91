//! Switches and limits, with the defaults of each profile.

use super::report::Report;
use crate::lab::file;
use crate::lab::model::{
    ConntrackSwitches, IpvsSwitches, IpvsTimeouts, KubeProxyVersion, Limits, LocalNoEndpoint,
    Profile, RpFilter, Switches, TcpTimeouts, VipPing,
};
use crate::lab::scalar::Int;
use crate::lab::written::Written;

/// What holds for `profile` and a kube-proxy, by default the profile's, where a file sets nothing.
fn defaults(profile: Profile, kube_proxy: Option<KubeProxyVersion>) -> Switches {
    let modern = profile == Profile::P2;
    let of_profile = if modern { KubeProxyVersion::V1_28 } else { KubeProxyVersion::V1_20 };
    let kube_proxy = kube_proxy.unwrap_or(of_profile);
    let (local_no_endpoint, vip_ping) = match kube_proxy {
        KubeProxyVersion::V1_20 => (LocalNoEndpoint::Fail, VipPing::Answer),
        KubeProxyVersion::V1_28 => (LocalNoEndpoint::Fallback, VipPing::Reject),
    };
    Switches {
        kube_proxy,
        from_rule_iif: !modern,
        vlan_push: profile != Profile::P0,
        vs_conntrack: true,
        snat_reroute: true,
        cluster_cidr: None,
        masquerade_all: false,
        masquerade_random_fully: true,
        icmp_ratelimit_ms: 1000,
        local_no_endpoint,
        vip_ping,
        strict_arp: false,
        rp_filter: RpFilter::Off,
        permanent_neighbours: false,
        flow_cache: true,
        ipvs: IpvsSwitches::default(),
        conntrack: ConntrackSwitches::default(),
    }
}

/// The switches of a file, with the defaults of `profile`.
pub(super) fn switches(
    file: Option<&file::Switches>,
    profile: Profile,
    report: &mut Report,
) -> Switches {
    let Some(file) = file else { return defaults(profile, None) };
    let or = defaults(profile, report.read_opt("kubeProxy", file.kube_proxy.as_ref()));
    let mut flag = |key: &str, written: &Option<Written<bool>>, default: bool| {
        report.read_opt(key, written.as_ref()).unwrap_or(default)
    };
    let from_rule_iif = flag("fromRuleIif", &file.from_rule_iif, or.from_rule_iif);
    let vlan_push = flag("vlanPush", &file.vlan_push, or.vlan_push);
    let vs_conntrack = flag("vsConntrack", &file.vs_conntrack, or.vs_conntrack);
    let snat_reroute = flag("snatReroute", &file.snat_reroute, or.snat_reroute);
    let masquerade_all = flag("masqueradeAll", &file.masquerade_all, or.masquerade_all);
    let random = &file.masquerade_random_fully;
    let random = flag("masqueradeRandomFully", random, or.masquerade_random_fully);
    let strict_arp = flag("strictArp", &file.strict_arp, or.strict_arp);
    let ratelimit = report.read_opt("icmpRatelimit", file.icmp_ratelimit.as_ref());
    let local = report.read_opt("localNoEndpoint", file.local_no_endpoint.as_ref());
    let vip_ping = report.read_opt("vipPing", file.vip_ping.as_ref());
    let rp_filter = report.read_opt("rpFilter", file.rp_filter.as_ref());
    let flow_cache = report.read_opt("flowCache", file.flow_cache.as_ref());
    let permanent = report.read_opt("permanentNeighbours", file.permanent_neighbours.as_ref());
    Switches {
        from_rule_iif,
        vlan_push,
        vs_conntrack,
        snat_reroute,
        kube_proxy: or.kube_proxy,
        cluster_cidr: report.read_opt("clusterCIDR", file.cluster_cidr.as_ref()),
        masquerade_all,
        masquerade_random_fully: random,
        icmp_ratelimit_ms: ratelimit.map_or(or.icmp_ratelimit_ms, Int::as_u32),
        local_no_endpoint: local.unwrap_or(or.local_no_endpoint),
        vip_ping: vip_ping.unwrap_or(or.vip_ping),
        strict_arp,
        rp_filter: rp_filter.unwrap_or(or.rp_filter),
        permanent_neighbours: permanent.unwrap_or(or.permanent_neighbours),
        flow_cache: flow_cache.unwrap_or(or.flow_cache),
        ipvs: ipvs(&file.ipvs, report),
        conntrack: conntrack(&file.conntrack, report),
    }
}

fn ipvs(file: &file::Ipvs, report: &mut Report) -> IpvsSwitches {
    let or = IpvsSwitches::default();
    let reuse = report.read_opt("connReuseMode", file.conn_reuse_mode.as_ref());
    let reuse = reuse.and_then(|mode| u8::try_from(mode.as_u32()).ok());
    let drop = report.read_opt("dropEntry", file.drop_entry.as_ref());
    let drop = drop.and_then(|mode| u8::try_from(mode.as_u32()).ok());
    let timeouts = ipvs_timeouts(&file.timeouts, or.timeouts, report);
    let mut flag = |key: &str, written: &Option<Written<bool>>, default: bool| {
        report.read_opt(key, written.as_ref()).unwrap_or(default)
    };
    let (nodest, quiescent) = (&file.expire_nodest_conn, &file.expire_quiescent_template);
    let graceful = &file.graceful_termination;
    IpvsSwitches {
        timeouts,
        conn_reuse_mode: reuse.unwrap_or(or.conn_reuse_mode),
        expire_nodest_conn: flag("expireNodestConn", nodest, or.expire_nodest_conn),
        expire_quiescent_template: flag(
            "expireQuiescentTemplate",
            quiescent,
            or.expire_quiescent_template,
        ),
        sloppy_tcp: flag("sloppyTcp", &file.sloppy_tcp, or.sloppy_tcp),
        drop_entry: drop.unwrap_or(or.drop_entry),
        nat_icmp_send: flag("natIcmpSend", &file.nat_icmp_send, or.nat_icmp_send),
        graceful_termination: flag("gracefulTermination", graceful, or.graceful_termination),
    }
}

fn ipvs_timeouts(file: &file::IpvsTimeouts, or: IpvsTimeouts, report: &mut Report) -> IpvsTimeouts {
    let mut timeout = |key: &str, written: &Option<Written<Int<1, 2_147_483>>>, default: u32| {
        limit(key, written.as_ref(), default, report)
    };
    IpvsTimeouts {
        tcp: timeout("tcp", &file.tcp, or.tcp),
        tcp_fin: timeout("tcpFin", &file.tcp_fin, or.tcp_fin),
        udp: timeout("udp", &file.udp, or.udp),
        syn_sent: timeout("synSent", &file.syn_sent, or.syn_sent),
        syn_recv: timeout("synRecv", &file.syn_recv, or.syn_recv),
        close_wait: timeout("closeWait", &file.close_wait, or.close_wait),
        time_wait: timeout("timeWait", &file.time_wait, or.time_wait),
        close: timeout("close", &file.close, or.close),
    }
}

fn conntrack(file: &file::Conntrack, report: &mut Report) -> ConntrackSwitches {
    let or = ConntrackSwitches::default();
    let tcp = tcp_timeouts(&file.tcp_timeouts, or.tcp, report);
    let mut flag = |key: &str, written: &Option<Written<bool>>, default: bool| {
        report.read_opt(key, written.as_ref()).unwrap_or(default)
    };
    let be_liberal = flag("beLiberal", &file.be_liberal, or.be_liberal);
    let loose = flag("loose", &file.loose, or.loose);
    let ignore_invalid_rst =
        flag("ignoreInvalidRst", &file.ignore_invalid_rst, or.ignore_invalid_rst);
    let max_retrans = report.read_opt("maxRetrans", file.max_retrans.as_ref());
    let mut timeout = |key: &str, written: &Option<Written<file::Timeout>>, default: u32| {
        limit(key, written.as_ref(), default, report)
    };
    ConntrackSwitches {
        tcp,
        udp: timeout("udpTimeout", &file.udp_timeout, or.udp),
        udp_stream: timeout("udpStreamTimeout", &file.udp_stream_timeout, or.udp_stream),
        icmp: timeout("icmpTimeout", &file.icmp_timeout, or.icmp),
        generic: timeout("genericTimeout", &file.generic_timeout, or.generic),
        be_liberal,
        loose,
        max_retrans: max_retrans
            .and_then(|max| u8::try_from(max.as_u32()).ok())
            .unwrap_or(or.max_retrans),
        ignore_invalid_rst,
    }
}

fn tcp_timeouts(file: &file::TcpTimeouts, or: TcpTimeouts, report: &mut Report) -> TcpTimeouts {
    let mut timeout = |key: &str, written: &Option<Written<file::Timeout>>, default: u32| {
        limit(key, written.as_ref(), default, report)
    };
    TcpTimeouts {
        syn_sent: timeout("synSent", &file.syn_sent, or.syn_sent),
        syn_recv: timeout("synRecv", &file.syn_recv, or.syn_recv),
        established: timeout("established", &file.established, or.established),
        fin_wait: timeout("finWait", &file.fin_wait, or.fin_wait),
        close_wait: timeout("closeWait", &file.close_wait, or.close_wait),
        last_ack: timeout("lastAck", &file.last_ack, or.last_ack),
        time_wait: timeout("timeWait", &file.time_wait, or.time_wait),
        close: timeout("close", &file.close, or.close),
        max_retrans: timeout("maxRetrans", &file.max_retrans, or.max_retrans),
        unacknowledged: timeout("unacknowledged", &file.unacknowledged, or.unacknowledged),
    }
}

/// The limits of a file.
pub(super) fn limits(file: Option<&file::Limits>, report: &mut Report) -> Limits {
    let absent = file::Limits::default();
    let file = file.unwrap_or(&absent);
    Limits {
        flows: limit("flows", file.flows.as_ref(), 16_384, report),
        sessions: limit("sessions", file.sessions.as_ref(), 65_536, report),
        neighbours: limit("neighbours", file.neighbours.as_ref(), 1024, report),
        neighbour_queue: limit("neighbourQueue", file.neighbour_queue.as_ref(), 64, report),
        member_queue: limit("memberQueue", file.member_queue.as_ref(), 128, report),
        fragments: limit("fragments", file.fragments.as_ref(), 512, report),
        link_queue: limit("linkQueue", file.link_queue.as_ref(), 256, report),
    }
}

fn limit<const MIN: u64, const MAX: u64>(
    key: &str,
    written: Option<&Written<Int<MIN, MAX>>>,
    default: u32,
    report: &mut Report,
) -> u32 {
    report.read_opt(key, written).map_or(default, Int::as_u32)
}
