//! The whole data link: which port of which element a wire joins to which, on every datapath.

mod handover;
mod memory;
mod snapshot;

pub use handover::{FusedCounters, Handover};
pub use memory::{Delivery, Direction, MemoryLink, Tap};
pub use snapshot::{OtherMachines, Programmed, Replaced, Snapshot};

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::journey::PortId;
use crate::lab::{Lab, Links};
use crate::node::{ETH0, ETH1, FIRST_CALI, HOST0};
use crate::vpc::{Ports, VpcPort};
use crate::wire::arp::{self, Arp, Operation};
use crate::wire::{Mac, ethernet};

/// An element of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ElementId {
    /// A node, an index into the lab's nodes.
    Node(usize),
    /// The VPC.
    Vpc,
}

impl ElementId {
    /// Every element of a lab, nodes first.
    pub fn all(lab: &Lab) -> impl Iterator<Item = Self> + use<> {
        (0..lab.nodes.len()).map(Self::Node).chain([Self::Vpc])
    }

    /// The element's name: the node's, or `vpc`.
    #[must_use]
    pub fn name(self, lab: &Lab) -> &str {
        match self {
            Self::Node(node) => lab.nodes.get(node).map_or("?", |node| &node.name),
            Self::Vpc => "vpc",
        }
    }
}

/// Where the data link ends and a network stack begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HostId {
    /// A pod, an index into the lab's pods.
    Pod(usize),
    /// A node's own stack, an index into the lab's nodes.
    NodeHost(usize),
    /// A host outside the VPC, an index into the lab's outside hosts.
    Outside(usize),
}

impl HostId {
    /// Every host of a lab: pods, nodes' own stacks, outside hosts.
    pub fn all(lab: &Lab) -> impl Iterator<Item = Self> + use<> {
        let pods = (0..lab.pods.len()).map(Self::Pod);
        let nodes = (0..lab.nodes.len()).map(Self::NodeHost);
        pods.chain(nodes).chain((0..lab.outside.len()).map(Self::Outside))
    }

    /// The host of that name: `pod:NS/NAME` or only `NS/NAME`, `node:NAME` or `node:NAME/host0`,
    /// `outside:NAME`; `None` where the lab has no such host.
    #[must_use]
    pub fn named(lab: &Lab, text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':').unwrap_or(("pod", text));
        match kind {
            "pod" => lab.pods.iter().position(|pod| pod.name == name).map(Self::Pod),
            "node" => {
                let name = name.strip_suffix("/host0").unwrap_or(name);
                lab.nodes.iter().position(|node| node.name == name).map(Self::NodeHost)
            }
            "outside" => lab.outside.iter().position(|host| host.name == name).map(Self::Outside),
            _ => None,
        }
    }

    /// The host's name as `replay` has it: `pod:NS/NAME`, `node:NAME/host0`, `outside:NAME`.
    #[must_use]
    pub fn name(self, lab: &Lab) -> HostName<'_> {
        HostName { host: self, lab }
    }
}

/// Prints a host's name.
#[derive(Clone, Copy, Debug)]
pub struct HostName<'a> {
    host: HostId,
    lab: &'a Lab,
}

impl fmt::Display for HostName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lab = self.lab;
        match self.host {
            HostId::Pod(pod) => {
                write!(f, "pod:{}", lab.pods.get(pod).map_or("?", |pod| &pod.name))
            }
            HostId::NodeHost(node) => {
                write!(f, "node:{}/host0", lab.nodes.get(node).map_or("?", |node| &node.name))
            }
            HostId::Outside(host) => {
                write!(f, "outside:{}", lab.outside.get(host).map_or("?", |host| &host.name))
            }
        }
    }
}

/// A port of an element of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Socket {
    /// The element.
    pub element: ElementId,
    /// Its port.
    pub port: PortId,
}

/// What is at the other end of a port's wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// A port of another element.
    Socket(Socket),
    /// A network stack.
    Host(HostId),
}

/// What a port's wire leads to; `None` for a port the lab does not have.
#[must_use]
pub fn peer_of(lab: &Lab, socket: Socket) -> Option<Peer> {
    let vpc = Ports::of(lab);
    let wire = |port| Some(Peer::Socket(Socket { element: ElementId::Vpc, port }));
    match socket.element {
        ElementId::Node(node) if node < lab.nodes.len() => match socket.port {
            HOST0 => Some(Peer::Host(HostId::NodeHost(node))),
            ETH0 => wire(vpc.port_of_primary(node)),
            ETH1 => wire(vpc.port_of_trunk(node)),
            PortId(port) => {
                let number = usize::from(port.checked_sub(FIRST_CALI)?);
                let pods = lab.pods.iter().enumerate().filter(|(_, pod)| pod.node == node);
                pods.map(|(pod, _)| Peer::Host(HostId::Pod(pod))).nth(number)
            }
        },
        ElementId::Node(_) => None,
        ElementId::Vpc => match vpc.at(socket.port)? {
            VpcPort::Primary(node) => {
                Some(Peer::Socket(Socket { element: ElementId::Node(node), port: ETH0 }))
            }
            VpcPort::Trunk(node) => {
                Some(Peer::Socket(Socket { element: ElementId::Node(node), port: ETH1 }))
            }
            VpcPort::Outside(host) => Some(Peer::Host(HostId::Outside(host))),
        },
    }
}

/// The port at the other end where the link between the two is fused: no device of this machine is
/// there (spec LINK-1).
#[must_use]
pub fn fused_peer(lab: &Lab, socket: Socket) -> Option<Socket> {
    match peer_of(lab, socket)? {
        Peer::Socket(peer) if lab.links == Links::Fused => Some(peer),
        _ => None,
    }
}

/// The port that a host's wire leads to; `None` for a host the lab does not have.
#[must_use]
pub fn socket_of(lab: &Lab, host: HostId) -> Option<Socket> {
    match host {
        HostId::Pod(pod) => {
            let node = lab.pods.get(pod)?.node;
            let before = lab.pods.get(..pod)?.iter().filter(|p| p.node == node).count();
            let port = PortId(FIRST_CALI + u16::try_from(before).ok()?);
            Some(Socket { element: ElementId::Node(node), port })
        }
        HostId::NodeHost(node) => (node < lab.nodes.len())
            .then_some(Socket { element: ElementId::Node(node), port: HOST0 }),
        HostId::Outside(host) => (host < lab.outside.len()).then(|| Socket {
            element: ElementId::Vpc,
            port: Ports::of(lab).port_of_outside(host),
        }),
    }
}

/// The ports of an element, in order of their ids, with each port's number of queues.
#[must_use]
pub fn ports_of(lab: &Lab, element: ElementId) -> Vec<(PortId, u16)> {
    let count = match element {
        ElementId::Node(node) => {
            usize::from(FIRST_CALI) + lab.pods.iter().filter(|pod| pod.node == node).count()
        }
        ElementId::Vpc => Ports::of(lab).count(),
    };
    let queues = |port| match (element, Ports::of(lab).at(port)) {
        (ElementId::Node(node), _) if port == ETH1 => lab.trunk_queue_count(node),
        (ElementId::Vpc, Some(VpcPort::Trunk(node))) => lab.trunk_queue_count(node),
        _ => 1,
    };
    (0..count)
        .map(|port| PortId(u16::try_from(port).unwrap_or(u16::MAX)))
        .map(|port| (port, queues(port)))
        .collect()
}

/// Whether a frame is ARP.
#[must_use]
pub fn is_arp(frame: &[u8]) -> bool {
    ethernet::Header::parse(frame).is_some_and(|header| header.ethertype == ethernet::ARP)
}

/// What a host without a stack answers to a frame by itself: an ARP request for one of its
/// addresses.
#[must_use]
pub fn arp_answer(lab: &Lab, host: HostId, frame: &[u8]) -> Option<[u8; arp::FRAME_LEN]> {
    if !is_arp(frame) {
        return None;
    }
    let request = frame.get(ethernet::HEADER_LEN..).and_then(Arp::parse)?;
    let mac = (request.operation == Operation::Request).then(|| owner(lab, host, &request))??;
    Some(request.answer(mac).frame(request.sender_mac, mac))
}

/// The host's MAC, if it has the address an ARP request asks for.
fn owner(lab: &Lab, host: HostId, arp: &Arp) -> Option<Mac> {
    let (has, mac) = match host {
        HostId::Pod(pod) => {
            let pod = lab.pods.get(pod)?;
            (pod.ip == arp.target_ip, pod.mac)
        }
        HostId::NodeHost(node) => {
            let node = lab.nodes.get(node)?;
            let ip = lab.enis.get(node.primary)?.ip;
            (ip == arp.target_ip, node.host_mac)
        }
        HostId::Outside(host) => {
            let host = lab.outside.get(host)?;
            (host.ips.contains(&arp.target_ip), host.mac)
        }
    };
    has.then_some(mac)
}
