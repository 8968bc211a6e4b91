//! Which port of the VPC is which wire.

use crate::journey::PortId;
use crate::lab::Lab;

/// What is at the other end of a port of the VPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VpcPort {
    /// eth0 of this node (index into the lab's nodes).
    Primary(usize),
    /// eth1 of this node, the trunk (index into the lab's nodes).
    Trunk(usize),
    /// This outside host (index into the lab's outside hosts).
    Outside(usize),
}

/// The numbers of the VPC's ports: first each node's primary and trunk in turn, then the outside
/// hosts, all in lab order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    nodes: usize,
    outside: usize,
}

impl Ports {
    /// The ports of the VPC of `lab`.
    #[must_use]
    pub fn of(lab: &Lab) -> Self {
        Self { nodes: lab.nodes.len(), outside: lab.outside.len() }
    }

    /// The port at `node`'s eth0: twice the node's index.
    #[must_use]
    pub fn port_of_primary(&self, node: usize) -> PortId {
        id(node * 2)
    }

    /// The port at `node`'s trunk: the one after its eth0's.
    #[must_use]
    pub fn port_of_trunk(&self, node: usize) -> PortId {
        id(node * 2 + 1)
    }

    /// The port at outside host `host`: they come after all nodes' ports.
    #[must_use]
    pub fn port_of_outside(&self, host: usize) -> PortId {
        id(self.nodes * 2 + host)
    }

    /// What is at a port; `None` where the VPC has no such port.
    #[must_use]
    pub fn at(&self, port: PortId) -> Option<VpcPort> {
        let number = usize::from(port.0);
        let node = number / 2;
        if node < self.nodes {
            return Some(if number % 2 == 0 {
                VpcPort::Primary(node)
            } else {
                VpcPort::Trunk(node)
            });
        }
        let host = number - self.nodes * 2;
        (host < self.outside).then_some(VpcPort::Outside(host))
    }

    /// How many ports the VPC has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes * 2 + self.outside
    }
}

/// A port's number; labs are far smaller than its range.
fn id(number: usize) -> PortId {
    PortId(u16::try_from(number).unwrap_or(u16::MAX))
}
