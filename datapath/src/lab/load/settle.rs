//! Fills in what the file leaves out. Runs only on a file in which nothing is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::book::Book;
use super::cluster::OutsideDraft;
use super::compute::{EniDraft, Machines, NodeDraft, PodDraft};
use super::fabric::Fabric;
use super::report::Report;
use crate::lab::derive::{self, Addresses, Vids, take_free};
use crate::lab::error::quoted;
use crate::lab::model::{Eni, EniKind, Node, Outside, Pod};
use crate::wire::{Mac, Vid};

/// ENIs, nodes, pods and outside hosts of a lab.
pub(super) type Settled = (Vec<Eni>, Vec<Node>, Vec<Pod>, Vec<Outside>);

/// Where an ENI belongs.
struct Place {
    kind: EniKind,
    node: usize,
    /// As "eth0 of node n1": what is derived comes from it.
    role: String,
    /// The MAC a member ENI has, its trunk's.
    trunk_mac: Option<Mac>,
}

/// What is still free.
struct Free<'a> {
    fabric: &'a Fabric,
    book: Book,
    ids: BTreeSet<String>,
    addresses: BTreeMap<usize, Addresses>,
}

/// Derives what is left out; `None` where a vSwitch or a trunk is full, which is noted.
pub(super) fn settle(
    machines: Machines,
    outside: Vec<OutsideDraft>,
    fabric: &Fabric,
    book: Book,
    report: &mut Report,
) -> Option<Settled> {
    let ids = machines.eni_names.iter().map(str::to_owned).collect();
    let mut free = Free { fabric, book, ids, addresses: BTreeMap::new() };
    let vids = settle_vids(&machines, report)?;
    let Machines { nodes: node_drafts, pods: pod_drafts, enis: drafts, .. } = machines;
    let mut drafts = drafts.into_iter();
    let mut enis: Vec<Eni> = Vec::new();
    let mut nodes = Vec::new();
    for draft in node_drafts {
        let index = nodes.len();
        let role = format!("eth0 of node {}", draft.name);
        let place = Place { kind: EniKind::Primary, node: index, role, trunk_mac: None };
        let primary = free.eni(drafts.next()?, place, report)?;
        let role = format!("trunk of node {}", draft.name);
        let place = Place { kind: EniKind::Trunk, node: index, role, trunk_mac: None };
        let trunk = free.eni(drafts.next()?, place, report)?;
        nodes.push(free.node(draft, enis.len()));
        enis.extend([primary, trunk]);
    }
    let mut pods = Vec::new();
    for ((draft, member), vid) in pod_drafts.into_iter().zip(drafts).zip(vids) {
        let node = draft.node?;
        let kind = EniKind::Member { vid, pod: pods.len() };
        let trunk_mac = Some(enis.get(nodes.get(node)?.trunk)?.mac);
        let role = format!("member ENI of pod {}", draft.name);
        let eni = free.eni(member, Place { kind, node, role, trunk_mac }, report)?;
        pods.push(free.pod(draft, node, vid, enis.len(), eni.ip));
        enis.push(eni);
    }
    let outside = outside.into_iter().map(|host| free.outside(host)).collect();
    Some((enis, nodes, pods, outside))
}

/// The VID of every pod.
fn settle_vids(machines: &Machines, report: &mut Report) -> Option<Vec<Vid>> {
    let mut trunks: BTreeMap<usize, (Vids, BTreeSet<Vid>)> = BTreeMap::new();
    for pod in &machines.pods {
        trunks.entry(pod.node?).or_default().1.extend(pod.vid);
    }
    let mut vids = Vec::new();
    for pod in &machines.pods {
        let (free, taken) = trunks.entry(pod.node?).or_default();
        let Some(vid) = pod.vid.or_else(|| free.next_free(taken)) else {
            report.add(pod.at, format!("no VID is left for pod {}", quoted(&pod.name)));
            return None;
        };
        taken.insert(vid);
        vids.push(vid);
    }
    Some(vids)
}

impl Free<'_> {
    fn mac(&mut self, given: Option<Mac>, role: &str) -> Mac {
        given
            .unwrap_or_else(|| take_free(&mut self.book.macs, |attempt| derive::mac(role, attempt)))
    }

    /// The ENI of `draft` at `place`.
    fn eni(&mut self, draft: EniDraft, place: Place, report: &mut Report) -> Option<Eni> {
        let EniDraft { role: called, at, id, ip, mac, vswitch, groups, src_dst_check } = draft;
        let Place { kind, node, role, trunk_mac } = place;
        let vswitch = vswitch?;
        let range = self.fabric.range(vswitch)?;
        let addresses = self.addresses.entry(vswitch).or_insert_with(|| Addresses::new(range));
        let Some(ip) = ip.or_else(|| addresses.next_free(&self.book.ips)) else {
            let id = self.fabric.vswitch_id(vswitch);
            report.add(at, format!("vSwitch {id} has no address left for {called}"));
            return None;
        };
        self.book.ips.insert(ip);
        let id = id.unwrap_or_else(|| take_free(&mut self.ids, |n| derive::eni_id(&role, n)));
        let mac = trunk_mac.unwrap_or_else(|| self.mac(mac, &role));
        Some(Eni { id, kind, node, ip, mac, vswitch, groups, src_dst_check })
    }

    /// The node of `draft`, whose ENIs are at `primary` and after it.
    fn node(&mut self, draft: NodeDraft, primary: usize) -> Node {
        let NodeDraft { name, primary_mtu, trunk_mtu, local_addresses, local_ports } = draft;
        let host0_mac = self.mac(None, &format!("host0 of node {name}"));
        let host_mac = self.mac(None, &format!("host0's peer of node {name}"));
        let trunk = primary.saturating_add(1);
        Node {
            name,
            primary,
            trunk,
            primary_mtu,
            trunk_mtu,
            host0_mac,
            host_mac,
            local_addresses,
            local_ports,
        }
    }

    fn pod(&mut self, draft: PodDraft, node: usize, vid: Vid, member: usize, ip: Ipv4Addr) -> Pod {
        let PodDraft { name, mac, cali, cali_mac, mtu, .. } = draft;
        let mac = self.mac(mac, &format!("eth0 of pod {name}"));
        let cali_mac = self.mac(cali_mac, &format!("host-side veth of pod {name}"));
        Pod { name, node, ip, mac, cali, cali_mac, mtu, member, vid }
    }

    fn outside(&mut self, draft: OutsideDraft) -> Outside {
        let OutsideDraft { name, ips, mac } = draft;
        let mac = self.mac(mac, &format!("outside host {name}"));
        Outside { name, ips, mac }
    }
}
