//! One forwarder, one input: started, rehearsed, loaded, and its books closed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xdp_progs::Counts;

use super::bed::{Bed, CALI, PRIMARY};
use super::clock::Clock;
use super::far_end::FarEnd;
use super::forwarder::{Books, Row};
use super::frames::Frames;
use super::generator::{Generator, Input};
use super::machine::{Cores, pin};
use super::rehearsal::rehearse;
use super::sink::Sink;
use crate::net::namespace;
use benches::statistics::median;

/// Load before anything is counted.
const WARM_UP: Duration = Duration::from_millis(200);
/// Longest time over which one rate is taken.
const SAMPLE: Duration = Duration::from_millis(500);
/// How long nothing must arrive for the wires to be empty, and how long that may take.
const SILENCE: Duration = Duration::from_millis(100);
const EMPTYING: Duration = Duration::from_secs(5);

/// What was measured of one forwarder under one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Window {
    /// Right frames that arrived, in million a second: the median of the samples.
    pub mpps: f64,
    /// Each sample.
    pub samples: Vec<f64>,
    /// Processor time of the generator's thread, in nanoseconds for each of those frames.
    pub generator_ns: f64,
    /// The forwarder's, alike; none where the generator's thread does its work.
    pub forwarder_ns: Option<f64>,
    /// Frames handed to the pod's wire, those of the rehearsal and of the warm-up included.
    pub offered: u64,
    /// Frames that arrived and were right.
    pub right: u64,
    /// Frames that arrived under load and were not.
    pub wrong: u64,
    /// Frames lost, by place; places without a loss are left out.
    pub losses: BTreeMap<String, u64>,
    /// What does not add up; empty when all is well.
    pub faults: Vec<String>,
}

/// Every count on the way from the generator to the sink, in frames.
#[derive(Debug)]
struct Flow {
    /// Handed to the pod's wire.
    offered: u64,
    /// Lost there for want of room.
    pod_wire: u64,
    /// `None` where the forwarder does not tell.
    books: Option<Books>,
    /// Lost on eth0's wire for want of room.
    eth0_wire: u64,
    /// Arrived in the rehearsal.
    rehearsed: u64,
    /// Arrived under load.
    counts: Counts,
}

/// Rates and costs under load.
#[derive(Clone, Debug, Default)]
struct Load {
    samples: Vec<f64>,
    generator_ns: f64,
    forwarder_ns: Option<f64>,
}

impl Window {
    /// Closes the books: what was offered has to be somewhere (spec BENCH-4).
    fn of(load: Load, flow: &Flow) -> Self {
        let (losses, faults) = flow.close();
        Self {
            mpps: median(&load.samples),
            samples: load.samples,
            generator_ns: load.generator_ns,
            forwarder_ns: load.forwarder_ns,
            offered: flow.offered,
            right: flow.counts.right,
            wrong: flow.counts.wrong,
            losses,
            faults,
        }
    }
}

impl Flow {
    /// Where frames were lost, and what does not add up.
    fn close(&self) -> (BTreeMap<String, u64>, Vec<String>) {
        let Self { offered, pod_wire, books, eth0_wire, rehearsed, counts } = self;
        let left = rehearsed + counts.right + counts.wrong + eth0_wire;
        let mut losses = vec![("podWire", *pod_wire), ("eth0Wire", *eth0_wire)];
        let mut faults = Vec::new();
        if let Some(books) = books {
            faults.extend(books.imbalances.iter().cloned());
            let arrived = books.received + books.ring_full + books.rx_dropped + pod_wire;
            if *offered != arrived {
                faults.push(format!("pod's wire: {offered} offered, {arrived} arrived or lost"));
            }
            if books.sent != left {
                faults.push(format!("eth0's wire: {} sent, {left} arrived or lost", books.sent));
            }
            losses.extend([("rxRingFull", books.ring_full), ("rxDropped", books.rx_dropped)]);
            losses.extend(books.dropped.iter().map(|(reason, count)| (reason.as_str(), *count)));
        } else if let Some(inside) = offered.checked_sub(pod_wire + left) {
            losses.push(("forwarder", inside));
        } else {
            faults.push(format!("{offered} offered, {left} arrived or lost behind the forwarder"));
        }
        if counts.wrong > 0 {
            faults.push(format!("{} frames arrived wrong", counts.wrong));
        }
        let losses = losses.into_iter().filter(|(_, count)| *count > 0);
        (losses.map(|(place, count)| (place.to_owned(), count)).collect(), faults)
    }
}

/// The user wants to stop.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// What stays the same from window to window.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Where.
    pub bed: &'a Bed,
    /// What is sent.
    pub frames: &'a Frames,
    /// On which cores.
    pub cores: Cores,
    /// For how long rates are taken.
    pub time: Duration,
    /// Says something when the user wants to stop.
    pub interrupted: &'a Receiver<()>,
}

/// Ends the generator's thread, however its owner ends.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Setting<'_> {
    /// Measures a forwarder.
    ///
    /// # Errors
    /// [`WrongFrame`](super::rehearsal::WrongFrame), [`Interrupted`], or what the kernel refuses.
    pub fn measure(&self, row: Row, input: Input, pod: &mut FarEnd) -> anyhow::Result<Window> {
        let (bed, frames, kind) = (self.bed, self.frames, row.kind);
        let wires = [bed.far(CALI)?, bed.near(PRIMARY)?];
        let lost =
            || -> anyhow::Result<[u64; 2]> { Ok([bed.lost(&wires[0])?, bed.lost(&wires[1])?]) };
        let (sent_before, lost_before) = (pod.sent(), lost()?);
        let forwarder = row.start(bed, frames, self.cores)?;
        let rehearsed = rehearse(bed, kind, frames, pod)?;
        let sink = Sink::open(bed, &kind.expected(frames, 0), frames.flows.services)?;
        let mut generator = Generator::new(input, kind, bed, frames, pod)?;
        let load = self.load(&mut generator, &sink, forwarder.clock())?;
        let counts = settle(&sink)?;
        let past_port = generator.sent_past_port()?;
        let offered = pod.sent() - sent_before + past_port;
        let books = forwarder.stop()?;
        let lost_after = lost()?;
        let [pod_wire, eth0_wire] = [0, 1].map(|at| lost_after[at] - lost_before[at]);
        let flow = Flow { offered, pod_wire, books, eth0_wire, rehearsed, counts };
        Ok(Window::of(load, &flow))
    }

    /// Has the generator send, and takes rates at the sink.
    fn load(
        &self,
        generator: &mut Generator<'_>,
        sink: &Sink,
        forwarder: Option<Clock>,
    ) -> anyhow::Result<Load> {
        let home = self.bed.far(CALI)?.namespace;
        let stop = AtomicBool::new(false);
        let (tell, told) = bounded(1);
        thread::scope(|scope| {
            let ended = StopOnDrop(&stop);
            let generating = scope.spawn({
                let stop = &stop;
                move || -> anyhow::Result<()> {
                    pin(self.cores.generator)?;
                    namespace::enter(&home)?;
                    let _ = tell.send(Clock::Thread(nix::unistd::gettid().as_raw()));
                    while !stop.load(Ordering::Relaxed) {
                        generator.offer()?;
                    }
                    Ok(())
                }
            });
            // Where nothing is told the thread has ended, and says why below.
            let load = told.recv().ok().map(|clock| self.sample(sink, clock, forwarder));
            drop(ended);
            generating.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            load.unwrap_or_else(|| bail!("the generator has ended"))
        })
    }

    fn sample(
        &self,
        sink: &Sink,
        generator: Clock,
        forwarder: Option<Clock>,
    ) -> anyhow::Result<Load> {
        self.wait(WARM_UP)?;
        let count = self.time.as_secs_f64() / SAMPLE.as_secs_f64();
        let count = count.ceil().max(1.0);
        let length = self.time.div_f64(count);
        let clocks = || -> anyhow::Result<_> {
            Ok((generator.read()?, forwarder.map(Clock::read).transpose()?))
        };
        let began = clocks()?;
        let mut samples = Vec::new();
        let (mut before, mut since) = (sink.counts()?, Instant::now());
        let first = before.right;
        for _ in 0..count as u64 {
            self.wait(length)?;
            let (now, at) = (sink.counts()?, Instant::now());
            let frames = (now.right - before.right) as f64;
            samples.push(frames / (at - since).as_secs_f64() / 1e6);
            (before, since) = (now, at);
        }
        let ended = clocks()?;
        let frames = (before.right - first).max(1) as f64;
        let cost = |from: Duration, to: Duration| (to - from).as_secs_f64() * 1e9 / frames;
        let forwarder = began.1.zip(ended.1).map(|(from, to)| cost(from, to));
        let generator = cost(began.0, ended.0);
        Ok(Load { samples, generator_ns: generator, forwarder_ns: forwarder })
    }

    fn wait(&self, time: Duration) -> anyhow::Result<()> {
        match self.interrupted.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(Interrupted.into()),
        }
    }
}

/// What has arrived once nothing more does.
fn settle(sink: &Sink) -> anyhow::Result<Counts> {
    let deadline = Instant::now() + EMPTYING;
    let mut before = sink.counts()?;
    loop {
        thread::sleep(SILENCE);
        let now = sink.counts()?;
        if now == before {
            return Ok(now);
        }
        if Instant::now() > deadline {
            bail!("frames arrive although none are sent");
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Flow {
        let books = Books { received: 100, sent: 100, ring_full: 7, ..Books::default() };
        Flow {
            offered: 110,
            pod_wire: 3,
            books: Some(books),
            eth0_wire: 2,
            rehearsed: 10,
            counts: Counts { right: 88, wrong: 0 },
        }
    }

    fn window(flow: &Flow) -> Window {
        let load = Load { samples: vec![1.0, 3.0, 2.0], ..Load::default() };
        Window::of(load, flow)
    }

    fn faults(change: impl FnOnce(&mut Flow)) -> usize {
        let mut flow = sound();
        change(&mut flow);
        window(&flow).faults.len()
    }

    fn losses(window: &Window) -> Vec<(&str, u64)> {
        window.losses.iter().map(|(at, n)| (at.as_str(), *n)).collect()
    }

    #[test]
    fn books_that_add_up_are_sound_and_losses_have_places() {
        let window = window(&sound());
        assert_eq!(window.faults, Vec::<String>::new());
        assert_eq!(window.mpps, 2.0);
        assert_eq!(losses(&window), [("eth0Wire", 2), ("podWire", 3), ("rxRingFull", 7)]);
    }

    #[test]
    fn a_frame_that_is_nowhere_or_wrong_is_a_fault() {
        let of_books = |change: fn(&mut Books)| {
            faults(|flow| flow.books.as_mut().into_iter().for_each(change))
        };
        assert_eq!(faults(|_| {}), 0);
        assert_eq!(faults(|flow| flow.offered += 1), 1);
        assert_eq!(of_books(|books| books.received -= 1), 1);
        assert_eq!(faults(|flow| flow.counts = Counts { right: 87, wrong: 1 }), 1);
        assert_eq!(faults(|flow| flow.counts.right -= 1), 1);
        assert_eq!(of_books(|books| books.imbalances.push("node".to_owned())), 1);
    }

    #[test]
    fn what_a_silent_forwarder_has_lost_is_the_rest() {
        let silent = Flow { books: None, ..sound() };
        assert_eq!(losses(&window(&silent)), [("eth0Wire", 2), ("forwarder", 7), ("podWire", 3)]);
        assert_eq!(window(&silent).faults, Vec::<String>::new());
        let from_nowhere = Flow { offered: 102, ..silent };
        assert_eq!(window(&from_nowhere).faults.len(), 1);
    }
}
