//! One forwarder under as much load as there is: rates at the sink, and what a frame costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::far_end::FarEnd;
use super::forwarder::Row;
use super::run::{Run, Setting};
use benches::statistics::median;

/// Load before anything is counted.
const WARM_UP: Duration = Duration::from_millis(200);
/// Longest time over which one rate is taken.
const SAMPLE: Duration = Duration::from_millis(500);

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
    /// Frames handed to the pods' wires, those of the warm-up included.
    pub offered: u64,
    /// Frames that arrived and were right.
    pub right: u64,
    /// Frames that arrived and were not.
    pub wrong: u64,
    /// Frames lost, by place; places without a loss are left out.
    pub losses: BTreeMap<String, u64>,
    /// What does not add up; empty when all is well.
    pub faults: Vec<String>,
}

/// Rates and costs under load.
#[derive(Debug)]
struct Rates {
    samples: Vec<f64>,
    generator_ns: f64,
    forwarder_ns: Option<f64>,
}

impl Setting<'_> {
    /// Measures a forwarder for some time.
    ///
    /// # Errors
    /// [`WrongFrame`](super::rehearsal::WrongFrame), [`Interrupted`](super::run::Interrupted), or
    /// what the kernel refuses.
    pub fn measure(
        &self,
        row: impl Into<Row>,
        time: Duration,
        pods: &mut [FarEnd],
    ) -> anyhow::Result<Window> {
        let mut run = Run::start(self, row, pods, false)?;
        let (_, tally, rates) = run.load(None, None, |run| self.sample(run, time))?;
        Ok(Window {
            mpps: median(&rates.samples),
            samples: rates.samples,
            generator_ns: rates.generator_ns,
            forwarder_ns: rates.forwarder_ns,
            offered: tally.offered,
            right: tally.right,
            wrong: tally.wrong,
            losses: tally.losses(),
            faults: tally.faults(),
        })
    }

    fn sample(&self, run: &Run<'_>, time: Duration) -> anyhow::Result<Rates> {
        self.wait(WARM_UP)?;
        self.while_near(|| self.count(run, time))
    }

    fn count(&self, run: &Run<'_>, time: Duration) -> anyhow::Result<Rates> {
        let count = time.as_secs_f64() / SAMPLE.as_secs_f64();
        let count = count.ceil().max(1.0);
        let length = time.div_f64(count);
        let mut samples = Vec::new();
        let began = run.work()?;
        let (mut before, mut since) = (run.right()?, Instant::now());
        let first = before;
        for _ in 0..count as u64 {
            self.wait(length)?;
            let (now, at) = (run.right()?, Instant::now());
            samples.push((now - before) as f64 / (at - since).as_secs_f64() / 1e6);
            (before, since) = (now, at);
        }
        let ended = run.work()?;
        let frames = (before - first).max(1) as f64;
        let cost = |from: Duration, to: Duration| (to - from).as_secs_f64() * 1e9 / frames;
        let forwarder = began.1.zip(ended.1).map(|(from, to)| cost(from, to));
        Ok(Rates { samples, generator_ns: cost(began.0, ended.0), forwarder_ns: forwarder })
    }
}
