//! What is measured on: a lab of our own in namespaces, of which only the first node's ports are
//! forwarded. The bench itself has the far ends of that node's wires.

use std::net::Ipv4Addr;
use std::sync::OnceLock;

use anyhow::{Context, bail};
use datapath::journey::PortId;
use datapath::lab::{Lab, Links, VSwitch};
use datapath::link::{ElementId, Peer, Socket, peer_of, ports_of};
use datapath::node::{ETH0, ETH1, FIRST_CALI};
use datapath_io::budget::{ArenaPlan, ElementNeed, Plan, PortNeed, plan};
use datapath_io::{Arena, ArenaConfig, Memory, XskPort};

use super::far_end::{FarEnd, Host};
use super::lab::Shape;
use crate::live::private::{Ground, Hosts};
use crate::live::topology::{STACK_IFNAME, host_namespace};
use crate::net::{namespace, stats};

/// The node under test.
pub const NODE: ElementId = ElementId::Node(0);
/// Where the endpoints are.
const SERVER_NODE: ElementId = ElementId::Node(1);
/// What forwards where the links are fused.
const FUSED: [ElementId; 3] = [NODE, ElementId::Vpc, SERVER_NODE];

/// Where requests of a pod come in: the node's end of its veth.
#[must_use]
pub const fn cali(pod: u16) -> Socket {
    Socket { element: NODE, port: PortId(FIRST_CALI + pod) }
}
/// Where requests leave: the node's primary ENI.
pub const PRIMARY: Socket = Socket { element: NODE, port: ETH0 };
/// Where answers come in: the node's trunk ENI.
pub const TRUNK: Socket = Socket { element: NODE, port: ETH1 };

/// The endpoint's end of its veth, on the second node.
pub const SERVER: Socket = Socket { element: SERVER_NODE, port: PortId(FIRST_CALI) };

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
    /// Pods that send.
    pub clients: u16,
    /// Whether packets may be longer than one buffer of a device.
    pub jumbo: bool,
    /// The memory of the node's ports, which all forwarders use in turn.
    pub memory: Memory,
    /// Where everything is.
    pub ground: Ground,
    /// The memories of the far ends, as they were planned.
    ends: Vec<&'static Arena>,
    ends_plan: Plan,
    /// The memory of a fused link, once there has been one, and the anchor's queue for it.
    fused: OnceLock<Memory>,
    fused_queue: u16,
}

impl Bed {
    /// Makes everything; on failure nothing is left.
    ///
    /// # Errors
    /// A missing right, or what the kernel refuses.
    pub fn make(shape: &Shape) -> anyhow::Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("a lab in namespaces needs root");
        }
        let text = shape.text();
        let lab = datapath::lab::load(&text, "the bench's lab")?;
        let own = u16::try_from(datapath_io::memory_plan(&lab, &[NODE])?.arenas.len())?;
        let Shape { clients, jumbo, .. } = *shape;
        let ends_plan = far_plan(&lab, clients, jumbo)?;
        let fused_queue = own + u16::try_from(ends_plan.arenas.len())?;
        let fused = datapath_io::memory_plan(&fused_lab(&lab), &FUSED)?.arenas.len();
        let anchors = fused_queue + u16::try_from(fused)?;
        let ground = Ground::make(&lab, &text, anchors, Hosts::Stacks)?;
        let (home, anchor) = &ground.places.anchor;
        let (memory, ends) = namespace::run_in(home, || -> anyhow::Result<_> {
            let memory = Memory::open(&lab, &[NODE], (home, anchor), 0, enter)?;
            Ok((memory, far_memories(&ends_plan, anchor, own)?))
        })??;
        let fused = OnceLock::new();
        Ok(Self { lab, clients, jumbo, memory, ground, ends, ends_plan, fused, fused_queue })
    }

    /// The lab with fused links, and the memory for it, in which both nodes and the VPC are run.
    ///
    /// # Errors
    /// Where the memory cannot be made.
    pub fn fused(&self) -> anyhow::Result<(Lab, Memory)> {
        let lab = fused_lab(&self.lab);
        if let Some(memory) = self.fused.get() {
            return Ok((lab, memory.clone()));
        }
        let (home, anchor) = &self.ground.places.anchor;
        let queue = self.fused_queue.into();
        let open = || Memory::open(&lab, &FUSED, (home, anchor), queue, enter);
        let memory = namespace::run_in(home, open)??;
        Ok((lab, self.fused.get_or_init(|| memory).clone()))
    }

    /// The lab whose nodes send requests to services by the trunk (spec SCN-4).
    #[must_use]
    pub fn trunked(&self) -> Lab {
        let mut lab = self.lab.clone();
        lab.switches.from_rule_iif = false;
        lab
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
        let ends = far_ends(self.clients).map(|ends| ends.iter().position(|end| *end == socket));
        let place = (0..).zip(ends).find_map(|(element, port)| Some((element, port?)));
        let arena = place.and_then(|(element, port)| self.ends_plan.arena_of(element, port));
        let arena = *arena.and_then(|at| self.ends.get(at)).context("an end without memory")?;
        let port = namespace::run_in(&device.namespace, || {
            XskPort::open(arena, &device.ifname, queues(&self.lab, socket))
        })?;
        Ok(port?)
    }

    /// Opens the pods' ends of their wires.
    ///
    /// # Errors
    /// Where one cannot be bound.
    pub fn open_pods(&self) -> anyhow::Result<Vec<FarEnd>> {
        let pods = (0..self.clients).map(|number| {
            let pod = self.lab.pods.get(usize::from(number)).context("the lab has no such pod")?;
            Ok(FarEnd::new(self.open_far(cali(number))?, Host { ip: pod.ip, mac: pod.mac }))
        });
        pods.collect()
    }

    /// The queue of the trunk by which answers to a pod come in.
    #[must_use]
    pub fn trunk_queue(&self, pod: u16) -> u16 {
        let pod = self.lab.pods.get(usize::from(pod));
        pod.map_or(0, |pod| self.lab.trunk_queue(0, pod.vid))
    }

    /// Who is asked for at the far end of the wire by which requests leave.
    #[must_use]
    pub fn behind(&self, exit: Socket) -> Host {
        let service = self.lab.services.first().and_then(|service| service.endpoints.first());
        match service.and_then(|endpoint| self.lab.pods.get(endpoint.pod)) {
            Some(pod) if exit == SERVER => Host { ip: pod.ip, mac: pod.mac },
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

    /// Frames that the kernel has thrown away because they found no room in the wire: going out
    /// of the pods, and by where requests leave.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub fn lost(&self, exit: Socket) -> anyhow::Result<[u64; 2]> {
        let pods = (0..self.clients).map(|pod| self.far(cali(pod)));
        let pods = pods.collect::<anyhow::Result<Vec<_>>>()?;
        let exit = self.near(exit)?;
        let namespaces: Vec<_> = pods.iter().chain([&exit]).map(|d| &d.namespace).collect();
        let all = stats::read_all(&namespaces)?;
        let dropped = |device: &Device| {
            let link = all.get(&device.namespace).and_then(|links| links.get(&device.ifname));
            link.map(|link| link.tx_dropped).context("the device is gone")
        };
        let from_pods = pods.iter().map(dropped).sum::<anyhow::Result<u64>>()?;
        Ok([from_pods, dropped(&exit)?])
    }
}

/// Moves the calling thread into a namespace, as [`Memory`] and `LiveLink` want it.
pub fn enter(name: &str) -> Result<(), String> {
    namespace::enter(name).map_err(|error| error.to_string())
}

/// A lab with fused links.
fn fused_lab(lab: &Lab) -> Lab {
    Lab { links: Links::Fused, ..lab.clone() }
}

fn queues(lab: &Lab, socket: Socket) -> u16 {
    let ports = ports_of(lab, socket.element);
    ports.into_iter().find(|(port, _)| *port == socket.port).map_or(1, |(_, queues)| queues)
}

/// The node's wires that the bench has the far ends of; the trunk, which may have many queues, apart.
fn far_ends(clients: u16) -> [Vec<Socket>; 2] {
    [(0..clients).map(cali).chain([PRIMARY, SERVER]).collect(), vec![TRUNK]]
}

/// The memory that these far ends need.
fn far_plan(lab: &Lab, clients: u16, jumbo: bool) -> anyhow::Result<Plan> {
    let need = |ends: Vec<Socket>| {
        let ports = ends.into_iter().map(|socket| PortNeed::from(queues(lab, socket))).collect();
        // What the bench has in hand is below what a memory keeps back for a batch.
        ElementNeed { ports, held: 0, jumbo }
    };
    Ok(plan(&far_ends(clients).map(need))?)
}

fn far_memories(plan: &Plan, anchor: &str, first: u16) -> anyhow::Result<Vec<&'static Arena>> {
    let memory = |(queue, part): (u16, &ArenaPlan)| {
        let config = ArenaConfig {
            anchor: anchor.to_owned(),
            anchor_queue: queue.into(),
            rings: part.rings,
            frames: part.frames,
            held: part.held,
            runs: part.runs,
        };
        Ok(Arena::new(&config)?.leak())
    };
    (first..).zip(&plan.arenas).map(memory).collect()
}
