//! The threads that forward: each owns a share of the data link, mostly all of it, and polls it
//! (spec LAW-1, LAW-2, LINK-4).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use datapath::lab::{Lab, Links};
use datapath::link::{ElementId, ports_of};
use datapath::time::Time;
use datapath_io::{Idle, LiveLink, Memory, Rings, Waiter, Waker};
use serde::{Deserialize, Serialize};

use super::topology::{Places, WiredOrFused};
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
    imbalances: Arc<Mutex<Vec<String>>>,
    ended: Receiver<()>,
}

/// Tells of the end of a thread, by a panic too.
struct TellEnd(Sender<()>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

impl Worker {
    /// Opens a link on new threads, on each its share, and begins to forward there.
    ///
    /// # Errors
    /// What opening says; nothing is left open then.
    pub fn start(seats: Vec<Seat>, poll: Poll) -> anyhow::Result<Self> {
        let (end, ended) = bounded::<()>(seats.len().max(1));
        let imbalances = Arc::new(Mutex::new(Vec::new()));
        let began = Instant::now();
        // Whatever fails, what has been started is stopped when this is dropped.
        let this = Self { running: Mutex::new(Vec::new()), began, imbalances, ended };
        let mut opening = Vec::new();
        for Seat { waiter, open } in seats {
            let (loans, inbox) = bounded::<Loan>(64);
            let (opened, is_open) = bounded(1);
            let (end, books) = (TellEnd(end.clone()), Arc::clone(&this.imbalances));
            let waker = waiter.waker();
            let thread = thread::Builder::new().name("forwarder".into()).spawn(move || {
                let _end = end;
                match open().and_then(|link| watched(link, &waiter, poll)) {
                    Ok(link) => {
                        let _ = opened.send(Ok(()));
                        Loop { waiter, inbox, poll, books, began }.run(link);
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
        self.imbalances.lock().map(|books| books.clone()).unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
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

/// Has the loop's sleep end for every port. One that never sleeps watches none: of a watched socket
/// the kernel looks for sleepers with every frame that it takes or has sent.
fn watched(link: LiveLink, waiter: &Waiter, poll: Poll) -> anyhow::Result<LiveLink> {
    if poll == Poll::Adaptive {
        link.register(waiter)?;
    }
    Ok(link)
}

fn since(began: Instant) -> Time {
    Time::from_nanos(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// The polling loop.
struct Loop {
    waiter: Waiter,
    inbox: Receiver<Loan>,
    poll: Poll,
    books: Arc<Mutex<Vec<String>>>,
    began: Instant,
}

impl Loop {
    fn run(mut self, mut link: LiveLink) {
        let mut idle = Idle::new(SPIN);
        let mut next_check = since(self.began) + CHECK_EVERY;
        let mut turn = 0_u32;
        loop {
            let time = since(self.began);
            let worked = link.poll(time);
            let sleeps = self.poll == Poll::Adaptive && idle.sleep_after(worked);
            turn = turn.wrapping_add(1);
            if !sleeps && !turn.is_multiple_of(CHORES_EVERY) {
                continue;
            }
            match self.inbox.try_recv() {
                Ok(Loan { lend, back }) => {
                    // Who has taken it and does not give it back has panicked.
                    let taken = lend.send(link).is_ok();
                    match back.recv() {
                        Ok(returned) if taken => link = returned,
                        _ => return,
                    }
                    continue;
                }
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {}
            }
            if time >= next_check {
                next_check = time + CHECK_EVERY;
                check(&link, &self.books);
            }
            if sleeps && let Err(error) = link.sleep(&mut self.waiter, time, next_check) {
                tracing::error!(%error, "waiting for frames failed");
            }
        }
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
