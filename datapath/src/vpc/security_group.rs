//! Security groups: what their rules say of the first packet of a flow, without any state.

use std::net::Ipv4Addr;

use smallvec::SmallVec;

use crate::journey::{SgDecision, SgDirection};
use crate::lab::Lab;
use crate::lab::model::{GroupKind, GroupRule, Peer};
use crate::wire::{Protocol, Tuple};

/// The cloud's own range, from which health checks come (spec SG-15).
pub(super) const SYSTEM_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(100, 64, 0, 0), 10);

/// What security groups say of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) accept: bool,
    pub(crate) decision: SgDecision,
}

/// The groups of every ENI, ready to judge.
#[derive(Debug)]
pub(crate) struct SecurityGroups {
    /// One policy for each list of groups that some ENI has.
    policies: Vec<Policy>,
    /// For each ENI its policy.
    of_eni: Vec<usize>,
}

/// Several groups merged into one (spec SG-13).
#[derive(Debug)]
struct Policy {
    groups: SmallVec<[usize; 4]>,
    /// Those among them whose members may talk whatever the rules say (spec SG-10).
    inner: SmallVec<[usize; 4]>,
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
    /// What is not decided otherwise may go out (spec SG-9, SG-11).
    open_out: bool,
}

/// A rule and where it stands in the lab.
#[derive(Debug)]
struct Rule {
    rule: GroupRule,
    group: usize,
    index: usize,
}

impl SecurityGroups {
    /// The groups of `lab`.
    pub(crate) fn new(lab: &Lab) -> Self {
        let mut policies: Vec<Policy> = Vec::new();
        let mut of_eni = Vec::with_capacity(lab.enis.len());
        for eni in &lab.enis {
            let known = policies.iter().position(|p| p.groups.as_slice() == eni.groups.as_slice());
            of_eni.push(known.unwrap_or(policies.len()));
            if known.is_none() {
                policies.push(Policy::new(lab, &eni.groups));
            }
        }
        Self { policies, of_eni }
    }

    /// Judges a packet that has no session (spec SG-7 from its second step on). `peer` is the ENI
    /// that owns the address of the other side, whichever ENI the packet came from (spec SG-14).
    pub(crate) fn judge(
        &self,
        eni: usize,
        direction: SgDirection,
        tuple: &Tuple<Ipv4Addr>,
        peer: Option<usize>,
    ) -> Verdict {
        let peer_ip = match direction {
            SgDirection::Out => tuple.dst,
            SgDirection::In => tuple.src,
        };
        if direction == SgDirection::In && is_system(peer_ip) {
            return Verdict { accept: true, decision: SgDecision::Exempt };
        }
        let Some(policy) = self.policy(eni) else {
            return Verdict { accept: false, decision: SgDecision::Default };
        };
        let peer_groups =
            peer.and_then(|p| self.policy(p)).map_or(&[][..], |p| p.groups.as_slice());
        if let Some(group) = policy.inner.iter().find(|g| peer_groups.contains(g)) {
            return Verdict { accept: true, decision: SgDecision::Inner { group: *group } };
        }
        let rules = match direction {
            SgDirection::Out => &policy.egress,
            SgDirection::In => &policy.ingress,
        };
        match rules.iter().find(|r| matches(&r.rule, tuple, peer_ip, peer_groups)) {
            Some(Rule { rule, group, index }) => Verdict {
                accept: rule.accept,
                decision: SgDecision::Rule { group: *group, index: *index },
            },
            None => Verdict {
                accept: direction == SgDirection::Out && policy.open_out,
                decision: SgDecision::Default,
            },
        }
    }

    fn policy(&self, eni: usize) -> Option<&Policy> {
        self.policies.get(*self.of_eni.get(eni)?)
    }
}

impl Policy {
    fn new(lab: &Lab, groups: &[usize]) -> Self {
        let mut policy = Self {
            groups: SmallVec::from_slice(groups),
            inner: SmallVec::new(),
            ingress: Vec::new(),
            egress: Vec::new(),
            open_out: false,
        };
        for (place, group) in groups.iter().filter_map(|g| Some((*g, lab.vpc.groups.get(*g)?))) {
            let basic = group.kind == GroupKind::Basic;
            policy.open_out |= basic;
            if basic && group.inner_accept {
                policy.inner.push(place);
            }
            policy.ingress.extend(numbered(place, &group.ingress));
            policy.egress.extend(numbered(place, &group.egress));
        }
        // The smaller priority first; at the same one, drop rules before accept rules, then in
        // lab order (spec SG-8, SG-13).
        for rules in [&mut policy.ingress, &mut policy.egress] {
            rules.sort_by_key(|r| (r.rule.priority, r.rule.accept));
        }
        policy
    }
}

/// The rules of one list of `group`, each with its place.
fn numbered(group: usize, rules: &[GroupRule]) -> impl Iterator<Item = Rule> {
    rules.iter().enumerate().map(move |(index, rule)| Rule { rule: rule.clone(), group, index })
}

/// Whether a rule applies to a packet (spec SG-16).
fn matches(rule: &GroupRule, tuple: &Tuple<Ipv4Addr>, peer: Ipv4Addr, groups: &[usize]) -> bool {
    rule.proto.is_none_or(|proto| proto == tuple.proto)
        && rule.ports.is_none_or(|(first, last)| {
            let has_ports = matches!(tuple.proto, Protocol::TCP | Protocol::UDP);
            !has_ports || (first <= tuple.dst_port && tuple.dst_port <= last)
        })
        && match &rule.peer {
            Peer::Cidr(range) => range.contains(&peer),
            Peer::Group(group) => groups.contains(group),
        }
}

/// Whether an address is in [`SYSTEM_RANGE`].
fn is_system(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && b & 0xc0 == 64
}
