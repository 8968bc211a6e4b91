//! The thread that forwards: it owns the whole data link and polls it (spec LAW-1, LAW-2).

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use datapath::lab::Lab;
use datapath::link::ElementId;
use datapath::time::Time;
use datapath_io::{Idle, LiveLink, Memory, Site, Waiter, Waker};
use serde::{Deserialize, Serialize};

use super::topology::Places;
use crate::net::{namespace, sysfs};

/// For how long an adaptive loop spins without work before it sleeps: longer than the answer to
/// what it has just forwarded takes, so that a conversation does not wait for wake-ups.
const SPIN: Duration = Duration::from_micros(200);
/// How long an adaptive loop has to have worked without a sleep for its sockets to be unwatched.
const AWAKE: Duration = Duration::from_millis(10);
/// How often the books are checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Turns without work between two looks at the clock, which costs as much as a turn.
const CLOCK_EVERY: u32 = 8;
/// Turns between two looks at what else is to be done.
const CHORES_EVERY: u32 = 64;

/// What a device is told where the kernel receives when it is asked: after how many empty polls its
/// interrupts come back, and for how long, in nanoseconds, frames may wait for the next poll.
const DEFERRAL: [(&str, &str); 2] =
    [("napi_defer_hard_irqs", "2"), ("gro_flush_timeout", "200000")];

/// How the forwarding thread waits for frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Poll {
    /// Never sleeps: one core is always busy.
    Busy,
    /// Never sleeps, and has the kernel receive when it asks rather than when frames arrive: about a
    /// tenth more frames where the sending core is the limit, and half a millisecond for a request
    /// and its answer, since what arrives while nobody asks waits for a timer.
    KernelBusy,
    /// Spins for a while, then sleeps until a frame arrives.
    #[default]
    Adaptive,
}

type Job = Box<dyn FnOnce(&mut LiveLink, Time) + Send>;

/// The forwarding thread, from outside.
#[derive(Debug)]
pub struct Worker {
    running: Mutex<Option<(Sender<Job>, JoinHandle<()>)>>,
    waker: Waker,
    watch: Arc<Watch>,
    ended: Receiver<()>,
}

/// What the forwarding thread tells without being asked.
#[derive(Debug, Default)]
struct Watch {
    imbalances: Mutex<Vec<String>>,
    /// The longest time between two polls, in nanoseconds.
    longest_gap: AtomicU64,
}

impl Worker {
    /// Opens a link on a new thread and begins to forward there. `open` may change the thread's
    /// namespace.
    ///
    /// # Errors
    /// What `open` says; nothing is left open then.
    pub fn start(
        open: impl FnOnce() -> anyhow::Result<LiveLink> + Send + 'static,
        poll: Poll,
    ) -> anyhow::Result<Self> {
        let (jobs, inbox) = bounded::<Job>(64);
        let (opened, is_open) = bounded(1);
        let (end, ended) = bounded::<()>(0);
        let watch = Arc::new(Watch::default());
        let watched = Arc::clone(&watch);
        let thread = std::thread::Builder::new().name("forwarder".into()).spawn(move || {
            // Dropped when this thread ends, by a panic too.
            let _end = end;
            match open().and_then(|link| ready(link, poll)) {
                Ok((link, sleeper)) => {
                    let _ = opened.send(Ok(sleeper.waiter.waker()));
                    run(link, sleeper, &inbox, poll, &watched);
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        })?;
        let waker = is_open.recv().context("the forwarding thread ended")??;
        Ok(Self { running: Mutex::new(Some((jobs, thread))), waker, watch, ended })
    }

    /// Has the forwarding thread do something between two turns, and waits for its answer.
    ///
    /// # Errors
    /// Where the thread has ended.
    pub fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut LiveLink, Time) -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        let (answer, answered) = bounded(1);
        let job: Job = Box::new(move |link, now| drop(answer.send(job(link, now))));
        let jobs = self.running.lock().ok().and_then(|r| r.as_ref().map(|(jobs, _)| jobs.clone()));
        let sent = jobs.is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            bail!("the forwarder has stopped");
        }
        self.waker.wake()?;
        answered.recv().context("the forwarder has stopped")
    }

    /// A channel that is closed when the forwarding thread has ended.
    #[must_use]
    pub const fn ended(&self) -> &Receiver<()> {
        &self.ended
    }

    /// Stops forwarding and closes every port. Returns when that is done.
    pub fn stop(&self) {
        let running = self.running.lock().ok().and_then(|mut running| running.take());
        if let Some((jobs, thread)) = running {
            drop(jobs);
            let _ = self.waker.wake();
            let _ = thread.join();
        }
    }

    /// Every imbalance the check of the books has found so far.
    #[must_use]
    pub fn imbalances(&self) -> Vec<String> {
        self.watch.imbalances.lock().map(|books| books.clone()).unwrap_or_default()
    }

    /// The longest time since the last call in which the loop did not look at any port, but for
    /// sleeps.
    #[must_use]
    pub fn take_longest_gap(&self) -> Duration {
        Duration::from_nanos(self.watch.longest_gap.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Has the forwarder's ends leave their interrupts alone while somebody polls: without it, the
/// kernel goes on receiving when frames arrive, whatever the sockets prefer.
///
/// # Errors
/// Where a device is not there, or the kernel does not have these settings (before 5.11).
pub fn defer_interrupts(places: &Places) -> anyhow::Result<()> {
    for Site { namespace, ifname, .. } in &places.sites {
        let defer = || -> io::Result<()> {
            DEFERRAL
                .iter()
                .try_for_each(|(name, value)| fs::write(sysfs::file(ifname, name), value))
        };
        let deferred = sysfs::run_in(namespace, defer)?;
        deferred.with_context(|| format!("defer the interrupts of {ifname} in {namespace}"))?;
    }
    Ok(())
}

/// Opens the whole link of a lab.
///
/// # Errors
/// Where a memory or a port cannot be opened.
pub fn open(lab: Lab, places: &Places) -> anyhow::Result<LiveLink> {
    let enter = |name: &str| namespace::enter(name).map_err(|error| error.to_string());
    let anchor = (places.anchor.0.as_str(), places.anchor.1.as_str());
    let elements: Vec<_> = ElementId::all(&lab).collect();
    let memory = Memory::open(&lab, &elements, anchor, enter)?;
    Ok(LiveLink::open(lab, &memory, &places.sites, enter)?)
}

/// Prepares a link for the loop.
fn ready(mut link: LiveLink, poll: Poll) -> anyhow::Result<(LiveLink, Sleeper)> {
    if poll == Poll::KernelBusy {
        link.prefer_busy_poll().context("have the kernel receive when asked")?;
    }
    let sleeper = Sleeper { waiter: Waiter::new()?, watches: false, slept: Time::ZERO };
    Ok((link, sleeper))
}

/// The polling loop.
fn run(mut link: LiveLink, mut sleeper: Sleeper, inbox: &Receiver<Job>, poll: Poll, watch: &Watch) {
    let began = Instant::now();
    let now = || Time::from_nanos(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let mut idle = Idle::new(SPIN);
    let mut next_check = Time::ZERO + CHECK_EVERY;
    let mut turn = 0_u32;
    // Whether time may have passed since the last look at the clock.
    let (mut time, mut passed) = (now(), false);
    let mut last = time;
    loop {
        if passed || turn.is_multiple_of(CLOCK_EVERY) {
            time = now();
            let gap = time.since(last).as_nanos() as u64;
            last = time;
            if gap > watch.longest_gap.load(Ordering::Relaxed) {
                watch.longest_gap.store(gap, Ordering::Relaxed);
            }
        }
        let worked = link.poll(time);
        let sleeps = poll == Poll::Adaptive && idle.sleep_after(worked, time);
        passed = worked || sleeps;
        turn = turn.wrapping_add(1);
        if !sleeps && !turn.is_multiple_of(CHORES_EVERY) {
            continue;
        }
        match inbox.try_recv() {
            Ok(job) => {
                job(&mut link, time);
                passed = true;
                continue;
            }
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {}
        }
        if time >= next_check {
            next_check = time + CHECK_EVERY;
            check(&link, &watch.imbalances);
        }
        let done =
            if sleeps { sleeper.sleep(&link, time, next_check) } else { sleeper.stay_awake(time) };
        if let Err(error) = done {
            tracing::error!(%error, "waiting for frames failed");
        }
        if sleeps {
            last = now();
        }
    }
}

/// What the loop sleeps on. It watches the sockets only while the loop sleeps now and then: see
/// [`Waiter::forget`].
struct Sleeper {
    waiter: Waiter,
    watches: bool,
    /// When it last slept.
    slept: Time,
}

impl Sleeper {
    /// Sleeps until a frame, a job, a timer or the next check.
    fn sleep(&mut self, link: &LiveLink, now: Time, next_check: Time) -> io::Result<()> {
        self.slept = now;
        if !self.watches {
            // A frame that is there already ends the sleep at once.
            link.register(&self.waiter).or_else(|error| self.waiter.forget().and(Err(error)))?;
            self.watches = true;
        }
        let most = if link.is_sending() {
            Duration::from_millis(1)
        } else {
            link.poll_at().map_or(next_check, |at| at.min(next_check)).since(now)
        };
        self.waiter.wait(Some(most), &mut Vec::new()).map(drop)
    }

    /// Stops watching once the loop has not slept for a while.
    fn stay_awake(&mut self, now: Time) -> io::Result<()> {
        if self.watches && now.since(self.slept) >= AWAKE {
            self.waiter.forget()?;
            self.watches = false;
        }
        Ok(())
    }
}

fn check(link: &LiveLink, books: &Mutex<Vec<String>>) {
    let found = link.imbalances();
    if found.is_empty() {
        return;
    }
    // A broken book stays broken: the first findings are the ones worth keeping.
    if let Ok(mut books) = books.lock()
        && books.is_empty()
    {
        for imbalance in &found {
            tracing::error!(%imbalance, "frames are not conserved");
        }
        *books = found;
    }
}
