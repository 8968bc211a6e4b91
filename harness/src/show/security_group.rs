//! Security groups: their members, their rules, and how often each rule decided.

use std::fmt;

use datapath::journey::SgDirection;
use datapath::lab::{self, GroupKind, Lab, Peer};
use datapath::vpc::Vpc;
use schemars::JsonSchema;
use serde::Serialize;

use super::table::{columns, row};

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its id.
    pub id: String,
    /// basic or advanced.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether members reach each other whatever the rules say.
    pub inner_accept: bool,
    /// The ENIs in it.
    pub members: Vec<Member>,
    /// Rules for what its ENIs are to receive.
    pub ingress: Vec<GroupRule>,
    /// Rules for what its ENIs send.
    pub egress: Vec<GroupRule>,
}

/// An ENI in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Member {
    /// The ENI's id.
    pub eni: String,
    /// Whose it is: a pod, or a node's eth0 or trunk.
    pub owner: String,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GroupRule {
    /// accept or drop.
    pub policy: &'static str,
    /// The protocol, or all.
    pub proto: String,
    /// The ports, or all.
    pub ports: String,
    /// A range, or a group's id.
    pub peer: String,
    /// 1 (first) to 100.
    pub priority: u8,
    /// How often it decided on the first packet of a flow.
    pub hits: u64,
}

/// The groups of a lab, in file order.
pub(super) fn groups<B>(lab: &Lab, vpc: &Vpc<B>) -> Vec<Group> {
    let group = |(at, group): (usize, &lab::SecurityGroup)| {
        let rules = |rules: &[lab::GroupRule], direction| {
            let hits = |index| vpc.rule_hits(at, direction, index).unwrap_or(0);
            rules.iter().enumerate().map(|(i, r)| GroupRule::of(lab, r, hits(i))).collect()
        };
        Group {
            id: group.id.clone(),
            kind: match group.kind {
                GroupKind::Basic => "basic",
                GroupKind::Advanced => "advanced",
            },
            inner_accept: group.kind == GroupKind::Basic && group.inner_accept,
            members: members(lab, at),
            ingress: rules(&group.ingress, SgDirection::In),
            egress: rules(&group.egress, SgDirection::Out),
        }
    };
    lab.vpc.groups.iter().enumerate().map(group).collect()
}

fn members(lab: &Lab, group: usize) -> Vec<Member> {
    let in_group = lab.enis.iter().filter(|eni| eni.groups.contains(&group));
    in_group.map(|eni| Member { eni: eni.id.clone(), owner: owner(lab, eni) }).collect()
}

/// Whose an ENI is.
pub(super) fn owner(lab: &Lab, eni: &lab::Eni) -> String {
    let node = super::node_name(lab, eni.node);
    match eni.kind {
        lab::EniKind::Primary => format!("{node}/eth0"),
        lab::EniKind::Trunk => format!("{node}/eth1"),
        lab::EniKind::Member { pod, .. } => {
            lab.pods.get(pod).map_or("?", |pod| &pod.name).to_owned()
        }
    }
}

impl GroupRule {
    fn of(lab: &Lab, rule: &lab::GroupRule, hits: u64) -> Self {
        let all = || "all".to_owned();
        Self {
            policy: if rule.accept { "accept" } else { "drop" },
            proto: rule.proto.map_or_else(all, |proto| proto.to_string()),
            ports: match rule.ports {
                None => all(),
                Some((first, last)) if first == last => first.to_string(),
                Some((first, last)) => format!("{first}-{last}"),
            },
            peer: match &rule.peer {
                Peer::Cidr(range) => range.to_string(),
                Peer::Group(group) => {
                    lab.vpc.groups.get(*group).map_or("?", |group| &group.id).to_owned()
                }
            },
            priority: rule.priority,
            hits,
        }
    }
}

/// Each group: a line of its own, its members, then its rules as a table.
pub(super) fn print(f: &mut fmt::Formatter<'_>, groups: &[Group]) -> fmt::Result {
    for group in groups {
        let inner = if group.inner_accept { ", inner accept" } else { "" };
        writeln!(f, "{} ({}{inner})", group.id, group.kind)?;
        for Member { eni, owner } in &group.members {
            writeln!(f, "  member {eni} {owner}")?;
        }
        let mut rows: Vec<Vec<String>> = Vec::new();
        for (direction, rules) in [("ingress", &group.ingress), ("egress", &group.egress)] {
            for r in rules {
                rows.push(row([
                    &format!("  {direction}"),
                    &r.policy,
                    &r.proto,
                    &r.ports,
                    &r.peer,
                    &r.priority,
                    &r.hits,
                ]));
            }
        }
        if !rows.is_empty() {
            let head = ["  direction", "policy", "proto", "ports", "peer", "priority", "hits"];
            rows.insert(0, head.map(str::to_owned).to_vec());
        }
        columns(f, &rows)?;
    }
    Ok(())
}
