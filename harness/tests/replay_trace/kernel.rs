//! Traces of a real kernel as pcapng, all hops in one file.
//!
//! Interfaces are called `podX/eth0` for the pod behind `caliX`, `NODE/IFACE`, `NAME/eth0` for an
//! outside host, and `vpc/pN`, `vpc/tN` for the VPC's ends of the Nth node's eth0 and eth1;
//! `vpc/x` is left out.

use std::path::Path;

use datapath::lab::{EniKind, Lab};
use datapath::link::HostId;
use datapath::wire::ethernet;
use harness::pcap::{self, Direction, Packet};
use harness::replay::InputPort;

use super::own::Tables;
use super::{Seen, Trace, ip_at, is_arp};

/// Reads a trace of the nodes of `lab`.
pub(crate) fn read(lab: &Lab, file: &Path) -> Trace {
    let bytes = std::fs::read(file).expect("a readable trace");
    let capture = pcap::read(&bytes).expect("a sound trace");
    let mut trace = Trace { free_ids: true, ..Trace::default() };
    let tables = Tables::beside(file);
    let mut captured = std::collections::BTreeSet::new();
    let name = |packet: &Packet<'_>| capture.interfaces[packet.interface].name.clone();
    let has = |wanted: &str| capture.packets.iter().any(|packet| name(packet) == wanted);
    for packet in capture.packets.iter().filter(|packet| !is_arp(packet.data)) {
        let Some((interface, frame)) = our_name(lab, &name(packet), packet.data) else { continue };
        let direction = packet.direction.expect("a direction");
        let own = host_of(lab, &name(packet)).filter(|_| direction == Direction::Outbound);
        // Where a pod's own end was not captured, what its veth brings is what it sent.
        let at_cali = || {
            let (pod, _) = lab.pods.iter().enumerate().find(|(_, pod)| {
                interface == format!("{}/{}", lab.nodes[pod.node].name, pod.cali)
            })?;
            let end = format!("{}/eth0", lab.pods[pod].cali.replace("cali", "pod"));
            let arrives = direction == Direction::Inbound && !has(&end);
            arrives.then_some(HostId::Pod(pod))
        };
        if let Some(host) = own.or_else(at_cali) {
            trace.input.push((packet.at, InputPort::Host(host), packet.data.to_vec()));
        } else if let Some(node) = leaves_node(lab, &interface, direction)
            && let Some(frame) = tables.before_nat(lab, node, packet.data)
        {
            trace.input.push((packet.at, InputPort::Host(HostId::NodeHost(node)), frame));
        }
        captured.insert(interface.clone());
        trace.hops.push(Seen { interface, direction, frame });
    }
    trace.captured = Some(captured);
    trace
}

/// The node that a frame leaves by its eth0 or eth1.
fn leaves_node(lab: &Lab, interface: &str, direction: Direction) -> Option<usize> {
    let (node, port) = interface.split_once('/')?;
    let leaves = direction == Direction::Outbound && matches!(port, "eth0" | "eth1");
    lab.nodes.iter().position(|n| n.name == node).filter(|_| leaves)
}

fn host_of(lab: &Lab, name: &str) -> Option<HostId> {
    let owner = name.strip_suffix("/eth0")?;
    let cali = owner.strip_prefix("pod").map(|pod| format!("cali{pod}"));
    let pod = lab.pods.iter().position(|pod| Some(&pod.cali) == cali.as_ref());
    let outside = || lab.outside.iter().position(|host| host.name == owner);
    pod.map(HostId::Pod).or_else(|| outside().map(HostId::Outside))
}

/// The interface as replay calls it, and the frame as replay shows it there.
fn our_name(lab: &Lab, name: &str, frame: &[u8]) -> Option<(String, Vec<u8>)> {
    if let Some(host) = host_of(lab, name) {
        return Some((host.name(lab).to_string(), frame.to_vec()));
    }
    let Some(end) = name.strip_prefix("vpc/") else {
        return Some((name.to_owned(), frame.to_vec()));
    };
    let node = end.get(1..)?.parse::<usize>().ok()?.checked_sub(1)?;
    let own = if end.starts_with('p') { lab.nodes[node].primary } else { lab.nodes[node].trunk };
    let Some(tag) = ethernet::tag(frame) else {
        return Some((format!("vpc/{}", lab.enis[own].id), frame.to_vec()));
    };
    let member = lab.enis.iter().find(|eni| {
        matches!(eni.kind, EniKind::Member { vid, .. } if eni.node == node && vid.get() == tag.id)
    })?;
    Some((format!("vpc/{}", member.id), [&frame[..12], &frame[16..]].concat()))
}

/// Whether no host sent a packet with this protocol, id and length: then a node made it.
pub(crate) fn made_by_a_node(hops: &[Seen], frame: &[u8]) -> bool {
    let key = |frame: &[u8]| {
        let ip = frame.get(ip_at(frame)..)?;
        Some((*ip.get(9)?, ip.get(2..6)?.to_vec()))
    };
    let is_host = |name: &str| name.starts_with("pod:") || name.starts_with("outside:");
    let sent = hops.iter().filter(|s| s.direction == Direction::Outbound && is_host(&s.interface));
    let arrived =
        hops.iter().filter(|s| s.direction == Direction::Inbound && s.interface.contains("/cali"));
    !sent.chain(arrived).any(|s| key(&s.frame) == key(frame))
}
