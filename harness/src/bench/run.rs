//! One forwarder under load: started, rehearsed, and then loaded as often as one likes. After each
//! load the books are closed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use datapath::link::Socket;
use xdp_progs::Times;

use super::bed::Bed;
use super::clock::Clock;
use super::far_end::FarEnd;
use super::forwarder::{Forwarder, Kind, Row};
use super::frames::Frames;
use super::generator::{Generator, Offered};
use super::load::Load;
use super::machine::{Cores, pin};
use super::nearness::Nearness;
use super::rehearsal::rehearse;
use super::sink::Sink;
use super::tally::Tally;

/// How long the last frames may take to arrive.
const EMPTYING: Duration = Duration::from_secs(5);
/// Between two looks at whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long nothing must arrive for a forwarder that does not tell its counts to be empty.
const SILENCE: Duration = Duration::from_millis(100);

/// How often a measurement is repeated in a row because the cores did not stay near each other.
const REPEATS: u32 = 3;
/// How often, and how long after each other, one looks whether they are near again.
const LOOKS: u32 = 25;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The user wants to stop.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// What stays the same from run to run.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Where.
    pub bed: &'a Bed,
    /// What is offered.
    pub load: &'a Load,
    /// Its frames.
    pub frames: &'a Frames,
    /// On which cores.
    pub cores: Cores,
    /// Says something when the user wants to stop.
    pub interrupted: &'a Receiver<()>,
    /// How near the cores have been.
    pub nearness: &'a Mutex<Nearness>,
}

impl Setting<'_> {
    /// Waits.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn wait(&self, time: Duration) -> Result<(), Interrupted> {
        match self.interrupted.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(Interrupted),
        }
    }

    /// Starts a forwarder and sends it what begins each flow.
    ///
    /// # Errors
    /// [`WrongFrame`](super::rehearsal::WrongFrame), or what the kernel refuses.
    pub fn start(&self, row: impl Into<Row>, pods: &mut [FarEnd]) -> anyhow::Result<Forwarder> {
        let row = row.into();
        let forwarder = row.start(self.bed, self.frames, self.cores)?;
        rehearse(self.bed, row.kind, self.frames, pods)?;
        Ok(forwarder)
    }

    /// Measures once the cores are near each other, and again where they have not stayed so (spec
    /// BENCH-22). What they do for others meanwhile stands still for a look, for less than a millisecond.
    ///
    /// # Errors
    /// What `measure` says, or [`Interrupted`].
    pub fn while_near<T>(
        &self,
        mut measure: impl FnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut nearness = self.nearness.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..REPEATS {
            let mut looks = 1;
            while !nearness.is_near(self.cores)? && looks < LOOKS {
                self.wait(BETWEEN_LOOKS)?;
                looks += 1;
            }
            let measured = measure()?;
            if nearness.is_near(self.cores)? {
                return Ok(measured);
            }
            nearness.repeated += 1;
        }
        nearness.apart += 1;
        measure()
    }
}

/// A forwarder at work, with its generator and its sink. These end when it is dropped.
#[derive(Debug)]
pub struct Run<'a> {
    setting: &'a Setting<'a>,
    forwarder: &'a Forwarder,
    /// Where requests leave it.
    exit: Socket,
    sink: Sink,
    /// Away while it sends.
    generator: Option<Generator<'a>>,
    /// The generator's, of the thread that sends or has sent last.
    clock: OnceLock<Clock>,
    /// What was counted in the rehearsal, and lost on the wires in earlier runs.
    before: Tally,
}

/// Ends the generator's thread, however its owner ends.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<'a> Run<'a> {
    /// Takes a forwarder that has been [started](Setting::start). Frames are `stamped` where the time is
    /// to be told that they take.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn of(
        setting: &'a Setting<'a>,
        kind: Kind,
        forwarder: &'a Forwarder,
        pods: &'a mut [FarEnd],
        stamped: bool,
    ) -> anyhow::Result<Self> {
        let Setting { bed, load, frames, .. } = setting;
        let sink = Sink::open(bed, kind, frames, stamped)?;
        let generator = Some(Generator::new(load, kind, bed, frames, pods, stamped)?);
        let before = Tally::default();
        let clock = OnceLock::new();
        let mut run =
            Self { setting, forwarder, exit: kind.exit(), sink, generator, clock, before };
        run.before = run.tally()?;
        Ok(run)
    }

    /// The forwarder.
    #[must_use]
    pub const fn forwarder(&self) -> &Forwarder {
        self.forwarder
    }

    /// The processor time of the generator so far, and of the forwarder where that is not the same.
    ///
    /// # Errors
    /// Where one of them has ended.
    pub fn work(&self) -> anyhow::Result<(Duration, Option<Duration>)> {
        let generator = self.clock.get().context("the generator has not begun")?;
        Ok((generator.read()?, self.forwarder.clock().map(Clock::read).transpose()?))
    }

    /// Frames that have arrived as expected so far.
    ///
    /// # Errors
    /// What the kernel says; it has no reason to refuse.
    pub fn right(&self) -> anyhow::Result<u64> {
        Ok(self.sink.counts()?.right)
    }

    /// How long frames were on their way so far.
    ///
    /// # Errors
    /// As [`Self::right`].
    pub fn times(&self) -> anyhow::Result<Times> {
        self.sink.times()
    }

    /// Has the generator send at a rate, or as much as it can, while `meanwhile` is done on the
    /// calling thread, and at least for so long. Returns what was offered, and the counts of that
    /// time once the last frame is accounted for.
    ///
    /// # Errors
    /// [`Interrupted`], what `meanwhile` says, or what the kernel refuses.
    pub fn load<T>(
        &mut self,
        rate: Option<f64>,
        time: Option<Duration>,
        meanwhile: impl FnOnce(&Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Offered, Tally, T)> {
        let stop = AtomicBool::new(false);
        let core = self.setting.cores.generator;
        let mut generator = self.generator.take().context("an earlier load has failed")?;
        self.clock = OnceLock::new();
        let (offered, met) = thread::scope(|scope| {
            let ended = StopOnDrop(&stop);
            let generating = scope.spawn(|| -> anyhow::Result<Offered> {
                pin(core)?;
                let _ = self.clock.set(Clock::this_thread());
                generator.run(rate, time, &stop)
            });
            let met = meanwhile(self);
            if met.is_err() || time.is_none() {
                drop(ended);
            }
            let offered =
                generating.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (offered, met)
        });
        self.generator = Some(generator);
        let (offered, met) = (offered?, met?);
        Ok((offered, self.settle()?, met))
    }

    /// Loads it for a time and waits.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn trial(&mut self, rate: Option<f64>, time: Duration) -> anyhow::Result<(Offered, Tally)> {
        let (offered, tally, ()) =
            self.load(rate, Some(time), |run| Ok(run.setting.wait(time)?))?;
        Ok((offered, tally))
    }

    /// The counts since the last time, once they add up or have been given the time to.
    fn settle(&mut self) -> anyhow::Result<Tally> {
        let deadline = Instant::now() + EMPTYING;
        let mut last = None;
        loop {
            let now = self.tally()?;
            let since = now.since(&self.before);
            let settled = match now.books {
                Some(_) => since.faults().is_empty(),
                None => last.as_ref() == Some(&now),
            };
            if settled || Instant::now() > deadline {
                self.before = now;
                return Ok(since);
            }
            thread::sleep(if now.books.is_some() { LOOK_EVERY } else { SILENCE });
            last = Some(now);
        }
    }

    fn tally(&self) -> anyhow::Result<Tally> {
        let bed = self.setting.bed;
        let generator = self.generator.as_ref().context("an earlier load has failed")?;
        let offered = generator.sent_through_ports() + generator.sent_past_ports()?;
        let books = self.forwarder.books(bed.clients)?;
        let [pod_wire, exit_wire] = bed.lost(self.exit)?;
        let counts = self.sink.counts()?;
        Ok(Tally { offered, pod_wire, books, exit_wire, right: counts.right, wrong: counts.wrong })
    }
}
