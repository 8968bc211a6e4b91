//! Which hop is which capture interface.

use std::borrow::Cow;
use std::collections::BTreeMap;

use datapath::journey::PortId;
use datapath::lab::{EniKind, Lab};
use datapath::link::{Direction as Way, ElementId, HostId, Socket, Tap};
use datapath::node::{ETH0, ETH1, FIRST_CALI, HOST0};
use datapath::vpc::{Ports, VpcPort};
use datapath::wire::ethernet;

use crate::pcap::Direction;

/// The capture interfaces of a lab, in their order.
#[derive(Clone, Debug)]
pub struct Interfaces {
    names: Vec<String>,
    /// By tap; the VPC's ports are not among them.
    numbers: BTreeMap<Tap, usize>,
    /// The number of the lab's first ENI.
    first_eni: usize,
    vpc: Ports,
    /// The ENI of the VPC's port to a node's eth0 or eth1.
    own: BTreeMap<PortId, usize>,
    /// The member ENI by port of the VPC and VID.
    members: BTreeMap<(PortId, u16), usize>,
    /// Hosts by the interface and direction at which a frame reaches them.
    outer: BTreeMap<(usize, Direction), usize>,
    outer_names: Vec<String>,
}

impl Interfaces {
    /// The interfaces of `lab`.
    #[must_use]
    pub fn new(lab: &Lab) -> Self {
        let vpc = Ports::of(lab);
        let mut new = Self {
            names: Vec::new(),
            numbers: BTreeMap::new(),
            first_eni: 0,
            vpc,
            own: BTreeMap::new(),
            members: BTreeMap::new(),
            outer: BTreeMap::new(),
            outer_names: Vec::new(),
        };
        for pod in 0..lab.pods.len() {
            new.add_host(lab, HostId::Pod(pod));
        }
        for node in 0..lab.nodes.len() {
            new.add_node(lab, node);
        }
        new.first_eni = new.names.len();
        new.names.extend(lab.enis.iter().map(|eni| format!("vpc/{}", eni.id)));
        for outside in 0..lab.outside.len() {
            new.add_host(lab, HostId::Outside(outside));
        }
        for (node, model) in lab.nodes.iter().enumerate() {
            new.own.insert(vpc.port_of_primary(node), model.primary);
            new.own.insert(vpc.port_of_trunk(node), model.trunk);
        }
        for (index, eni) in lab.enis.iter().enumerate() {
            if let EniKind::Member { vid, .. } = eni.kind {
                new.members.insert((vpc.port_of_trunk(eni.node), vid.get()), index);
            }
        }
        new
    }

    fn add(&mut self, tap: Tap, name: String) -> usize {
        let number = self.names.len();
        self.numbers.insert(tap, number);
        self.names.push(name);
        number
    }

    fn add_outer(&mut self, interface: usize, reached: Direction, name: String) {
        self.outer.insert((interface, reached), self.outer_names.len());
        self.outer_names.push(name);
    }

    /// A pod or an outside host.
    fn add_host(&mut self, lab: &Lab, host: HostId) {
        let name = host.name(lab).to_string();
        let number = self.add(Tap::Host(host), name.clone());
        self.add_outer(number, Direction::Inbound, name);
    }

    /// The ports of a node.
    fn add_node(&mut self, lab: &Lab, node: usize) {
        let Some(model) = lab.nodes.get(node) else { return };
        let tap = |port| Tap::Port(Socket { element: ElementId::Node(node), port });
        let calis = lab.pods.iter().filter(|pod| pod.node == node);
        for (pod, port) in calis.zip(FIRST_CALI..) {
            self.add(tap(PortId(port)), format!("{}/{}", model.name, pod.cali));
        }
        self.add(tap(ETH0), format!("{}/eth0", model.name));
        self.add(tap(ETH1), format!("{}/eth1", model.name));
        let number = self.add(tap(HOST0), format!("{}/host0", model.name));
        let host = HostId::NodeHost(node).name(lab).to_string();
        self.add_outer(number, Direction::Outbound, host);
    }

    /// Their names, in order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The ports by which frames leave the data link: pods, nodes' own stacks and outside hosts, in
    /// the order of the interfaces.
    #[must_use]
    pub fn outer_names(&self) -> &[String] {
        &self.outer_names
    }

    /// The outer port by which a frame seen at `interface` in this direction leaves, an index into
    /// [`outer_names`](Self::outer_names); `None` where it goes on or comes in.
    #[must_use]
    pub fn outer(&self, interface: usize, direction: Direction) -> Option<usize> {
        self.outer.get(&(interface, direction)).copied()
    }

    /// The interface of a frame at a tap, its direction there and the frame as it is shown. `None`
    /// where the hop is no interface: the other end of host0 and of an outside host's wire.
    #[must_use]
    pub fn at<'f>(
        &self,
        tap: Tap,
        way: Way,
        frame: &'f [u8],
    ) -> Option<(usize, Direction, Cow<'f, [u8]>)> {
        let direction = match way {
            Way::In => Direction::Inbound,
            Way::Out => Direction::Outbound,
        };
        match tap {
            Tap::Port(Socket { element: ElementId::Vpc, port }) => {
                if let VpcPort::Outside(_) = self.vpc.at(port)? {
                    return None;
                }
                let tag = ethernet::tag(frame).map(|tag| (port, tag.id));
                let (eni, shown) = match tag.and_then(|tag| self.members.get(&tag)) {
                    Some(member) => (member, Cow::Owned(untagged(frame))),
                    None => (self.own.get(&port)?, Cow::Borrowed(frame)),
                };
                Some((self.first_eni + eni, direction, shown))
            }
            tap => Some((*self.numbers.get(&tap)?, direction, Cow::Borrowed(frame))),
        }
    }
}

/// A tagged frame without its tag.
fn untagged(frame: &[u8]) -> Vec<u8> {
    let macs = ethernet::HEADER_LEN - 2;
    let (before, after) = frame.split_at(macs.min(frame.len()));
    [before, after.get(ethernet::TAG_LEN..).unwrap_or_default()].concat()
}
