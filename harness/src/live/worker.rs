//! The threads that forward: each owns a share of the data link, mostly all of it, and polls it
//! (spec LAW-1, LAW-2, LINK-4).

use std::fmt;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use datapath::lab::{Lab, Links};
use datapath::link::{ElementId, ports_of};
use datapath::time::Time;
use datapath_io::{Idle, LiveLink, Memory, Rings, Site, Waiter, Waker};
use serde::{Deserialize, Serialize};

use super::topology::{Places, WiredOrFused};
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
/// The same as a new device has it.
const NO_DEFERRAL: [(&str, &str); 2] = [("napi_defer_hard_irqs", "0"), ("gro_flush_timeout", "0")];

/// Why [`Poll::KernelBusy`] is no way to wait here.
pub const ASKED_IN_VAIN: &str = "this kernel does not receive for an AF_XDP socket in copy mode when it is \
    asked (Linux 6.14 and later do not), so that frames would wait for a timer: use --poll busy";

/// How the forwarding thread waits for frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Poll {
    /// Never sleeps: one core is always busy.
    Busy,
    /// Never sleeps, and has the kernel receive when it asks rather than when frames arrive: for full
    /// load, where the sending core is the limit. A request and its answer take half a millisecond,
    /// since what arrives while nobody asks waits for a timer.
    KernelBusy,
    /// Spins for a while, then sleeps until a frame arrives.
    #[default]
    Adaptive,
}

/// How a lab is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct Forwarding {
    /// How the forwarder waits for frames.
    #[arg(long, value_enum, default_value_t)]
    pub poll: Poll,
    /// Threads that forward. Each runs whole nodes, or the VPC, and needs a core of its own.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: u16,
    /// How eth0 and eth1 of the nodes are joined to the VPC; default as the lab says.
    #[arg(long, value_enum, value_name = "LINKS")]
    pub links: Option<WiredOrFused>,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self { poll: Poll::default(), workers: 1, links: None }
    }
}

impl Forwarding {
    /// The lab as it is forwarded.
    #[must_use]
    pub fn of(&self, lab: Lab) -> Lab {
        let links = self.links.map_or(lab.links, Links::from);
        Lab { links, ..lab }
    }
}

/// The elements that each of a number of threads runs: the one with the most queues first, each
/// goes to the thread that has the fewest so far.
///
/// # Errors
/// Where there are more threads than elements.
pub fn shares(lab: &Lab, workers: u16) -> anyhow::Result<Vec<Vec<ElementId>>> {
    let queues = |id| ports_of(lab, id).into_iter().map(|(_, queues)| usize::from(queues)).sum();
    let mut elements: Vec<(usize, ElementId)> =
        ElementId::all(lab).map(|id| (queues(id), id)).collect();
    if usize::from(workers) > elements.len() {
        bail!("{workers} workers: the lab has {} elements to run", elements.len());
    }
    elements.sort_by_key(|(queues, id)| (std::cmp::Reverse(*queues), *id));
    let mut shares = vec![(0, Vec::new()); usize::from(workers)];
    for (queues, id) in elements {
        if let Some((sum, share)) = shares.iter_mut().min_by_key(|(sum, _)| *sum) {
            *sum += queues;
            share.push(id);
        }
    }
    let sorted = |(_, mut share): (usize, Vec<ElementId>)| {
        share.sort();
        share
    };
    Ok(shares.into_iter().map(sorted).collect())
}

type Open = Box<dyn FnOnce() -> anyhow::Result<LiveLink> + Send>;

/// What a thread begins with.
pub struct Seat {
    waiter: Waiter,
    open: Open,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("waiter", &self.waiter).finish_non_exhaustive()
    }
}

impl Seat {
    /// A thread that sleeps on `waiter` and opens its share of the link by `open`, which may change
    /// the thread's namespace.
    pub fn new(
        waiter: Waiter,
        open: impl FnOnce() -> anyhow::Result<LiveLink> + Send + 'static,
    ) -> Self {
        Self { waiter, open: Box::new(open) }
    }
}

/// A thread is asked for its link, and gets it back.
struct Loan {
    lend: Sender<LiveLink>,
    back: Receiver<LiveLink>,
}

/// One forwarding thread, from outside.
#[derive(Debug)]
struct Running {
    loans: Sender<Loan>,
    waker: Waker,
    thread: JoinHandle<()>,
}

/// The forwarding threads, from outside.
#[derive(Debug)]
pub struct Worker {
    /// Held while somebody has their links: one at a time.
    running: Mutex<Vec<Running>>,
    began: Instant,
    watch: Arc<Watch>,
    ended: Receiver<()>,
}

/// Tells of the end of a thread, by a panic too.
struct TellEnd(Sender<()>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

/// What the forwarding threads tell without being asked.
#[derive(Debug, Default)]
struct Watch {
    imbalances: Mutex<Vec<String>>,
    /// The longest time between two polls of a thread, in nanoseconds.
    longest_gap: AtomicU64,
}

impl Worker {
    /// Opens a link on new threads, on each its share, and begins to forward there.
    ///
    /// # Errors
    /// What opening says; nothing is left open then.
    pub fn start(seats: Vec<Seat>, poll: Poll) -> anyhow::Result<Self> {
        let (end, ended) = bounded::<()>(seats.len().max(1));
        let watch = Arc::new(Watch::default());
        let began = Instant::now();
        // Whatever fails, what has been started is stopped when this is dropped.
        let this = Self { running: Mutex::new(Vec::new()), began, watch, ended };
        let mut opening = Vec::new();
        for Seat { waiter, open } in seats {
            let (loans, inbox) = bounded::<Loan>(64);
            let (opened, is_open) = bounded(1);
            let (end, watch) = (TellEnd(end.clone()), Arc::clone(&this.watch));
            let waker = waiter.waker();
            let thread = thread::Builder::new().name("forwarder".into()).spawn(move || {
                let _end = end;
                match open().and_then(|link| ready(link, poll)) {
                    Ok(link) => {
                        let _ = opened.send(Ok(()));
                        let sleeper = Sleeper { waiter, watches: false, slept: Time::ZERO };
                        Loop { sleeper, inbox, poll, watch, began }.run(link);
                    }
                    Err(error) => drop(opened.send(Err(error))),
                }
            })?;
            this.threads().push(Running { loans, waker, thread });
            opening.push(is_open);
        }
        for is_open in opening {
            is_open.recv().context("a forwarding thread ended")??;
        }
        Ok(this)
    }

    fn threads(&self) -> MutexGuard<'_, Vec<Running>> {
        // Nothing panics half-way through a change of it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the whole link between two turns, and gives it back to its threads.
    ///
    /// # Errors
    /// Where a thread has ended.
    pub fn call<T>(&self, job: impl FnOnce(&mut LiveLink, Time) -> T) -> anyhow::Result<T> {
        let threads = self.threads();
        let mut asked = Vec::new();
        for Running { loans, waker, .. } in threads.iter() {
            let ((lend, lent), (give, back)) = (bounded(1), bounded(1));
            if loans.send(Loan { lend, back }).is_ok() {
                waker.wake()?;
                asked.push((lent, give));
            }
        }
        let mut links = Vec::new();
        let mut owners = Vec::new();
        for (lent, give) in asked {
            if let Ok(link) = lent.recv() {
                links.push(link);
                owners.push(give);
            }
        }
        let complete = links.len() == threads.len();
        let mut whole = LiveLink::join(links).context("the forwarder has stopped")?;
        let done = complete.then(|| job(&mut whole, since(self.began)));
        for (link, give) in whole.split().into_iter().zip(owners) {
            drop(give.send(link));
        }
        done.context("the forwarder has stopped")
    }

    /// A channel that says something, or is closed, when a forwarding thread has ended.
    #[must_use]
    pub const fn ended(&self) -> &Receiver<()> {
        &self.ended
    }

    /// Stops forwarding and closes every port. Returns when that is done.
    pub fn stop(&self) {
        let running = std::mem::take(&mut *self.threads());
        let threads: Vec<_> = running
            .into_iter()
            .map(|Running { loans, waker, thread }| {
                drop(loans);
                let _ = waker.wake();
                thread
            })
            .collect();
        for thread in threads {
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
pub fn defer_interrupts(sites: &[Site]) -> anyhow::Result<()> {
    set_interrupts(sites, DEFERRAL)
}

/// Takes [`defer_interrupts`] back.
///
/// # Errors
/// As there.
pub fn restore_interrupts(sites: &[Site]) -> anyhow::Result<()> {
    set_interrupts(sites, NO_DEFERRAL)
}

fn set_interrupts(sites: &[Site], settings: [(&str, &str); 2]) -> anyhow::Result<()> {
    for Site { namespace, ifname, .. } in sites {
        let set = || -> io::Result<()> {
            settings
                .iter()
                .try_for_each(|(name, value)| fs::write(sysfs::file(ifname, name), value))
        };
        let set = sysfs::run_in(namespace, set)?;
        set.with_context(|| format!("set the interrupts of {ifname} in {namespace}"))?;
    }
    Ok(())
}

/// Opens the whole link of a lab on this thread.
///
/// # Errors
/// Where a memory or a port cannot be opened.
pub fn open(lab: Lab, places: &Places) -> anyhow::Result<LiveLink> {
    let elements: Vec<_> = ElementId::all(&lab).collect();
    open_share(lab, places, &elements, 0, None)
}

fn open_share(
    lab: Lab,
    places: &Places,
    elements: &[ElementId],
    first_queue: u32,
    rings: Option<Rings>,
) -> anyhow::Result<LiveLink> {
    let enter = |name: &str| namespace::enter(name).map_err(|error| error.to_string());
    let anchor = (places.anchor.0.as_str(), places.anchor.1.as_str());
    let memory = Memory::open(&lab, elements, anchor, first_queue, enter)?;
    Ok(LiveLink::open(lab, &memory, rings, &places.sites, enter)?)
}

/// The seats of the threads that forward a whole lab.
///
/// # Errors
/// Where there are too many of them, or the process has no file descriptors left.
pub fn seats(lab: &Lab, places: &Places, workers: u16) -> anyhow::Result<Vec<Seat>> {
    let shares = shares(lab, workers)?;
    let waiters = shares.iter().map(|_| Waiter::new()).collect::<Result<Vec<_>, _>>()?;
    let rings = Rings::between(lab, &shares, waiters.iter().map(Waiter::waker).collect())?;
    let mut first = 0;
    let mut seats = Vec::new();
    for ((share, waiter), rings) in shares.into_iter().zip(waiters).zip(rings) {
        let memories = datapath_io::memory_plan(lab, &share)?.arenas.len();
        let (lab, places) = (lab.clone(), places.clone());
        let queue = first;
        first += u32::try_from(memories).context("too many packet memories")?;
        let open = move || open_share(lab, &places, &share, queue, Some(rings));
        seats.push(Seat::new(waiter, open));
    }
    Ok(seats)
}

/// Prepares a link for the loop.
fn ready(mut link: LiveLink, poll: Poll) -> anyhow::Result<LiveLink> {
    if poll == Poll::KernelBusy {
        link.prefer_busy_poll().context("have the kernel receive when asked")?;
    }
    Ok(link)
}

fn since(began: Instant) -> Time {
    Time::from_nanos(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// The polling loop.
struct Loop {
    sleeper: Sleeper,
    inbox: Receiver<Loan>,
    poll: Poll,
    watch: Arc<Watch>,
    began: Instant,
}

impl Loop {
    fn run(mut self, mut link: LiveLink) {
        let mut idle = Idle::new(SPIN);
        let mut next_check = since(self.began) + CHECK_EVERY;
        let mut turn = 0_u32;
        // Whether time may have passed since the last look at the clock.
        let (mut time, mut passed) = (since(self.began), false);
        let mut last = time;
        loop {
            if passed || turn.is_multiple_of(CLOCK_EVERY) {
                time = since(self.began);
                let gap = time.since(last).as_nanos() as u64;
                last = time;
                if gap > self.watch.longest_gap.load(Ordering::Relaxed) {
                    self.watch.longest_gap.fetch_max(gap, Ordering::Relaxed);
                }
            }
            let worked = link.poll(time);
            let sleeps = self.poll == Poll::Adaptive && idle.sleep_after(worked, time);
            passed = worked || sleeps;
            turn = turn.wrapping_add(1);
            if !sleeps && !turn.is_multiple_of(CHORES_EVERY) {
                continue;
            }
            match self.inbox.try_recv() {
                Ok(loan) => {
                    let Some(returned) = lend(link, &loan) else { return };
                    link = returned;
                    passed = true;
                    continue;
                }
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {}
            }
            if time >= next_check {
                next_check = time + CHECK_EVERY;
                check(&link, &self.watch.imbalances);
            }
            let done = if sleeps {
                self.sleeper.sleep(&mut link, time, next_check)
            } else {
                self.sleeper.stay_awake(time)
            };
            if let Err(error) = done {
                tracing::error!(%error, "waiting for frames failed");
            }
            if sleeps {
                last = since(self.began);
            }
        }
    }
}

/// Gives the link away and gets it back. Who has taken it and does not give it back has panicked.
fn lend(link: LiveLink, Loan { lend, back }: &Loan) -> Option<LiveLink> {
    lend.send(link).ok()?;
    back.recv().ok()
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
    /// Sleeps until a frame, a borrower, a timer or the next check.
    fn sleep(&mut self, link: &mut LiveLink, now: Time, next_check: Time) -> io::Result<()> {
        self.slept = now;
        if !self.watches {
            // A frame that is there already ends the sleep at once.
            link.register(&self.waiter).or_else(|error| self.waiter.forget().and(Err(error)))?;
            self.watches = true;
        }
        link.sleep(&mut self.waiter, now, next_check)
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
