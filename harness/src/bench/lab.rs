//! The lab that is measured in: pods of one node ask services whose endpoints are on another node,
//! as in S5. Only that node runs; the bench stands where the pods and the VPC would.

use std::fmt::{self, Write};

use super::load::{Load, Proto};
use super::report::written;

/// Where clients listen and servers answer.
const PORTS: [(Proto, u16, u16); 2] = [(Proto::Udp, 53, 5_353), (Proto::Tcp, 80, 8_080)];
/// Flows that a node has room for at least.
const FLOWS: u32 = 16_384;

/// How large the lab is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Pods of the first node, all of which send.
    pub clients: u16,
    /// Further pods of the first node, which nobody talks to or hears of.
    pub idle: u16,
    /// Services, each with an endpoint of its own on the second node.
    pub services: u16,
    /// Their transport.
    pub proto: Proto,
    /// Flows that a node has room for.
    pub flows: u32,
    /// Whether the MTU is 8500 everywhere, and not 1500.
    pub jumbo: bool,
    /// Further pods, on nodes of at most fifty, that are there only to be known of.
    pub others: u16,
    /// Services among those: what there is of them changes from version to version.
    pub other_services: u16,
    /// The version.
    pub version: u32,
}

/// Pods of a node that is there only to be known of.
const CROWD: u16 = 50;

impl Shape {
    /// The lab for a load.
    #[must_use]
    pub fn of(load: &Load) -> Self {
        Self {
            clients: load.pods,
            idle: 0,
            services: load.services,
            proto: load.proto,
            // A quarter more, so that what is left of an earlier flow is not in the way.
            flows: FLOWS.max(load.flows + load.flows / 4),
            jumbo: load.sizes.is_jumbo(),
            others: 0,
            other_services: 0,
            version: 0,
        }
    }

    /// The lab file.
    #[must_use]
    pub fn text(&self) -> String {
        written(|text| self.write(text))
    }

    fn write(&self, to: &mut impl Write) -> fmt::Result {
        let crowds = self.others.div_ceil(CROWD);
        writeln!(to, "profile: terway-1.4.0")?;
        writeln!(to, "vpc:\n  cidr: 10.0.0.0/16\n  vSwitches:")?;
        writeln!(to, "    vsw-a: {{cidr: 10.0.4.0/24}}\n    vsw-b: {{cidr: 10.0.16.0/20}}")?;
        writeln!(to, "    vsw-c: {{cidr: 10.0.32.0/20}}\nnodes:")?;
        let mtu = if self.jumbo { ", mtu: 8500" } else { "" };
        for node in 0..2 + crowds {
            let [eth0, trunk] =
                [20, 120].map(|base| format!("{{ip: 10.0.4.{}{mtu}}}", base + node));
            writeln!(to, "  - {{name: n{}, eth0: {eth0}, trunk: {trunk}}}", node + 1)?;
        }
        writeln!(to, "pods:")?;
        let mut pod = |name: String, node: u16, subnet: u8, number: u16| {
            let [high, low] = (number + 1).to_be_bytes();
            let ip = format!("10.0.{}.{low}", subnet + high);
            writeln!(to, "  - {{name: bench/{name}, node: n{node}, ip: {ip}{mtu}}}")
        };
        for client in 0..self.clients {
            pod(format!("client{client}"), 1, 16, client)?;
        }
        for idle in 0..self.idle {
            pod(format!("idle{idle}"), 1, 16, self.clients + idle)?;
        }
        for server in 0..self.services {
            pod(format!("server{server}"), 2, 32, server)?;
        }
        for other in 0..self.others {
            let number = self.clients + self.idle + other;
            pod(format!("other{other}"), 3 + other / CROWD, 16, number)?;
        }
        writeln!(to, "services:")?;
        for service in 0..self.services {
            self.service(
                to,
                service,
                "service",
                31,
                format_args!("{{pod: bench/server{service}}}"),
            )?;
        }
        for service in 0..self.other_services {
            // Three of the others in turn, and with every version other three.
            let pick = |n| (u32::from(service) * 7 + self.version * 3 + n) % u32::from(self.others);
            let [a, b, c] = [0, 1, 2].map(pick).map(|pod| format!("{{pod: bench/other{pod}}}"));
            self.service(to, service, "other", 64, format_args!("{a}, {b}, {c}"))?;
        }
        // Whoever is asked by ARP could not answer while frames are only counted.
        writeln!(to, "switches: {{permanentNeighbours: true}}")?;
        writeln!(to, "limits: {{flows: {}}}\nseed: 1", self.flows)
    }

    fn service(
        &self,
        to: &mut impl Write,
        number: u16,
        name: &str,
        subnet: u8,
        endpoints: fmt::Arguments<'_>,
    ) -> fmt::Result {
        let [high, low] = (number + 1).to_be_bytes();
        let subnet = subnet + high;
        let found = PORTS.iter().find(|(proto, ..)| *proto == self.proto);
        let (proto, port, target) = found.copied().unwrap_or(PORTS[0]);
        let proto = proto.name();
        writeln!(to, "  - name: bench/{name}{number}\n    clusterIP: 192.168.{subnet}.{low}")?;
        writeln!(to, "    ports: [{{port: {port}, targetPort: {target}, proto: {proto}}}]")?;
        writeln!(to, "    endpoints: [{endpoints}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::generator::Input;

    #[test]
    fn the_lab_loads_and_has_what_was_asked_for() {
        let mut shape = Shape::of(&Load::smallest(Input::Skb));
        (shape.clients, shape.idle, shape.services) = (3, 2, 300);
        (shape.others, shape.other_services) = (500, 40);
        let load = |shape: &Shape| datapath::lab::load(&shape.text(), "bench").expect("a lab");
        let lab = load(&shape);
        assert_eq!((lab.nodes.len(), lab.pods.len(), lab.services.len()), (12, 805, 340));
        assert_eq!(lab.limits.flows, FLOWS);
        shape.version = 1;
        let next = load(&shape);
        assert!(next.has_machines_of(&lab));
        assert_eq!(next.services[..300], lab.services[..300]);
        assert_ne!(next.services[300..], lab.services[300..]);
        assert!(lab.pods.iter().all(|pod| pod.mtu == 1_500));
        shape.jumbo = true;
        let lab = load(&shape);
        let nodes = lab.nodes.iter().flat_map(|node| [node.primary_mtu, node.trunk_mtu]);
        assert!(nodes.chain(lab.pods.iter().map(|pod| pod.mtu)).all(|mtu| mtu == 8_500));
    }
}
