//! What stands beside nodes and pods: outside hosts, load balancers, custom routes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::compute::Machines;
use super::fabric::Fabric;
use super::ident;
use super::report::{Names, Report};
use crate::lab::error::quoted;
use crate::lab::file;
use crate::lab::model::{Listener, Slb, VpcRoute};
use crate::lab::scalar::{Port, PortProto};
use crate::lab::written::List;
use crate::wire::{Mac, Protocol};

/// A host outside the VPC as far as the file has it.
#[derive(Debug)]
pub(super) struct OutsideDraft {
    pub(super) name: String,
    pub(super) ips: Vec<Ipv4Addr>,
    pub(super) mac: Option<Mac>,
}

/// Reads and checks the outside hosts.
pub(super) fn outside(
    hosts: &List<file::Outside>,
    fabric: &Fabric,
    report: &mut Report,
) -> Vec<OutsideDraft> {
    let mut names = Names::new("outside host");
    let mut drafts = Vec::new();
    for (index, host) in hosts.items.iter().enumerate() {
        ident::outside(&host.name, report);
        names.enter(&host.name.text, index, host.name.at, report);
        if host.ips.items.is_empty() {
            let named = quoted(&host.name.text);
            let message = format!("outside host {named} has no address: expected one in `ips`");
            report.add(host.name.at, message);
        }
        let mut ips = Vec::new();
        for written in &host.ips {
            let Some(ip) = report.read("ips", written) else { continue };
            if !ident::unicast("ips", ip, written.at, report) {
                continue;
            }
            if let Some(vpc) = fabric.cidr().filter(|vpc| vpc.contains(&ip)) {
                let message = format!("ips: `{ip}` lies inside the VPC's range {vpc}");
                report.add_help(written.at, message, "an outside host has an address elsewhere");
            }
            ips.push(ip);
        }
        let mac = report.read_opt("mac", host.mac.as_ref());
        drafts.push(OutsideDraft { name: host.name.text.clone(), ips, mac });
    }
    drafts
}

/// Reads and checks the load balancers.
pub(super) fn slbs(
    slbs: &List<file::Slb>,
    fabric: &Fabric,
    machines: &Machines,
    report: &mut Report,
) -> Vec<Slb> {
    let mut names = Names::new("load balancer");
    let mut read = Vec::new();
    for (index, slb) in slbs.items.iter().enumerate() {
        ident::id("load balancer", &slb.id, report);
        names.enter(&slb.id.text, index, slb.id.at, report);
        let vip = report.read("vip", &slb.vip);
        if let Some(vip) = vip {
            fabric.check_vip("vip", vip, slb.vip.at, report);
        }
        if slb.listeners.items.is_empty() {
            let named = quoted(&slb.id.text);
            let message = format!("load balancer {named} has no listener: expected at least one");
            report.add(slb.id.at, message);
        }
        let mut used = BTreeSet::new();
        let listeners = slb.listeners.items.iter();
        let listeners =
            listeners.filter_map(|l| listener(l, &mut used, machines, report)).collect();
        let vip = vip.unwrap_or(Ipv4Addr::UNSPECIFIED);
        read.push(Slb { id: slb.id.text.clone(), vip, listeners });
    }
    read
}

/// One listener, unless its port or protocol was refused.
fn listener(
    listener: &file::Listener,
    used: &mut BTreeSet<(Protocol, u16)>,
    machines: &Machines,
    report: &mut Report,
) -> Option<Listener> {
    let backends = backends(listener, machines, report);
    let backend_port = report.read_opt("backendPort", listener.backend_port.as_ref());
    let port = report.read("port", &listener.port);
    let proto = match &listener.proto {
        Some(proto) => report.read("proto", proto)?,
        None => PortProto(Protocol::TCP),
    };
    let (port, proto) = (port?.as_u16(), proto.0);
    if !used.insert((proto, port)) {
        report.add(listener.port.at, format!("listener {port}/{proto} is given twice"));
    }
    let backend_port = backend_port.map_or(port, Port::as_u16);
    Some(Listener { proto, port, backend_port, backends })
}

/// The member ENIs behind a listener.
fn backends(listener: &file::Listener, machines: &Machines, report: &mut Report) -> Vec<usize> {
    let mut found = Vec::new();
    for name in &listener.backends {
        let Some(eni) = machines.eni(name, report) else { continue };
        if eni < machines.member(0) {
            let message = format!(
                "backends: {} is not a member ENI: expected the ENI of a pod",
                quoted(&name.text)
            );
            report.add(name.at, message);
        } else if found.contains(&eni) {
            report.add(name.at, format!("backends: {} is listed twice", quoted(&name.text)));
        } else {
            found.push(eni);
        }
    }
    found
}

/// Reads and checks the custom routes.
pub(super) fn routes(
    routes: &List<file::Route>,
    fabric: &Fabric,
    machines: &Machines,
    report: &mut Report,
) -> Vec<VpcRoute> {
    let mut used = BTreeSet::new();
    let mut read = Vec::new();
    for route in routes {
        let eni = machines.eni(&route.next_hop, report);
        let Some(cidr) = report.read("dst", &route.dst) else { continue };
        if !used.insert(cidr) {
            report.add(route.dst.at, format!("dst: a route for `{cidr}` is given twice"));
        }
        let vswitch = fabric.vswitch_of(cidr.network());
        let inside =
            vswitch.filter(|v| fabric.range(*v).is_some_and(|range| range.contains(&cidr)));
        if let Some(vswitch) = inside {
            let id = fabric.vswitch_id(vswitch);
            let message = format!("dst: `{cidr}` lies in vSwitch {id}, whose system route wins");
            report.add_help(route.dst.at, message, "a custom route leads outside the vSwitches");
        }
        read.push(VpcRoute { cidr, eni: eni.unwrap_or_default() });
    }
    read
}
