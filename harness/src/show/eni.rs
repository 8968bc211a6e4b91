//! ENIs: what they are, what passed them, and the trunk queues of the members.

use std::fmt;
use std::net::Ipv4Addr;

use datapath::lab::{self, EniKind, Lab};
use datapath::node::Node;
use datapath::port::Buffer;
use datapath::vpc::{self, Vpc};
use datapath::wire::{Mac, Vid};
use schemars::JsonSchema;
use serde::Serialize;

use super::security_group::owner;
use super::table::{columns, row};

/// An ENI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Eni {
    /// Its id.
    pub id: String,
    /// primary, trunk or member.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whose it is: a pod, or a node's eth0 or eth1.
    pub owner: String,
    /// The node it is attached to.
    pub node: String,
    /// VID of a member.
    #[schemars(with = "Option<u16>")]
    pub vid: Option<Vid>,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The MAC with which its frames travel.
    #[schemars(with = "String")]
    pub mac: Mac,
    /// Its vSwitch.
    pub v_switch: String,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// Packets that went out of it, and the verdicts on them.
    pub out: PacketCounters,
    /// Packets that came to it, and the verdicts on them.
    #[serde(rename = "in")]
    pub into: PacketCounters,
    /// Its queue at the node's end of the trunk: for a member the VID's, for a trunk queue 0.
    pub queue: Option<QueueCounters>,
}

/// Packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PacketCounters {
    /// Packets that passed it: those it sent, whatever became of them, or those sent to it.
    pub packets: u64,
    /// What its security groups said.
    pub security_groups: vpc::SgCounters,
}

/// What a trunk queue has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QueueCounters {
    /// The queue's number.
    pub number: usize,
    /// Frames put into it.
    pub queued: u64,
    /// Frames refused because it was full.
    pub lost: u64,
    /// Frames that arrived on another queue than their VID's.
    pub strayed: u64,
    /// Frames delivered to a pod with another VID.
    pub mismatched: u64,
}

/// The ENIs of `nodes`, in the lab's order.
pub(super) fn enis<B: Buffer>(lab: &Lab, nodes: &[&Node<B>], vpc: &Vpc<B>) -> Vec<Eni> {
    let mut enis = Vec::new();
    for (at, eni) in lab.enis.iter().enumerate() {
        if let Some(node) = nodes.iter().find(|node| node.config().index == eni.node) {
            let counters = vpc.eni_counters(at).copied().unwrap_or_default();
            enis.push(of(lab, eni, node, &counters));
        }
    }
    enis
}

fn of<B: Buffer>(lab: &Lab, eni: &lab::Eni, node: &Node<B>, counters: &vpc::EniCounters) -> Eni {
    let (kind, vid) = match eni.kind {
        EniKind::Primary => ("primary", None),
        EniKind::Trunk => ("trunk", None),
        EniKind::Member { vid, .. } => ("member", Some(vid)),
    };
    let mut queues = node.trunk_counters().enumerate();
    let queue = queues.find(|(_, (of, _))| *of == vid && eni.kind != EniKind::Primary);
    let group = |at: &usize| lab.vpc.groups.get(*at).map(|group| group.id.clone());
    let v_switch = lab.vpc.vswitches.get(eni.vswitch);
    let packets =
        |packets, groups: &vpc::SgCounters| PacketCounters { packets, security_groups: *groups };
    Eni {
        id: eni.id.clone(),
        kind,
        owner: owner(lab, eni),
        node: super::node_name(lab, eni.node).to_owned(),
        vid,
        ip: eni.ip,
        mac: eni.mac,
        v_switch: v_switch.map_or("?", |v_switch| &v_switch.id).to_owned(),
        security_groups: eni.groups.iter().filter_map(group).collect(),
        out: packets(counters.frames_out, &counters.sg_out),
        into: packets(counters.frames_in, &counters.sg_in),
        queue: queue.map(|(number, (_, q))| QueueCounters {
            number,
            queued: q.queued,
            lost: q.lost,
            strayed: q.strayed,
            mismatched: q.mismatched,
        }),
    }
}

/// What they are as one table, what they counted as another.
pub(super) fn print(f: &mut fmt::Formatter<'_>, enis: &[Eni]) -> fmt::Result {
    let head = ["eni", "type", "owner", "node", "vid", "ip", "mac", "vswitch", "groups"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for eni in enis {
        let vid = eni.vid.map_or("-".to_owned(), |vid| vid.to_string());
        let groups = eni.security_groups.join(",");
        rows.push(row([
            &eni.id,
            &eni.kind,
            &eni.owner,
            &eni.node,
            &vid,
            &eni.ip,
            &eni.mac,
            &eni.v_switch,
            &groups,
        ]));
    }
    columns(f, &rows)?;
    writeln!(f)?;
    let head =
        ["eni", "out", "drops-out", "in", "drops-in", "queued", "lost", "strayed", "mismatched"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for eni in enis {
        let (out, into) = (&eni.out, &eni.into);
        let mut cells = row([
            &eni.id,
            &out.packets,
            &out.security_groups.drops,
            &into.packets,
            &into.security_groups.drops,
        ]);
        if let Some(q) = eni.queue {
            cells.extend(row([&q.queued, &q.lost, &q.strayed, &q.mismatched]));
        }
        rows.push(cells);
    }
    columns(f, &rows)
}
