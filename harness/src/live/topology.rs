//! From a lab to the namespaces and veths it lives in (spec LAB-16 to LAB-19).

use std::net::Ipv4Addr;

use anyhow::{Context, bail};
use clap::ValueEnum;
use datapath::lab::{Lab, Links};
use datapath::link::{ElementId, HostId, Peer, Socket, fused_peer, peer_of, ports_of};
use datapath::node::{ETH0, Interface};
use datapath::vpc::OUTSIDE_MTU;
use datapath::wire::Mac;
use datapath_io::Site;
use serde::{Deserialize, Serialize};

use super::worker::shares;
use crate::net::plan::{End, Namespace, Route, Topology, User, Veth};

/// The next hop of every stack; a permanent neighbour, so it is never asked for.
const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The private veth that keeps the packet memories alive.
pub(crate) const ANCHOR: (&str, &str) = ("anchor0", "anchor1");
/// Name of the interface in every stack's namespace.
pub const STACK_IFNAME: &str = "eth0";

/// How the links between elements are, as the command line has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WiredOrFused {
    /// By veths.
    Wired,
    /// In memory, without devices.
    Fused,
}

impl From<WiredOrFused> for Links {
    fn from(links: WiredOrFused) -> Self {
        match links {
            WiredOrFused::Wired => Self::Wired,
            WiredOrFused::Fused => Self::Fused,
        }
    }
}

/// Everything about a lab's place on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The lab's name, the prefix of its namespaces.
    pub name: String,
    /// What is to be made.
    pub topology: Topology,
    /// Where each port of each element is; those of fused links are nowhere.
    pub sites: Vec<Site>,
    /// Namespace and device of the anchor.
    pub anchor: (String, String),
}

impl Places {
    /// Takes their addresses, routes and neighbours from the hosts' stacks, which then send nothing
    /// and answer nothing.
    pub fn silence_hosts(&mut self) {
        let ends = self.topology.links.iter_mut().flat_map(|link| [&mut link.a, &mut link.b]);
        for end in ends.filter(|end| end.user == User::Stack) {
            end.addresses.clear();
            end.routes.clear();
            end.neighbours.clear();
        }
    }
}

/// Whether a lab may have this name: its namespaces are found by it again, so it is short, has
/// no dash and begins with a letter.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !fits {
        bail!("a lab's name has 1 to 32 lower-case letters and digits, a letter first: {name:?}");
    }
    Ok(())
}

/// The namespace of a host's stack.
#[must_use]
pub fn host_namespace(name: &str, lab: &Lab, host: HostId) -> Option<String> {
    Some(match host {
        HostId::Pod(pod) => format!("{name}-pod-{}", lab.pods.get(pod)?.name.replace('/', ".")),
        HostId::NodeHost(node) => format!("{name}-{}-host", lab.nodes.get(node)?.name),
        HostId::Outside(host) => format!("{name}-out-{}", lab.outside.get(host)?.name),
    })
}

/// The namespace of an element's ends.
fn element_namespace(name: &str, lab: &Lab, element: ElementId) -> String {
    format!("{name}-{}", element.name(lab))
}

/// The places of a lab of that name, all of whose elements are forwarded by one daemon on so many
/// threads.
///
/// # Errors
/// Where the name does not fit, the lab is too large for this machine, or too small for the threads.
pub fn whole_places(lab: &Lab, name: &str, workers: u16) -> anyhow::Result<Places> {
    let mut arenas = 0;
    for share in shares(lab, workers)? {
        arenas += datapath_io::memory_plan(lab, &share)?.arenas.len();
    }
    places(lab, name, u16::try_from(arenas).context("too many packet memories")?)
}

/// The places of a lab of that name; `anchors` is the number of packet memories.
///
/// # Errors
/// Where the name does not fit.
pub fn places(lab: &Lab, name: &str, anchors: u16) -> anyhow::Result<Places> {
    check_name(name)?;
    let vpc = element_namespace(name, lab, ElementId::Vpc);
    let mut topology = Topology::default();
    let elements = ElementId::all(lab).map(|id| element_namespace(name, lab, id));
    topology.namespaces.extend(elements.map(Namespace::new));
    for host in HostId::all(lab) {
        let namespace = host_namespace(name, lab, host).context("a host without a name")?;
        topology.namespaces.push(Namespace::new(namespace));
    }
    let mut sites = Vec::new();
    for element in ElementId::all(lab) {
        for (port, queues) in ports_of(lab, element) {
            let socket = Socket { element, port };
            if fused_peer(lab, socket).is_some() {
                continue;
            }
            let site = site(lab, name, socket);
            if let Some(link) = link(lab, name, socket, &site, queues)? {
                topology.links.push(link);
            }
            sites.push(site);
        }
    }
    topology.links.push(Veth {
        a: End::new(vpc.clone(), ANCHOR.0, [2, 0, 0, 0, 0, 1]),
        b: End::new(vpc.clone(), ANCHOR.1, [2, 0, 0, 0, 0, 2]),
        queues: anchors,
    });
    Ok(Places { name: name.into(), topology, sites, anchor: (vpc, ANCHOR.0.into()) })
}

/// Where a port is.
fn site(lab: &Lab, name: &str, socket: Socket) -> Site {
    let namespace = element_namespace(name, lab, socket.element);
    Site { socket, namespace, ifname: port_name(lab, socket) }
}

/// A port's device name: a node's own names, and in the VPC the node's number with `e0` or `e1`,
/// or the outside host's number.
#[must_use]
pub fn port_name(lab: &Lab, socket: Socket) -> String {
    if let Some(interface) = interface(lab, socket) {
        return interface.name;
    }
    match peer_of(lab, socket) {
        Some(Peer::Socket(Socket { element: ElementId::Node(node), port: ETH0 })) => {
            format!("n{node}e0")
        }
        Some(Peer::Socket(Socket { element: ElementId::Node(node), .. })) => format!("n{node}e1"),
        Some(Peer::Host(HostId::Outside(host))) => format!("out{host}"),
        _ => format!("vpcport{}", socket.port.0),
    }
}

/// The node's interface at a port; `None` for the VPC, whose ports have no names of their own.
fn interface(lab: &Lab, socket: Socket) -> Option<Interface> {
    let ElementId::Node(node) = socket.element else { return None };
    Interface::of_node(lab, node)?.into_iter().nth(usize::from(socket.port.0))
}

/// The veth of a port; `None` for the node's end of a wire that the VPC's end has made.
fn link(
    lab: &Lab,
    name: &str,
    socket: Socket,
    site: &Site,
    queues: u16,
) -> anyhow::Result<Option<Veth>> {
    let (mac, mtu) = port_address(lab, socket).context("a port without an address")?;
    let mut a = End::new(site.namespace.clone(), site.ifname.clone(), mac.0);
    a.mtu = u32::from(mtu);
    a.user = User::Forwarder;
    let b = match peer_of(lab, socket).context("a port without a wire")? {
        Peer::Socket(_) if socket.element != ElementId::Vpc => return Ok(None),
        Peer::Socket(peer) => {
            let (mac, mtu) = port_address(lab, peer).context("a port without an address")?;
            let far = self::site(lab, name, peer);
            a.mtu = u32::from(mtu);
            let far = End::new(far.namespace, far.ifname, mac.0);
            End { mtu: u32::from(mtu), user: User::Forwarder, ..far }
        }
        Peer::Host(host) => stack_end(lab, name, host, mac, mtu)?,
    };
    Ok(Some(Veth { a, b, queues }))
}

/// MAC and MTU of a port; of the VPC's, the ones towards a host outside.
fn port_address(lab: &Lab, socket: Socket) -> Option<(Mac, u16)> {
    match socket.element {
        ElementId::Vpc => Some((lab.vpc.gateway_mac, OUTSIDE_MTU)),
        ElementId::Node(_) => interface(lab, socket).map(|i| (i.mac, i.mtu)),
    }
}

/// The end in a host's own namespace: its addresses, a default route by a next hop that is never
/// asked for, as Terway sets up a pod (spec LAB-17, LAB-18).
fn stack_end(
    lab: &Lab,
    name: &str,
    host: HostId,
    next_hop_mac: Mac,
    mtu: u16,
) -> anyhow::Result<End> {
    let namespace = host_namespace(name, lab, host).context("a host without a name")?;
    let (mac, ips) = host_address(lab, host).context("a host without an address")?;
    let mut end = End::new(namespace, STACK_IFNAME, mac.0);
    end.mtu = u32::from(mtu);
    end.user = User::Stack;
    end.addresses = ips.into_iter().map(|ip| (ip, 32)).collect();
    end.routes = vec![Route::default_via(NEXT_HOP)];
    end.neighbours = vec![(NEXT_HOP, next_hop_mac.0)];
    Ok(end)
}

/// MAC and addresses of a host's stack.
fn host_address(lab: &Lab, host: HostId) -> Option<(Mac, Vec<Ipv4Addr>)> {
    match host {
        HostId::Pod(pod) => lab.pods.get(pod).map(|pod| (pod.mac, vec![pod.ip])),
        HostId::NodeHost(node) => {
            let node = lab.nodes.get(node)?;
            Some((node.host_mac, vec![lab.enis.get(node.primary)?.ip]))
        }
        HostId::Outside(host) => lab.outside.get(host).map(|host| (host.mac, host.ips.clone())),
    }
}

/// The first address of a host's stack.
#[must_use]
pub fn host_ip(lab: &Lab, host: HostId) -> Option<Ipv4Addr> {
    host_address(lab, host)?.1.first().copied()
}
