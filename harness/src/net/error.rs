//! What can go wrong, always with the object and what was being done to it.

use std::fmt;
use std::io;

use super::process::ProcessId;

/// Why building, reading or removing a lab's network failed.
///
/// The text of the cause is part of every message; it is not repeated through
/// [`std::error::Error::source`], so printing a chain of errors shows it once.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The plan or an argument cannot be right; nothing was touched.
    #[error("{what} {name:?}: {why}")]
    Invalid {
        /// The kind of object, in words.
        what: &'static str,
        /// Its name as it was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A step on a whole namespace failed.
    #[error("network namespace {name}: {attempt}: {cause}")]
    Namespace {
        /// The namespace.
        name: String,
        /// What was attempted.
        attempt: &'static str,
        /// The kernel's answer.
        cause: Refusal,
    },
    /// A sysctl could not be written.
    #[error("network namespace {namespace}: sysctl {path} = {value}: {cause}")]
    Sysctl {
        /// The namespace.
        namespace: String,
        /// The path below `/proc/sys`.
        path: String,
        /// The value that was to be written.
        value: String,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// A step on a link, or on an address, route or neighbour of a link, failed.
    #[error("link {ifname} in network namespace {namespace}: {attempt}: {cause}")]
    Link {
        /// The namespace the link is in.
        namespace: String,
        /// The link.
        ifname: String,
        /// What was attempted.
        attempt: String,
        /// The kernel's answer.
        cause: Refusal,
    },
    /// A program could not be started.
    #[error("starting {program} in network namespace {namespace}: {cause}")]
    Spawn {
        /// The namespace it was to run in.
        namespace: String,
        /// The program.
        program: String,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// A step on a process failed.
    #[error("process {pid}: {attempt}: {cause}")]
    Process {
        /// The process.
        pid: u32,
        /// What was attempted.
        attempt: &'static str,
        /// The kernel's answer.
        cause: io::Error,
    },
    /// Processes outlived SIGKILL, or kept coming back.
    #[error("processes still running: {}", pids(.0))]
    StillRunning(Vec<ProcessId>),
    /// This program's own means (a thread, a runtime, a directory) were not to be had.
    #[error("{attempt}: {cause}")]
    Own {
        /// What was attempted.
        attempt: &'static str,
        /// The system's answer.
        cause: io::Error,
    },
}

/// The kernel's refusal: the errno, and its own words where it gave any.
#[derive(Debug)]
pub struct Refusal {
    /// The error number, as an I/O error.
    pub error: io::Error,
    /// The message that came with it (netlink's extended acknowledgement).
    pub reason: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{}: {reason}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl<E: Into<io::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { error: error.into(), reason: None }
    }
}

fn pids(processes: &[ProcessId]) -> String {
    let pids: Vec<String> = processes.iter().map(|process| process.pid.to_string()).collect();
    pids.join(", ")
}
