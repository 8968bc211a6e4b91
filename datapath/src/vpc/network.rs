//! What the VPC knows of a lab: owners, ports, routes. Built once; what another version of the lab may
//! change of it begins another epoch (spec LAB-6).

use std::net::Ipv4Addr;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::ports::{Ports, VpcPort};
use super::security_group::{SYSTEM_RANGE, SecurityGroups};
use crate::element::Place;
use crate::journey::PortId;
use crate::lab::Lab;
use crate::lab::model::{EniKind, Listener, Slb};
use crate::table::PrefixTable;
use crate::wire::ethernet::Link;
use crate::wire::{Mac, Tuple, Vid};

/// A sender or receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// An ENI, an index into the lab's.
    Eni(usize),
    /// An outside host, an index into the lab's.
    Outside(usize),
}

impl End {
    /// A number that no other has.
    pub(super) fn number(self) -> u32 {
        let (kind, index) = match self {
            Self::Eni(eni) => (0, eni),
            Self::Outside(host) => (1, host),
        };
        u32::try_from(index).unwrap_or(u32::MAX) << 1 | kind
    }

    /// Whose number it is.
    pub(super) fn of_number(number: u32) -> Self {
        let index = (number >> 1) as usize;
        if number & 1 == 0 { Self::Eni(index) } else { Self::Outside(index) }
    }
}

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// An ENI, an index into the lab's.
    Eni(usize),
    /// An outside host, an index into the lab's.
    Outside(usize),
    /// A load balancer, an index into the lab's.
    Slb(usize),
}

/// How frames reach someone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exit {
    /// Port and queue.
    pub(super) place: Place,
    /// Destination MAC.
    pub(super) mac: Mac,
    /// The tag to push.
    pub(super) vid: Option<Vid>,
    /// Both, as they stand in a frame that comes from the gateway.
    pub(super) link: Link,
    /// Largest packet.
    pub(super) mtu: u16,
}

impl Exit {
    fn new(lab: &Lab, place: Place, mac: Mac, vid: Option<Vid>, mtu: u16) -> Self {
        Self { place, mac, vid, link: Link::new(mac, lab.vpc.gateway_mac, vid), mtu }
    }
}

/// An ENI.
#[derive(Debug)]
pub(super) struct EniEntry {
    pub(super) ip: Ipv4Addr,
    pub(super) vswitch: usize,
    /// Source/destination check.
    pub(super) check: bool,
    /// Some listener has it as a backend.
    pub(super) backend: bool,
    pub(super) exit: Exit,
}

/// A node's members by VID, in order.
type Members = Vec<(Vid, usize)>;

/// An outside host.
#[derive(Debug)]
struct OutsideEntry {
    ips: Vec<Ipv4Addr>,
    exit: Exit,
}

/// The snapshot.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) epoch: u64,
    pub(super) gateway: Mac,
    pub(super) decrement_ttl: bool,
    pub(super) ports: Ports,
    pub(super) groups: SecurityGroups,
    pub(super) slbs: Vec<Slb>,
    /// Paths are learned (spec VPC-25).
    pub(super) learns: bool,
    /// Untagged frames on a trunk may be a member's (spec VPC-4).
    untagged_members: bool,
    enis: Vec<EniEntry>,
    /// By node.
    members: Vec<Members>,
    outside: Vec<OutsideEntry>,
    /// By port, its ENI or outside host, and for a trunk its node.
    wires: Vec<(End, Option<usize>)>,
    owners: HashMap<Ipv4Addr, Owner, FixedState>,
    /// Custom routes and their next hops; `None` for system routes.
    routes: PrefixTable<Ipv4Addr, Option<(usize, usize)>>,
}

impl Network {
    /// The first snapshot of `lab`.
    pub(super) fn new(lab: &Lab) -> Self {
        let ports = Ports::of(lab);
        let members: Vec<_> = (0..lab.nodes.len()).map(|node| lab.trunk_members(node)).collect();
        Self {
            epoch: 1,
            gateway: lab.vpc.gateway_mac,
            decrement_ttl: lab.vpc.decrement_ttl,
            ports,
            groups: SecurityGroups::new(lab),
            slbs: lab.slbs.clone(),
            learns: lab.switches.flow_cache,
            untagged_members: !lab.switches.vlan_push,
            enis: enis(lab, ports, &members),
            wires: wires(lab, ports),
            members,
            outside: outside(lab, ports),
            owners: owners(lab),
            routes: routes(lab),
        }
    }

    /// The snapshot of another version of the lab, one with the same machines (spec LAB-29).
    pub(super) fn adopt(&mut self, lab: &Lab) {
        self.epoch += 1;
        self.learns = lab.switches.flow_cache;
        self.untagged_members = !lab.switches.vlan_push;
    }

    /// Who has an address (spec VPC-6).
    pub(super) fn owner(&self, ip: Ipv4Addr) -> Option<Owner> {
        self.owners.get(&ip).copied()
    }

    /// The ENI that has an address.
    pub(super) fn owner_eni(&self, ip: Ipv4Addr) -> Option<usize> {
        match self.owner(ip) {
            Some(Owner::Eni(eni)) => Some(eni),
            _ => None,
        }
    }

    /// The custom route for an address that no ENI has, and its next hop. System routes lead to
    /// owners only (spec VPC-8).
    pub(super) fn custom_route(&self, ip: Ipv4Addr) -> Option<(usize, usize)> {
        self.routes.lookup(ip).and_then(|(custom, _)| *custom)
    }

    /// An ENI.
    pub(super) fn eni(&self, eni: usize) -> Option<&EniEntry> {
        self.enis.get(eni)
    }

    /// The listener of a load balancer that a packet asks for (spec SLB-2).
    pub(super) fn listener(
        &self,
        slb: usize,
        tuple: &Tuple<Ipv4Addr>,
    ) -> Option<(usize, &Listener)> {
        let mut listeners = self.slbs.get(slb)?.listeners.iter().enumerate();
        listeners.find(|(_, l)| l.proto == tuple.proto && l.port == tuple.dst_port)
    }

    /// How frames reach `end`.
    pub(super) fn exit(&self, end: End) -> Option<&Exit> {
        match end {
            End::Eni(eni) => self.enis.get(eni).map(|e| &e.exit),
            End::Outside(host) => self.outside.get(host).map(|h| &h.exit),
        }
    }

    /// Whether an address is `end`'s own.
    pub(super) fn is_own(&self, end: End, ip: Ipv4Addr) -> bool {
        match end {
            End::Eni(eni) => {
                self.enis.get(eni).is_some_and(|e| e.ip == ip) || self.owner_eni(ip) == Some(eni)
            }
            End::Outside(host) => self.outside.get(host).is_some_and(|h| h.ips.contains(&ip)),
        }
    }

    /// Whose port this is: its ENI or outside host, and for a trunk its node.
    pub(super) fn port(&self, port: PortId) -> Option<(End, Option<usize>)> {
        self.wires.get(usize::from(port.0)).copied()
    }

    /// The member with this VID on `node`'s trunk (spec VPC-1).
    pub(super) fn member(&self, node: usize, vid: Vid) -> Option<usize> {
        let members = self.members.get(node)?;
        let at = members.binary_search_by_key(&vid, |(v, _)| *v).ok()?;
        members.get(at).map(|(_, eni)| *eni)
    }

    /// The member on `node`'s trunk that an untagged frame from `ip` is taken for, where nodes
    /// push no tags (spec VPC-4).
    pub(super) fn untagged_member(&self, node: usize, ip: Ipv4Addr) -> Option<usize> {
        if !self.untagged_members {
            return None;
        }
        let eni = self.owner_eni(ip)?;
        let vid = self.enis.get(eni)?.exit.vid?;
        (self.member(node, vid) == Some(eni)).then_some(eni)
    }
}

fn enis(lab: &Lab, ports: Ports, members: &[Members]) -> Vec<EniEntry> {
    let mut entries: Vec<_> = lab
        .enis
        .iter()
        .map(|eni| {
            let node = lab.nodes.get(eni.node);
            let (port, vid, mtu) = match eni.kind {
                EniKind::Primary => {
                    (ports.port_of_primary(eni.node), None, node.map(|n| n.primary_mtu))
                }
                EniKind::Trunk => (ports.port_of_trunk(eni.node), None, node.map(|n| n.trunk_mtu)),
                EniKind::Member { vid, .. } => {
                    (ports.port_of_trunk(eni.node), Some(vid), node.map(|n| n.trunk_mtu))
                }
            };
            let place = Place { port, queue: 0 };
            EniEntry {
                ip: eni.ip,
                vswitch: eni.vswitch,
                check: eni.src_dst_check,
                backend: false,
                exit: Exit::new(lab, place, eni.mac, vid, mtu.unwrap_or(1500)),
            }
        })
        .collect();
    // Members leave on their own queues, numbered in order of VID (spec TRUNK-1, TRUNK-2).
    for members in members {
        for (queue, (_, eni)) in (1..).zip(members) {
            if let Some(entry) = entries.get_mut(*eni) {
                entry.exit.place.queue = queue;
            }
        }
    }
    for backend in lab.slbs.iter().flat_map(|s| &s.listeners).flat_map(|l| &l.backends) {
        if let Some(entry) = entries.get_mut(*backend) {
            entry.backend = true;
        }
    }
    entries
}

fn wires(lab: &Lab, ports: Ports) -> Vec<(End, Option<usize>)> {
    let wire = |port| {
        Some(match ports.at(port)? {
            VpcPort::Primary(node) => (End::Eni(lab.nodes.get(node)?.primary), None),
            VpcPort::Trunk(node) => (End::Eni(lab.nodes.get(node)?.trunk), Some(node)),
            VpcPort::Outside(host) => (End::Outside(host), None),
        })
    };
    (0..ports.count()).map_while(|number| wire(PortId(u16::try_from(number).ok()?))).collect()
}

/// MTU of the way to hosts outside the VPC, in bytes (spec VPC-20).
pub const OUTSIDE_MTU: u16 = 1500;

fn outside(lab: &Lab, ports: Ports) -> Vec<OutsideEntry> {
    (0..)
        .zip(&lab.outside)
        .map(|(index, host)| {
            let place = Place { port: ports.port_of_outside(index), queue: 0 };
            let exit = Exit::new(lab, place, host.mac, None, OUTSIDE_MTU);
            OutsideEntry { ips: host.ips.clone(), exit }
        })
        .collect()
}

fn owners(lab: &Lab) -> HashMap<Ipv4Addr, Owner, FixedState> {
    let mut owners = HashMap::with_hasher(FixedState::with_seed(lab.seed));
    for (index, host) in lab.outside.iter().enumerate() {
        owners.extend(host.ips.iter().map(|ip| (*ip, Owner::Outside(index))));
    }
    owners.extend(lab.slbs.iter().enumerate().map(|(index, slb)| (slb.vip, Owner::Slb(index))));
    let enis = lab.enis.iter().enumerate();
    owners.extend(enis.map(|(index, eni)| (eni.ip, Owner::Eni(index))));
    for node in &lab.nodes {
        // Secondary addresses of eth0's ENI (spec VPC-24).
        owners.extend(node.local_addresses.iter().map(|ip| (*ip, Owner::Eni(node.primary))));
    }
    owners
}

fn routes(lab: &Lab) -> PrefixTable<Ipv4Addr, Option<(usize, usize)>> {
    let mut routes = PrefixTable::new();
    for (index, custom) in lab.vpc.routes.iter().enumerate() {
        let (range, len) = (custom.cidr.network(), custom.cidr.prefix_len());
        routes.insert(range, len, Some((index, custom.eni)));
    }
    // A system route wins over a custom one for the same range.
    let (range, len) = SYSTEM_RANGE;
    routes.insert(range, len, None);
    for vswitch in &lab.vpc.vswitches {
        routes.insert(vswitch.cidr.network(), vswitch.cidr.prefix_len(), None);
    }
    routes
}
