//! The VPC: its range, vSwitches and security groups.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::ident;
use super::report::{Names, Report};
use crate::lab::derive;
use crate::lab::error::{Position, quoted};
use crate::lab::file;
use crate::lab::model::{GroupKind, GroupRule, Peer, SecurityGroup, VSwitch, Vpc, VpcRoute};
use crate::lab::scalar::{PeerText, RuleProto, Text};
use crate::lab::written::{OneOrMany, Written};
use crate::wire::{Mac, Protocol};

/// MAC of the VPC's gateway where the file gives none.
const GATEWAY_MAC: Mac = Mac([0xee, 0xff, 0xff, 0xff, 0xff, 0xff]);
/// Longest prefix of a vSwitch.
const LONGEST_PREFIX: u8 = 29;
/// Ranges no VPC has, and why.
const FORBIDDEN: [([u8; 4], u8, &str); 5] = [
    ([0, 0, 0, 0], 8, "this network"),
    ([100, 64, 0, 0], 10, "cloud services"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([169, 254, 0, 0], 16, "link-local"),
    ([224, 0, 0, 0], 3, "multicast"),
];

/// The group of every ENI in a lab that has no groups.
fn open_group() -> SecurityGroup {
    let all = GroupRule {
        accept: true,
        proto: None,
        ports: None,
        peer: Peer::Cidr(Ipv4Net::default()),
        priority: 1,
    };
    SecurityGroup {
        id: "sg-open".to_owned(),
        kind: GroupKind::Basic,
        inner_accept: true,
        ingress: vec![all],
        egress: Vec::new(),
    }
}

/// The VPC, with vSwitches and groups found by name.
#[derive(Debug)]
pub(super) struct Fabric {
    cidr: Option<Ipv4Net>,
    gateway_mac: Mac,
    decrement_ttl: bool,
    vswitches: Vec<SwitchDraft>,
    switch_names: Names,
    groups: Vec<SecurityGroup>,
    group_names: Names,
    /// Whether the file has no group, and the only one is ours.
    is_open: bool,
}

/// A vSwitch whose range may have been refused.
#[derive(Debug)]
struct SwitchDraft {
    id: String,
    cidr: Option<Ipv4Net>,
    zone: String,
}

impl Fabric {
    /// Reads and checks `vpc`, but for its routes.
    pub(super) fn read(vpc: &file::Vpc, report: &mut Report) -> Self {
        let cidr = report.read("cidr", &vpc.cidr);
        let cidr = cidr.filter(|cidr| check_vpc_range(*cidr, vpc.cidr.at, report));
        let mac = report.read_opt("gatewayMac", vpc.gateway_mac.as_ref()).unwrap_or(GATEWAY_MAC);
        let decrement = report.read_opt("decrementTtl", vpc.decrement_ttl.as_ref());
        let mut fabric = Self {
            cidr,
            gateway_mac: mac,
            decrement_ttl: decrement.unwrap_or_default(),
            vswitches: Vec::new(),
            switch_names: Names::new("vSwitch"),
            groups: Vec::new(),
            group_names: Names::new("security group"),
            is_open: vpc.security_groups.items.is_empty(),
        };
        fabric.read_vswitches(vpc, report);
        fabric.read_groups(vpc, report);
        fabric
    }

    fn read_vswitches(&mut self, vpc: &file::Vpc, report: &mut Report) {
        if vpc.v_switches.items.is_empty() {
            report.add(vpc.cidr.at, "the VPC has no vSwitch: expected at least one in `vSwitches`");
        }
        for (index, (id, body)) in vpc.v_switches.items.iter().enumerate() {
            ident::id("vSwitch", id, report);
            self.switch_names.enter(&id.text, index, id.at, report);
            let cidr = report.read("cidr", &body.cidr);
            let cidr = cidr.filter(|cidr| self.check_vswitch(*cidr, body.cidr.at, report));
            let zone = body.zone.as_ref().map(|zone| zone.text.clone()).unwrap_or_default();
            self.vswitches.push(SwitchDraft { id: id.text.clone(), cidr, zone });
        }
    }

    /// Whether `cidr` can be a vSwitch beside those already read.
    fn check_vswitch(&self, cidr: Ipv4Net, at: Position, report: &mut Report) -> bool {
        if cidr.prefix_len() > LONGEST_PREFIX {
            let message = format!(
                "`{cidr}` is too small for a vSwitch, four of its addresses being reserved: \
                 expected a prefix of at most /{LONGEST_PREFIX}"
            );
            report.add(at, message);
            return false;
        }
        if let Some(vpc) = self.cidr.filter(|vpc| !vpc.contains(&cidr)) {
            report.add(at, format!("`{cidr}` lies outside the VPC's range {vpc}"));
            return false;
        }
        let other = self.vswitches.iter().find_map(|other| {
            let range = other.cidr.filter(|range| range.contains(&cidr) || cidr.contains(range))?;
            Some((other.id.as_str(), range))
        });
        if let Some((id, range)) = other {
            report.add(at, format!("`{cidr}` overlaps {range} of vSwitch {}", quoted(id)));
        }
        other.is_none()
    }

    fn read_groups(&mut self, vpc: &file::Vpc, report: &mut Report) {
        let groups = &vpc.security_groups.items;
        if self.is_open {
            self.groups.push(open_group());
        }
        for (index, (id, _)) in groups.iter().enumerate() {
            ident::id("security group", id, report);
            self.group_names.enter(&id.text, index, id.at, report);
        }
        for (id, body) in groups {
            let kind = report.read_opt("type", body.kind.as_ref());
            let kind = kind.unwrap_or(GroupKind::Basic);
            let inner = report.read_opt("inner", body.inner.as_ref());
            if let (GroupKind::Advanced, Some(inner)) = (kind, &body.inner) {
                let message = "inner: an advanced security group has no access within the group";
                report.add_help(inner.at, message, "leave `inner` out, or make the group basic");
            }
            let group = SecurityGroup {
                id: id.text.clone(),
                kind,
                inner_accept: kind == GroupKind::Basic && inner.is_none_or(|inner| inner.0),
                ingress: body.ingress.items.iter().map(|r| self.rule(r, kind, report)).collect(),
                egress: body.egress.items.iter().map(|r| self.rule(r, kind, report)).collect(),
            };
            self.groups.push(group);
        }
    }

    fn rule(&self, rule: &file::Rule, kind: GroupKind, report: &mut Report) -> GroupRule {
        let policy = report.read_opt("policy", rule.policy.as_ref());
        let proto = report.read_opt("proto", rule.proto.as_ref()).unwrap_or(RuleProto(None)).0;
        let ports = report.read_opt("ports", rule.ports.as_ref()).and_then(|ports| ports.0);
        let with_ports = matches!(proto, Some(Protocol::TCP | Protocol::UDP));
        if let (Some(_), Some(written), false) = (ports, &rule.ports, with_ports) {
            let named = proto.and_then(Protocol::name).unwrap_or("all");
            let message = format!("ports: protocol `{named}` has no ports: expected `all`");
            report.add_help(written.at, message, "ports go with `proto: tcp` or `proto: udp`");
        }
        let priority = report.read_opt("priority", rule.priority.as_ref());
        let priority = priority.and_then(|p| u8::try_from(p.0).ok()).unwrap_or(1);
        let peer = self.peer(&rule.peer, kind, report);
        GroupRule { accept: policy.is_none_or(|p| p.0), proto, ports, peer, priority }
    }

    fn peer(&self, peer: &Written<PeerText>, kind: GroupKind, report: &mut Report) -> Peer {
        match report.read("peer", peer) {
            None => Peer::Cidr(Ipv4Net::default()),
            Some(PeerText::Cidr(cidr)) => Peer::Cidr(cidr),
            Some(PeerText::Group(id)) => {
                let index = self.group_names.find_text(&id, peer.at, report);
                if kind == GroupKind::Advanced && index.is_some() {
                    let message = format!(
                        "peer: an advanced security group cannot name another group, {}: \
                         expected an address range",
                        quoted(&id)
                    );
                    report.add(peer.at, message);
                }
                Peer::Group(index.unwrap_or_default())
            }
        }
    }

    /// The groups of an ENI that names none: where the lab has no group at all, it is not about
    /// security groups, and one that lets everything pass stands in for them.
    pub(super) fn implied_groups(&self) -> Option<Vec<usize>> {
        self.is_open.then(|| vec![0])
    }

    /// The groups `ids` name, which are those of `owner`.
    pub(super) fn groups_of(
        &self,
        owner: &str,
        ids: &OneOrMany<Text>,
        report: &mut Report,
    ) -> Vec<usize> {
        let mut found: Vec<usize> = Vec::new();
        let mut first: Option<&SecurityGroup> = None;
        if ids.items.is_empty() {
            let message = format!("{owner} has no security group: expected at least one");
            report.add(ids.at, message);
        }
        for id in ids {
            let Some(index) = self.group_names.find(id, report) else { continue };
            if found.contains(&index) {
                report.add(id.at, format!("security group {} is listed twice", quoted(&id.text)));
                continue;
            }
            found.push(index);
            let Some(group) = self.groups.get(index) else { continue };
            let one = *first.get_or_insert(group);
            if one.kind != group.kind {
                let message = format!(
                    "{owner} mixes basic and advanced security groups: {} and {}",
                    quoted(&one.id),
                    quoted(&group.id)
                );
                report.add(id.at, message);
            }
        }
        found
    }

    /// The vSwitch `id` names.
    pub(super) fn vswitch(&self, id: &Written<Text>, report: &mut Report) -> Option<usize> {
        self.switch_names.find(id, report)
    }

    /// The only vSwitch; otherwise how many there are.
    pub(super) fn only_vswitch(&self) -> Result<usize, usize> {
        if self.vswitches.len() == 1 { Ok(0) } else { Err(self.vswitches.len()) }
    }

    /// The range of vSwitch `index`, unless it was refused.
    pub(super) fn range(&self, index: usize) -> Option<Ipv4Net> {
        self.vswitches.get(index).and_then(|vswitch| vswitch.cidr)
    }

    /// MAC of the gateway.
    pub(super) fn gateway_mac(&self) -> Mac {
        self.gateway_mac
    }

    /// ID of vSwitch `index`, quoted.
    pub(super) fn vswitch_id(&self, index: usize) -> String {
        quoted(self.vswitches.get(index).map_or("", |vswitch| &vswitch.id))
    }

    /// The vSwitch that has `ip`.
    pub(super) fn vswitch_of(&self, ip: Ipv4Addr) -> Option<usize> {
        self.vswitches.iter().position(|v| v.cidr.is_some_and(|cidr| cidr.contains(&ip)))
    }

    /// Whether no range was refused, so that what lies in none is worth a message.
    pub(super) fn ranges_known(&self) -> bool {
        self.cidr.is_some() && self.vswitches.iter().all(|vswitch| vswitch.cidr.is_some())
    }

    /// The VPC's range, unless it was refused.
    pub(super) fn cidr(&self) -> Option<Ipv4Net> {
        self.cidr
    }

    /// Whether an ENI of vSwitch `index` can have `ip`, which is at `at`.
    pub(super) fn check_address(
        &self,
        key: &str,
        index: usize,
        ip: Ipv4Addr,
        at: Position,
        report: &mut Report,
    ) {
        let Some(cidr) = self.range(index) else { return };
        let id = self.vswitch_id(index);
        if !cidr.contains(&ip) {
            report.add(at, format!("{key}: `{ip}` lies outside {cidr} of vSwitch {id}"));
        } else if let Some(what) = reserved(cidr, ip) {
            let usable = derive::usable(cidr);
            let (first, last) = (Ipv4Addr::from(*usable.start()), Ipv4Addr::from(*usable.end()));
            let message = format!("{key}: `{ip}` is {what} of vSwitch {id}, which no ENI can have");
            report.add_help(at, message, format!("its ENIs can have {first} to {last}"));
        }
    }

    /// Checks that `ip`, given for `key`, can be a VIP: a unicast address that no vSwitch reserves.
    pub(super) fn check_vip(&self, key: &str, ip: Ipv4Addr, at: Position, report: &mut Report) {
        if !ident::unicast(key, ip, at, report) {
            return;
        }
        let Some(index) = self.vswitch_of(ip) else { return };
        if let Some(what) = self.range(index).and_then(|cidr| reserved(cidr, ip)) {
            let id = self.vswitch_id(index);
            report.add(at, format!("{key}: `{ip}` is {what} of vSwitch {id}: expected another"));
        }
    }

    /// The VPC, with `routes`.
    pub(super) fn into_model(self, routes: Vec<VpcRoute>) -> Vpc {
        let vswitches = self.vswitches.into_iter().map(|SwitchDraft { id, cidr, zone }| VSwitch {
            id,
            cidr: cidr.unwrap_or_default(),
            zone,
        });
        Vpc {
            cidr: self.cidr.unwrap_or_default(),
            gateway_mac: self.gateway_mac,
            decrement_ttl: self.decrement_ttl,
            vswitches: vswitches.collect(),
            routes,
            groups: self.groups,
        }
    }
}

/// What `ip` is in a vSwitch of range `cidr` that keeps an ENI from having it.
fn reserved(cidr: Ipv4Net, ip: Ipv4Addr) -> Option<&'static str> {
    if derive::usable(cidr).contains(&u32::from(ip)) {
        return None;
    }
    let from_end = u32::from(cidr.broadcast()).saturating_sub(u32::from(ip));
    Some(match from_end {
        0 => "the broadcast address",
        1 => "a reserved address",
        2 => "the gateway",
        _ => "the network address",
    })
}

/// Whether `cidr` can be the range of a VPC.
fn check_vpc_range(cidr: Ipv4Net, at: Position, report: &mut Report) -> bool {
    for (base, prefix, what) in FORBIDDEN {
        let Ok(range) = Ipv4Net::new(base.into(), prefix) else { continue };
        if range.contains(&cidr) || cidr.contains(&range) {
            let message = format!("cidr: `{cidr}` overlaps {range} ({what})");
            report.add_help(at, message, "a VPC has a private range, as 10.0.0.0/8");
            return false;
        }
    }
    true
}
