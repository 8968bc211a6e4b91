//! The whole data link on AF_XDP ports: the live twin of [`datapath::link::MemoryLink`].
//!
//! One thread owns it and calls [`LiveLink::poll`] in a loop, or several own a part each. Elements
//! hand frames to ports and ports to elements as descriptors of one arena; the bytes stay where the
//! kernel put them. Where links are fused, elements hand them to each other the same way.

mod memory;
mod open;
mod part;
mod ring;
mod rota;

pub use memory::{Memory, memory_plan};
pub use part::FusedQueue;
pub use ring::Rings;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datapath::element::{Element, Place};
use datapath::journey::{Hop, Journal, PortId};
use datapath::lab::Lab;
use datapath::link::{
    Direction, ElementId, OtherMachines, Programmed, Replaced, Snapshot, Socket, fused_peer,
    ports_of,
};
use datapath::node::Node;
use datapath::port::Port;
use datapath::time::Time;
use datapath::vpc::Vpc;

use crate::budget::TooLarge;
use crate::{ArenaError, PortError, UmemFrame, Waiter, XskPort};
use part::{Body, Edge, Injection, Part, Station};

/// Frames taken from a queue in one turn.
const BATCH: usize = 64;
/// Buffers an element finds ready for frames of its own.
const BLANKS: usize = 16;

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

/// A port as its element's owner sees it.
#[derive(Debug)]
pub enum PortView<'a> {
    /// A device.
    Device(&'a XskPort<'static>),
    /// A fused link's end, with what each of its queues has counted.
    Fused(Vec<FusedQueue>),
}

/// Nodes, VPC and their ports: all of a lab's, or a share of them that one thread runs.
pub struct LiveLink {
    lab: Arc<Lab>,
    /// What each thread runs; one part where it is not split.
    parts: Vec<Part>,
}

impl fmt::Debug for LiveLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stations: usize = self.parts.iter().map(|part| part.stations.len()).sum();
        f.debug_struct("LiveLink").field("stations", &stations).finish_non_exhaustive()
    }
}

/// Running it.
impl LiveLink {
    /// One turn: takes what has arrived, processes it, sends what comes of it, and runs the timers
    /// that are due. Queues that have long been empty are looked at by turns, a few in each.
    /// Returns whether there was anything to do.
    pub fn poll(&mut self, now: Time) -> bool {
        self.parts.iter_mut().fold(false, |worked, part| part.poll(now) | worked)
    }

    /// A turn of one frame: takes the next that has arrived on a queue of a port, processes it and
    /// sends what comes of it and what earlier turns have left. Returns whether one had arrived.
    pub fn poll_one(&mut self, socket: Socket, queue: u16, now: Time) -> bool {
        let place = Place { port: socket.port, queue };
        let took = self
            .at_mut(socket.element)
            .is_some_and(|(part, number)| part.take(number, place, 1, now));
        self.flush();
        took
    }

    /// Runs the timers that are due, and takes nothing that has arrived.
    pub fn run_timers(&mut self, now: Time) {
        for part in &mut self.parts {
            part.run_due(now);
        }
        self.flush();
    }

    /// Sends what ports have left, which the kernel did not take yet.
    pub fn flush(&mut self) {
        self.parts.iter_mut().for_each(Part::flush);
    }

    /// Has `count` copies of a frame sent from a port, as if the element behind it had made them.
    pub fn start_injection(&mut self, socket: Socket, queue: u16, bytes: Vec<u8>, count: u64) {
        if let Some((part, _)) = self.at_mut(socket.element) {
            part.injections.push(Injection { socket, queue, bytes, left: count });
        }
    }

    /// Frames that tests have asked for and that are not sent yet.
    #[must_use]
    pub fn injections_left(&self) -> u64 {
        let injections = self.parts.iter().flat_map(|part| &part.injections);
        injections.fold(0, |sum, injection| sum.saturating_add(injection.left))
    }

    /// The next moment at which an element has something to do.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        self.stations().filter_map(|station| station.body.element().poll_at()).min()
    }

    /// Sleeps until a frame arrives, the waiter is woken, or something is due; at most until
    /// `until`. With frames on their way out it sleeps a millisecond at most: the kernel reports
    /// nothing when it could go on.
    ///
    /// # Errors
    /// What the kernel says; it has no reason to refuse.
    pub fn sleep(&mut self, waiter: &mut Waiter, now: Time, until: Time) -> std::io::Result<()> {
        let awake = |part: &Part| part.bell.as_ref().is_some_and(|bell| !bell.doze());
        let stays_up = self.parts.iter().fold(false, |up, part| awake(part) | up);
        let sending = self.parts.iter().any(Part::is_sending);
        let slept = if stays_up {
            Ok(false)
        } else {
            let most = match sending {
                true => Duration::from_millis(1),
                false => self.poll_at().map_or(until, |at| at.min(until)).since(now),
            };
            waiter.wait(Some(most), &mut Vec::new())
        };
        for part in &mut self.parts {
            if let Some(bell) = &part.bell {
                bell.rise();
            }
            // Whatever has woken it is found at once.
            part.rota.look_at_all();
        }
        slept.map(drop)
    }

    /// Has the kernel receive for every port when it is asked, and not when frames arrive: see
    /// [`XskPort::prefer_busy_poll`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn prefer_busy_poll(&mut self) -> std::io::Result<()> {
        let stations = self.parts.iter_mut().flat_map(|part| &mut part.stations);
        let edges = stations.flat_map(|station| &mut station.ports).map(|port| &mut port.edge);
        let mut devices = edges.filter_map(|edge| match edge {
            Edge::Device(device) => Some(device),
            Edge::Ring(_) | Edge::Fused => None,
        });
        devices.try_for_each(XskPort::prefer_busy_poll)
    }

    /// Has a waiter wake up for every port.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn register(&self, waiter: &Waiter) -> std::io::Result<()> {
        let edges = self.stations().flat_map(|station| &station.ports).map(|port| &port.edge);
        let devices = edges.filter_map(|edge| match edge {
            Edge::Device(device) => Some(device),
            Edge::Ring(_) | Edge::Fused => None,
        });
        devices.zip(0..).try_for_each(|(device, token)| waiter.add_port(token, device))
    }

    /// One link of the parts that threads have run; they go on when it is [split](Self::split).
    #[must_use]
    pub fn join(links: Vec<Self>) -> Option<Self> {
        links.into_iter().reduce(|mut whole, mut link| {
            whole.parts.append(&mut link.parts);
            whole
        })
    }

    /// The parts again, each for its thread, in the order in which they were joined.
    #[must_use]
    pub fn split(self) -> Vec<Self> {
        let lab = self.lab;
        self.parts
            .into_iter()
            .map(|part| Self { lab: Arc::clone(&lab), parts: vec![part] })
            .collect()
    }
}

/// Other labs.
impl LiveLink {
    /// Begins anew on the same ports with a lab that has ports of the same numbers of queues:
    /// tables are empty, counters of elements zero, journals and tap closed. Frames that wait in
    /// the kernel stay there. Where the ports differ it returns false and changes nothing.
    pub fn renew(&mut self, lab: Lab) -> bool {
        let fits = |station: &Station| {
            let wanted = ports_of(&lab, station.id);
            wanted.len() == station.ports.len()
                && wanted.into_iter().zip(&station.ports).all(|((port, queues), state)| {
                    let socket = Socket { element: station.id, port };
                    let fused = fused_peer(&lab, socket).is_some();
                    match &state.edge {
                        Edge::Device(device) => !fused && device.queues() == queues,
                        Edge::Ring(_) | Edge::Fused => {
                            fused && state.crossings.len() == usize::from(queues)
                        }
                    }
                })
        };
        let known = |station: &Station| !matches!(station.id, ElementId::Node(node) if node >= lab.nodes.len());
        if !self.stations().all(|station| known(station) && fits(station)) {
            return false;
        }
        for part in &mut self.parts {
            part.handover.clear();
            part.injections.clear();
            part.tapped = None;
            for station in &mut part.stations {
                station.body = body_of(&lab, station.id);
                station.out.journal = Journal::default();
            }
            part.forget_due();
        }
        self.lab = Arc::new(lab);
        true
    }

    /// Puts another version of the lab in place: profile, switches and services change, flows
    /// live on (spec LAB-29).
    ///
    /// # Errors
    /// [`OtherMachines`]; nothing has changed.
    pub fn apply(&mut self, mut snapshot: Snapshot, now: Time) -> Result<(), OtherMachines> {
        while self.apply_next(&mut snapshot, now)?.is_some() {}
        Ok(())
    }

    /// The same for the next node only, and with the last for the VPC, as [`Snapshot::install_next`]
    /// has it: between two polls it takes a fraction of the time. All elements have to be run here.
    ///
    /// # Errors
    /// As there.
    pub fn apply_next(
        &mut self,
        snapshot: &mut Snapshot,
        now: Time,
    ) -> Result<Option<Replaced>, OtherMachines> {
        let Self { lab, parts } = self;
        let stations = parts.iter_mut().flat_map(|part| &mut part.stations);
        let elements = |number| {
            let mut elements = Programmed { node: None, vpc: None };
            let asked = [ElementId::Node(number), ElementId::Vpc];
            for station in stations.filter(|station| asked.contains(&station.id)) {
                match station.body_mut() {
                    Body::Node(node) => elements.node = Some(node),
                    Body::Vpc(vpc) => elements.vpc = Some(vpc),
                }
            }
            elements
        };
        snapshot.install_next(Arc::make_mut(lab), elements, now)
    }
}

/// Looking at it.
impl LiveLink {
    /// The lab.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    fn stations(&self) -> impl Iterator<Item = &Station> {
        self.parts.iter().flat_map(|part| &part.stations)
    }

    /// Where an element is run.
    fn at_mut(&mut self, element: ElementId) -> Option<(&mut Part, usize)> {
        self.parts.iter_mut().find_map(|part| part.number_of(element).map(|number| (part, number)))
    }

    /// The nodes that are run here, in lab order, each with its place in the lab.
    #[must_use]
    pub fn nodes(&self) -> Vec<(usize, &Node<Frame>)> {
        let nodes = self.stations().filter_map(|station| match (station.id, &station.body) {
            (ElementId::Node(number), Body::Node(node)) => Some((number, &**node)),
            _ => None,
        });
        let mut nodes: Vec<_> = nodes.collect();
        nodes.sort_by_key(|(number, _)| *number);
        nodes
    }

    /// A node that is run here, to switch what can be switched.
    pub fn node_mut(&mut self, index: usize) -> Option<&mut Node<Frame>> {
        let (part, number) = self.at_mut(ElementId::Node(index))?;
        match part.stations.get_mut(number)?.body_mut() {
            Body::Node(node) => Some(node),
            Body::Vpc(_) => None,
        }
    }

    /// A device, to take its program off or put it on again; `None` for a port that has none.
    pub fn device_mut(&mut self, socket: Socket) -> Option<&mut XskPort<'static>> {
        let (part, number) = self.at_mut(socket.element)?;
        let ports = &mut part.stations.get_mut(number)?.ports;
        match &mut ports.get_mut(usize::from(socket.port.0))?.edge {
            Edge::Device(device) => Some(device),
            Edge::Ring(_) | Edge::Fused => None,
        }
    }

    /// The VPC, where it is run here.
    #[must_use]
    pub fn vpc(&self) -> Option<&Vpc<Frame>> {
        self.stations().find_map(|station| match &station.body {
            Body::Vpc(vpc) => Some(&**vpc),
            Body::Node(_) => None,
        })
    }

    /// Every element that is run here, in lab order.
    #[must_use]
    pub fn elements(&self) -> Vec<(ElementId, &dyn Element<Frame>)> {
        let mut elements: Vec<_> =
            self.stations().map(|station| (station.id, station.body.element())).collect();
        elements.sort_by_key(|(id, _)| *id);
        elements
    }

    /// The ports of an element that is run here, in order.
    #[must_use]
    pub fn ports(&self, element: ElementId) -> Vec<(Socket, PortView<'_>)> {
        let at = |part: &'_ Part| part.number_of(element);
        let Some((part, number)) = self.parts.iter().find_map(|part| Some((part, at(part)?)))
        else {
            return Vec::new();
        };
        let count = part.stations.get(number).map_or(0, |station| station.ports.len());
        let socket = |port: usize| Socket { element, port: PortId(port as u16) };
        (0..count).filter_map(|port| Some((socket(port), part.view(number, port)?))).collect()
    }

    /// Opens every element's journal for up to `limit` hops each.
    pub fn open_journals(&mut self, limit: usize) {
        let stations = self.parts.iter_mut().flat_map(|part| &mut part.stations);
        stations.for_each(|station| station.out.journal.open(limit));
    }

    /// Closes every journal and takes out the hops of each element, in lab order.
    pub fn close_journals(&mut self) -> Vec<(ElementId, Vec<Hop>)> {
        let stations = self.parts.iter_mut().flat_map(|part| &mut part.stations);
        let mut hops: Vec<_> = stations.map(|s| (s.id, s.out.journal.close())).collect();
        hops.sort_by_key(|(id, _)| *id);
        hops
    }

    /// Begins to keep every frame that crosses a port.
    pub fn open_tap(&mut self) {
        self.parts.iter_mut().for_each(|part| part.tapped = Some(Vec::new()));
    }

    /// Takes out what has crossed a port since the last call, in order; of several parts, that of
    /// one after the other. Empty where the tap is closed.
    pub fn take_tapped(&mut self) -> Vec<Tapped> {
        let taps = self.parts.iter_mut().filter_map(|part| part.tapped.as_mut());
        taps.flat_map(std::mem::take).collect()
    }

    /// What is wrong with the books: an element whose frames do not add up, a fused link on which
    /// they do not, or an arena that has lost frames or met one twice. Empty when all is well
    /// (spec LAW-2).
    #[must_use]
    pub fn imbalances(&self) -> Vec<String> {
        let elements = self.elements().into_iter().filter_map(|(id, element)| {
            let balanced = element.ledger().balances(element.held());
            (!balanced).then(|| {
                let name = id.name(&self.lab);
                format!("{name}: {:?}, {} held", element.ledger(), element.held())
            })
        });
        let arenas = self.parts.iter().flat_map(|part| &part.arenas).filter_map(|arena| {
            let (census, faults) = (arena.census(), arena.faults());
            let whole = census.total() == arena.frames();
            let clean = faults.double_free == 0 && faults.foreign == 0;
            (!(whole && clean)).then(|| format!("arena: {census:?}, {faults:?}"))
        });
        let fused = self.parts.iter().filter(|part| !part.handover.balances());
        let fused = fused.map(|_| "a fused link: not what was sent was received".to_owned());
        elements.chain(arenas).chain(fused).chain(self.unbalanced_rings()).collect()
    }

    /// The rings between threads whose two ends, both here, do not agree.
    fn unbalanced_rings(&self) -> Vec<String> {
        let mut ends = Vec::new();
        for station in self.stations() {
            for (port, state) in (0..).zip(&station.ports) {
                if let Edge::Ring(ring) = &state.edge {
                    let socket = Socket { element: station.id, port: PortId(port) };
                    ends.push((socket, ring.counters().collect::<Vec<_>>()));
                }
            }
        }
        let mut found = Vec::new();
        for (socket, near) in &ends {
            let peer = fused_peer(&self.lab, *socket);
            let Some((_, far)) = ends.iter().find(|(other, _)| Some(*other) == peer) else {
                continue;
            };
            for (sent, (received, waiting)) in near.iter().zip(far) {
                let (sent, received) = (sent.0.tx, received.rx);
                if sent != received + waiting {
                    let name = socket.element.name(&self.lab);
                    found.push(format!(
                        "{name}, fused port {}: {sent} sent, {received} received, {waiting} wait",
                        socket.port.0
                    ));
                }
            }
        }
        found
    }
}

/// An element as it is at the beginning.
fn body_of(lab: &Lab, element: ElementId) -> Body {
    let node = match element {
        ElementId::Node(node) => Node::new(lab, node),
        ElementId::Vpc => None,
    };
    match node {
        Some(mut node) => {
            node.populate();
            Body::Node(Box::new(node))
        }
        None => {
            let mut vpc = Vpc::new(lab);
            vpc.populate();
            Body::Vpc(Box::new(vpc))
        }
    }
}

fn go(enter: impl Fn(&str) -> Result<(), String>, namespace: &str) -> Result<(), OpenError> {
    enter(namespace)
        .map_err(|reason| OpenError::Namespace { namespace: namespace.to_owned(), reason })
}
