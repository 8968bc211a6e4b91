//! What is legal in a lab with services in mode fnat, and yet loses packets or hides clients
//! without a word (spec LAB-30). DPVS takes each of these silently.

use std::net::Ipv4Addr;

use super::report::Report;
use crate::journey::SgDirection;
use crate::lab::error::{Position, quoted};
use crate::lab::file::{self, File};
use crate::lab::model::{Fnat, Lab, Node, Pod, Service, ServicePort};
use crate::vpc::SecurityGroups;
use crate::wire::Tuple;

/// Notes what `lab`, which `file` says, does not mean, probably.
pub(super) fn fnat(file: &File, lab: &Lab, report: &mut Report) {
    let groups = SecurityGroups::new(lab);
    for (written, service) in file.services.items.iter().zip(&lab.services) {
        let Some(fnat) = &service.fnat else { continue };
        let linter = Linter { lab, groups: &groups, written, service, fnat };
        linter.addresses(report);
        linter.told_clients(report);
        linter.security_groups(report);
    }
    for (written, node) in file.nodes.items.iter().zip(&lab.nodes) {
        pools(written, node, lab, report);
    }
}

/// Local addresses that nothing uses, and pools smaller than the tables beside them.
fn pools(written: &file::Node, node: &Node, lab: &Lab, report: &mut Report) {
    let Some(first) = written.local_addresses.items.first() else { return };
    let mut users = lab.services.iter().filter_map(|service| service.fnat.as_ref()).peekable();
    if users.peek().is_none() {
        let message =
            format!("local addresses of node {}, which no service uses", quoted(&node.name));
        return report.add_help(first.at, message, "only services with `mode: fnat` do");
    }
    let (low, high) = node.local_ports;
    let ports = usize::from(high - low).saturating_add(1);
    let fewest = users.map(|fnat| fnat.addresses_of(node).len()).filter(|count| *count > 0).min();
    let Some(room) = fewest.map(|addresses| addresses.saturating_mul(ports)) else { return };
    if u64::try_from(room).is_ok_and(|room| room < u64::from(lab.limits.flows)) {
        let at = written.local_ports.as_ref().map_or(first.at, |ports| ports.at);
        let message = format!(
            "node {} has local ports for {room} connections to one endpoint, fewer than \
             `limits.flows`, {}",
            quoted(&node.name),
            lab.limits.flows
        );
        let help = "those beyond are dropped as `local-ports-exhausted`: add local addresses";
        report.add_help(at, message, help);
    }
}

/// What lints of one service look at.
struct Linter<'a> {
    lab: &'a Lab,
    groups: &'a SecurityGroups,
    written: &'a file::Service,
    service: &'a Service,
    fnat: &'a Fnat,
}

impl Linter<'_> {
    fn name(&self) -> String {
        quoted(&self.service.name)
    }

    /// Its endpoints' pods, each with where it is named.
    fn pods(&self) -> impl Iterator<Item = (Position, &Pod)> {
        let endpoints = self.written.endpoints.items.iter().zip(&self.service.endpoints);
        endpoints.filter_map(|(written, e)| Some((written.pod.at, self.lab.pods.get(e.pod)?)))
    }

    /// The nodes that can serve it, each with its number and local addresses.
    fn directors(&self) -> impl Iterator<Item = (usize, &Node, Vec<Ipv4Addr>)> {
        let nodes = self.lab.nodes.iter().enumerate();
        nodes
            .map(|(number, node)| (number, node, self.fnat.addresses_of(node)))
            .filter(|(.., addresses)| !addresses.is_empty())
    }

    /// Nodes that take what comes for the VIP and have nothing to send it from.
    fn addresses(&self, report: &mut Report) {
        for node in &self.lab.nodes {
            if self.fnat.addresses_of(node).is_empty() {
                let (name, node) = (self.name(), quoted(&node.name));
                let message = format!("node {node} has no local address for service {name}");
                let help = "requests that reach it are dropped there as `local-ports-exhausted`";
                report.add_help(self.written.name.at, message, help);
            }
        }
    }

    /// Endpoints that will not hear who their clients are.
    fn told_clients(&self, report: &mut Report) {
        if !self.fnat.toa {
            if let Some(policy) = &self.written.external_traffic_policy
                && self.service.external_local
            {
                let message = "externalTrafficPolicy `Local` keeps the client's address, which \
                               `mode: fnat` takes away";
                report.add_help(policy.at, message, "with `toa: true` TCP requests carry it");
            }
            return;
        }
        for port in &self.written.ports {
            if let Some(proto) = port.proto.as_ref().filter(|proto| proto.text != "tcp") {
                let message = "toa: datagrams have no TCP option to carry the client's address";
                report.add_help(proto.at, message, "endpoints see a local address for it");
            }
        }
        let Some(toa) = &self.written.toa else { return };
        for (number, node, _) in self.directors() {
            let larger =
                |(_, pod): &(Position, &Pod)| pod.node != number && pod.mtu > node.primary_mtu;
            if let Some((_, pod)) = self.pods().find(larger) {
                let message = format!(
                    "toa: eth0 of node {} has MTU {}, endpoint {} has {}: full segments have no \
                     room for the option",
                    quoted(&node.name),
                    node.primary_mtu,
                    quoted(&pod.name),
                    pod.mtu
                );
                report.add_help(toa.at, message, "they go without it, counted as too large");
            }
        }
    }

    /// Endpoints on other nodes whose ENI does not let the local addresses in, or that eth0's does
    /// not let them reach.
    fn security_groups(&self, report: &mut Report) {
        for (number, node, addresses) in self.directors() {
            for (at, pod) in self.pods().filter(|(_, pod)| pod.node != number) {
                for port in &self.service.ports {
                    let refused = addresses.iter().find_map(|ip| {
                        let direction = self.refuses(node, *ip, pod, port)?;
                        Some((*ip, direction))
                    });
                    let Some((ip, direction)) = refused else { continue };
                    let side = match direction {
                        SgDirection::Out => format!("of eth0 of node {}", quoted(&node.name)),
                        SgDirection::In => format!("of endpoint {}", quoted(&pod.name)),
                    };
                    let message = format!(
                        "the security groups {side} do not let `{ip}` reach {}/{}",
                        port.target_port, port.proto
                    );
                    let help = "in mode fnat requests come from local addresses, not from clients";
                    report.add_help(at, message, help);
                    break;
                }
            }
        }
    }

    /// Which side's groups stop the first packet from a local address to an endpoint.
    fn refuses(
        &self,
        node: &Node,
        ip: Ipv4Addr,
        pod: &Pod,
        port: &ServicePort,
    ) -> Option<SgDirection> {
        let tuple = Tuple {
            src: ip,
            dst: pod.ip,
            src_port: node.local_ports.0,
            dst_port: port.target_port,
            proto: port.proto,
        };
        let judges = [
            (node.primary, SgDirection::Out, pod.member),
            (pod.member, SgDirection::In, node.primary),
        ];
        let stops = |(eni, direction, peer): &(usize, SgDirection, usize)| {
            !self.groups.judge(*eni, *direction, &tuple, Some(*peer)).accept
        };
        judges.iter().find(|judge| stops(judge)).map(|(_, direction, _)| *direction)
    }
}
