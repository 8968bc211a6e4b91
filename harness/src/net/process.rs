//! Processes inside namespaces: starting, finding and ending them.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::error::NetError;
use super::namespace::{self, NamespaceId};

/// How long a process may take to be gone after SIGKILL. The kernel ends it as soon as it leaves
/// the kernel, so a longer time means it is stuck there.
const KILL_BOUND: Duration = Duration::from_secs(5);

/// Processes ended at the same time. Each takes an open file.
const AT_ONCE: usize = 256;

/// A process, told apart from a later one that was given the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this number now, if any.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let (_, start_time) = state_and_start(&stat(pid)?)?;
        Some(Self { pid, start_time })
    }

    /// The calling process.
    #[must_use]
    pub fn current() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Whether it still runs. One that has ended but was not waited for does not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let found = stat(self.pid).and_then(|stat| state_and_start(&stat));
        found.is_some_and(|(state, start)| start == self.start_time && !matches!(state, 'Z' | 'X'))
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pid.fmt(f)
    }
}

/// How a process came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was gone before it was asked.
    AlreadyGone,
    /// It ended after SIGTERM.
    Terminated,
    /// It took SIGKILL.
    Killed,
}

/// Starts `command` inside `namespace`. Nothing else is changed for it: it sees the same files
/// (so `/sys/class/net` still shows the caller's links) and processes as the caller.
///
/// A child is born into the namespace of the thread that starts it; that thread ends here. A
/// parent-death signal set up in the command would therefore reach the child at once.
///
/// # Errors
/// When there is no such namespace or the program cannot be started.
pub fn spawn_in(namespace: &str, command: &mut Command) -> Result<Child, NetError> {
    namespace::on_own_thread(|| {
        namespace::enter(namespace)?;
        command.spawn().map_err(|cause| NetError::Spawn {
            namespace: namespace.to_owned(),
            program: command.get_program().to_string_lossy().into_owned(),
            cause,
        })
    })
}

/// The processes that live in one of `namespaces`, except the caller.
///
/// A process lives where its first thread is. One that only has another thread or a socket there
/// is not found, although it keeps the namespace alive.
///
/// # Errors
/// When `/proc` cannot be read. Processes that end meanwhile are left out.
pub fn living_in(namespaces: &[NamespaceId]) -> Result<Vec<ProcessId>, NetError> {
    let own = std::process::id();
    let scan = || -> io::Result<Vec<ProcessId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that has ended has no namespace any more, and that is an error here.
            let Ok(lives_in) = NamespaceId::at(&entry.path().join("ns/net")) else { continue };
            if pid != own && namespaces.contains(&lives_in) {
                found.extend(ProcessId::of(pid));
            }
        }
        found.sort_unstable();
        Ok(found)
    };
    scan().map_err(|cause| NetError::Own { attempt: "reading /proc", cause })
}

/// Ends one process: SIGTERM, up to `grace` for it to obey, then SIGKILL.
///
/// # Errors
/// As [`stop_all`].
pub fn stop(process: ProcessId, grace: Duration) -> Result<Ending, NetError> {
    Ok(stop_all(&[process], grace)?[0])
}

/// Ends processes together, so that the slowest decides how long it takes: SIGTERM to all, up to
/// `grace` for them to obey, then SIGKILL to the rest. Says how each of them ended.
///
/// A signal goes through a handle on the process, opened before its start time is compared, so it
/// never reaches another process that was given the number meanwhile.
///
/// # Errors
/// When a signal is not permitted, or when a process outlives SIGKILL by five seconds.
pub fn stop_all(processes: &[ProcessId], grace: Duration) -> Result<Vec<Ending>, NetError> {
    let mut endings = Vec::with_capacity(processes.len());
    for some in processes.chunks(AT_ONCE) {
        stop_some(some, grace, &mut endings)?;
    }
    Ok(endings)
}

fn stop_some(
    processes: &[ProcessId],
    grace: Duration,
    endings: &mut Vec<Ending>,
) -> Result<(), NetError> {
    let mut handles = Vec::with_capacity(processes.len());
    for process in processes {
        let handle = open(process)?;
        if let Some(handle) = &handle {
            signal(process, handle, Signal::TERM)?;
        }
        handles.push(handle);
    }
    let deadline = Instant::now() + grace;
    let first = endings.len();
    for (process, handle) in processes.iter().zip(&handles) {
        endings.push(match handle {
            None => Ending::AlreadyGone,
            Some(handle) if ended_by(process, handle, deadline)? => Ending::Terminated,
            Some(handle) => {
                signal(process, handle, Signal::KILL)?;
                Ending::Killed
            }
        });
    }
    let deadline = Instant::now() + KILL_BOUND;
    let mut left = Vec::new();
    for ((process, handle), ending) in processes.iter().zip(&handles).zip(&endings[first..]) {
        if let (Some(handle), Ending::Killed) = (handle, ending)
            && !ended_by(process, handle, deadline)?
        {
            left.push(*process);
        }
    }
    if left.is_empty() { Ok(()) } else { Err(NetError::StillRunning(left)) }
}

/// A handle on `process`, or none if it is gone.
fn open(process: &ProcessId) -> Result<Option<OwnedFd>, NetError> {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => Ok(process.is_running().then_some(handle)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(errno) => Err(failed(process, "open a handle on it", errno.into())),
    }
}

fn signal(process: &ProcessId, handle: &OwnedFd, signal: Signal) -> Result<(), NetError> {
    match pidfd_send_signal(handle, signal) {
        // Gone meanwhile is what was wanted.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(failed(process, "send it a signal", errno.into())),
    }
}

/// Waits until the process has ended, at the latest until `deadline`; says whether it has.
fn ended_by(process: &ProcessId, handle: &OwnedFd, deadline: Instant) -> Result<bool, NetError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that the last millisecond is waited for and not spun through.
        let timeout =
            PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(failed(process, "wait for its end", errno.into())),
        }
    }
}

fn stat(pid: u32) -> Option<String> {
    // The name in it is whatever the program chose, not necessarily UTF-8.
    let bytes = fs::read(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Fields 3 and 22. Counted from behind the name, which may itself contain spaces and brackets.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn failed(process: &ProcessId, attempt: &'static str, cause: io::Error) -> NetError {
    NetError::Process { pid: process.pid, attempt, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        assert_eq!(state_and_start(stat), Some(('S', 4242)));
        assert_eq!(state_and_start("7 (a) S 1"), None);
    }

    #[test]
    fn the_own_process_runs_and_an_older_one_of_its_number_does_not() {
        let own = ProcessId::current().expect("/proc is there");
        assert!(own.is_running());
        let older = ProcessId { start_time: own.start_time - 1, ..own };
        assert!(!older.is_running());
        assert_eq!(stop(older, Duration::ZERO).expect("nobody to stop"), Ending::AlreadyGone);
    }

    #[test]
    fn a_child_that_obeys_and_one_that_does_not() {
        let obeying = Command::new("sleep").arg("600").spawn();
        let script = "trap '' TERM; echo; while :; do read line || exec sleep 600; done";
        let deaf = Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn();
        let (mut obeying, mut deaf) = (obeying.expect("sleep"), deaf.expect("sh"));
        // Its line says that the trap is set.
        let mut line = [0];
        let mut said = deaf.stdout.take().expect("piped");
        io::Read::read_exact(&mut said, &mut line).expect("one line");
        let both =
            [&obeying, &deaf].map(|child| ProcessId::of(child.id()).expect("not waited for"));
        let endings = stop_all(&both, Duration::from_millis(200)).expect("both are ours");
        assert_eq!(endings, [Ending::Terminated, Ending::Killed]);
        assert!(both.iter().all(|process| !process.is_running()));
        obeying.wait().expect("ours");
        deaf.wait().expect("ours");
    }
}
