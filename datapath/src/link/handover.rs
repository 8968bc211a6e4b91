//! Fused links: frames move from one element to the next in memory, as many at a time as came
//! (spec LINK-2).

use std::collections::VecDeque;

use super::{ElementId, Socket, fused_peer, ports_of};
use crate::element::{Departure, Place};
use crate::journey::PortId;
use crate::lab::Lab;

/// What one queue of a fused port has counted, in frames. A frame that is handed over is sent at
/// one port and received at the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FusedCounters {
    /// Received by the element.
    pub rx: u64,
    /// Handed over to the other end.
    pub tx: u64,
    /// Lost because as many frames as allowed already waited at the other end.
    pub full: u64,
}

/// One queue of a link in one direction.
#[derive(Debug)]
struct Lane<B> {
    /// Where its frames arrive: the element, counted as in [`Handover::new`].
    to: (usize, Place),
    frames: Vec<B>,
    /// Whether it is in the list of those with frames.
    listed: bool,
    sent: u64,
    full: u64,
    taken: u64,
}

/// A fused port: where its first queue's lanes are, those of the others following.
#[derive(Clone, Copy, Debug)]
struct End {
    outbound: usize,
    inbound: usize,
    queues: u16,
}

/// The fused links between elements that are run together.
///
/// Every queue is as bounded as a wire's. Whoever drives the elements gives an element's departures
/// to [`pass_on`](Self::pass_on), and processes what [`take_next`](Self::take_next) finds until
/// that finds nothing.
#[derive(Debug)]
pub struct Handover<B> {
    /// For each element and port its end, if it is fused here.
    ends: Vec<Vec<Option<End>>>,
    lanes: Vec<Lane<B>>,
    /// Lanes with frames, in the order in which the first of these was sent.
    ready: VecDeque<usize>,
    limit: usize,
}

impl<B> Handover<B> {
    /// The fused links of `lab` of which both ends are at `elements`. Each queue holds as many
    /// frames as the lab's limits say.
    #[must_use]
    pub fn new(lab: &Lab, elements: &[ElementId]) -> Self {
        let mut this = Self {
            ends: elements.iter().map(|id| vec![None; ports_of(lab, *id).len()]).collect(),
            lanes: Vec::new(),
            ready: VecDeque::new(),
            limit: lab.limits.link_queue as usize,
        };
        for (number, element) in elements.iter().enumerate() {
            for (port, queues) in ports_of(lab, *element) {
                let near = Socket { element: *element, port };
                // Each link is met twice, and made when it is met at its lesser end.
                let far = fused_peer(lab, near).filter(|far| near < *far);
                let other = far.and_then(|far| elements.iter().position(|id| *id == far.element));
                if let (Some(far), Some(other)) = (far, other) {
                    this.join((number, port), (other, far.port), queues);
                }
            }
        }
        this
    }

    /// Makes the lanes of a link in both directions.
    fn join(&mut self, near: (usize, PortId), far: (usize, PortId), queues: u16) {
        let mut lanes = |(element, port): (usize, PortId)| {
            let first = self.lanes.len();
            self.lanes.extend((0..queues).map(|queue| Lane {
                to: (element, Place { port, queue }),
                frames: Vec::new(),
                listed: false,
                sent: 0,
                full: 0,
                taken: 0,
            }));
            first
        };
        let (to_near, to_far) = (lanes(near), lanes(far));
        let mut set = |(element, port): (usize, PortId), outbound, inbound| {
            let ends = self.ends.get_mut(element);
            if let Some(end) = ends.and_then(|ends| ends.get_mut(usize::from(port.0))) {
                *end = Some(End { outbound, inbound, queues });
            }
        };
        set(near, to_far, to_near);
        set(far, to_near, to_far);
    }

    fn end(&self, element: usize, port: PortId) -> Option<End> {
        self.ends.get(element)?.get(usize::from(port.0)).copied().flatten()
    }

    /// Takes an element's departures. Those that leave by a fused link wait at its other end from
    /// now on, or are dropped and counted where that is full; the others go to `outward`, in order.
    pub fn pass_on(
        &mut self,
        element: usize,
        departures: &mut Vec<Departure<B>>,
        mut outward: impl FnMut(Place, B),
    ) {
        // Those of a batch mostly go the same way.
        let mut known = None;
        for Departure { place, frame } in departures.drain(..) {
            let lane = match known {
                Some((of, lane)) if of == place => lane,
                _ => self.outbound(element, place),
            };
            known = Some((place, lane));
            match lane {
                Some(lane) => self.push(lane, frame),
                None => outward(place, frame),
            }
        }
    }

    /// The lane by which frames leave an element at a place, if that is fused.
    fn outbound(&self, element: usize, place: Place) -> Option<usize> {
        let end = self.end(element, place.port)?;
        let queue = if place.queue < end.queues { place.queue } else { 0 };
        Some(end.outbound + usize::from(queue))
    }

    #[inline]
    fn push(&mut self, number: usize, frame: B) {
        let Some(lane) = self.lanes.get_mut(number) else { return };
        if lane.frames.len() >= self.limit {
            lane.full += 1;
            return;
        }
        lane.sent += 1;
        lane.frames.push(frame);
        if !lane.listed {
            lane.listed = true;
            self.ready.push_back(number);
        }
    }

    /// Takes up to `max` frames of the queue whose turn it is into `batch`, which is empty; says
    /// which element they are for, and where they come in.
    pub fn take_next(&mut self, max: usize, batch: &mut Vec<B>) -> Option<(usize, Place)> {
        loop {
            let number = self.ready.pop_front()?;
            let lane = self.lanes.get_mut(number)?;
            lane.listed = false;
            lane.take(max, batch);
            if !lane.frames.is_empty() {
                lane.listed = true;
                self.ready.push_back(number);
            }
            if !batch.is_empty() {
                return Some(lane.to);
            }
        }
    }

    /// Takes up to `max` frames that wait at a place of an element into `batch`, which is empty.
    pub fn take(&mut self, element: usize, place: Place, max: usize, batch: &mut Vec<B>) {
        let end = self.end(element, place.port).filter(|end| place.queue < end.queues);
        let lane = end.and_then(|end| self.lanes.get_mut(end.inbound + usize::from(place.queue)));
        if let Some(lane) = lane {
            lane.take(max, batch);
        }
    }

    /// Frames that wait, those of all links together.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.frames.len()).sum()
    }

    /// What each queue of a port has counted; `None` where it is not fused here.
    #[must_use]
    pub fn counters(&self, element: usize, port: PortId) -> Option<Vec<FusedCounters>> {
        let End { outbound, inbound, queues } = self.end(element, port)?;
        let of = |first: usize| self.lanes.iter().skip(first).take(usize::from(queues));
        let both = of(outbound).zip(of(inbound));
        Some(
            both.map(|(out, r#in)| FusedCounters { rx: r#in.taken, tx: out.sent, full: out.full })
                .collect(),
        )
    }

    /// Whether on every link each frame sent has been received or still waits (spec LAW-2).
    #[must_use]
    pub fn balances(&self) -> bool {
        self.lanes.iter().all(|lane| lane.sent == lane.taken + lane.frames.len() as u64)
    }

    /// Forgets what waits and what was counted.
    pub fn clear(&mut self) {
        self.ready.clear();
        for lane in &mut self.lanes {
            lane.frames.clear();
            (lane.listed, lane.sent, lane.full, lane.taken) = (false, 0, 0, 0);
        }
    }
}

impl<B> Lane<B> {
    fn take(&mut self, max: usize, batch: &mut Vec<B>) {
        if batch.is_empty() && self.frames.len() <= max {
            // The whole batch changes hands, and nothing is moved.
            std::mem::swap(&mut self.frames, batch);
        } else {
            batch.extend(self.frames.drain(..self.frames.len().min(max)));
        }
        self.taken += batch.len() as u64;
    }
}
