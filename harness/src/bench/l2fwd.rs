//! The least that forwards: what any datapath on these ports has to be held against.

use std::thread::JoinHandle;

use anyhow::Context;
use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use datapath::port::{Buffer, Port};
use datapath::wire::Mac;
use datapath_io::{Arena, Frame, XskPort};

use super::bed::{Bed, Device, PRIMARY, cali};
use super::clock::Clock;
use super::forwarder::Books;
use super::frames::Frames;
use super::machine::pin;
use super::node::wires;
use crate::net::namespace;

/// Frames taken from a queue in one turn, as a live link does.
const BATCH: usize = 64;

/// Turns between two looks at whether somebody asks, as a live link does.
const ASKED_EVERY: u32 = 64;

/// Who asks for the books: they are sent there.
type Question = Sender<anyhow::Result<Books>>;

/// The reference: takes a batch from each pod's port, writes the two MAC addresses, sends on eth0.
/// It ends, and its ports are closed, when it is dropped.
#[derive(Debug)]
pub struct L2fwd {
    ask: Option<Sender<Question>>,
    thread: Option<JoinHandle<()>>,
    clock: Clock,
}

impl L2fwd {
    /// Starts it on a core.
    ///
    /// # Errors
    /// Where a port cannot be opened; nothing is left open then.
    pub fn start(bed: &Bed, frames: &Frames, core: usize) -> anyhow::Result<Self> {
        let sockets = (0..bed.clients).map(cali).chain([PRIMARY]);
        let places = sockets.map(|socket| {
            let arena = bed.memory.arena(socket).context("no memory for a port")?;
            Ok((bed.near(socket)?, arena))
        });
        let places = places.collect::<anyhow::Result<Vec<_>>>()?;
        let macs = frames.next_hop();
        let (ask, asked) = bounded(1);
        let (opened, is_open) = bounded(1);
        let thread =
            std::thread::Builder::new().name("forwarder".into()).spawn(move || {
                match open(core, &places) {
                    Ok((mut pods, mut eth0)) => {
                        let _ = opened.send(Ok(Clock::this_thread()));
                        run(&mut pods, &mut eth0, macs, &asked);
                    }
                    Err(error) => drop(opened.send(Err(error))),
                }
            })?;
        let clock = is_open.recv().context("l2fwd has ended")??;
        Ok(Self { ask: Some(ask), thread: Some(thread), clock })
    }

    /// The time of its thread.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// What it has counted so far.
    ///
    /// # Errors
    /// Where it has ended, or the kernel does not tell its counters.
    pub fn books(&self) -> anyhow::Result<Books> {
        let (answer, answered) = bounded(1);
        let sent = self.ask.as_ref().is_some_and(|ask| ask.send(answer).is_ok());
        anyhow::ensure!(sent, "l2fwd has ended");
        answered.recv().context("l2fwd has ended")?
    }
}

impl Drop for L2fwd {
    fn drop(&mut self) {
        // It ends when there is nobody left who could ask.
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The pods' ports, and eth0.
type Ports = (Vec<XskPort<'static>>, XskPort<'static>);

fn open(core: usize, places: &[(Device, &'static Arena)]) -> anyhow::Result<Ports> {
    pin(core)?;
    let ports = places.iter().map(|(Device { namespace, ifname }, arena)| {
        namespace::enter(namespace)?;
        anyhow::Ok(XskPort::open(arena, ifname, 1)?)
    });
    let mut ports = ports.collect::<anyhow::Result<Vec<_>>>()?;
    let eth0 = ports.pop().context("there is no eth0")?;
    Ok((ports, eth0))
}

fn run(
    pods: &mut [XskPort<'static>],
    eth0: &mut XskPort<'static>,
    [dst, src]: [Mac; 2],
    asked: &Receiver<Question>,
) {
    let mut batch: Vec<Frame> = Vec::with_capacity(BATCH);
    let mut turn = 0_u32;
    loop {
        for pod in &mut *pods {
            pod.receive(0, BATCH, &mut batch);
            for mut frame in batch.drain(..) {
                if let Some((to, from)) = frame.bytes_mut().split_at_mut_checked(6) {
                    to.copy_from_slice(&dst.0);
                    if let Some(from) = from.get_mut(..6) {
                        from.copy_from_slice(&src.0);
                    }
                }
                // What the port refuses it has counted; the frame goes back to its memory.
                drop(eth0.send(0, frame));
            }
        }
        eth0.flush();
        turn = turn.wrapping_add(1);
        if !turn.is_multiple_of(ASKED_EVERY) {
            continue;
        }
        match asked.try_recv() {
            Ok(answer) => drop(answer.send(books(pods, eth0))),
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {}
        }
    }
}

fn books(pods: &[XskPort<'static>], eth0: &XskPort<'static>) -> anyhow::Result<Books> {
    wires(&pods.iter().collect::<Vec<_>>(), eth0)
}
