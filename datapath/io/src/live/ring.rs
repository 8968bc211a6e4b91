//! Fused links between elements that different threads run: bounded rings, one for each queue and
//! direction (spec LINK-4).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use datapath::lab::Lab;
use datapath::link::{ElementId, FusedCounters, Socket, fused_peer, ports_of};
use rtrb::{Consumer, Producer, RingBuffer};

use super::Frame;
use crate::Waker;

/// Tells a thread that a ring of its has got frames, and wakes it where it sleeps.
#[derive(Debug)]
pub(super) struct Bell {
    rung: AtomicBool,
    asleep: AtomicBool,
    waker: Waker,
}

impl Bell {
    fn new(waker: Waker) -> Self {
        Self { rung: AtomicBool::new(false), asleep: AtomicBool::new(false), waker }
    }

    /// Rings, after frames have been put into a ring.
    pub(super) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        // Either this sees the sleeper, or the sleeper sees that it was rung.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a forwarding thread could not be woken");
        }
    }

    /// Whether it has been rung since the last call.
    #[inline]
    pub(super) fn answer(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::Acquire)
    }

    /// Announces a sleep; false where it has been rung and there is to be none.
    pub(super) fn doze(&self) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        !self.rung.load(Ordering::Relaxed)
    }

    /// Ends a sleep.
    pub(super) fn rise(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

/// A port whose link leads to an element of another thread.
#[derive(Debug)]
pub(super) struct RingPort {
    out: Vec<Producer<Frame>>,
    inbound: Vec<Consumer<Frame>>,
    counters: Vec<FusedCounters>,
    /// The other thread's.
    far: Arc<Bell>,
    /// Whether frames were sent that the other thread has not been told of.
    untold: bool,
}

impl RingPort {
    pub(super) fn queues(&self) -> u16 {
        // Made from a u16.
        self.counters.len() as u16
    }

    pub(super) fn receive(&mut self, queue: u16, max: usize, batch: &mut Vec<Frame>) {
        let at = usize::from(queue);
        let (Some(ring), Some(counters)) = (self.inbound.get_mut(at), self.counters.get_mut(at))
        else {
            return;
        };
        let before = batch.len();
        while batch.len() - before < max
            && let Ok(frame) = ring.pop()
        {
            batch.push(frame);
        }
        counters.rx += (batch.len() - before) as u64;
    }

    /// Sends a frame, or drops and counts it where the ring is full.
    pub(super) fn send(&mut self, queue: u16, frame: Frame) {
        let at = if usize::from(queue) < self.out.len() { usize::from(queue) } else { 0 };
        let (Some(ring), Some(counters)) = (self.out.get_mut(at), self.counters.get_mut(at)) else {
            return;
        };
        match ring.push(frame) {
            Ok(()) => {
                counters.tx += 1;
                self.untold = true;
            }
            Err(_) => counters.full += 1,
        }
    }

    /// Tells the other thread of what was sent.
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.untold) {
            self.far.ring();
        }
    }

    /// Whether a queue has frames to receive.
    pub(super) fn has_frames(&self) -> bool {
        self.inbound.iter().any(|ring| !ring.is_empty())
    }

    /// What each queue has counted, and how many frames wait to be received.
    pub(super) fn counters(&self) -> impl Iterator<Item = (FusedCounters, u64)> {
        let waiting = self.inbound.iter().map(|ring| ring.slots() as u64);
        self.counters.iter().copied().zip(waiting)
    }
}

/// What one thread has of the rings between threads.
#[derive(Debug)]
pub struct Rings {
    pub(super) bell: Arc<Bell>,
    pub(super) ports: Vec<(Socket, RingPort)>,
}

impl Rings {
    /// The rings between threads of which each runs the elements of one share and is woken by its
    /// waker; one for each thread, in order.
    ///
    /// # Errors
    /// Where there are not as many wakers as shares.
    pub fn between(
        lab: &Lab,
        shares: &[Vec<ElementId>],
        wakers: Vec<Waker>,
    ) -> io::Result<Vec<Self>> {
        if wakers.len() != shares.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let new = |waker| Self { bell: Arc::new(Bell::new(waker)), ports: Vec::new() };
        let mut all: Vec<Self> = wakers.into_iter().map(new).collect();
        let thread = |element| shares.iter().position(|share| share.contains(&element));
        for element in ElementId::all(lab) {
            for (port, queues) in ports_of(lab, element) {
                let near = Socket { element, port };
                // Each link is met twice, and made when it is met at its lesser end.
                let Some(far) = fused_peer(lab, near).filter(|far| near < *far) else { continue };
                let ends = thread(near.element).zip(thread(far.element));
                let Some((a, b)) = ends.filter(|(a, b)| a != b) else { continue };
                let bells = [Arc::clone(&all[a].bell), Arc::clone(&all[b].bell)];
                let (at_a, at_b) = link(queues, lab.limits.link_queue as usize, bells);
                all[a].ports.push((near, at_a));
                all[b].ports.push((far, at_b));
            }
        }
        Ok(all)
    }
}

/// The two ports of a link.
fn link(queues: u16, limit: usize, [near, far]: [Arc<Bell>; 2]) -> (RingPort, RingPort) {
    let port = |bell| RingPort {
        out: Vec::new(),
        inbound: Vec::new(),
        counters: vec![FusedCounters::default(); usize::from(queues)],
        far: bell,
        untold: false,
    };
    let (mut a, mut b) = (port(far), port(near));
    for _ in 0..queues {
        let (to, from) = RingBuffer::new(limit);
        a.out.push(to);
        b.inbound.push(from);
        let (to, from) = RingBuffer::new(limit);
        b.out.push(to);
        a.inbound.push(from);
    }
    (a, b)
}
