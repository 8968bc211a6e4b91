//! Where frames can be fed in, by name.

use datapath::journey::PortId;
use datapath::lab::Lab;
use datapath::link::{ElementId, HostId, MemoryLink, Socket};
use datapath::node::{ETH0, ETH1};

use super::nearest::nearest;

/// A place where frames can be fed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InputPort {
    /// `pod:NS/NAME`, `node:NAME/host0` or `outside:NAME`: the host there sends the frame.
    Host(HostId),
    /// `node:NAME/eth0` or `node:NAME/eth1`: the frame arrives at this port of the node as if its
    /// wire had brought it. The VPC does not see it.
    Wire {
        /// The node, an index into the lab's nodes.
        node: usize,
        /// Its eth0 or eth1.
        port: PortId,
    },
}

/// A name that is no input port of the lab.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no input port is called `{name}`; nearest: {nearest}; \
     the forms are pod:NS/NAME, node:NAME/eth0|eth1|host0, outside:NAME"
)]
pub struct PortError {
    /// The name.
    pub name: String,
    /// The names that are nearest to it, the nearest first, separated by commas.
    pub nearest: String,
}

impl InputPort {
    /// Every input port of a lab with its name: pods, then each node's, then outside hosts.
    #[must_use]
    pub fn all(lab: &Lab) -> Vec<(String, Self)> {
        let host = |host: HostId| (host.name(lab).to_string(), Self::Host(host));
        let mut all: Vec<_> = (0..lab.pods.len()).map(|pod| host(HostId::Pod(pod))).collect();
        for (node, model) in lab.nodes.iter().enumerate() {
            for (name, port) in [("eth0", ETH0), ("eth1", ETH1)] {
                all.push((format!("node:{}/{name}", model.name), Self::Wire { node, port }));
            }
            all.push(host(HostId::NodeHost(node)));
        }
        all.extend((0..lab.outside.len()).map(|outside| host(HostId::Outside(outside))));
        all
    }

    /// The port called `name`.
    ///
    /// # Errors
    /// Where the lab has none; says which are called nearly so.
    pub fn find(lab: &Lab, name: &str) -> Result<Self, PortError> {
        let all = Self::all(lab);
        if let Some((_, port)) = all.iter().find(|(known, _)| known == name) {
            return Ok(*port);
        }
        let nearest = nearest(name, all.iter().map(|(known, _)| known.as_str())).join(", ");
        Err(PortError { name: name.to_owned(), nearest })
    }

    /// Puts a frame onto its way.
    pub(super) fn feed(self, link: &mut MemoryLink, frame: &[u8]) {
        match self {
            Self::Host(host) => {
                link.send(host, frame);
            }
            Self::Wire { node, port } => {
                link.arrive(Socket { element: ElementId::Node(node), port }, frame);
            }
        }
    }
}
