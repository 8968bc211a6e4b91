//! One forwarder under as much load as there is: rates at the sink, and what a frame costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::far_end::FarEnd;
use super::forwarder::{Forwarder, Kind, Row};
use super::report::{Better, Case, Cost, Unit, add_losses};
use super::run::{Run, Setting};
use benches::statistics::{Estimate, median};

/// Load before anything is counted.
const WARM_UP: Duration = Duration::from_millis(200);
/// Longest time over which one rate is taken.
const SAMPLE: Duration = Duration::from_millis(500);
/// A forwarder that loses no more of as much load as there is keeps up with the generator.
const KEEPS_UP: f64 = 0.01;
/// Share of its core that a generator has when nothing else works there.
const ALONE: f64 = 0.95;

/// What was measured of one forwarder under one input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Right frames that arrived, in million a second: the median of the samples.
    pub mpps: f64,
    /// Processor time of the generator's thread, in nanoseconds for each of those frames.
    pub generator_ns: f64,
    /// The forwarder's, alike; none where the generator's thread does its work.
    pub forwarder_ns: Option<f64>,
    /// Frames handed to the pods' wires, those of the warm-up included.
    pub offered: u64,
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

impl Case {
    /// The rate of a forwarder over some rounds, with what a frame costs there and where frames were
    /// lost.
    #[must_use]
    pub fn of_windows(group: &str, name: &str, windows: &[&Window]) -> Self {
        let each = |value: fn(&Window) -> f64| windows.iter().map(|w| value(w)).collect::<Vec<_>>();
        let rates = each(|window| window.mpps);
        let mut case = Self::new(group, name, Unit::Mpps, Better::Higher, rates);
        for window in windows {
            case.offered += window.offered;
            add_losses(&mut case.losses, &window.losses);
            case.faults.extend(window.faults.iter().cloned());
        }
        if windows.is_empty() {
            return case;
        }
        let own_core = windows.iter().all(|window| window.forwarder_ns.is_some());
        let ns = each(|window| window.forwarder_ns.unwrap_or(window.generator_ns));
        case.cost = Some(Cost { ns: Estimate::of(&ns), cores: if own_core { 2 } else { 1 } });
        let sender = if own_core { "the generator" } else { "the core that sends and forwards" };
        case.limit = Some(limit(&case.losses, case.offered).unwrap_or(sender).to_owned());
        let had = median(&each(|window| window.generator_ns * window.mpps / 1e3));
        if had < ALONE {
            let percent = had * 100.0;
            case.notes
                .push(format!("other work ran: the generator had {percent:.0} % of its core"));
        }
        case
    }
}

/// The place that kept a rate from being higher, where most was lost; none where the forwarder keeps
/// up with the generator.
fn limit(losses: &BTreeMap<String, u64>, offered: u64) -> Option<&str> {
    let lost: u64 = losses.values().sum();
    let most = losses.iter().max_by_key(|(_, count)| **count);
    most.filter(|_| lost as f64 > KEEPS_UP * offered as f64).map(|(place, _)| place.as_str())
}

impl Setting<'_> {
    /// Starts a forwarder and measures it for some time.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`measure_started`](Self::measure_started).
    pub fn measure(
        &self,
        row: impl Into<Row>,
        time: Duration,
        pods: &mut [FarEnd],
    ) -> anyhow::Result<Window> {
        let row = row.into();
        self.measure_started(row.kind, &self.start(row, pods)?, time, pods)
    }

    /// Measures a forwarder for some time.
    ///
    /// # Errors
    /// [`Interrupted`](super::run::Interrupted), or what the kernel refuses.
    pub fn measure_started(
        &self,
        kind: Kind,
        forwarder: &Forwarder,
        time: Duration,
        pods: &mut [FarEnd],
    ) -> anyhow::Result<Window> {
        let mut run = Run::of(self, kind, forwarder, pods, false)?;
        let (_, tally, rates) = run.load(None, None, |run| self.sample(run, time))?;
        Ok(Window {
            mpps: median(&rates.samples),
            generator_ns: rates.generator_ns,
            forwarder_ns: rates.forwarder_ns,
            offered: tally.offered,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn window(forwarder_ns: Option<f64>, lost: u64) -> Window {
        Window {
            mpps: 0.5,
            generator_ns: 1_600.0,
            forwarder_ns,
            offered: 1_000,
            losses: BTreeMap::from([("podWire".to_owned(), 1), ("rxRingFull".to_owned(), lost)]),
            faults: Vec::new(),
        }
    }

    #[test]
    fn what_loses_much_is_the_limit_and_what_keeps_up_is_limited_by_the_generator() {
        let case = |lost| Case::of_windows("skb", "node", &[&window(Some(1_900.0), lost)]);
        assert_eq!(case(5).limit.as_deref(), Some("the generator"));
        assert_eq!(case(50).limit.as_deref(), Some("rxRingFull"));
        assert_eq!((case(50).offered, case(50).losses["rxRingFull"]), (1_000, 50));
    }

    #[test]
    fn a_frame_costs_the_forwarder_or_the_sender_that_forwards() {
        let case = |ns| Case::of_windows("skb", "node", &[&window(ns, 5)]);
        let cost = |ns| case(ns).cost.map(|cost| (cost.ns.median, cost.cores));
        assert_eq!(cost(Some(1_900.0)), Some((1_900.0, 2)));
        assert_eq!(cost(None), Some((1_600.0, 1)));
        assert_eq!(case(None).limit.as_deref(), Some("the core that sends and forwards"));
    }

    #[test]
    fn a_generator_that_had_not_all_of_its_core_is_told() {
        let case = |generator_ns| {
            let window = Window { generator_ns, ..window(None, 0) };
            Case::of_windows("skb", "node", &[&window]).notes
        };
        assert_eq!(case(1_990.0), Vec::<String>::new());
        assert_eq!(case(1_000.0), ["other work ran: the generator had 50 % of its core"]);
    }
}
