//! The least that forwards: what any datapath on these ports has to be held against.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use crossbeam::channel::bounded;
use datapath::port::{Buffer, Port};
use datapath::wire::Mac;
use datapath_io::{Frame, XskPort};

use crate::bench::bed::{Bed, CALI, Device, PRIMARY};
use crate::bench::clock::Clock;
use crate::bench::forwarder::{Books, Forwarder, wires};
use crate::bench::frames::Frames;
use crate::bench::machine::pin;
use crate::net::namespace;

/// Frames taken from a queue in one turn, as a live link does.
const BATCH: usize = 64;

/// The reference: takes a batch from one port, writes the two MAC addresses, sends on the other.
#[derive(Debug)]
pub struct L2fwd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<Books>>>,
    clock: Clock,
}

impl L2fwd {
    /// Starts it on a core.
    ///
    /// # Errors
    /// Where a port cannot be opened; nothing is left open then.
    pub fn start(bed: &Bed, frames: &Frames, core: usize) -> anyhow::Result<Self> {
        let arena = |socket| bed.memory.arena(socket).context("no memory for a port");
        let places = [(bed.near(CALI)?, arena(CALI)?), (bed.near(PRIMARY)?, arena(PRIMARY)?)];
        let macs = frames.next_hop();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (opened, is_open) = bounded(1);
        let thread = std::thread::Builder::new().name("forwarder".into()).spawn(move || {
            pin(core)?;
            let [pod, eth0] = places.map(|(Device { namespace, ifname }, arena)| {
                namespace::enter(&namespace)?;
                anyhow::Ok(XskPort::open(arena, &ifname, 1)?)
            });
            let (mut pod, mut eth0) = (pod?, eth0?);
            let _ = opened.send(Clock::Thread(nix::unistd::gettid().as_raw()));
            run(&mut pod, &mut eth0, macs, &stopped);
            let mut books = wires(&pod, &eth0)?;
            let dropped: u64 = books.dropped.values().sum();
            if books.received != books.sent + dropped {
                books.imbalances.push(format!("l2fwd: {books:?}"));
            }
            Ok(books)
        })?;
        // Where nothing is said the thread has ended, and says why.
        match is_open.recv() {
            Ok(clock) => Ok(Self { stop, thread: Some(thread), clock }),
            Err(_) => Err(join(thread).err().unwrap_or_else(|| anyhow!("l2fwd has ended"))),
        }
    }
}

fn join(thread: JoinHandle<anyhow::Result<Books>>) -> anyhow::Result<Books> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Forwarder for L2fwd {
    fn clock(&self) -> Option<Clock> {
        Some(self.clock)
    }

    fn stop(mut self: Box<Self>) -> anyhow::Result<Option<Books>> {
        self.stop.store(true, Ordering::Relaxed);
        join(self.thread.take().context("l2fwd has no thread")?).map(Some)
    }
}

impl Drop for L2fwd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    pod: &mut XskPort<'static>,
    eth0: &mut XskPort<'static>,
    [dst, src]: [Mac; 2],
    stop: &AtomicBool,
) {
    let mut batch: Vec<Frame> = Vec::with_capacity(BATCH);
    while !stop.load(Ordering::Relaxed) {
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
        eth0.flush();
    }
}
