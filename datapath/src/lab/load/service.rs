//! Kubernetes services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::compute::Machines;
use super::fabric::Fabric;
use super::fnat;
use super::ident;
use super::report::{Names, Report};
use crate::lab::error::{Position, quoted};
use crate::lab::file;
use crate::lab::model::{Condition, Endpoint, MOST_DESTINATIONS, Scheduler, SchedulerFlags};
use crate::lab::model::{Service, ServicePort};
use crate::lab::scalar::{Int, NodePort, Port, PortProto, Scalar, ServiceType};
use crate::lab::written::{List, OneOrMany};
use crate::wire::Protocol;

/// Virtual servers (address, protocol, port), each with its service.
type Servers<'a> = BTreeMap<(Ipv4Addr, Protocol, u16), &'a str>;

/// Ports of the nodes, each with its service.
type NodePorts<'a> = BTreeMap<(Protocol, u16), &'a str>;

/// For how many seconds a client keeps its endpoint, by default.
const AFFINITY: u32 = 10_800;

/// Reads and checks the services.
pub(super) fn services(
    services: &List<file::Service>,
    fabric: &Fabric,
    machines: &Machines,
    report: &mut Report,
) -> Vec<Service> {
    let mut names = Names::new("service");
    let mut servers = Servers::new();
    let mut node_ports = NodePorts::new();
    let mut read = Vec::new();
    for (index, service) in services.items.iter().enumerate() {
        ident::namespaced("service", &service.name, report);
        names.enter(&service.name.text, index, service.name.at, report);
        let one = read_service(service, fabric, machines, report);
        check_servers(&one, service, &mut servers, report);
        check_node_ports(service, &mut node_ports, report);
        read.push(one);
    }
    check_destinations(services, &read, report);
    read
}

/// Checks that a node has room for the destinations of all services.
fn check_destinations(written: &List<file::Service>, services: &[Service], report: &mut Report) {
    let mut destinations = 0;
    for (service, written) in services.iter().zip(&written.items) {
        let addresses = usize::from(service.cluster_ip.is_some())
            + service.external_ips.len()
            + service.load_balancer.len();
        destinations += addresses * service.ports.len() * service.endpoints.len();
        if destinations > MOST_DESTINATIONS as usize {
            let message = format!(
                "the services have more than {MOST_DESTINATIONS} destinations: an endpoint is one \
                 for each address and port of its service"
            );
            return report.add(written.endpoints.at, message);
        }
    }
}

fn read_service(
    service: &file::Service,
    fabric: &Fabric,
    machines: &Machines,
    report: &mut Report,
) -> Service {
    let at = service.name.at;
    let name = quoted(&service.name.text);
    let cluster_ip = report.read_opt("clusterIP", service.cluster_ip.as_ref());
    if let (Some(ip), Some(written)) = (cluster_ip, &service.cluster_ip) {
        fabric.check_vip("clusterIP", ip, written.at, report);
    }
    let kind = service_type(service, report);
    let given = [&service.external_ips, &service.load_balancer];
    let vip = service.cluster_ip.is_some() || given.iter().any(|ips| !ips.items.is_empty());
    if !vip && kind == ServiceType::ClusterIp {
        let message = format!(
            "service {name} has no VIP: expected `clusterIP`, `externalIPs` or `loadBalancer`"
        );
        report.add(at, message);
    }
    if service.ports.items.is_empty() {
        report.add(at, format!("service {name} has no port: expected at least one in `ports`"));
    }
    let external =
        report.read_opt("externalTrafficPolicy", service.external_traffic_policy.as_ref());
    let internal =
        report.read_opt("internalTrafficPolicy", service.internal_traffic_policy.as_ref());
    let scheduler = report.read_opt("scheduler", service.scheduler.as_ref());
    Service {
        name: service.name.text.clone(),
        cluster_ip,
        external_ips: vips("externalIPs", &service.external_ips, fabric, report),
        load_balancer: vips("loadBalancer", &service.load_balancer, fabric, report),
        external_local: external.is_some_and(|policy| policy.0),
        internal_local: internal.is_some_and(|policy| policy.0),
        affinity: affinity(service, report),
        one_packet: report.read_opt("onePacket", service.one_packet.as_ref()).unwrap_or(false),
        source_ranges: source_ranges(service, report),
        scheduler: scheduler.unwrap_or_default(),
        scheduler_flags: scheduler_flags(service, scheduler.unwrap_or_default(), report),
        fnat: fnat::of_service(service, machines, report),
        ports: ports(service, report),
        endpoints: endpoints(service, machines, report),
    }
}

/// The flags of a scheduler, which only it may have.
fn scheduler_flags(
    service: &file::Service,
    scheduler: Scheduler,
    report: &mut Report,
) -> SchedulerFlags {
    let mut flags = SchedulerFlags::default();
    for written in &service.scheduler_flags {
        let Some(flag) = report.read("schedulerFlags", written) else { continue };
        if flag.scheduler != scheduler {
            let message = format!(
                "schedulerFlags: {} is a flag of scheduler `{}`, and the service has `{}`",
                quoted(&written.text),
                flag.scheduler.name(),
                scheduler.name()
            );
            report.add(written.at, message);
        }
        *(if flag.port { &mut flags.port } else { &mut flags.fallback }) = true;
    }
    flags
}

/// What the service's type is, after a look at the keys that not every type has.
fn service_type(service: &file::Service, report: &mut Report) -> ServiceType {
    let balanced = service.load_balancer.items.first();
    let default =
        if balanced.is_some() { ServiceType::LoadBalancer } else { ServiceType::ClusterIp };
    let kind = match &service.kind {
        Some(written) => match report.read("type", written) {
            Some(kind) => kind,
            // Any type is as good: what depends on it stays silent.
            None => return ServiceType::LoadBalancer,
        },
        None => default,
    };
    let mut needs = |key: &str, at: Position, types: &str| {
        report.add(at, format!("{key}: only a service of `type: {types}` has it"));
    };
    let ranges = service.load_balancer_source_ranges.items.first();
    if kind != ServiceType::LoadBalancer {
        for (key, at) in [
            ("loadBalancer", balanced.map(|ip| ip.at)),
            ("loadBalancerSourceRanges", ranges.map(|range| range.at)),
        ] {
            if let Some(at) = at {
                needs(key, at, "LoadBalancer");
            }
        }
    }
    let outward = kind != ServiceType::ClusterIp || !service.external_ips.items.is_empty();
    if let Some(policy) = service.external_traffic_policy.as_ref().filter(|_| !outward) {
        let key = "externalTrafficPolicy";
        report.add(policy.at, format!("{key}: nothing from outside leads to this service"));
    }
    for port in &service.ports {
        match (&port.node_port, kind) {
            (Some(node_port), ServiceType::ClusterIp) => {
                let message =
                    "nodePort: only a service of `type: NodePort` or `LoadBalancer` has it";
                report.add(node_port.at, message);
            }
            (None, ServiceType::NodePort) => {
                report.add(port.port.at, "a port of `type: NodePort` lacks `nodePort`");
            }
            _ => {}
        }
    }
    kind
}

/// Seconds of the service's session affinity, where it has one.
fn affinity(service: &file::Service, report: &mut Report) -> Option<u32> {
    let written = service.session_affinity.as_ref();
    let by_client = report.read_opt("sessionAffinity", written).is_some_and(|kind| kind.0);
    let config = service.session_affinity_config.as_ref();
    let timeout = config.and_then(|config| config.client_ip.timeout_seconds.as_ref());
    let seconds = report.read_opt("timeoutSeconds", timeout);
    if let Some(timeout) = timeout.filter(|_| !by_client) {
        report.add(timeout.at, "timeoutSeconds: expected `sessionAffinity: ClientIP` with it");
    }
    by_client.then(|| seconds.map_or(AFFINITY, Int::as_u32))
}

fn source_ranges(service: &file::Service, report: &mut Report) -> Vec<Ipv4Net> {
    let ranges = &service.load_balancer_source_ranges;
    ranges.into_iter().filter_map(|range| report.read("loadBalancerSourceRanges", range)).collect()
}

fn vips(
    key: &str,
    written: &OneOrMany<Ipv4Addr>,
    fabric: &Fabric,
    report: &mut Report,
) -> Vec<Ipv4Addr> {
    let mut read = Vec::new();
    for written in written {
        let Some(ip) = report.read(key, written) else { continue };
        fabric.check_vip(key, ip, written.at, report);
        read.push(ip);
    }
    read
}

fn ports(service: &file::Service, report: &mut Report) -> Vec<ServicePort> {
    let mut used = BTreeSet::new();
    let mut read = Vec::new();
    for port in &service.ports {
        let number = report.read("port", &port.port);
        let target = report.read_opt("targetPort", port.target_port.as_ref());
        let proto = match &port.proto {
            Some(proto) => report.read("proto", proto),
            None => Some(PortProto(Protocol::TCP)),
        };
        let node_port = report.read_opt("nodePort", port.node_port.as_ref()).map(Int::as_u16);
        let (Some(number), Some(PortProto(proto))) = (number, proto) else { continue };
        let number = number.as_u16();
        if !used.insert((proto, number)) {
            let message = format!("port {number}/{proto} is given twice in one service");
            report.add(port.port.at, message);
            continue;
        }
        let target_port = target.map_or(number, Port::as_u16);
        read.push(ServicePort { proto, port: number, target_port, node_port });
    }
    read
}

fn endpoints(service: &file::Service, machines: &Machines, report: &mut Report) -> Vec<Endpoint> {
    let mut used: BTreeMap<usize, Position> = BTreeMap::new();
    let mut read = Vec::new();
    for endpoint in &service.endpoints {
        let weight = report.read_opt("weight", endpoint.weight.as_ref());
        let condition = condition(endpoint, report);
        let Some(pod) = machines.pod_names.find(&endpoint.pod, report) else { continue };
        if let Some(first) = used.get(&pod) {
            let message = format!("endpoint {} is listed twice", quoted(&endpoint.pod.text));
            let help = format!("the first is at line {}", first.line);
            report.add_help(endpoint.pod.at, message, help);
            continue;
        }
        used.insert(pod, endpoint.pod.at);
        let weight = weight.map_or(1, Int::as_u32);
        let (upper, lower) = thresholds(endpoint, report);
        read.push(Endpoint { pod, weight, upper, lower, condition });
    }
    read
}

/// The upper and the lower threshold of an endpoint.
fn thresholds(endpoint: &file::Endpoint, report: &mut Report) -> (u32, u32) {
    let upper = report.read_opt("upper", endpoint.upper.as_ref()).map_or(0, Int::as_u32);
    let lower = report.read_opt("lower", endpoint.lower.as_ref()).map_or(0, Int::as_u32);
    if let Some(written) = &endpoint.lower
        && lower > upper
    {
        let message = format!("lower: {lower} is higher than the upper threshold, {upper}");
        report.add(written.at, message);
    }
    (upper, lower)
}

/// What kube-proxy makes of the conditions of an endpoint. What is left out is as the control
/// plane sets it: ready is serving and not terminating.
fn condition(endpoint: &file::Endpoint, report: &mut Report) -> Condition {
    let ready = report.read_opt("ready", endpoint.ready.as_ref());
    let serving = report.read_opt("serving", endpoint.serving.as_ref());
    let terminating = report.read_opt("terminating", endpoint.terminating.as_ref());
    let terminating = terminating.unwrap_or(false);
    if let (Some(true), Some(false), Some(written)) = (ready, serving, &endpoint.serving) {
        report.add(written.at, "serving: an endpoint that is ready serves");
    }
    let serves = serving.or(ready.filter(|_| !terminating)).unwrap_or(true);
    match ready.unwrap_or(serves && !terminating) {
        true => Condition::Ready,
        false if serves && terminating => Condition::ServingTerminating,
        false => Condition::NotReady,
    }
}

/// Checks that no other port has the node ports of `service`.
fn check_node_ports<'a>(
    service: &'a file::Service,
    node_ports: &mut NodePorts<'a>,
    report: &mut Report,
) {
    for port in &service.ports {
        let Some(written) = &port.node_port else { continue };
        let proto =
            port.proto.as_ref().map_or(Ok(PortProto(Protocol::TCP)), |p| PortProto::read(&p.text));
        let (Ok(PortProto(proto)), Ok(number)) = (proto, NodePort::read(&written.text)) else {
            continue;
        };
        if let Some(other) = node_ports.insert((proto, number.as_u16()), &service.name.text) {
            let message = format!(
                "nodePort {}/{proto} is given twice: service {} has it",
                number.as_u16(),
                quoted(other)
            );
            report.add(written.at, message);
        }
    }
}

/// Checks that no other service has the virtual servers of `service`.
fn check_servers<'a>(
    service: &Service,
    written: &'a file::Service,
    servers: &mut Servers<'a>,
    report: &mut Report,
) {
    let name = written.name.text.as_str();
    let external = written.external_ips.items.iter().chain(&written.load_balancer);
    let places: Vec<(Ipv4Addr, Position)> =
        external.filter_map(|w| Some((w.text.parse().ok()?, w.at))).collect();
    for (ip, at) in places {
        for port in &service.ports {
            let other = *servers.entry((ip, port.proto, port.port)).or_insert(name);
            if other != name {
                let message = format!(
                    "`{ip}` port {}/{} is given twice: service {} has it",
                    port.port,
                    port.proto,
                    quoted(other)
                );
                report.add_help(at, message, "services can share an address by port only");
            }
        }
    }
}
