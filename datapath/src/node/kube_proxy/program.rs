//! The rules that kube-proxy writes, in its order: one for each set that is not empty, and what
//! binds them together (kube-proxy: pkg/proxy/ipvs/proxier.go, `writeIptablesRules`; spec MARK-2,
//! MARK-11 to MARK-16).
//!
//! Left out is what cannot change a packet's way: comments, SCTP, the health check ports, and a
//! rule on bridged packets beside one that accepts the same and more.

use ipnet::Ipv4Net;

use super::rules::{Chain, Match, Rule, Table, Target};
use super::sets::{Dimensions, Set, Sets};
use super::{DROP_MARK, MASQUERADE_MARK};
use crate::journey::MarkRule;
use crate::lab::{KubeProxyVersion, Switches, VipPing};
use crate::wire::Protocol;
use Chain::*;
use Dimensions::{Dst, DstDst, DstDstSrc, SrcDst};
use Match::{From, Marked, New, NotFrom, ToLocal, Unmarked};
use Target::{Accept, Jump, Mark, Masquerade, Return, Unmark};

/// The rules of one table in the making.
struct Writer<'a> {
    table: Table,
    sets: &'a Sets,
    rules: Vec<Rule>,
}

impl Writer<'_> {
    fn add(&mut self, chain: Chain, matches: impl Into<Vec<Match>>, target: Target) {
        self.rules.push(Rule::new(self.table, chain, matches, target));
    }

    /// A rule about a set, where it has entries.
    fn about(&mut self, chain: Chain, set: Set, dimensions: Dimensions, target: Target) {
        if self.has(set) {
            self.add(chain, [Match::Set(set, dimensions)], target);
        }
    }

    /// A rule that has packets marked for masquerade.
    fn masq(&mut self, chain: Chain, matches: impl Into<Vec<Match>>, says: MarkRule) {
        self.rules.push(Rule::new(self.table, chain, matches, Jump(KubeMarkMasq)).says(says));
    }

    fn has(&self, set: Set) -> bool {
        !self.sets.entries(set).is_empty()
    }
}

/// The rules of nat, then those of filter.
pub(super) fn rules(switches: &Switches, sets: &Sets) -> Vec<Rule> {
    let mut nat = Writer { table: Table::Nat, sets, rules: Vec::new() };
    nat.add(Prerouting, [], Jump(KubeServices));
    nat.add(Output, [], Jump(KubeServices));
    nat.add(Postrouting, [], Jump(KubePostrouting));
    nat.add(KubeMarkMasq, [], Mark(MASQUERADE_MARK));
    services(&mut nat, switches);
    nat.about(KubePostrouting, Set::LoopBack, DstDstSrc, Masquerade { random: false });
    nat.add(KubePostrouting, [Unmarked(MASQUERADE_MARK)], Return);
    nat.add(KubePostrouting, [], Unmark(MASQUERADE_MARK));
    nat.add(KubePostrouting, [], Masquerade { random: switches.masquerade_random_fully });
    let mut filter = Writer { table: Table::Filter, sets, rules: Vec::new() };
    filters(&mut filter, switches);
    nat.rules.append(&mut filter.rules);
    nat.rules
}

/// nat: KUBE-SERVICES and what it leads to.
fn services(nat: &mut Writer<'_>, switches: &Switches) {
    if switches.kube_proxy == KubeProxyVersion::V1_28 {
        let loopback = Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8);
        nat.add(KubeServices, [From(loopback)], Return);
    }
    nat.about(KubeServices, Set::LoadBalancer, DstDst, Jump(KubeLoadBalancer));
    if switches.kube_proxy == KubeProxyVersion::V1_20 {
        nat.about(KubeLoadBalancer, Set::LoadBalancerFw, DstDst, Jump(KubeFirewall));
        nat.about(KubeFirewall, Set::LoadBalancerSourceCidr, DstDstSrc, Return);
        nat.about(KubeFirewall, Set::LoadBalancerSourceIp, DstDstSrc, Return);
        nat.add(KubeFirewall, [], Jump(KubeMarkDrop));
        nat.add(KubeMarkDrop, [], Mark(DROP_MARK));
    }
    nat.about(KubeLoadBalancer, Set::LoadBalancerLocal, DstDst, Return);
    nat.masq(KubeLoadBalancer, [], MarkRule::LoadBalancer);
    for (proto, local, every) in [
        (Protocol::TCP, Set::NodePortLocalTcp, Set::NodePortTcp),
        (Protocol::UDP, Set::NodePortLocalUdp, Set::NodePortUdp),
    ] {
        if nat.has(local) {
            let matches = [Match::Protocol(proto), Match::Set(local, Dst)];
            nat.add(KubeNodePort, matches, Return);
        }
        if nat.has(every) {
            let matches = [Match::Protocol(proto), Match::Set(every, Dst)];
            nat.masq(KubeNodePort, matches, MarkRule::NodePort);
        }
    }
    if nat.has(Set::ClusterIp) {
        let to = Match::Set(Set::ClusterIp, DstDst);
        match (switches.masquerade_all, switches.cluster_cidr) {
            (true, _) => nat.masq(KubeServices, [to], MarkRule::MasqueradeAll),
            (false, Some(cidr)) => {
                nat.masq(KubeServices, [to, NotFrom(cidr)], MarkRule::OutsideClusterCidr);
            }
            (false, None) => {
                let from_vip = Match::Set(Set::ClusterIp, SrcDst);
                nat.masq(KubeServices, [from_vip], MarkRule::FromVip);
            }
        }
    }
    if nat.has(Set::ExternalIp) {
        let to = Match::Set(Set::ExternalIp, DstDst);
        nat.masq(KubeServices, [to], MarkRule::ExternalIp);
        nat.add(KubeServices, [to, ToLocal], Accept);
    }
    if nat.has(Set::ExternalIpLocal) {
        let to = Match::Set(Set::ExternalIpLocal, DstDst);
        nat.add(KubeServices, [to, ToLocal], Accept);
    }
    nat.add(KubeServices, [ToLocal], Jump(KubeNodePort));
    nat.about(KubeServices, Set::ClusterIp, DstDst, Accept);
    nat.about(KubeServices, Set::LoadBalancer, DstDst, Accept);
}

/// filter: none of it concerns a packet that passes through, but to accept it.
fn filters(filter: &mut Writer<'_>, switches: &Switches) {
    if switches.vip_ping == VipPing::Reject {
        filter.add(Input, [], Jump(KubeIpvsFilter));
        for set in [Set::LoadBalancer, Set::ClusterIp, Set::ExternalIp, Set::ExternalIpLocal] {
            filter.add(KubeIpvsFilter, [Match::Set(set, DstDst)], Return);
        }
        filter.add(KubeIpvsFilter, [New, Match::Set(Set::IpvsIps, Dst)], Target::Reject);
    }
    match switches.kube_proxy {
        KubeProxyVersion::V1_20 => {
            // The kubelet's.
            for chain in [Input, Output] {
                filter.add(chain, [], Jump(KubeFirewall));
            }
            filter.add(KubeFirewall, [Marked(DROP_MARK)], Target::Drop);
        }
        KubeProxyVersion::V1_28 if filter.has(Set::LoadBalancerFw) => {
            for chain in [Input, Forward] {
                filter.add(chain, [], Jump(KubeProxyFirewall));
            }
            let to = Jump(KubeSourceRangesFirewall);
            filter.about(KubeProxyFirewall, Set::LoadBalancerFw, DstDst, to);
            let chain = KubeSourceRangesFirewall;
            filter.about(chain, Set::LoadBalancerSourceCidr, DstDstSrc, Return);
            filter.about(chain, Set::LoadBalancerSourceIp, DstDstSrc, Return);
            filter.add(chain, [], Target::Drop);
        }
        KubeProxyVersion::V1_28 => {}
    }
    filter.add(Forward, [], Jump(KubeForward));
    filter.add(KubeForward, [Marked(MASQUERADE_MARK)], Accept);
    filter.add(KubeForward, [Match::Established], Accept);
}
