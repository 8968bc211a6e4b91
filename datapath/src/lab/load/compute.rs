//! Nodes, pods and their ENIs as far as the file has them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::fabric::Fabric;
use super::fnat;
use super::ident;
use super::report::{Names, Report};
use crate::lab::derive;
use crate::lab::error::{Position, quoted};
use crate::lab::file::{self, File, Mtu};
use crate::lab::scalar::{Scalar as _, Text};
use crate::lab::written::{OneOrMany, Written};
use crate::wire::{Mac, Vid};

/// Where no MTU is given.
const DEFAULT_MTU: u16 = 1500;
/// Member ENIs one trunk can carry: there are no more VIDs.
const MEMBERS: usize = 4094;

/// A node; its ENIs are the drafts at twice its index and one further.
#[derive(Debug)]
pub(super) struct NodeDraft {
    pub(super) name: String,
    pub(super) primary_mtu: u16,
    pub(super) trunk_mtu: u16,
    pub(super) local_addresses: Vec<Ipv4Addr>,
    pub(super) local_ports: (u16, u16),
}

/// A pod; its ENI is the draft at its index past those of the nodes.
#[derive(Debug)]
pub(super) struct PodDraft {
    pub(super) name: String,
    pub(super) at: Position,
    /// Its node, unless the name is unknown.
    pub(super) node: Option<usize>,
    pub(super) mac: Option<Mac>,
    pub(super) cali: String,
    pub(super) cali_mac: Option<Mac>,
    pub(super) mtu: u16,
    pub(super) vid: Option<Vid>,
}

/// An ENI.
#[derive(Debug)]
pub(super) struct EniDraft {
    /// As "eth0 of node `n1`".
    pub(super) role: String,
    /// Where to point when no key of the ENI is to blame.
    pub(super) at: Position,
    pub(super) id: Option<String>,
    pub(super) ip: Option<Ipv4Addr>,
    pub(super) mac: Option<Mac>,
    pub(super) vswitch: Option<usize>,
    pub(super) groups: Vec<usize>,
    pub(super) src_dst_check: bool,
}

/// Where an ENI stands in the file.
struct Source<'a> {
    role: String,
    at: Position,
    id: Option<&'a Written<Text>>,
    ip: Option<&'a Written<Ipv4Addr>>,
    mac: Option<&'a Written<Mac>>,
    vswitch: Option<&'a Written<Text>>,
    groups: Option<&'a OneOrMany<Text>>,
    src_dst_check: Option<&'a Written<bool>>,
    /// The ENI whose vSwitch and groups hold where they are left out.
    like: Option<usize>,
}

/// All nodes, pods and ENIs.
#[derive(Debug)]
pub(super) struct Machines {
    pub(super) nodes: Vec<NodeDraft>,
    pub(super) pods: Vec<PodDraft>,
    pub(super) enis: Vec<EniDraft>,
    /// Pods by NS/NAME.
    pub(super) pod_names: Names,
    /// ENIs that have an ID in the file, by it.
    pub(super) eni_names: Names,
}

impl Machines {
    /// Reads and checks nodes and pods.
    pub(super) fn read(file: &File, fabric: &Fabric, report: &mut Report) -> Self {
        let mut machines = Self {
            nodes: Vec::new(),
            pods: Vec::new(),
            enis: Vec::new(),
            pod_names: Names::new("pod"),
            eni_names: Names::new("ENI"),
        };
        if file.nodes.items.is_empty() {
            report.add(file.nodes.at, "the lab has no node: expected at least one in `nodes`");
        }
        let mut node_names = Names::new("node");
        for (index, node) in file.nodes.items.iter().enumerate() {
            ident::node(&node.name, report);
            node_names.enter(&node.name.text, index, node.name.at, report);
            machines.read_node(node, fabric, report);
        }
        let mut calis = Names::new("host-side veth");
        for (index, pod) in file.pods.items.iter().enumerate() {
            let node = node_names.find(&pod.node, report);
            let fresh = machines.pod_names.enter(&pod.name.text, index, pod.name.at, report);
            let cali = read_cali(pod, fresh, &mut calis, report);
            machines.read_pod(pod, node, cali, fabric, report);
        }
        machines.check_trunks(file, report);
        machines
    }

    /// Index of a pod's member ENI.
    pub(super) fn member(&self, pod: usize) -> usize {
        self.nodes.len().saturating_mul(2).saturating_add(pod)
    }

    /// The ENI that `name`, an ID or a pod's NS/NAME, stands for.
    pub(super) fn eni(&self, name: &Written<Text>, report: &mut Report) -> Option<usize> {
        if name.text.contains('/') {
            self.pod_names.find(name, report).map(|pod| self.member(pod))
        } else {
            self.eni_names.find(name, report)
        }
    }

    fn read_node(&mut self, node: &file::Node, fabric: &Fabric, report: &mut Report) {
        let name = node.name.text.as_str();
        let absent = file::Interface::default();
        let trunk = node.trunk.as_ref().unwrap_or(&absent);
        let mut trunk_id = trunk.eni.as_ref();
        if let (Some(one), Some(two)) = (&node.eth0.eni, trunk_id)
            && one.text == two.text
        {
            let named = quoted(name);
            let message = format!("eth0 and trunk of node {named} are one ENI: expected two");
            report.add(two.at, message);
            trunk_id = None;
        }
        let eth0 = Source::of(format!("eth0 of node {}", quoted(name)), node.name.at, &node.eth0);
        let primary = self.add(&eth0, fabric, report);
        let trunk_source = Source {
            id: trunk_id,
            like: Some(primary),
            ..Source::of(format!("trunk of node {}", quoted(name)), node.name.at, trunk)
        };
        self.add(&trunk_source, fabric, report);
        let vswitch = self.enis.get(primary).and_then(|eni| eni.vswitch);
        self.nodes.push(NodeDraft {
            local_addresses: fnat::local_addresses(node, vswitch, fabric, report),
            local_ports: fnat::local_ports(node, report),
            name: name.to_owned(),
            primary_mtu: read_mtu(node.eth0.mtu.as_ref(), report),
            trunk_mtu: read_mtu(trunk.mtu.as_ref(), report),
        });
    }

    fn read_pod(
        &mut self,
        pod: &file::Pod,
        node: Option<usize>,
        cali: String,
        fabric: &Fabric,
        report: &mut Report,
    ) {
        let name = pod.name.text.clone();
        let absent = file::Member::default();
        let member = pod.member.as_ref().unwrap_or(&absent);
        let vid = report.read_opt("vid", member.vid.as_ref());
        let source = Source {
            role: format!("member ENI of pod {}", quoted(&name)),
            at: pod.name.at,
            id: member.eni.as_ref(),
            ip: pod.ip.as_ref(),
            mac: None,
            vswitch: member.v_switch.as_ref(),
            groups: member.security_groups.as_ref(),
            src_dst_check: None,
            // As Terway fills in what a PodNetworking leaves out: with the node's own. Where the
            // node is unknown, which has been said, any will do.
            like: Some(node.unwrap_or_default().saturating_mul(2)),
        };
        self.add(&source, fabric, report);
        self.pods.push(PodDraft {
            name,
            at: pod.name.at,
            node,
            mac: report.read_opt("mac", pod.mac.as_ref()),
            cali,
            cali_mac: report.read_opt("caliMac", pod.cali_mac.as_ref()),
            mtu: read_mtu(pod.mtu.as_ref(), report),
            vid: vid.and_then(|vid| Vid::new(vid.as_u16())),
        });
    }

    /// Reads and checks one ENI; its index.
    fn add(&mut self, source: &Source<'_>, fabric: &Fabric, report: &mut Report) -> usize {
        let index = self.enis.len();
        if let Some(id) = source.id {
            ident::id("ENI", id, report);
            self.eni_names.enter(&id.text, index, id.at, report);
        }
        let like = source.like.and_then(|like| self.enis.get(like));
        let ip = report.read_opt("ip", source.ip);
        let vswitch = match (source.vswitch, source.ip, like) {
            (Some(id), _, _) => fabric.vswitch(id, report),
            (None, Some(_), _) => ip.and_then(|ip| fabric.vswitch_of(ip)),
            (None, None, Some(like)) => like.vswitch,
            (None, None, None) => only_vswitch(source, fabric, report),
        };
        match (ip, source.ip, vswitch) {
            (Some(ip), Some(written), Some(vswitch)) => {
                fabric.check_address("ip", vswitch, ip, written.at, report);
            }
            (Some(ip), Some(written), None)
                if source.vswitch.is_none() && fabric.ranges_known() =>
            {
                report.add(written.at, format!("ip: `{ip}` lies in no vSwitch of the VPC"));
            }
            _ => {}
        }
        let groups = match (source.groups, like) {
            (Some(ids), _) => fabric.groups_of(&source.role, ids, report),
            (None, Some(like)) => like.groups.clone(),
            (None, None) => fabric.implied_groups().unwrap_or_else(|| {
                let role = &source.role;
                let message = format!("{role} has no `securityGroups`: expected at least one");
                report.add(source.at, message);
                Vec::new()
            }),
        };
        let check = report.read_opt("srcDstCheck", source.src_dst_check);
        self.enis.push(EniDraft {
            role: source.role.clone(),
            at: source.at,
            id: source.id.map(|id| id.text.clone()),
            ip,
            mac: report.read_opt("mac", source.mac),
            vswitch,
            groups,
            src_dst_check: check.unwrap_or_default(),
        });
        index
    }

    /// Checks that no trunk has too many member ENIs or a VID twice.
    fn check_trunks(&self, file: &File, report: &mut Report) {
        let mut members: BTreeMap<usize, usize> = BTreeMap::new();
        let mut vids: BTreeMap<(usize, Vid), Position> = BTreeMap::new();
        for (draft, pod) in self.pods.iter().zip(&file.pods) {
            let Some(node) = draft.node else { continue };
            let count = members.entry(node).or_default();
            *count = count.saturating_add(1);
            if *count == MEMBERS.saturating_add(1) {
                let message = format!(
                    "node {} has more than {MEMBERS} pods: expected at most one for every VID",
                    quoted(&pod.node.text)
                );
                report.add(pod.name.at, message);
            }
            let written = pod.member.as_ref().and_then(|member| member.vid.as_ref());
            let (Some(vid), Some(written)) = (draft.vid, written) else { continue };
            if let Some(first) = vids.get(&(node, vid)) {
                let trunk = quoted(&pod.node.text);
                let message = format!("vid: `{vid}` is given twice on the trunk of node {trunk}");
                report.add_help(
                    written.at,
                    message,
                    format!("the first is at line {}", first.line),
                );
            } else {
                vids.insert((node, vid), written.at);
            }
        }
    }
}

impl<'a> Source<'a> {
    /// A primary or trunk ENI.
    fn of(role: String, at: Position, interface: &'a file::Interface) -> Self {
        Self {
            role,
            at,
            id: interface.eni.as_ref(),
            ip: interface.ip.as_ref(),
            mac: interface.mac.as_ref(),
            vswitch: interface.v_switch.as_ref(),
            groups: interface.security_groups.as_ref(),
            src_dst_check: interface.src_dst_check.as_ref(),
            like: None,
        }
    }
}

/// The only vSwitch, for an ENI that names none and has no address.
fn only_vswitch(source: &Source<'_>, fabric: &Fabric, report: &mut Report) -> Option<usize> {
    match fabric.only_vswitch() {
        Ok(only) => Some(only),
        Err(0) => None,
        Err(count) => {
            let message = format!(
                "{} has neither `ip` nor `vSwitch`: expected one of them, the VPC having {count} \
                 vSwitches",
                source.role
            );
            report.add(source.at, message);
            None
        }
    }
}

/// Name of the host-side veth of `pod`, whose own name is taken unless it is `fresh`.
fn read_cali(pod: &file::Pod, fresh: bool, calis: &mut Names, report: &mut Report) -> String {
    let name = ident::namespaced("pod", &pod.name, report);
    if let Some(cali) = &pod.cali {
        ident::interface(cali, report);
        calis.enter(&cali.text, 0, cali.at, report);
        return cali.text.clone();
    }
    let Some((namespace, own)) = name else { return String::new() };
    let cali = derive::cali_name(namespace, own);
    if fresh {
        calis.enter(&cali, 0, pod.name.at, report);
    }
    cali
}

fn read_mtu(mtu: Option<&Written<Mtu>>, report: &mut Report) -> u16 {
    if let Some(Written { text, at, .. }) = mtu
        && text.parse::<u64>().is_ok_and(|mtu| mtu > Mtu::LARGEST)
    {
        let message = format!("mtu: expected {}, found {}", Mtu::expected(), quoted(text));
        report.add_help(*at, message, "8500 is the MTU of jumbo frames on ECS, the largest");
        return DEFAULT_MTU;
    }
    report.read_opt("mtu", mtu).map_or(DEFAULT_MTU, Mtu::as_u16)
}
