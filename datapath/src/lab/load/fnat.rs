//! Services in mode fnat, and the local addresses they send from (spec FNAT-1 to FNAT-4).

use std::net::Ipv4Addr;

use super::compute::Machines;
use super::fabric::Fabric;
use super::ident;
use super::report::Report;
use crate::lab::error::quoted;
use crate::lab::file;
use crate::lab::model::Fnat;
use crate::lab::scalar::ServiceMode;

/// Ports fnat sends from where the file gives none, as DPVS has it.
const LOCAL_PORTS: (u16, u16) = (1025, 65_535);

/// The local addresses of a node. They are secondary addresses of eth0, which is in `vswitch`, or
/// the VPC would bring no answer back.
pub(super) fn local_addresses(
    node: &file::Node,
    vswitch: Option<usize>,
    fabric: &Fabric,
    report: &mut Report,
) -> Vec<Ipv4Addr> {
    let mut read = Vec::new();
    for written in &node.local_addresses {
        let Some(ip) = report.read("localAddresses", written) else { continue };
        if ident::unicast("localAddresses", ip, written.at, report)
            && let Some(vswitch) = vswitch
        {
            fabric.check_address("localAddresses", vswitch, ip, written.at, report);
        }
        read.push(ip);
    }
    read
}

/// The ports a node's fnat sends from.
pub(super) fn local_ports(node: &file::Node, report: &mut Report) -> (u16, u16) {
    let read = report.read_opt("localPorts", node.local_ports.as_ref());
    read.and_then(|ports| ports.0).unwrap_or(LOCAL_PORTS)
}

/// How a service is translated in mode fnat; `None` in mode nat.
pub(super) fn of_service(
    service: &file::Service,
    machines: &Machines,
    report: &mut Report,
) -> Option<Fnat> {
    let mode = report.read_opt("mode", service.mode.as_ref());
    let toa = report.read_opt("toa", service.toa.as_ref()).unwrap_or_default();
    let given = &service.local_addresses;
    if mode != Some(ServiceMode::Fnat) {
        let only_fnat = [
            ("toa", service.toa.as_ref().filter(|_| toa).map(|written| written.at)),
            ("localAddresses", given.items.first().map(|_| given.at)),
        ];
        for (key, at) in only_fnat.into_iter().filter_map(|(key, at)| Some((key, at?))) {
            let message = format!("{key}: mode `nat` has none: expected `mode: fnat` beside it");
            report.add_help(at, message, "kube-proxy masquerades as the node's own address");
        }
        return None;
    }
    let mut local_addresses = Vec::new();
    for written in given {
        let Some(ip) = report.read("localAddresses", written) else { continue };
        if !machines.nodes.iter().any(|node| node.local_addresses.contains(&ip)) {
            let message = format!("localAddresses: `{ip}` is no local address of any node");
            let help = "answers to it would be lost: name it in `localAddresses` of a node";
            report.add_help(written.at, message, help);
        } else if local_addresses.contains(&ip) {
            report.add(written.at, format!("localAddresses: `{ip}` is given twice"));
        }
        local_addresses.push(ip);
    }
    let none = machines.nodes.iter().all(|node| node.local_addresses.is_empty());
    if none && given.items.is_empty() {
        let name = quoted(&service.name.text);
        let message = format!("service {name} has no local address to send from");
        let help = "mode fnat needs `localAddresses` on every node that serves it";
        report.add_help(service.name.at, message, help);
    }
    Some(Fnat { local_addresses, toa })
}
