//! What one thread runs: elements, their ports, and the links between them.

use std::sync::Arc;

use datapath::element::{Departure, Element, Output, Place};
use datapath::journey::PortId;
use datapath::lab::Lab;
use datapath::link::{Direction, ElementId, FusedCounters, Handover, Socket};
use datapath::node::Node;
use datapath::port::{Buffer, Port};
use datapath::time::Time;
use datapath::vpc::Vpc;

use super::ring::{Bell, RingPort};
use super::rota::{Rota, Visit};
use super::{BATCH, BLANKS, Frame, PortView, Tapped};
use crate::port::copied;
use crate::{Arena, XskPort};

/// Batches handed over between elements in a row; more of them wait for the next turn.
const HANDOVERS: usize = 1_024;

/// An element.
pub(super) enum Body {
    Node(Box<Node<Frame>>),
    Vpc(Box<Vpc<Frame>>),
}

impl Body {
    pub(super) fn element(&self) -> &dyn Element<Frame> {
        match self {
            Self::Node(node) => &**node,
            Self::Vpc(vpc) => &**vpc,
        }
    }

    fn element_mut(&mut self) -> &mut dyn Element<Frame> {
        match self {
            Self::Node(node) => &mut **node,
            Self::Vpc(vpc) => &mut **vpc,
        }
    }
}

/// What of a port is a thread's own.
pub(super) enum Edge {
    /// A device.
    Device(XskPort<'static>),
    /// A fused link to an element of another thread.
    Ring(RingPort),
    /// A fused link to an element of this thread.
    Fused,
}

/// What crossing from one memory to another has cost a fused port's queue, in frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Crossings {
    copied: u64,
    /// Lost because no frame was free to copy to.
    lost: u64,
}

pub(super) struct PortState {
    pub(super) edge: Edge,
    /// The memory of the frames that its element keeps.
    pub(super) arena: &'static Arena,
    /// For each queue of a fused port.
    pub(super) crossings: Vec<Crossings>,
    /// Whether it is in the list of those that send.
    sends: bool,
}

impl PortState {
    pub(super) fn new(edge: Edge, arena: &'static Arena, queues: u16) -> Self {
        let crossings = match edge {
            Edge::Device(_) => 0,
            Edge::Ring(_) | Edge::Fused => usize::from(queues),
        };
        Self { edge, arena, crossings: vec![Crossings::default(); crossings], sends: false }
    }
}

pub(super) struct Station {
    pub(super) id: ElementId,
    pub(super) body: Body,
    pub(super) ports: Vec<PortState>,
    pub(super) out: Output<Frame>,
    /// When its timers are next due, as it said when it was last called.
    due: Option<Time>,
}

impl Station {
    pub(super) fn new(id: ElementId, body: Body, ports: Vec<PortState>) -> Self {
        Self { id, body, ports, out: Output::default(), due: Some(Time::ZERO) }
    }

    /// The element, to change what it is programmed with.
    pub(super) fn body_mut(&mut self) -> &mut Body {
        // Its timers may be due at another time then.
        self.due = Some(Time::ZERO);
        &mut self.body
    }
}

/// Frames to be sent from a port as if its element had made them: a test's flood.
#[derive(Debug)]
pub(super) struct Injection {
    pub(super) socket: Socket,
    pub(super) queue: u16,
    pub(super) bytes: Vec<u8>,
    pub(super) left: u64,
}

/// Copies of an injected frame sent in one turn.
const INJECTED: u64 = 32;

/// The elements of one thread.
pub(super) struct Part {
    pub(super) stations: Vec<Station>,
    pub(super) handover: Handover<Frame>,
    pub(super) bell: Option<Arc<Bell>>,
    pub(super) injections: Vec<Injection>,
    /// What has crossed a port since it was last taken; `None` where the tap is closed.
    pub(super) tapped: Option<Vec<Tapped>>,
    pub(super) rota: Rota,
    pub(super) arenas: Vec<&'static Arena>,
    batch: Vec<Frame>,
    /// Ports with frames on their way out.
    sending: Vec<(usize, usize)>,
    /// Whether a ring had more frames than were taken.
    unfinished: bool,
}

impl Part {
    pub(super) fn new(
        lab: &Lab,
        stations: Vec<Station>,
        bell: Option<Arc<Bell>>,
        arenas: Vec<&'static Arena>,
    ) -> Self {
        let ids: Vec<_> = stations.iter().map(|station| station.id).collect();
        let mut visits = Vec::new();
        for (number, station) in stations.iter().enumerate() {
            for (port, state) in (0..).zip(&station.ports) {
                let Edge::Device(device) = &state.edge else { continue };
                let place = |queue| Place { port: PortId(port), queue };
                visits.extend(
                    (0..device.queues())
                        .map(|queue| Visit { station: number, place: place(queue) }),
                );
            }
        }
        Self {
            handover: Handover::new(lab, &ids),
            bell,
            injections: Vec::new(),
            tapped: None,
            rota: Rota::new(visits.into_iter()),
            arenas,
            batch: Vec::with_capacity(BATCH),
            sending: Vec::new(),
            unfinished: false,
            stations,
        }
    }

    /// The number of an element that is run here.
    pub(super) fn number_of(&self, element: ElementId) -> Option<usize> {
        self.stations.iter().position(|station| station.id == element)
    }

    /// See [`LiveLink::poll`](super::LiveLink::poll).
    pub(super) fn poll(&mut self, now: Time) -> bool {
        let mut worked = !self.injections.is_empty() && self.inject(now);
        let mut last = usize::MAX;
        let mut turn = self.rota.turn();
        while let Some(Visit { station, place }) = self.rota.next(&mut turn) {
            let took = self.take(station, place, BATCH, now);
            if took {
                // What one element has sent is on its way before the next one's turn.
                if last != station && last != usize::MAX {
                    self.flush();
                }
                last = station;
                self.hand_over(now);
                worked = true;
            }
            self.rota.note(&mut turn, took);
        }
        worked |= self.answer_bell(now);
        worked |= self.run_timers(now);
        self.flush();
        worked
    }

    /// Takes what other threads have handed over.
    fn answer_bell(&mut self, now: Time) -> bool {
        let rung = self.bell.as_ref().is_some_and(|bell| bell.answer());
        if !rung && !self.unfinished {
            return false;
        }
        self.unfinished = false;
        for station in 0..self.stations.len() {
            for port in 0..self.stations[station].ports.len() {
                let Edge::Ring(ring) = &self.stations[station].ports[port].edge else { continue };
                for queue in 0..ring.queues() {
                    // A node has fewer ports than a u16 counts.
                    let place = Place { port: PortId(port as u16), queue };
                    if self.take(station, place, BATCH, now) {
                        self.hand_over(now);
                    }
                }
                let Edge::Ring(ring) = &self.stations[station].ports[port].edge else { continue };
                self.unfinished |= ring.has_frames();
            }
        }
        true
    }

    /// Has every element do what is due, and those that it hands frames to process them.
    fn run_timers(&mut self, now: Time) -> bool {
        let worked = self.run_due(now);
        if worked {
            self.hand_over(now);
        }
        worked
    }

    /// Has every element do what is due.
    pub(super) fn run_due(&mut self, now: Time) -> bool {
        let mut worked = false;
        for number in 0..self.stations.len() {
            let station = &mut self.stations[number];
            if station.due.is_none_or(|at| at > now) {
                continue;
            }
            let element = station.body.element_mut();
            station.due = element.poll_at();
            if station.due.is_none_or(|at| at > now) {
                continue;
            }
            if let Some(port) = station.ports.first() {
                fill_blanks(&mut station.out, port.arena);
            }
            element.on_time(now, &mut station.out);
            station.due = element.poll_at();
            self.send(number);
            worked = true;
        }
        worked
    }

    /// Has every element's timers looked at again.
    pub(super) fn forget_due(&mut self) {
        self.stations.iter_mut().for_each(|station| station.due = Some(Time::ZERO));
    }

    /// Takes up to `max` frames that have arrived at a place and processes them. Says whether there
    /// was one.
    #[inline]
    pub(super) fn take(&mut self, number: usize, place: Place, max: usize, now: Time) -> bool {
        let Some(station) = self.stations.get_mut(number) else { return false };
        let Some(port) = station.ports.get_mut(usize::from(place.port.0)) else { return false };
        match &mut port.edge {
            Edge::Device(device) => device.receive(place.queue, max, &mut self.batch),
            Edge::Ring(ring) => ring.receive(place.queue, max, &mut self.batch),
            Edge::Fused => self.handover.take(number, place, max, &mut self.batch),
        }
        if self.batch.is_empty() {
            return false;
        }
        self.process(number, place, now);
        true
    }

    /// Has elements process what others of this thread have handed to them.
    fn hand_over(&mut self, now: Time) {
        for _ in 0..HANDOVERS {
            match self.handover.take_next(BATCH, &mut self.batch) {
                Some((number, place)) => self.process(number, place, now),
                None => return,
            }
        }
        // Nothing is lost of what still waits, and the next turn goes on with it.
        self.unfinished = true;
    }

    /// Has an element process the batch, which came in at a place.
    fn process(&mut self, number: usize, place: Place, now: Time) {
        let Some(station) = self.stations.get_mut(number) else { return };
        let Some(port) = station.ports.get_mut(usize::from(place.port.0)) else { return };
        if !port.crossings.is_empty() && matches!(station.id, ElementId::Node(_)) {
            adopt(&mut self.batch, port, place.queue);
        }
        fill_blanks(&mut station.out, port.arena);
        keep(&mut self.tapped, station.id, Direction::In, self.batch.iter().map(|f| (place, f)));
        let element = station.body.element_mut();
        element.process(&mut self.batch, place, now, &mut station.out);
        station.due = element.poll_at();
        self.send(number);
    }

    /// Hands departures to their ports. What a port refuses it has counted; the frame goes back to
    /// its arena.
    fn send(&mut self, number: usize) {
        let Some(Station { id, ports, out, .. }) = self.stations.get_mut(number) else { return };
        let leaving = out.departures.iter().map(|Departure { place, frame }| (*place, frame));
        keep(&mut self.tapped, *id, Direction::Out, leaving);
        let sending = &mut self.sending;
        self.handover.pass_on(number, &mut out.departures, |place, frame| {
            let at = usize::from(place.port.0);
            if let Some(port) = ports.get_mut(at) {
                port.send(place.queue, frame);
                if !port.sends {
                    port.sends = true;
                    sending.push((number, at));
                }
            }
        });
    }

    /// Sends what ports have left, which the kernel did not take yet.
    pub(super) fn flush(&mut self) {
        let stations = &mut self.stations;
        self.sending.retain(|&(station, port)| {
            let port = &mut stations[station].ports[port];
            port.sends = port.flush();
            port.sends
        });
    }

    pub(super) fn is_sending(&self) -> bool {
        !self.injections.is_empty() || !self.sending.is_empty() || self.unfinished
    }

    /// Sends what tests have asked for, as far as there is room now.
    fn inject(&mut self, now: Time) -> bool {
        let mut worked = false;
        let mut injections = std::mem::take(&mut self.injections);
        for injection in &mut injections {
            let number = self.number_of(injection.socket.element);
            let Some(number) = number.filter(|n| self.has_port(*n, injection.socket.port)) else {
                injection.left = 0;
                continue;
            };
            worked |= self.inject_some(number, injection);
            self.flush();
            self.hand_over(now);
        }
        injections.retain(|injection| injection.left > 0);
        self.injections = injections;
        worked
    }

    fn has_port(&self, number: usize, port: PortId) -> bool {
        self.stations.get(number).is_some_and(|s| usize::from(port.0) < s.ports.len())
    }

    fn inject_some(&mut self, number: usize, injection: &mut Injection) -> bool {
        let Injection { socket, queue, bytes, left } = injection;
        let station = &mut self.stations[number];
        let port = &station.ports[usize::from(socket.port.0)];
        // What went before must be on its way, so that none is refused for want of room.
        let most = INJECTED.min(port.arena.rings().tx.into());
        let turn = if port.sends { 0 } else { (*left).min(most) };
        let place = Place { port: socket.port, queue: *queue };
        for _ in 0..turn {
            let Some(mut frame) = port.arena.take() else { break };
            if !frame.set_len(bytes.len()) {
                *left = 0;
                break;
            }
            frame.bytes_mut().copy_from_slice(bytes);
            station.out.departures.push(Departure { place, frame });
            *left -= 1;
        }
        let some = !station.out.departures.is_empty();
        self.send(number);
        some
    }

    /// What is at a port of an element.
    pub(super) fn view(&self, number: usize, port: usize) -> Option<PortView<'_>> {
        let station = self.stations.get(number)?;
        let state = station.ports.get(port)?;
        let counted: Vec<_> = match &state.edge {
            Edge::Device(device) => return Some(PortView::Device(device)),
            Edge::Ring(ring) => ring.counters().map(|(counters, _)| counters).collect(),
            Edge::Fused => self.handover.counters(number, PortId(u16::try_from(port).ok()?))?,
        };
        let crossings = state.crossings.iter();
        let queues = counted.into_iter().zip(crossings).map(|(counters, crossing)| FusedQueue {
            counters,
            copied: crossing.copied,
            no_frame: crossing.lost,
        });
        Some(PortView::Fused(queues.collect()))
    }
}

/// What one queue of a fused port has counted, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FusedQueue {
    /// What passed and what was lost for want of room.
    pub counters: FusedCounters,
    /// Copied when they were received, since they came from another memory; no loss.
    pub copied: u64,
    /// Lost when they were to be copied, because no frame was free.
    pub no_frame: u64,
}

impl PortState {
    fn send(&mut self, queue: u16, frame: Frame) {
        match &mut self.edge {
            Edge::Device(device) => drop(device.send(queue, frame)),
            Edge::Ring(ring) => ring.send(queue, frame),
            Edge::Fused => {}
        }
    }

    /// Pushes out what was sent; whether something is still on its way.
    fn flush(&mut self) -> bool {
        match &mut self.edge {
            Edge::Device(device) => {
                device.flush();
                device.is_sending()
            }
            Edge::Ring(ring) => {
                ring.flush();
                false
            }
            Edge::Fused => false,
        }
    }
}

/// Copies frames of other memories to the port's own, so that what an element keeps is of its own
/// (spec LINK-3).
fn adopt(batch: &mut Vec<Frame>, port: &mut PortState, queue: u16) {
    let Some(crossings) = port.crossings.get_mut(usize::from(queue)) else { return };
    batch.retain_mut(|frame| {
        if std::ptr::eq(frame.arena(), port.arena) {
            return true;
        }
        match copied(port.arena, frame.bytes()) {
            Some(own) => {
                *frame = own;
                crossings.copied += 1;
                true
            }
            None => {
                crossings.lost += 1;
                false
            }
        }
    });
}

/// Keeps frames that cross ports of an element, where the tap is open.
fn keep<'f>(
    tapped: &mut Option<Vec<Tapped>>,
    element: ElementId,
    direction: Direction,
    frames: impl Iterator<Item = (Place, &'f Frame)>,
) {
    let Some(tapped) = tapped else { return };
    tapped.extend(frames.map(|(Place { port, queue }, frame)| {
        let socket = Socket { element, port };
        Tapped { socket, queue, direction, frame: frame.bytes().to_vec() }
    }));
}

fn fill_blanks(out: &mut Output<Frame>, arena: &'static Arena) {
    while out.blanks.len() < BLANKS {
        let Some(frame) = arena.take() else { return };
        out.blanks.push(frame);
    }
}
