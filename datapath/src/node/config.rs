//! What a node is programmed with: the immutable picture that Terway and kube-proxy would leave
//! on it, built once from a lab (spec ROUTE-1 to ROUTE-6, IPVS-1 to IPVS-6).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::ipvs::VirtualServices;
use super::kube_proxy::KubeProxy;
use super::route::{Iif, MAIN, Route, RouteKind, Rule, Selector, Tables};
use crate::journey::PortId;
use crate::lab::{Lab, Switches};
use crate::wire::{Mac, Vid};

/// host0, the way to the node's own stack.
pub const HOST0: PortId = PortId(0);
/// eth0, the primary ENI.
pub const ETH0: PortId = PortId(1);
/// eth1, the trunk ENI.
pub const ETH1: PortId = PortId(2);
/// The first cali veth; the node's pods follow in file order.
pub const FIRST_CALI: u16 = 3;

/// ifindex of eth1. Terway's table number is 1000 plus it (spec ROUTE-3).
pub const TRUNK_IFINDEX: u32 = 3;
/// Number of the route table that leads to the trunk.
pub const TRUNK_TABLE: u32 = 1000 + TRUNK_IFINDEX;

/// What an interface of a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// The way to the node's own stack.
    Host0,
    /// The primary ENI.
    Primary,
    /// The trunk ENI.
    Trunk,
    /// The host end of a pod's veth.
    Cali {
        /// The pod, an index into the lab's pods.
        pod: usize,
    },
}

/// An interface of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name on the node.
    pub name: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// The ENI behind it, for eth0 and eth1: an index into the lab's ENIs.
    pub eni: Option<usize>,
}

impl Interface {
    /// The interfaces of node `index` of a lab, by [`PortId`].
    #[must_use]
    pub fn of_node(lab: &Lab, index: usize) -> Option<Vec<Self>> {
        let node = lab.nodes.get(index)?;
        let (primary, trunk) = (lab.enis.get(node.primary)?, lab.enis.get(node.trunk)?);
        let own = |name: &str, kind, mac, mtu, eni| Self { name: name.into(), kind, mac, mtu, eni };
        let fixed = [
            own("host0", InterfaceKind::Host0, node.host0_mac, node.primary_mtu, None),
            own("eth0", InterfaceKind::Primary, primary.mac, node.primary_mtu, Some(node.primary)),
            own("eth1", InterfaceKind::Trunk, trunk.mac, node.trunk_mtu, Some(node.trunk)),
        ];
        let pods = lab.pods.iter().enumerate().filter(|(_, pod)| pod.node == index);
        let calis = pods.map(|(pod, model)| {
            let kind = InterfaceKind::Cali { pod };
            own(&model.cali, kind, model.cali_mac, model.mtu, None)
        });
        Some(fixed.into_iter().chain(calis).collect())
    }
}

/// A pod of this node, as the trunk's egress filter knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// Its address.
    pub ip: Ipv4Addr,
    /// The VID of its member ENI.
    pub vid: Vid,
    /// The trunk queue of that VID.
    pub queue: u16,
    /// Its cali veth.
    pub port: PortId,
}

/// A node's configuration. Never changes; a change of the lab makes a new one with a new epoch.
#[derive(Debug)]
pub struct NodeConfig {
    /// Which picture this is; grows with every change.
    pub epoch: u64,
    /// The node's place in the lab's list.
    pub index: usize,
    /// The node's address.
    pub ip: Ipv4Addr,
    /// MAC of the far end of host0.
    pub host_mac: Mac,
    /// Interfaces by [`PortId`].
    pub interfaces: Vec<Interface>,
    /// Pods by address.
    pub pods: Vec<LocalPod>,
    /// VID of each trunk queue; queue 0 has none.
    pub queue_vids: Vec<Option<Vid>>,
    /// Neighbours that are given, not asked for.
    pub neighbours: Vec<(PortId, Ipv4Addr, Mac)>,
    /// Rules and tables.
    pub routes: Tables<Ipv4Addr>,
    /// kube-proxy's services.
    pub services: VirtualServices,
    /// Its sets and rules.
    pub kube_proxy: KubeProxy,
    /// Behaviours that differ between versions.
    pub switches: Switches,
}

impl NodeConfig {
    /// The configuration of node `index` of a lab.
    #[must_use]
    pub fn new(lab: &Lab, index: usize, epoch: u64) -> Option<Self> {
        let node = lab.nodes.get(index)?;
        let primary = lab.enis.get(node.primary)?;
        let interfaces = Interface::of_node(lab, index)?;
        let mut pods = Vec::new();
        for (port, pod) in (FIRST_CALI..).zip(lab.pods.iter().filter(|pod| pod.node == index)) {
            let queue = lab.trunk_queue(index, pod.vid);
            pods.push(LocalPod { ip: pod.ip, vid: pod.vid, queue, port: PortId(port) });
        }
        let mut queue_vids = vec![None; usize::from(lab.trunk_queue_count(index))];
        for pod in &pods {
            if let Some(slot) = queue_vids.get_mut(usize::from(pod.queue)) {
                *slot = Some(pod.vid);
            }
        }
        pods.sort_by_key(|pod| pod.ip);
        let services = VirtualServices::new(lab, index);
        let kube_proxy = KubeProxy::new(lab, index, primary.ip, &services);
        let routes = routes(lab, index, &pods, &services)?;
        let neighbours = permanent_neighbours(lab, index, &pods)?;
        Some(Self {
            epoch,
            index,
            ip: primary.ip,
            host_mac: node.host_mac,
            interfaces,
            pods,
            queue_vids,
            neighbours,
            routes,
            services,
            kube_proxy,
            switches: lab.switches.clone(),
        })
    }

    /// An interface.
    #[must_use]
    pub fn interface(&self, port: PortId) -> Option<&Interface> {
        self.interfaces.get(usize::from(port.0))
    }

    /// The pod of this node that has this address.
    #[must_use]
    pub fn pod(&self, ip: Ipv4Addr) -> Option<&LocalPod> {
        self.pods.binary_search_by_key(&ip, |pod| pod.ip).ok().and_then(|at| self.pods.get(at))
    }

    /// Whether the address is the node's own: its IP or a virtual address.
    #[must_use]
    pub fn is_local(&self, ip: Ipv4Addr) -> bool {
        ip == self.ip || self.services.is_vip(ip)
    }
}

/// The neighbours a node is given where the lab's switch says so: its pods, the gateways of both
/// its ENIs, and whoever else is in eth0's vSwitch, for whom the VPC answers (spec VPC-15).
fn permanent_neighbours(
    lab: &Lab,
    index: usize,
    pods: &[LocalPod],
) -> Option<Vec<(PortId, Ipv4Addr, Mac)>> {
    if !lab.switches.permanent_neighbours {
        return Some(Vec::new());
    }
    let node = lab.nodes.get(index)?;
    let gateway = |eni: usize| {
        let vswitch = lab.enis.get(eni)?.vswitch;
        Some(lab.vpc.vswitches.get(vswitch)?.gateway())
    };
    let mac = lab.vpc.gateway_mac;
    let mut given = vec![(ETH0, gateway(node.primary)?, mac), (ETH1, gateway(node.trunk)?, mac)];
    let vswitch = lab.enis.get(node.primary)?.vswitch;
    let others = lab
        .enis
        .iter()
        .enumerate()
        .filter(|(number, eni)| eni.vswitch == vswitch && *number != node.primary);
    given.extend(others.map(|(_, eni)| (ETH0, eni.ip, mac)));
    for pod in pods {
        let host = lab.pods.iter().find(|host| host.ip == pod.ip)?;
        given.push((pod.port, pod.ip, host.mac));
    }
    Some(given)
}

/// Rules and tables of a node, as Terway and the kernel make them (spec ROUTE-1 to ROUTE-5).
fn routes(
    lab: &Lab,
    index: usize,
    pods: &[LocalPod],
    services: &VirtualServices,
) -> Option<Tables<Ipv4Addr>> {
    let node = lab.nodes.get(index)?;
    let primary = lab.enis.get(node.primary)?;
    let trunk = lab.enis.get(node.trunk)?;
    let subnet = lab.vpc.vswitches.get(primary.vswitch)?;
    let trunk_subnet = lab.vpc.vswitches.get(trunk.vswitch)?;
    let mut tables = Tables::new();
    let mut main = |prefix: Ipv4Net, kind, via| {
        tables.add_route(MAIN, prefix.addr(), prefix.prefix_len(), Route { kind, via });
    };
    let host = |ip| Ipv4Net::new(ip, 32).ok();
    let any = Ipv4Net::default();
    main(any, RouteKind::Port(ETH0), Some(subnet.gateway()));
    main(subnet.cidr.trunc(), RouteKind::Port(ETH0), None);
    for pod in pods {
        main(host(pod.ip)?, RouteKind::Port(pod.port), None);
    }
    let local = Route { kind: RouteKind::Local, via: None };
    let broadcast = Route { kind: RouteKind::Broadcast, via: None };
    tables.add_route(super::route::LOCAL, Ipv4Addr::new(127, 0, 0, 0), 8, local);
    tables.add_route(super::route::LOCAL, primary.ip, 32, local);
    tables.add_route(super::route::LOCAL, subnet.cidr.broadcast(), 32, broadcast);
    for vip in services.vips() {
        tables.add_route(super::route::LOCAL, vip, 32, local);
    }
    let via = Some(trunk_subnet.gateway());
    let to_trunk = Route { kind: RouteKind::Port(ETH1), via };
    tables.add_route(TRUNK_TABLE, Ipv4Addr::UNSPECIFIED, 0, to_trunk);
    let all = Selector::default();
    tables.add_rule(Rule { priority: 0, selector: all, table: super::route::LOCAL });
    for pod in lab.pods.iter().filter(|pod| pod.node == index) {
        let to = Selector { to: Some((pod.ip, 32)), ..all };
        tables.add_rule(Rule { priority: 512, selector: to, table: MAIN });
    }
    for pod in lab.pods.iter().filter(|pod| pod.node == index) {
        let port = pods.iter().find(|local| local.ip == pod.ip)?.port;
        let iif = lab.switches.from_rule_iif.then_some(Iif::Port(port));
        let from = Selector { from: Some((pod.ip, 32)), iif, ..all };
        tables.add_rule(Rule { priority: 2048, selector: from, table: TRUNK_TABLE });
    }
    tables.add_rule(Rule { priority: 32_766, selector: all, table: MAIN });
    tables.add_rule(Rule { priority: 32_767, selector: all, table: super::route::DEFAULT });
    Some(tables)
}
