//! Names for what a record holds as indices: as `ip rule`, `ip route` and the console spell them.

use std::net::Ipv4Addr;

use datapath::journey::{PortId, RouteHit, SgDecision, SgDirection, Target};
use datapath::lab::model::{EniKind, GroupKind, GroupRule, Lab, Peer as GroupPeer};
use datapath::link::{ElementId, HostId, Socket};
use datapath::node::route::{DEFAULT, Iif, LOCAL, MAIN, Rule};
use datapath::node::{InterfaceKind, NodeConfig};
use datapath::vpc::{Ports, VpcPort};

use super::stitch::{Journey, Origin};

/// Names in one lab. Nodes are ECS1, ECS2, ... and a node's pods pod1, pod2, ... in the order in
/// which packets reach them.
#[derive(Debug)]
pub struct Names<'a> {
    lab: &'a Lab,
    configs: Vec<Option<NodeConfig>>,
    nodes: Vec<usize>,
    pods: Vec<usize>,
}

impl<'a> Names<'a> {
    /// Names that number nodes and pods as `journeys` reach them.
    pub fn new<'j>(lab: &'a Lab, journeys: impl IntoIterator<Item = &'j Journey>) -> Self {
        let configs = (0..lab.nodes.len()).map(|node| NodeConfig::new(lab, node, 1)).collect();
        let mut names = Self { lab, configs, nodes: Vec::new(), pods: Vec::new() };
        for journey in journeys {
            if let Origin::Host(host) = journey.origin {
                names.meet_host(host);
            }
            for passage in &journey.passages {
                if let ElementId::Node(node) = passage.element {
                    names.meet_node(node);
                }
            }
            if let super::End::Host(host) = journey.end {
                names.meet_host(host);
            }
        }
        names
    }

    fn meet_host(&mut self, host: HostId) {
        match host {
            HostId::Pod(pod) => {
                if let Some(node) = self.lab.pods.get(pod).map(|pod| pod.node) {
                    self.meet_node(node);
                }
                if !self.pods.contains(&pod) {
                    self.pods.push(pod);
                }
            }
            HostId::NodeHost(node) => self.meet_node(node),
            HostId::Outside(_) => {}
        }
    }

    fn meet_node(&mut self, node: usize) {
        if !self.nodes.contains(&node) {
            self.nodes.push(node);
        }
    }

    /// The lab.
    #[must_use]
    pub const fn lab(&self) -> &'a Lab {
        self.lab
    }

    /// What the short names stand for: name and meaning, in order.
    #[must_use]
    pub fn legend(&self) -> Vec<(String, String)> {
        let mut legend = Vec::new();
        for node in &self.nodes {
            let Some(model) = self.lab.nodes.get(*node) else { continue };
            let ip = |eni: usize| self.lab.enis.get(eni).map_or(Ipv4Addr::UNSPECIFIED, |e| e.ip);
            let meaning = format!("node {} (eth0 {})", model.name, ip(model.primary));
            legend.push((self.node(*node), meaning));
            for pod in &self.pods {
                let Some(model) = self.lab.pods.get(*pod).filter(|pod| pod.node == *node) else {
                    continue;
                };
                let eni = self.lab.enis.get(model.member).map_or("?", |eni| eni.id.as_str());
                let meaning = format!(
                    "pod {} {} (member ENI {eni}, VID {})",
                    model.name, model.ip, model.vid
                );
                legend.push((self.pod(*pod), meaning));
            }
        }
        legend
    }

    /// `ECS1`; a node no packet has reached has its own name.
    #[must_use]
    pub fn node(&self, node: usize) -> String {
        match self.nodes.iter().position(|known| *known == node) {
            Some(number) => format!("ECS{}", number + 1),
            None => self.lab.nodes.get(node).map_or_else(|| "?".into(), |node| node.name.clone()),
        }
    }

    fn pod(&self, pod: usize) -> String {
        let node = self.lab.pods.get(pod).map(|pod| pod.node);
        let on_node = |pod: &&usize| self.lab.pods.get(**pod).map(|pod| pod.node) == node;
        let number = self.pods.iter().filter(on_node).position(|known| *known == pod);
        let (Some(node), Some(number)) = (node, number) else { return "?".into() };
        format!("{} pod{}", self.node(node), number + 1)
    }

    /// `ECS1`, or `vpc`.
    #[must_use]
    pub fn element(&self, element: ElementId) -> String {
        match element {
            ElementId::Node(node) => self.node(node),
            ElementId::Vpc => "vpc".into(),
        }
    }

    /// `ECS1 pod1 eth0`, `ECS1 host0`, `outside NAME`.
    #[must_use]
    pub fn host(&self, host: HostId) -> String {
        match host {
            HostId::Pod(pod) => format!("{} eth0", self.pod(pod)),
            HostId::NodeHost(node) => format!("{} host0", self.node(node)),
            HostId::Outside(host) => {
                format!("outside {}", self.lab.outside.get(host).map_or("?", |host| &host.name))
            }
        }
    }

    /// A port by its element: an interface of a node, or `ECS1 eth0` of the VPC.
    #[must_use]
    pub fn port(&self, socket: Socket) -> String {
        match socket.element {
            ElementId::Node(node) => self.interface(node, socket.port),
            ElementId::Vpc => match Ports::of(self.lab).at(socket.port) {
                Some(VpcPort::Primary(node)) => format!("{} eth0", self.node(node)),
                Some(VpcPort::Trunk(node)) => format!("{} eth1", self.node(node)),
                Some(VpcPort::Outside(host)) => self.host(HostId::Outside(host)),
                None => "?".into(),
            },
        }
    }

    fn interface(&self, node: usize, port: PortId) -> String {
        let interface = self.config(node).and_then(|config| config.interface(port));
        interface.map_or_else(|| "?".into(), |interface| interface.name.clone())
    }

    /// What an interface of a node is.
    #[must_use]
    pub fn interface_kind(&self, node: usize, port: PortId) -> Option<InterfaceKind> {
        self.config(node)?.interface(port).map(|interface| interface.kind)
    }

    fn config(&self, node: usize) -> Option<&NodeConfig> {
        self.configs.get(node)?.as_ref()
    }

    /// An ENI's id and what it is: `eni-x (trunk of ECS1)`.
    #[must_use]
    pub fn eni(&self, eni: usize) -> String {
        let Some(model) = self.lab.enis.get(eni) else { return "?".into() };
        let what = match model.kind {
            EniKind::Primary => format!("eth0 of {}", self.node(model.node)),
            EniKind::Trunk => format!("trunk of {}", self.node(model.node)),
            EniKind::Member { pod, .. } if self.pods.contains(&pod) => {
                format!("member of {}", self.pod(pod))
            }
            EniKind::Member { pod, .. } => {
                format!("member of {}", self.lab.pods.get(pod).map_or("?", |pod| &pod.name))
            }
        };
        format!("{} ({what})", model.id)
    }

    /// A service's name.
    #[must_use]
    pub fn service(&self, service: usize) -> &'a str {
        self.lab.services.get(service).map_or("?", |service| &service.name)
    }

    /// A load balancer's id.
    #[must_use]
    pub fn slb(&self, slb: usize) -> &'a str {
        self.lab.slbs.get(slb).map_or("?", |slb| &slb.id)
    }

    /// The rule of a look-up, as `ip rule` prints it.
    #[must_use]
    pub fn rule(&self, node: usize, hit: &RouteHit) -> String {
        let rules = self.config(node).map(|config| config.routes.rules());
        match rules.and_then(|rules| rules.get(usize::from(hit.rule))) {
            Some(rule) => self.rule_text(node, rule),
            None => format!("{}: lookup {}", hit.priority, table(hit.table)),
        }
    }

    fn rule_text(&self, node: usize, rule: &Rule<Ipv4Addr>) -> String {
        let selector = &rule.selector;
        let prefix = |(ip, len): (Ipv4Addr, u8)| prefix(ip, len);
        let mut text = format!("{}: from ", rule.priority);
        text += &selector.from.map_or_else(|| "all".into(), prefix);
        if let Some(to) = selector.to {
            text += &format!(" to {}", prefix(to));
        }
        if let Some((mark, mask)) = selector.fwmark {
            text += &format!(" fwmark {mark:#x}/{mask:#x}");
        }
        match selector.iif {
            Some(Iif::Lo) => text += " iif lo",
            Some(Iif::Port(port)) => text += &format!(" iif {}", self.interface(node, port)),
            None => {}
        }
        if let Some(port) = selector.oif {
            text += &format!(" oif {}", self.interface(node, port));
        }
        text + &format!(" lookup {}", table(rule.table))
    }

    /// The route of a look-up, as `ip route` prints it.
    #[must_use]
    pub fn route(&self, node: usize, hit: &RouteHit) -> String {
        let (ip, len) = hit.prefix;
        let to = if len == 0 { "default".into() } else { prefix(ip, len) };
        match (hit.target, hit.via) {
            (Target::Local, _) => format!("local {to}"),
            (Target::Port(port), Some(via)) => {
                // Terway's tables are reached by rules only, so their gateways are set onlink.
                let onlink = if hit.table == MAIN { "" } else { " onlink" };
                format!("{to} via {via} dev {}{onlink}", self.interface(node, port))
            }
            (Target::Port(port), None) => {
                format!("{to} dev {} scope link", self.interface(node, port))
            }
        }
    }

    /// What decided in a security-group check at an ENI.
    #[must_use]
    pub fn decision(&self, eni: usize, direction: SgDirection, decision: SgDecision) -> String {
        match decision {
            SgDecision::Session => "session".into(),
            SgDecision::Rule { group, index } => self.group_rule(group, direction, index),
            SgDecision::Inner { group } => {
                format!("{} lets its members talk (inner: accept)", self.group(group))
            }
            SgDecision::Default => self.default_of(eni, direction),
            SgDecision::Exempt => "100.64.0.0/10 is exempt".into(),
        }
    }

    fn group(&self, group: usize) -> &'a str {
        self.lab.vpc.groups.get(group).map_or("?", |group| &group.id)
    }

    fn group_rule(&self, group: usize, direction: SgDirection, index: usize) -> String {
        let (list, name) = match (self.lab.vpc.groups.get(group), direction) {
            (Some(group), SgDirection::In) => (group.ingress.as_slice(), "ingress"),
            (Some(group), SgDirection::Out) => (group.egress.as_slice(), "egress"),
            (None, _) => (&[][..], "?"),
        };
        let rule = list
            .get(index)
            .map_or_else(|| "?".into(), |rule| self.group_rule_text(rule, direction));
        format!("{} {name} rule {}: {rule}", self.group(group), index + 1)
    }

    fn group_rule_text(&self, rule: &GroupRule, direction: SgDirection) -> String {
        let policy = if rule.accept { "accept" } else { "drop" };
        let proto = rule.proto.map_or_else(|| "all".into(), |proto| proto.to_string());
        let ports = match rule.ports {
            Some((first, last)) if first == last => format!("/{first}"),
            Some((first, last)) => format!("/{first}-{last}"),
            None => String::new(),
        };
        let way = if direction == SgDirection::In { "from" } else { "to" };
        let peer = match &rule.peer {
            GroupPeer::Cidr(range) => prefix(range.network(), range.prefix_len()),
            GroupPeer::Group(group) => self.group(*group).to_owned(),
        };
        format!("{policy} {proto}{ports} {way} {peer} (priority {})", rule.priority)
    }

    fn default_of(&self, eni: usize, direction: SgDirection) -> String {
        let groups = self.lab.enis.get(eni).map_or(&[][..], |eni| eni.groups.as_slice());
        let names: Vec<_> = groups.iter().map(|group| self.group(*group)).collect();
        let basic = groups
            .iter()
            .filter_map(|group| self.lab.vpc.groups.get(*group))
            .any(|group| group.kind == GroupKind::Basic);
        let (kind, does) = match (basic, direction) {
            (true, SgDirection::Out) => ("basic", "accept"),
            (true, SgDirection::In) => ("basic", "drop"),
            (false, _) => ("advanced", "drop"),
        };
        let way = if direction == SgDirection::In { "in" } else { "out" };
        format!("default of {} ({kind}): {does} {way}", names.join(", "))
    }
}

/// A table's name, as iproute2 knows it.
fn table(number: u32) -> String {
    match number {
        LOCAL => "local".into(),
        MAIN => "main".into(),
        DEFAULT => "default".into(),
        number => number.to_string(),
    }
}

/// A prefix as iproute2 prints it: a single address without its length.
fn prefix(ip: Ipv4Addr, len: u8) -> String {
    if len == 32 { ip.to_string() } else { format!("{ip}/{len}") }
}
