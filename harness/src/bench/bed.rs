//! What is measured on: a lab of our own in namespaces, of which only the first node's ports are
//! forwarded. The bench itself has the far ends of that node's wires.

use std::net::Ipv4Addr;

use anyhow::{Context, bail};
use datapath::journey::PortId;
use datapath::lab::{Lab, Pod, ServicePort, VSwitch};
use datapath::link::{ElementId, Peer, Socket, peer_of, ports_of};
use datapath::node::{ETH0, ETH1, FIRST_CALI};
use datapath_io::budget::{ElementNeed, plan};
use datapath_io::{Arena, ArenaConfig, Memory, XskPort};

use super::far_end::Host;
use super::frames::Flows;
use crate::live::private::{Ground, Hosts};
use crate::live::topology::{STACK_IFNAME, host_namespace};
use crate::net::stats::LinkStats;
use crate::net::{namespace, stats};

const LAB: &str = include_str!("../../../scenarios/bench.yaml");

/// Room for flows beside those that are measured.
const SPARE: u32 = 1_024;

/// The node under test.
const NODE: ElementId = ElementId::Node(0);
/// Where requests come in: the node's end of the client pod's veth.
pub const CALI: Socket = Socket { element: NODE, port: PortId(FIRST_CALI) };
/// Where requests leave: the node's primary ENI.
pub const PRIMARY: Socket = Socket { element: NODE, port: ETH0 };
/// Where answers come in: the node's trunk ENI.
pub const TRUNK: Socket = Socket { element: NODE, port: ETH1 };

/// A device of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub ifname: String,
}

/// The lab's namespaces and veths, and the packet memories; taken down when dropped.
#[derive(Debug)]
pub struct Bed {
    /// The lab.
    pub lab: Lab,
    /// The memory of the node's ports, which all forwarders use in turn.
    pub memory: Memory,
    /// Where everything is.
    pub ground: Ground,
    /// The memory of the far ends.
    ends: &'static Arena,
}

impl Bed {
    /// Makes everything, with a node that can hold these flows; on failure nothing is left.
    ///
    /// # Errors
    /// A missing right, or what the kernel refuses.
    pub fn make(flows: Flows) -> anyhow::Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("a lab in namespaces needs root");
        }
        let lab = lab(flows)?;
        let own = u16::try_from(datapath_io::memory_plan(&lab, &[NODE])?.arenas.len())?;
        let ground = Ground::make(&lab, LAB, own + 1, Hosts::Stacks)?;
        let (home, anchor) = &ground.places.anchor;
        let (memory, ends) = namespace::run_in(home, || -> anyhow::Result<_> {
            let memory = Memory::open(&lab, &[NODE], (home, anchor), enter)?;
            Ok((memory, far_memory(&lab, anchor, own)?))
        })??;
        Ok(Self { lab, memory, ground, ends })
    }

    /// The device of one of the node's ports.
    ///
    /// # Errors
    /// Where the lab has no such port.
    pub fn near(&self, socket: Socket) -> anyhow::Result<Device> {
        let site = self.ground.places.sites.iter().find(|site| site.socket == socket);
        let site = site.context("the lab has no such port")?;
        Ok(Device { namespace: site.namespace.clone(), ifname: site.ifname.clone() })
    }

    /// The device at the other end of the wire of one of the node's ports.
    ///
    /// # Errors
    /// Where the lab has no such port.
    pub fn far(&self, socket: Socket) -> anyhow::Result<Device> {
        match peer_of(&self.lab, socket).context("the lab has no such port")? {
            Peer::Socket(peer) => self.near(peer),
            Peer::Host(host) => {
                let name = &self.ground.places.name;
                let namespace = host_namespace(name, &self.lab, host).context("no such host")?;
                Ok(Device { namespace, ifname: STACK_IFNAME.to_owned() })
            }
        }
    }

    /// Opens the far end of a wire, for the bench to send and receive there.
    ///
    /// # Errors
    /// Where the device cannot be bound.
    pub fn open_far(&self, socket: Socket) -> anyhow::Result<XskPort<'static>> {
        let device = self.far(socket)?;
        let port = namespace::run_in(&device.namespace, || {
            XskPort::open(self.ends, &device.ifname, queues(&self.lab, socket))
        })?;
        Ok(port?)
    }

    /// The node's next hop in the VPC.
    #[must_use]
    pub fn gateway(&self) -> Host {
        let eni = self.lab.nodes.first().and_then(|node| self.lab.enis.get(node.primary));
        let vswitch = eni.and_then(|eni| self.lab.vpc.vswitches.get(eni.vswitch));
        let ip = vswitch.map_or(Ipv4Addr::UNSPECIFIED, VSwitch::gateway);
        Host { ip, mac: self.lab.vpc.gateway_mac }
    }

    /// The client pod.
    ///
    /// # Errors
    /// Where the lab has no pod.
    pub fn pod(&self) -> anyhow::Result<&Pod> {
        self.lab.pods.first().context("the lab has no pod")
    }

    /// Frames that the kernel has thrown away because they found no room in the wire, going out
    /// of this device.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub fn lost(&self, device: &Device) -> anyhow::Result<u64> {
        let links = stats::read(&device.namespace)?;
        let link: Option<&LinkStats> = links.get(&device.ifname);
        Ok(link.context("the device is gone")?.tx_dropped)
    }
}

/// The lab, with as many ports of its service as the flows have, and room for them.
fn lab(flows: Flows) -> anyhow::Result<Lab> {
    let mut lab = datapath::lab::load(LAB, "bench.yaml")?;
    let service = lab.services.first_mut().context("the lab has no service")?;
    let first = service.ports.first().cloned().context("the service has no port")?;
    for further in 1..flows.services {
        let (port, target_port) = (first.port + further, first.target_port + further);
        service.ports.push(ServicePort { port, target_port, ..first.clone() });
    }
    lab.limits.flows = lab.limits.flows.max(flows.count() + SPARE);
    Ok(lab)
}

/// Moves the calling thread into a namespace, as [`Memory`] and `LiveLink` want it.
pub fn enter(name: &str) -> Result<(), String> {
    namespace::enter(name).map_err(|error| error.to_string())
}

fn queues(lab: &Lab, socket: Socket) -> u16 {
    let ports = ports_of(lab, socket.element);
    ports.into_iter().find(|(port, _)| *port == socket.port).map_or(1, |(_, queues)| queues)
}

/// A memory for the far ends of the three wires that the bench uses.
fn far_memory(lab: &Lab, anchor: &str, queue: u16) -> anyhow::Result<&'static Arena> {
    let ports = [CALI, PRIMARY, TRUNK].map(|socket| queues(lab, socket));
    // What the bench has in hand is below what a memory keeps back for a batch.
    let plan = plan(&[ElementNeed { ports: ports.to_vec(), held: 0, jumbo: false }])?;
    let part = plan.arenas.first().context("a plan without a memory")?;
    let config = ArenaConfig {
        anchor: anchor.to_owned(),
        anchor_queue: queue.into(),
        rings: part.rings,
        frames: part.frames,
        held: part.held,
        runs: part.runs,
    };
    Ok(Arena::new(&config)?.leak())
}
