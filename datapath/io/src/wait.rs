//! Waiting for frames without spinning, and being woken by another thread.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use datapath::time::Time;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::port::XskPort;

/// The token of the wake-up event, which no port may use.
const WAKE: u64 = u64::MAX;
/// Events taken from the kernel at once.
const EVENTS: usize = 64;

/// Sleeps until a port has received something or another thread calls.
///
/// Level triggered: a port with frames left in a receive ring is ready again at once, so nothing
/// that arrives between the last look and the sleep is slept over.
#[derive(Debug)]
pub struct Waiter {
    epoll: Epoll,
    event: Arc<EventFd>,
    events: Vec<EpollEvent>,
}

/// Wakes a [`Waiter`] from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// Ends the waiter's current sleep, or its next one where it is not asleep.
    ///
    /// # Errors
    /// What the kernel says; it has no reason to refuse.
    pub fn wake(&self) -> io::Result<()> {
        match self.0.write(1) {
            // A counter about to overflow is a wake-up that nobody has taken yet.
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Waiter {
    /// A waiter without ports.
    ///
    /// # Errors
    /// Where the process has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = Arc::new(EventFd::from_flags(flags)?);
        Ok(Self { epoll: watching(&event)?, event, events: vec![EpollEvent::empty(); EVENTS] })
    }

    /// Forgets every port and descriptor. Of a socket that is waited for the kernel looks for
    /// sleepers with every frame that it takes or has sent, about 60 ns each, whether anybody sleeps
    /// or not; a loop that has not slept for long does better without.
    ///
    /// # Errors
    /// Where the process has no file descriptors left; nothing is forgotten then.
    pub fn forget(&mut self) -> io::Result<()> {
        self.epoll = watching(&self.event)?;
        Ok(())
    }

    /// A handle with which other threads wake this waiter.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.event))
    }

    /// Waits for all queues of a port from now on, under `token` (anything but `u64::MAX`). They
    /// are forgotten when the port is dropped.
    ///
    /// # Errors
    /// Where the token is not allowed or the port is registered already.
    pub fn add_port(&self, token: u64, port: &XskPort<'_>) -> io::Result<()> {
        port.fds().try_for_each(|fd| self.add(token, fd))
    }

    /// Waits for a descriptor to become readable from now on.
    ///
    /// # Errors
    /// As [`Waiter::add_port`].
    pub fn add(&self, token: u64, fd: BorrowedFd<'_>) -> io::Result<()> {
        if token == WAKE {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Sleeps until something is ready, at most for `timeout` (rounded up to milliseconds; None
    /// waits for ever). Leaves the tokens of what is ready in `ready`, in no order and once per
    /// ready queue; what found no place there is ready again at the next call. Returns whether a
    /// [`Waker`] was used. A signal ends the sleep with nothing ready.
    ///
    /// # Errors
    /// What the kernel says; it has no reason to refuse.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<u64>) -> io::Result<bool> {
        ready.clear();
        let timeout = timeout.map_or(EpollTimeout::NONE, |time| {
            let millis = time.as_nanos().div_ceil(1_000_000);
            EpollTimeout::try_from(millis).unwrap_or(EpollTimeout::MAX)
        });
        let count = match self.epoll.wait(&mut self.events, timeout) {
            Err(Errno::EINTR) => 0,
            answer => answer?,
        };
        let mut woken = false;
        for event in &self.events[..count] {
            if event.data() == WAKE {
                woken = true;
                // Empties it; another thread cannot have done so.
                self.event.read()?;
            } else {
                ready.push(event.data());
            }
        }
        Ok(woken)
    }
}

/// An epoll that knows of the wake-up alone.
fn watching(event: &EventFd) -> io::Result<Epoll> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(event, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
    Ok(epoll)
}

/// When to stop spinning.
///
/// A sleep costs about 50 microseconds of latency and an idle spin costs a core, so a loop spins
/// for a while without work and only then sleeps. The while is a time and not a number of rounds,
/// which take from nanoseconds to microseconds, depending on the number of ports.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    limit: Duration,
    since: Option<Time>,
}

impl Idle {
    /// Spins for this long without work before sleeping.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self { limit, since: None }
    }

    /// Says whether to sleep now, given whether the round just done, which began at `now`, had work.
    pub fn sleep_after(&mut self, worked: bool, now: Time) -> bool {
        if worked {
            self.since = None;
            return false;
        }
        now.since(*self.since.get_or_insert(now)) >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_before_the_sleep_is_not_lost_and_taken_once() {
        let mut waiter = Waiter::new().unwrap();
        let waker = waiter.waker();
        let mut ready = vec![7];
        waker.wake().unwrap();
        waker.wake().unwrap();
        assert!(waiter.wait(None, &mut ready).unwrap());
        assert!(ready.is_empty());
        assert!(!waiter.wait(Some(Duration::ZERO), &mut ready).unwrap());
    }

    #[test]
    fn another_thread_ends_the_sleep() {
        let mut waiter = Waiter::new().unwrap();
        let waker = waiter.waker();
        let other = std::thread::spawn(move || waker.wake());
        assert!(waiter.wait(None, &mut Vec::new()).unwrap());
        other.join().unwrap().unwrap();
    }

    #[test]
    fn the_token_of_the_wake_up_is_refused() {
        use std::os::fd::AsFd;
        let waiter = Waiter::new().unwrap();
        let other = EventFd::new().unwrap();
        assert!(waiter.add(u64::MAX, other.as_fd()).is_err());
        assert!(waiter.add(0, other.as_fd()).is_ok());
    }

    #[test]
    fn idling_spins_first_and_starts_again_after_work() {
        let mut idle = Idle::new(Duration::from_secs(2));
        let rounds = [(1, false), (2, false), (3, false), (4, true), (5, false), (7, false)];
        let sleeps = rounds.map(|(now, worked)| idle.sleep_after(worked, Time::from_secs(now)));
        assert_eq!(sleeps, [false, false, true, false, false, true]);
        assert!(Idle::new(Duration::ZERO).sleep_after(false, Time::ZERO));
    }

    #[test]
    fn what_is_forgotten_wakes_nobody_and_the_waker_still_does() {
        use std::os::fd::AsFd;
        let mut waiter = Waiter::new().unwrap();
        let waker = waiter.waker();
        let other = EventFd::from_value(1).unwrap();
        waiter.add(3, other.as_fd()).unwrap();
        let mut ready = Vec::new();
        assert!(!waiter.wait(None, &mut ready).unwrap());
        assert_eq!(ready, [3]);
        waiter.forget().unwrap();
        waker.wake().unwrap();
        assert!(waiter.wait(None, &mut ready).unwrap());
        assert!(ready.is_empty());
        // And can be waited for again.
        waiter.add(3, other.as_fd()).unwrap();
        assert!(!waiter.wait(None, &mut ready).unwrap());
    }
}
