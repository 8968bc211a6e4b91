//! One forwarder, one input: started, rehearsed, loaded, and its books closed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xdp_progs::Counts;

use super::bed::{Bed, CALI};
use super::far_end::FarEnd;
use super::forwarder::{Books, Kind};
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
    books: Books,
    /// Lost on eth0's wire for want of room.
    eth0_wire: u64,
    /// Arrived in the rehearsal.
    rehearsed: u64,
    /// Arrived under load.
    counts: Counts,
}

impl Window {
    /// Closes the books: what was offered has to be somewhere (spec BENCH-4).
    fn of(samples: Vec<f64>, flow: Flow) -> Self {
        let Flow { offered, pod_wire, books, eth0_wire, rehearsed, counts } = flow;
        let mut faults = books.imbalances;
        let arrived = books.received + books.ring_full + books.rx_dropped + pod_wire;
        if offered != arrived {
            faults.push(format!("pod's wire: {offered} offered, {arrived} arrived or were lost"));
        }
        let left = rehearsed + counts.right + counts.wrong + eth0_wire;
        if books.sent != left {
            faults.push(format!("eth0's wire: {} sent, {left} arrived or were lost", books.sent));
        }
        if counts.wrong > 0 {
            faults.push(format!("{} frames arrived wrong", counts.wrong));
        }
        let wires = [
            ("podWire", pod_wire),
            ("rxRingFull", books.ring_full),
            ("rxDropped", books.rx_dropped),
            ("eth0Wire", eth0_wire),
        ];
        let wires = wires.into_iter().filter(|(_, count)| *count > 0);
        let wires = wires.map(|(place, count)| (place.to_owned(), count));
        Self {
            mpps: median(&samples),
            samples,
            offered,
            right: counts.right,
            wrong: counts.wrong,
            losses: wires.chain(books.dropped).collect(),
            faults,
        }
    }
}

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
    /// [`WrongFrame`](super::rehearsal::WrongFrame), an interruption, or what the kernel refuses.
    pub fn measure(&self, kind: Kind, input: Input, pod: &mut FarEnd) -> anyhow::Result<Window> {
        let (bed, frames) = (self.bed, self.frames);
        let wires = [bed.far(CALI)?, bed.near(bed.exit)?];
        let lost =
            || -> anyhow::Result<[u64; 2]> { Ok([bed.lost(&wires[0])?, bed.lost(&wires[1])?]) };
        let (sent_before, lost_before) = (pod.sent(), lost()?);
        let forwarder = kind.start(bed, frames, self.cores.forwarder)?;
        let rehearsed = rehearse(bed, kind, frames, pod)?;
        let sink = Sink::open(bed, &kind.expected(frames, 0))?;
        let mut generator = Generator::new(input, bed, frames, pod)?;
        let samples = self.load(&mut generator, &sink)?;
        let counts = settle(&sink)?;
        let past_port = generator.sent_past_port()?;
        let offered = pod.sent() - sent_before + past_port;
        let books = forwarder.stop()?;
        let lost_after = lost()?;
        let [pod_wire, eth0_wire] = [0, 1].map(|at| lost_after[at] - lost_before[at]);
        let flow = Flow { offered, pod_wire, books, eth0_wire, rehearsed, counts };
        Ok(Window::of(samples, flow))
    }

    /// Has the generator send, and takes rates at the sink.
    fn load(&self, generator: &mut Generator<'_>, sink: &Sink) -> anyhow::Result<Vec<f64>> {
        let home = self.bed.far(CALI)?.namespace;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let ended = StopOnDrop(&stop);
            let generating = scope.spawn(|| -> anyhow::Result<()> {
                pin(self.cores.generator)?;
                namespace::enter(&home)?;
                while !stop.load(Ordering::Relaxed) {
                    generator.offer()?;
                }
                Ok(())
            });
            let samples = self.sample(sink);
            drop(ended);
            generating.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            samples
        })
    }

    fn sample(&self, sink: &Sink) -> anyhow::Result<Vec<f64>> {
        self.wait(WARM_UP)?;
        let count = self.time.as_secs_f64() / SAMPLE.as_secs_f64();
        let count = count.ceil().max(1.0);
        let length = self.time.div_f64(count);
        let mut samples = Vec::new();
        let (mut before, mut since) = (sink.counts()?, Instant::now());
        for _ in 0..count as u64 {
            self.wait(length)?;
            let (now, at) = (sink.counts()?, Instant::now());
            let frames = (now.right - before.right) as f64;
            samples.push(frames / (at - since).as_secs_f64() / 1e6);
            (before, since) = (now, at);
        }
        Ok(samples)
    }

    fn wait(&self, time: Duration) -> anyhow::Result<()> {
        match self.interrupted.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => bail!("interrupted"),
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
        Flow {
            offered: 110,
            pod_wire: 3,
            books: Books { received: 100, sent: 100, ring_full: 7, ..Books::default() },
            eth0_wire: 2,
            rehearsed: 10,
            counts: Counts { right: 88, wrong: 0 },
        }
    }

    fn faults(change: impl FnOnce(&mut Flow)) -> usize {
        let mut flow = sound();
        change(&mut flow);
        Window::of(vec![1.0], flow).faults.len()
    }

    #[test]
    fn books_that_add_up_are_sound_and_losses_have_places() {
        let window = Window::of(vec![1.0, 3.0, 2.0], sound());
        assert_eq!(window.faults, Vec::<String>::new());
        assert_eq!(window.mpps, 2.0);
        let losses: Vec<_> = window.losses.iter().map(|(at, n)| (at.as_str(), *n)).collect();
        assert_eq!(losses, [("eth0Wire", 2), ("podWire", 3), ("rxRingFull", 7)]);
    }

    #[test]
    fn a_frame_that_is_nowhere_or_wrong_is_a_fault() {
        assert_eq!(faults(|_| {}), 0);
        assert_eq!(faults(|flow| flow.offered += 1), 1);
        assert_eq!(faults(|flow| flow.books.received -= 1), 1);
        assert_eq!(faults(|flow| flow.books.sent += 1), 1);
        assert_eq!(faults(|flow| flow.counts = Counts { right: 87, wrong: 1 }), 1);
        assert_eq!(faults(|flow| flow.counts.right -= 1), 1);
        assert_eq!(faults(|flow| flow.books.imbalances.push("node".to_owned())), 1);
    }
}
