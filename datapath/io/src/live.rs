//! The whole data link on AF_XDP ports: the live twin of [`datapath::link::MemoryLink`].
//!
//! One thread owns it and calls [`LiveLink::poll`] in a loop. Elements hand frames to ports and
//! ports to elements as descriptors of one arena; the bytes stay where the kernel put them.

use std::fmt;

use datapath::element::{Departure, Element, Output, Place};
use datapath::journey::{Hop, Journal, PortId};
use datapath::lab::Lab;
use datapath::link::{Direction, ElementId, OtherMachines, Replaced, Snapshot, Socket, ports_of};
use datapath::node::Node;
use datapath::port::{Buffer, Port};
use datapath::time::Time;
use datapath::vpc::Vpc;

use crate::arena::ROOM;
use crate::budget::{ElementNeed, Plan, TooLarge, plan};
use crate::{Arena, ArenaConfig, ArenaError, PortError, UmemFrame, Waiter, XskPort};

/// Frames taken from a queue in one turn.
const BATCH: usize = 64;
/// Buffers an element finds ready for frames of its own.
const BLANKS: usize = 16;

/// Bytes of a frame that an MTU does not count: an Ethernet header with a tag.
const HEADERS: usize = 18;

/// Copies of an injected frame sent in one turn.
const INJECTED: u64 = 32;

/// A frame of a live link.
pub type Frame = UmemFrame<'static>;

/// Where a port of the lab is on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The port.
    pub socket: Socket,
    /// The network namespace of its device.
    pub namespace: String,
    /// The device's name there.
    pub ifname: String,
}

/// Why a live link could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The lab has more queues than one machine's memory should serve.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A packet memory could not be made.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// A port could not be opened.
    #[error("port {ifname} in {namespace}: {source}")]
    Port {
        /// The namespace.
        namespace: String,
        /// The device.
        ifname: String,
        /// The reason.
        source: PortError,
    },
    /// A namespace could not be entered.
    #[error("enter namespace {namespace}: {reason}")]
    Namespace {
        /// The namespace.
        namespace: String,
        /// The reason.
        reason: String,
    },
    /// No site was given for a port of the lab.
    #[error("no device was named for a port of the lab: {0:?}")]
    NoSite(Socket),
}

/// The memory that `elements` of a lab need, known before anything is made.
///
/// # Errors
/// Where they are too large for this machine.
pub fn memory_plan(lab: &Lab, elements: &[ElementId]) -> Result<Plan, TooLarge> {
    let need = |element: &ElementId| {
        let ports = ports_of(lab, *element).iter().map(|(_, queues)| *queues).collect();
        ElementNeed { ports, held: held_frames(lab, *element), jumbo: is_jumbo(lab) }
    };
    plan(&elements.iter().map(need).collect::<Vec<_>>())
}

/// Whether packets may be longer than a frame has room for.
fn is_jumbo(lab: &Lab) -> bool {
    let nodes = lab.nodes.iter().flat_map(|node| [node.primary_mtu, node.trunk_mtu]);
    let largest = nodes.chain(lab.pods.iter().map(|pod| pod.mtu)).max();
    largest.is_some_and(|mtu| usize::from(mtu) + HEADERS > ROOM)
}

/// Frames an element may keep: its blanks, fragments, and what waits in a node's queues.
fn held_frames(lab: &Lab, element: ElementId) -> u32 {
    let always = lab.limits.fragments.saturating_add(BLANKS as u32);
    match element {
        ElementId::Node(node) => {
            let queues = u32::from(lab.trunk_queue_count(node));
            let members = queues.saturating_mul(lab.limits.member_queue);
            members.saturating_add(lab.limits.neighbours_held()).saturating_add(always)
        }
        ElementId::Vpc => always,
    }
}

/// The packet memories of the elements that one thread runs. They stay until the process ends; a
/// link may be opened on them, closed, and opened again.
#[derive(Clone, Debug)]
pub struct Memory {
    elements: Vec<ElementId>,
    plan: Plan,
    arenas: Vec<&'static Arena>,
}

impl Memory {
    /// Makes the memories of the [`memory_plan`]. `anchor` is the namespace and name of a private
    /// device with a queue for each of them, which keeps them alive while ports come and go;
    /// `enter` moves the calling thread into a namespace and leaves it there.
    ///
    /// # Errors
    /// The first thing that failed.
    pub fn open(
        lab: &Lab,
        elements: &[ElementId],
        anchor: (&str, &str),
        enter: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Self, OpenError> {
        let plan = memory_plan(lab, elements)?;
        go(&enter, anchor.0)?;
        let mut arenas = Vec::new();
        for (queue, part) in (0..).zip(&plan.arenas) {
            let config = ArenaConfig {
                anchor: anchor.1.to_owned(),
                anchor_queue: queue,
                rings: part.rings,
                frames: part.frames,
                held: part.held,
                runs: part.runs,
            };
            arenas.push(Arena::new(&config)?.leak());
        }
        Ok(Self { elements: elements.to_vec(), plan, arenas })
    }

    /// The memory of a port of these elements.
    #[must_use]
    pub fn arena(&self, socket: Socket) -> Option<&'static Arena> {
        let element = self.elements.iter().position(|element| *element == socket.element)?;
        let arena = self.plan.arena_of(element, usize::from(socket.port.0))?;
        self.arenas.get(arena).copied()
    }
}

struct Station {
    id: ElementId,
    ports: Vec<XskPort<'static>>,
    out: Output<Frame>,
}

/// Frames to be sent from a port as if its element had made them: a test's flood.
#[derive(Debug)]
struct Injection {
    socket: Socket,
    queue: u16,
    bytes: Vec<u8>,
    left: u64,
}

/// A frame that crossed a port while the tap was open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tapped {
    /// The port.
    pub socket: Socket,
    /// Its queue.
    pub queue: u16,
    /// Into the element or out of it.
    pub direction: Direction,
    /// The frame as it was on the wire.
    pub frame: Vec<u8>,
}

/// Nodes, VPC and their AF_XDP ports.
pub struct LiveLink {
    lab: Lab,
    nodes: Vec<Node<Frame>>,
    vpc: Vpc<Frame>,
    stations: Vec<Station>,
    arenas: Vec<&'static Arena>,
    injections: Vec<Injection>,
    batch: Vec<Frame>,
    /// What has crossed a port since it was last taken; `None` where the tap is closed.
    tapped: Option<Vec<Tapped>>,
}

impl fmt::Debug for LiveLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveLink").field("stations", &self.stations.len()).finish_non_exhaustive()
    }
}

impl LiveLink {
    /// Opens every port of the elements that `memory` was made for, each at its site. `enter`
    /// moves the calling thread into a namespace; it is left in the last one.
    ///
    /// # Errors
    /// The first thing that failed; what was opened is closed again.
    pub fn open(
        lab: Lab,
        memory: &Memory,
        sites: &[Site],
        enter: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Self, OpenError> {
        let mut stations = Vec::new();
        for id in memory.elements.iter().copied() {
            let mut ports = Vec::new();
            for (port, queues) in ports_of(&lab, id) {
                let socket = Socket { element: id, port };
                let site = sites.iter().find(|site| site.socket == socket);
                let site = site.ok_or(OpenError::NoSite(socket))?;
                let arena = memory.arena(socket).ok_or(OpenError::NoSite(socket))?;
                go(&enter, &site.namespace)?;
                ports.push(XskPort::open(arena, &site.ifname, queues).map_err(|source| {
                    let (namespace, ifname) = (site.namespace.clone(), site.ifname.clone());
                    OpenError::Port { namespace, ifname, source }
                })?);
            }
            stations.push(Station { id, ports, out: Output::default() });
        }
        let (nodes, vpc) = (nodes_of(&lab), Vpc::new(&lab));
        let arenas = memory.arenas.clone();
        let batch = Vec::with_capacity(BATCH);
        let injections = Vec::new();
        Ok(Self { lab, nodes, vpc, stations, arenas, injections, batch, tapped: None })
    }

    /// Begins anew on the same ports with a lab that has ports of the same numbers of queues:
    /// tables are empty, counters of elements zero, journals and tap closed. Frames that wait in
    /// the kernel stay there. Where the ports differ it returns false and changes nothing.
    pub fn renew(&mut self, lab: Lab) -> bool {
        let fits = |station: &Station| {
            let ports = station.ports.iter().map(Port::queues);
            ports.eq(ports_of(&lab, station.id).into_iter().map(|(_, queues)| queues))
        };
        if lab.nodes.len() != self.nodes.len() || !self.stations.iter().all(fits) {
            return false;
        }
        (self.nodes, self.vpc) = (nodes_of(&lab), Vpc::new(&lab));
        for station in &mut self.stations {
            station.out.journal = Journal::default();
        }
        self.injections.clear();
        self.tapped = None;
        self.lab = lab;
        true
    }

    /// Puts another version of the lab in place: profile, switches and services change, flows
    /// live on (spec LAB-29).
    ///
    /// # Errors
    /// [`OtherMachines`]; nothing has changed.
    pub fn apply(&mut self, snapshot: Snapshot, now: Time) -> Result<(), OtherMachines> {
        snapshot.install(&mut self.lab, &mut self.nodes, now)
    }

    /// The same for the next node only, as [`Snapshot::install_next`] has it: between two polls it
    /// takes a fraction of the time.
    ///
    /// # Errors
    /// As there.
    pub fn apply_next(
        &mut self,
        snapshot: &mut Snapshot,
        now: Time,
    ) -> Result<Option<Replaced>, OtherMachines> {
        snapshot.install_next(&mut self.lab, &mut self.nodes, now)
    }

    /// One turn: takes what has arrived on every queue of every port, processes it, sends what
    /// comes of it, and runs the timers that are due. Returns whether there was anything to do.
    pub fn poll(&mut self, now: Time) -> bool {
        let mut worked = self.inject();
        for index in 0..self.stations.len() {
            worked |= self.serve(index, now);
        }
        worked
    }

    fn serve(&mut self, index: usize, now: Time) -> bool {
        let Some(mut turn) = self.turn(index, now) else { return false };
        let mut worked = false;
        for port in 0..turn.ports.len() {
            for queue in 0..turn.ports[port].queues() {
                // A node has fewer ports than a u16 counts.
                worked |= turn.take(Place { port: PortId(port as u16), queue }, BATCH);
            }
        }
        worked |= turn.run_timers();
        turn.ports.iter_mut().for_each(Port::flush);
        worked
    }

    /// A turn of one frame: takes the next that has arrived on a queue of a port, processes it and
    /// sends what comes of it and what earlier turns have left. Returns whether one had arrived.
    pub fn poll_one(&mut self, socket: Socket, queue: u16, now: Time) -> bool {
        let index = self.stations.iter().position(|station| station.id == socket.element);
        let turn = index.and_then(|index| self.turn(index, now));
        let took = turn.is_some_and(|mut turn| turn.take(Place { port: socket.port, queue }, 1));
        self.flush();
        took
    }

    /// Sends what ports have left, which the kernel did not take yet.
    pub fn flush(&mut self) {
        self.stations.iter_mut().flat_map(|station| &mut station.ports).for_each(Port::flush);
    }

    /// What an element's turn needs.
    fn turn(&mut self, index: usize, now: Time) -> Option<Turn<'_>> {
        let Station { id, ports, out } = self.stations.get_mut(index)?;
        let element: &mut dyn Element<Frame> = match *id {
            ElementId::Node(node) => self.nodes.get_mut(node)?,
            ElementId::Vpc => &mut self.vpc,
        };
        let tap = Tap { element: *id, tapped: self.tapped.as_mut() };
        Some(Turn { element, ports, out, tap, batch: &mut self.batch, now })
    }

    /// Sends what tests have asked for, as far as there is room now.
    fn inject(&mut self) -> bool {
        let mut worked = false;
        for injection in &mut self.injections {
            let station = self.stations.iter_mut().find(|s| s.id == injection.socket.element);
            let port = station.and_then(|s| s.ports.get_mut(usize::from(injection.socket.port.0)));
            let Some(port) = port else {
                injection.left = 0;
                continue;
            };
            // What went before must be on its way, so that none is refused for want of room.
            let turn = if port.is_sending() { 0 } else { injection.left.min(INJECTED) };
            for _ in 0..turn {
                let Some(mut frame) = port.arena().take() else { break };
                if !frame.set_len(injection.bytes.len()) {
                    injection.left = 0;
                    break;
                }
                frame.bytes_mut().copy_from_slice(&injection.bytes);
                if port.send(injection.queue, frame).is_err() {
                    break;
                }
                injection.left -= 1;
                worked = true;
            }
            port.flush();
        }
        self.injections.retain(|injection| injection.left > 0);
        worked
    }

    /// Has `count` copies of a frame sent from a port, as if the element behind it had made them.
    pub fn start_injection(&mut self, socket: Socket, queue: u16, bytes: Vec<u8>, count: u64) {
        self.injections.push(Injection { socket, queue, bytes, left: count });
    }

    /// Frames that tests have asked for and that are not sent yet.
    #[must_use]
    pub fn injections_left(&self) -> u64 {
        self.injections.iter().fold(0, |sum, injection| sum.saturating_add(injection.left))
    }

    /// The next moment at which an element has something to do.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        let nodes = self.nodes.iter().filter_map(Element::poll_at);
        nodes.chain(self.vpc.poll_at()).min()
    }

    /// Whether a port has frames on their way out, or an injection is under way: the loop must
    /// not sleep longer than a millisecond.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        !self.injections.is_empty()
            || self.stations.iter().flat_map(|s| &s.ports).any(XskPort::is_sending)
    }

    /// Has the kernel receive for every port when it is asked, and not when frames arrive: see
    /// [`XskPort::prefer_busy_poll`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn prefer_busy_poll(&mut self) -> std::io::Result<()> {
        let mut ports = self.stations.iter_mut().flat_map(|s| &mut s.ports);
        ports.try_for_each(XskPort::prefer_busy_poll)
    }

    /// Has a waiter wake up for every port.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn register(&self, waiter: &Waiter) -> std::io::Result<()> {
        let ports = self.stations.iter().flat_map(|s| &s.ports);
        ports.zip(0..).try_for_each(|(port, token)| waiter.add_port(token, port))
    }

    /// The lab.
    #[must_use]
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The nodes, in lab order.
    #[must_use]
    pub fn nodes(&self) -> &[Node<Frame>] {
        &self.nodes
    }

    /// A node, to switch what can be switched.
    pub fn node_mut(&mut self, index: usize) -> Option<&mut Node<Frame>> {
        self.nodes.get_mut(index)
    }

    /// A port, to take its program off or put it on again.
    pub fn port_mut(&mut self, socket: Socket) -> Option<&mut XskPort<'static>> {
        let station = self.stations.iter_mut().find(|station| station.id == socket.element)?;
        station.ports.get_mut(usize::from(socket.port.0))
    }

    /// The VPC.
    #[must_use]
    pub const fn vpc(&self) -> &Vpc<Frame> {
        &self.vpc
    }

    /// Every element that is run here, with its ports.
    pub fn elements(
        &self,
    ) -> impl Iterator<Item = (ElementId, &dyn Element<Frame>, &[XskPort<'static>])> {
        self.stations.iter().map(|station| {
            let element: &dyn Element<Frame> = match station.id {
                ElementId::Node(node) => &self.nodes[node],
                ElementId::Vpc => &self.vpc,
            };
            (station.id, element, station.ports.as_slice())
        })
    }

    /// Opens every element's journal for up to `limit` hops each.
    pub fn open_journals(&mut self, limit: usize) {
        self.stations.iter_mut().for_each(|station| station.out.journal.open(limit));
    }

    /// Closes every journal and takes out the hops of each element.
    pub fn close_journals(&mut self) -> Vec<(ElementId, Vec<Hop>)> {
        self.stations.iter_mut().map(|s| (s.id, s.out.journal.close())).collect()
    }

    /// Begins to keep every frame that crosses a port.
    pub fn open_tap(&mut self) {
        self.tapped = Some(Vec::new());
    }

    /// Takes out what has crossed a port since the last call, in order. Empty where the tap is
    /// closed.
    pub fn take_tapped(&mut self) -> Vec<Tapped> {
        self.tapped.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What is wrong with the books: an element whose frames do not add up, or an arena that has
    /// lost frames or met one twice. Empty when all is well (spec LAW-2).
    #[must_use]
    pub fn imbalances(&self) -> Vec<String> {
        let elements = self.elements().filter_map(|(id, element, _)| {
            let balanced = element.ledger().balances(element.held());
            (!balanced).then(|| {
                let name = id.name(&self.lab);
                format!("{name}: {:?}, {} held", element.ledger(), element.held())
            })
        });
        let arenas = self.arenas.iter().filter_map(|arena| {
            let (census, faults) = (arena.census(), arena.faults());
            let whole = census.total() == arena.frames();
            let clean = faults.double_free == 0 && faults.foreign == 0;
            (!(whole && clean)).then(|| format!("arena: {census:?}, {faults:?}"))
        });
        elements.chain(arenas).collect()
    }
}

/// An element at work.
struct Turn<'a> {
    element: &'a mut dyn Element<Frame>,
    ports: &'a mut [XskPort<'static>],
    out: &'a mut Output<Frame>,
    tap: Tap<'a>,
    batch: &'a mut Vec<Frame>,
    now: Time,
}

impl Turn<'_> {
    /// Takes up to `max` frames that have arrived at a place. Says whether there was one.
    fn take(&mut self, place: Place, max: usize) -> bool {
        let Some(port) = self.ports.get_mut(usize::from(place.port.0)) else { return false };
        port.receive(place.queue, max, self.batch);
        if self.batch.is_empty() {
            return false;
        }
        fill_blanks(self.out, port.arena());
        self.tap.keep(Direction::In, self.batch.iter().map(|frame| (place, frame)));
        self.element.process(self.batch, place, self.now, self.out);
        self.send();
        true
    }

    /// Does what is due. Says whether something was.
    fn run_timers(&mut self) -> bool {
        if self.element.poll_at().is_none_or(|at| at > self.now) {
            return false;
        }
        if let Some(port) = self.ports.first() {
            fill_blanks(self.out, port.arena());
        }
        self.element.on_time(self.now, self.out);
        self.send();
        true
    }

    /// Hands departures to their ports. What a port refuses it has counted; the frame goes back to
    /// its arena.
    fn send(&mut self) {
        let leaving = self.out.departures.iter();
        self.tap.keep(Direction::Out, leaving.map(|left| (left.place, &left.frame)));
        for Departure { place, frame } in self.out.departures.drain(..) {
            if let Some(port) = self.ports.get_mut(usize::from(place.port.0)) {
                drop(port.send(place.queue, frame));
            }
        }
    }
}

/// The tap at the ports of one element.
struct Tap<'a> {
    element: ElementId,
    tapped: Option<&'a mut Vec<Tapped>>,
}

impl Tap<'_> {
    fn keep<'f>(&mut self, direction: Direction, frames: impl Iterator<Item = (Place, &'f Frame)>) {
        let Some(tapped) = &mut self.tapped else { return };
        tapped.extend(frames.map(|(Place { port, queue }, frame)| {
            let socket = Socket { element: self.element, port };
            Tapped { socket, queue, direction, frame: frame.bytes().to_vec() }
        }));
    }
}

fn nodes_of(lab: &Lab) -> Vec<Node<Frame>> {
    let populated = |mut node: Node<_>| {
        node.populate();
        node
    };
    (0..lab.nodes.len()).filter_map(|node| Node::new(lab, node).map(populated)).collect()
}

fn go(enter: impl Fn(&str) -> Result<(), String>, namespace: &str) -> Result<(), OpenError> {
    enter(namespace)
        .map_err(|reason| OpenError::Namespace { namespace: namespace.to_owned(), reason })
}

fn fill_blanks(out: &mut Output<Frame>, arena: &'static Arena) {
    while out.blanks.len() < BLANKS {
        let Some(frame) = arena.take() else { return };
        out.blanks.push(frame);
    }
}
