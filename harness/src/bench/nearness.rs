//! How near the two cores are to each other, and how much of a core each has. The host of a virtual
//! machine may move its processors to where they share no cache, or to where another guest's share their
//! execution units, and back, several times a minute: what they do then takes half as long again, and no
//! clock of the guest tells.

use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use super::machine::{Cores, pin};

/// How often the line goes there and back in one piece of a look.
const BOUNCES: u32 = 500;
/// Pieces of a look, of which the fastest counts: in the others a core may have had other work.
const PIECES: u32 = 4;
/// Looks before the first measurement.
const FIRST_LOOKS: u32 = 20;
/// Cores are apart that are so many times as far from each other as they have been: two threads of one
/// core are twice as near as two cores with a common cache, and those six times as near as others.
const APART: f64 = 4.0;
/// Work that keeps a core's execution units busy takes so much longer, at most, while they are its own.
const SHARED: f64 = 1.2;
/// Steps of that work: some ten microseconds.
const STEPS: u64 = 10_000;

/// How near the cores were meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Nearness {
    /// The least time that a line of memory took from one core to the other, in nanoseconds.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// The least time of work that keeps a core's execution units busy, on the slower core, in microseconds.
    pub least_work: f64,
    /// The greatest.
    pub greatest_work: f64,
    /// Measurements that were repeated because the cores were apart, or not their own, before or after.
    pub repeated: u32,
    /// Those that count all the same, after as many as are repeated in a row.
    pub apart: u32,
}

/// A look at the cores.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// From one to the other, in nanoseconds.
    distance: f64,
    /// The work on the slower one, in microseconds.
    work: f64,
}

impl Nearness {
    const NONE: Self = Self {
        least: f64::INFINITY,
        greatest: 0.0,
        least_work: f64::INFINITY,
        greatest_work: 0.0,
        repeated: 0,
        apart: 0,
    };

    /// Of two cores, by some looks.
    ///
    /// # Errors
    /// Where a thread cannot be kept on a core, or be put before others there, which takes root.
    pub fn of(cores: Cores) -> anyhow::Result<Self> {
        let mut this = Self::NONE;
        for _ in 0..FIRST_LOOKS {
            this.is_near(cores)?;
        }
        Ok(this)
    }

    /// Whether they are as near now, and as quick, as they have been.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn is_near(&mut self, cores: Cores) -> anyhow::Result<bool> {
        let Look { distance, work } = look(cores)?;
        self.least = self.least.min(distance);
        self.greatest = self.greatest.max(distance);
        self.least_work = self.least_work.min(work);
        self.greatest_work = self.greatest_work.max(work);
        Ok(distance < self.least * APART && work < self.least_work * SHARED)
    }

    /// In words, where the cores were apart.
    #[must_use]
    pub fn in_words(&self) -> Option<String> {
        let Self { least, greatest, least_work, greatest_work, repeated, apart } = self;
        (repeated + apart > 0).then(|| {
            format!(
                "the cores were {least:.0} to {greatest:.0} ns apart and took {least_work:.0} to \
                 {greatest_work:.0} us for the same work: repeated {repeated}, kept {apart}"
            )
        })
    }
}

/// Looks at the cores.
fn look(cores: Cores) -> anyhow::Result<Look> {
    let line = CachePadded::new(AtomicU32::new(0));
    // Neither begins to spin before the other has its core.
    let both = Barrier::new(2);
    thread::scope(|scope| {
        let answerer = scope.spawn(|| -> anyhow::Result<f64> {
            let ready = on(cores.forwarder);
            both.wait();
            answer(&line);
            ready.map(|()| fastest(work))
        });
        let asker = scope.spawn(|| -> anyhow::Result<(f64, f64)> {
            let ready = on(cores.generator);
            both.wait();
            let asked = ask(&line);
            ready.map(|()| (asked, fastest(work)))
        });
        let (Ok(answered), Ok(asked)) = (answerer.join(), asker.join()) else {
            anyhow::bail!("a thread has panicked");
        };
        let ((distance, one), other) = (asked?, answered?);
        Ok(Look { distance: distance * 1e3, work: one.max(other) })
    })
}

/// Sends a line there and back, and says how long it takes for one way at its fastest, in microseconds.
fn ask(line: &AtomicU32) -> f64 {
    let mut turn = 0;
    let piece = || {
        for _ in 0..BOUNCES {
            line.store(turn + 1, Ordering::Release);
            reach(line, turn + 2);
            turn += 2;
        }
    };
    fastest(piece) / f64::from(2 * BOUNCES)
}

/// Sends it back.
fn answer(line: &AtomicU32) {
    for turn in (1..2 * BOUNCES * PIECES).step_by(2) {
        reach(line, turn);
        line.store(turn + 1, Ordering::Release);
    }
}

/// The time of the fastest of some pieces, in microseconds.
fn fastest(mut piece: impl FnMut()) -> f64 {
    let mut fastest = Duration::MAX;
    for _ in 0..PIECES {
        let began = Instant::now();
        piece();
        fastest = fastest.min(began.elapsed());
    }
    fastest.as_nanos() as f64 / 1e3
}

/// Work of which a core can do much at a time.
fn work() {
    let mut values = black_box([1_u64; 8]);
    for step in 0..STEPS {
        for value in &mut values {
            *value ^= value.rotate_left(5).wrapping_add(step);
        }
    }
    black_box(values);
}

/// Keeps the calling thread on a core, before whatever else is at work there.
fn on(core: usize) -> anyhow::Result<()> {
    pin(core)?;
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let raised = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
    raised.map_err(|error| anyhow::anyhow!("raise a thread's priority: {error:?}"))
}

/// Waits until a line has a value.
fn reach(line: &AtomicU32, value: u32) {
    while line.load(Ordering::Acquire) != value {
        spin_loop();
    }
}
