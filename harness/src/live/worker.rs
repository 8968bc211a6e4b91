//! The thread that forwards: it owns the whole data link and polls it (spec LAW-1, LAW-2).

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use datapath::lab::Lab;
use datapath::link::ElementId;
use datapath::time::Time;
use datapath_io::{Idle, LiveLink, Memory, Waiter, Waker};
use serde::{Deserialize, Serialize};

use super::topology::Places;
use crate::net::namespace;

/// Empty turns before an adaptive loop sleeps: some tens of microseconds.
const SPIN: u32 = 2_000;
/// How often the books are checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Turns between two looks at what else is to be done.
const CHORES_EVERY: u32 = 64;

/// How the forwarding thread waits for frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Poll {
    /// Never sleeps: one core is always busy.
    Busy,
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
    imbalances: Arc<Mutex<Vec<String>>>,
    ended: Receiver<()>,
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
        let imbalances = Arc::new(Mutex::new(Vec::new()));
        let books = Arc::clone(&imbalances);
        let thread = std::thread::Builder::new().name("forwarder".into()).spawn(move || {
            // Dropped when this thread ends, by a panic too.
            let _end = end;
            match open().and_then(|link| Ok((waiter(&link, poll)?, link))) {
                Ok((waiter, link)) => {
                    let _ = opened.send(Ok(waiter.waker()));
                    run(link, waiter, &inbox, poll, &books);
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        })?;
        let waker = is_open.recv().context("the forwarding thread ended")??;
        Ok(Self { running: Mutex::new(Some((jobs, thread))), waker, imbalances, ended })
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
        self.imbalances.lock().map(|books| books.clone()).unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
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

/// What the loop sleeps on. One that never sleeps watches no port: of a watched socket the kernel
/// looks for sleepers with every frame that it takes or has sent.
fn waiter(link: &LiveLink, poll: Poll) -> anyhow::Result<Waiter> {
    let waiter = Waiter::new()?;
    if poll == Poll::Adaptive {
        link.register(&waiter)?;
    }
    Ok(waiter)
}

/// The polling loop.
fn run(
    mut link: LiveLink,
    mut waiter: Waiter,
    inbox: &Receiver<Job>,
    poll: Poll,
    books: &Mutex<Vec<String>>,
) {
    let began = Instant::now();
    let now = || Time::from_nanos(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let mut idle = Idle::new(SPIN);
    let mut next_check = Time::ZERO + CHECK_EVERY;
    let mut ready = Vec::new();
    let mut turn = 0_u32;
    loop {
        let time = now();
        let worked = link.poll(time);
        let sleeps = poll == Poll::Adaptive && idle.sleep_after(worked);
        turn = turn.wrapping_add(1);
        if !sleeps && !turn.is_multiple_of(CHORES_EVERY) {
            continue;
        }
        match inbox.try_recv() {
            Ok(job) => {
                job(&mut link, time);
                continue;
            }
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {}
        }
        if time >= next_check {
            next_check = time + CHECK_EVERY;
            check(&link, books);
        }
        if sleeps {
            sleep(&link, &mut waiter, &mut ready, time, next_check);
        }
    }
}

/// Sleeps until a frame, a job, a timer or the next check.
fn sleep(link: &LiveLink, waiter: &mut Waiter, ready: &mut Vec<u64>, now: Time, next_check: Time) {
    let most = if link.is_sending() {
        Duration::from_millis(1)
    } else {
        link.poll_at().map_or(next_check, |at| at.min(next_check)).since(now)
    };
    if let Err(error) = waiter.wait(Some(most), ready) {
        tracing::error!(%error, "waiting for frames failed");
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
