//! What every measurement begins and ends with: the machine for itself, a lab, rounds until the
//! user has enough, and a report.

use std::fs::File;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use crossbeam::channel::{Receiver, bounded};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::{SigSet, Signal};

use super::bed::Bed;
use super::far_end::FarEnd;
use super::forwarder::Kind;
use super::frames::Frames;
use super::lab::Shape;
use super::load::Load;
use super::machine::{Cores, Machine, Priority, Ticks, alone, calibrate};
use super::nearness::Nearness;
use super::report::{Calibration, Case, Mode, Report, VERSION};
use super::run::{Interrupted, Setting};

/// How often the progress moves by itself.
const TICK: Duration = Duration::from_millis(200);

/// A measurement under way. Nothing is left behind when it is dropped.
#[derive(Debug)]
pub struct Session {
    // Ports are closed before the lab is taken down, and that before others may measure.
    /// The pods' ends of the wires.
    pub pods: Vec<FarEnd>,
    /// The lab.
    pub bed: Bed,
    /// What is offered.
    pub load: Load,
    /// Its frames.
    pub frames: Frames,
    /// Where the two threads that work run.
    pub cores: Cores,
    /// Where it has come to, on standard error where that is a terminal.
    pub progress: Progress,
    interrupted: Receiver<()>,
    calibrations: Vec<f64>,
    nearness: Mutex<Nearness>,
    began: Ticks,
    machine: Machine,
    _priority: Priority,
    _alone: File,
}

impl Session {
    /// Waits until no other measurement runs, and makes a lab for a load, which is first changed
    /// by `shape` where there is to be more in it.
    ///
    /// # Errors
    /// Where the machine cannot run it. Nothing is left behind then.
    pub fn open(load: &Load, shape: impl FnOnce(&mut Shape)) -> anyhow::Result<Self> {
        let progress = Progress::new();
        progress.say("waits for the machine");
        let alone = alone()?;
        // Before anything is made, so that whatever is made is also taken down.
        let interrupted = interruption()?;
        progress.tick();
        let cores = Cores::first_two()?;
        progress.say("makes a lab");
        let mut of = Shape::of(load);
        shape(&mut of);
        let bed = Bed::make(&of)?;
        let frames = Frames::of(&bed.lab, load)?;
        let pods = bed.open_pods()?;
        let priority = Priority::raise();
        let machine = Machine::this(cores, &priority)?;
        Ok(Self {
            pods,
            bed,
            load: load.clone(),
            frames,
            cores,
            progress,
            interrupted,
            calibrations: Vec::new(),
            nearness: Mutex::new(Nearness::of(cores)?),
            began: Ticks::now(),
            machine,
            _priority: priority,
            _alone: alone,
        })
    }

    /// Offers another load from here on, for which the lab has pods, services and room.
    ///
    /// # Errors
    /// Where it has not.
    pub fn offer(&mut self, load: &Load) -> anyhow::Result<()> {
        self.frames = Frames::of(&self.bed.lab, load)?;
        self.load = load.clone();
        Ok(())
    }

    /// What stays the same from run to run, and the pods' ends.
    pub fn parts(&mut self) -> (Setting<'_>, &mut [FarEnd], &Progress) {
        let setting = Setting {
            bed: &self.bed,
            load: &self.load,
            frames: &self.frames,
            cores: self.cores,
            interrupted: &self.interrupted,
            nearness: &self.nearness,
        };
        (setting, &mut self.pods, &self.progress)
    }

    /// Does something so many times, after a look at the machine's speed. Says whether the user
    /// has stopped it: what `each` had kept until then is to be told.
    ///
    /// # Errors
    /// What `each` says, unless it is [`Interrupted`].
    pub fn rounds(
        &mut self,
        count: u32,
        mut each: impl FnMut(&mut Self, u32) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        for round in 0..count {
            self.calibrations.push(calibrate().as_secs_f64() * 1e3);
            self.progress.round(round + 1, count);
            match each(self, round) {
                Err(error) if error.is::<Interrupted>() => return Ok(true),
                result => result?,
            }
        }
        Ok(false)
    }

    /// What was measured on, with what the host has taken away meanwhile, and how near it had the cores.
    #[must_use]
    pub fn machine(&self) -> Machine {
        let steal = Ticks::now().stolen_since(self.began);
        let nearness = *self.nearness.lock().unwrap_or_else(PoisonError::into_inner);
        Machine { steal, nearness: Some(nearness), ..self.machine.clone() }
    }

    /// The machine's speed meanwhile.
    #[must_use]
    pub fn calibration(&self) -> Calibration {
        Calibration::of(&self.calibrations)
    }

    /// The report of what was measured. `passed` says whether it is without faults and ratios are
    /// what was expected of them.
    #[must_use]
    pub fn report(&self, mode: Mode, cases: Vec<Case>, interrupted: bool) -> Report {
        Report {
            version: VERSION,
            mode,
            passed: cases.iter().all(|case| case.faults.is_empty() && case.is_as_expected()),
            interrupted,
            machine: self.machine(),
            calibration: self.calibration(),
            load: Some(self.load.clone()),
            goal: None,
            expected: String::new(),
            cases,
            absent: Vec::new(),
        }
    }
}

/// The two forwarders in the order of a round: the first of one is the second of the next.
#[must_use]
pub fn order(round: u32) -> [Kind; 2] {
    if round.is_multiple_of(2) { [Kind::L2fwd, Kind::Node] } else { [Kind::Node, Kind::L2fwd] }
}

/// Progress on standard error.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {prefix} {msg}");
        let bar = ProgressBar::new_spinner();
        let bar = style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style));
        Self(bar)
    }

    /// Has it move by itself, on a thread: only once signals are caught, or that one would take
    /// them.
    fn tick(&self) {
        self.0.enable_steady_tick(TICK);
    }

    fn round(&self, round: u32, of: u32) {
        self.0.set_prefix(format!("round {round} of {of}"));
    }

    /// What is going on now.
    pub fn say(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }

    /// What was found, in a line that stays, wherever standard error goes.
    pub fn line(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Catches the signals that end a command, from here on in every thread.
fn interruption() -> anyhow::Result<Receiver<()>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("block signals")?;
    let (interrupt, interrupted) = bounded(1);
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            // One that is waiting already says as much.
            let _ = interrupt.try_send(());
        }
    });
    Ok(interrupted)
}
