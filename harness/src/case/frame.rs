//! Frames around a case's packets: the MACs that belong to a wire, and the tag.

use datapath::lab::Lab;
use datapath::link::{ElementId, HostId, Peer, Socket, peer_of, socket_of};
use datapath::node::{ETH0, ETH1};
use datapath::wire::{Mac, ethernet};

/// Source and destination MAC of what leaves an element by this port: those of the two ends of
/// the wire (spec CASE-5). `None` where the lab has no such port.
#[must_use]
pub(super) fn macs(lab: &Lab, socket: Socket) -> Option<(Mac, Mac)> {
    let gateway = lab.vpc.gateway_mac;
    let eni = |eni: usize| lab.enis.get(eni).map(|eni| eni.mac);
    let eni_at = |socket: Socket| match socket {
        Socket { element: ElementId::Node(node), port: ETH0 } => eni(lab.nodes.get(node)?.primary),
        Socket { element: ElementId::Node(node), port: ETH1 } => eni(lab.nodes.get(node)?.trunk),
        _ => None,
    };
    match peer_of(lab, socket)? {
        Peer::Host(HostId::Pod(pod)) => {
            let pod = lab.pods.get(pod)?;
            Some((pod.cali_mac, pod.mac))
        }
        Peer::Host(HostId::NodeHost(node)) => {
            let node = lab.nodes.get(node)?;
            Some((node.host0_mac, node.host_mac))
        }
        Peer::Host(HostId::Outside(host)) => Some((gateway, lab.outside.get(host)?.mac)),
        Peer::Socket(to) => match socket.element {
            ElementId::Node(_) => Some((eni_at(socket)?, gateway)),
            ElementId::Vpc => Some((gateway, eni_at(to)?)),
        },
    }
}

/// Source and destination MAC of what a host sends.
#[must_use]
pub(super) fn host_macs(lab: &Lab, host: HostId) -> Option<(Mac, Mac)> {
    macs(lab, socket_of(lab, host)?).map(|(theirs, own)| (own, theirs))
}

/// The frame of an IPv4 packet.
#[must_use]
pub(super) fn frame(src: Mac, dst: Mac, vlan: Option<u16>, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN];
    let ethertype = if vlan.is_some() { ethernet::VLAN } else { ethernet::IPV4 };
    ethernet::Header { dst, src, ethertype }.emit(&mut frame);
    if let Some(tag) = vlan {
        frame.extend(tag.to_be_bytes());
        frame.extend(ethernet::IPV4.to_be_bytes());
    }
    frame.extend_from_slice(packet);
    frame
}

/// A frame taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts<'f> {
    /// Source MAC.
    pub(super) src: Mac,
    /// Destination MAC.
    pub(super) dst: Mac,
    /// The control fields of its tags, the outer one first.
    pub(super) tags: Vec<u16>,
    /// EtherType behind the tags.
    pub(super) ethertype: u16,
    /// What follows.
    pub(super) payload: &'f [u8],
}

/// The parts of a frame; `None` where it is too short to be one.
#[must_use]
pub(super) fn parts(frame: &[u8]) -> Option<Parts<'_>> {
    let ethernet::Header { dst, src, mut ethertype } = ethernet::Header::parse(frame)?;
    let mut payload = frame.get(ethernet::HEADER_LEN..)?;
    let mut tags = Vec::new();
    while matches!(ethertype, ethernet::VLAN | ethernet::QINQ) {
        let [t0, t1, e0, e1, ..] = *payload.first_chunk::<4>()?;
        tags.push(u16::from_be_bytes([t0, t1]));
        ethertype = u16::from_be_bytes([e0, e1]);
        payload = &payload[4..];
    }
    Some(Parts { src, dst, tags, ethertype, payload })
}
