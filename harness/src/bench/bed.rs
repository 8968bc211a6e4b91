//! What is measured on: a lab of our own in namespaces, of which only the first node's ports are
//! forwarded. The bench itself has the far ends of that node's wires.

use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context, bail};
use datapath::journey::PortId;
use datapath::lab::{Lab, Pod, VSwitch};
use datapath::link::{ElementId, HostId, Peer, Socket, peer_of, ports_of};
use datapath::node::{ETH0, ETH1, FIRST_CALI};
use datapath::time::Time;
use datapath_io::budget::{ElementNeed, PortNeed, plan};
use datapath_io::{Arena, ArenaConfig, LiveLink, Memory, XskPort};

use super::far_end::Host;
use super::fused;
use super::machine::pin;
use crate::live::private::{Ground, Hosts};
use crate::live::topology::{STACK_IFNAME, host_namespace};
use crate::net::stats::LinkStats;
use crate::net::{namespace, stats};

const LAB: &str = include_str!("../../../scenarios/bench.yaml");

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
    /// Where requests leave.
    pub exit: Socket,
    /// The memory of the far ends.
    ends: &'static Arena,
}

/// What is measured on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Both nodes and the VPC, their links fused, in place of one node.
    pub fused: bool,
    /// Pods of the first node that nobody talks to or hears of.
    pub idle: u16,
}

impl Shape {
    /// The lab.
    fn lab(self) -> anyhow::Result<(Lab, String)> {
        let pods: String = (0..self.idle)
            .map(|pod| format!("  - {{name: bench/idle-{pod}, node: n1}}\n"))
            .collect();
        let mut text = LAB.replacen("services:\n", &format!("{pods}services:\n"), 1);
        if self.fused {
            text.push_str("links: fused\n");
        }
        Ok((datapath::lab::load(&text, "bench.yaml")?, text))
    }

    /// The elements that are run, and where requests leave them.
    fn run(self, lab: &Lab) -> anyhow::Result<(Vec<ElementId>, Socket)> {
        Ok(if self.fused {
            (ElementId::all(lab).collect(), fused::exit(lab)?)
        } else {
            (vec![NODE], PRIMARY)
        })
    }
}

impl Bed {
    /// Makes everything; on failure nothing is left.
    ///
    /// # Errors
    /// A missing right, or what the kernel refuses.
    pub fn make(shape: Shape) -> anyhow::Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("a lab in namespaces needs root");
        }
        let (lab, text) = shape.lab()?;
        let (elements, exit) = shape.run(&lab)?;
        let own = u16::try_from(datapath_io::memory_plan(&lab, &elements)?.arenas.len())?;
        let ground = Ground::make(&lab, &text, own + 1, Hosts::Stacks)?;
        let (home, anchor) = &ground.places.anchor;
        let (memory, ends) = namespace::run_in(home, || -> anyhow::Result<_> {
            let memory = Memory::open(&lab, &elements, (home, anchor), 0, enter)?;
            Ok((memory, far_memory(&lab, exit, anchor, own)?))
        })??;
        Ok(Self { lab, memory, ground, exit, ends })
    }

    /// Nanoseconds that a turn of the forwarder takes when nothing has arrived anywhere.
    ///
    /// # Errors
    /// Where a port cannot be opened.
    pub fn empty_turn(&self, core: usize) -> anyhow::Result<f64> {
        const TURNS: u32 = 100_000;
        let places = &self.ground.places;
        namespace::run_in(&places.anchor.0, || -> anyhow::Result<f64> {
            let (lab, memory) = (self.lab.clone(), &self.memory);
            let mut link = LiveLink::open(lab, memory, None, &places.sites, enter)?;
            pin(core)?;
            let began = Instant::now();
            for _ in 0..TURNS {
                link.poll(Time::ZERO);
            }
            Ok(began.elapsed().as_nanos() as f64 / f64::from(TURNS))
        })?
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

    /// Who is at the other end of the wire by which requests leave.
    #[must_use]
    pub fn receiver(&self) -> Host {
        match peer_of(&self.lab, self.exit) {
            Some(Peer::Host(HostId::Pod(pod))) => {
                let pod = self.lab.pods.get(pod);
                pod.map_or_else(|| self.gateway(), |pod| Host { ip: pod.ip, mac: pod.mac })
            }
            _ => self.gateway(),
        }
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

/// Moves the calling thread into a namespace, as [`Memory`] and `LiveLink` want it.
pub fn enter(name: &str) -> Result<(), String> {
    namespace::enter(name).map_err(|error| error.to_string())
}

fn queues(lab: &Lab, socket: Socket) -> u16 {
    let ports = ports_of(lab, socket.element);
    ports.into_iter().find(|(port, _)| *port == socket.port).map_or(1, |(_, queues)| queues)
}

/// A memory for the far ends of the wires that the bench uses.
fn far_memory(lab: &Lab, exit: Socket, anchor: &str, queue: u16) -> anyhow::Result<&'static Arena> {
    let ports = [CALI, exit, TRUNK].map(|socket| queues(lab, socket));
    // What the bench has in hand is below what a memory keeps back for a batch.
    let plan = plan(&[ElementNeed { ports: ports.map(PortNeed::from).to_vec(), held: 0 }])?;
    let part = plan.arenas.first().context("a plan without a memory")?;
    let config = ArenaConfig {
        anchor: anchor.to_owned(),
        anchor_queue: queue.into(),
        rings: part.rings,
        frames: part.frames,
        held: part.held,
    };
    Ok(Arena::new(&config)?.leak())
}
