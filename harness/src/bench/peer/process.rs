//! Programs that a comparison starts, which end with it.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::net::process::{ProcessId, stop};

/// How long a program may take until it works.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to end when asked to.
const GRACE: Duration = Duration::from_secs(5);
/// Between two looks at what it says.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A program that is ended when dropped: its input is closed, it is asked, it is killed.
#[derive(Debug)]
pub(super) struct Guarded(Child);

impl Guarded {
    pub(super) const fn new(child: Child) -> Self {
        Self(child)
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended by itself.
    fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // One that reads its input ends where that does, and puts everything back; the signal
        // comes only after it had time for that.
        if self.0.stdin.take().is_some() {
            let deadline = Instant::now() + GRACE;
            while !self.has_ended() && Instant::now() < deadline {
                thread::sleep(LOOK_EVERY);
            }
        }
        if !self.has_ended()
            && let Some(process) = ProcessId::of(self.0.id())
            && let Err(error) = stop(process, GRACE)
        {
            tracing::warn!(%error, "a program of a comparison is still there");
        }
        let _ = self.0.wait();
    }
}

/// Waits until a program's log has `text` in it.
pub(super) fn wait_for_text(process: &mut Guarded, log: &Path, text: &str) -> anyhow::Result<()> {
    let read = || fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    wait_until(process, || Ok(read()?.contains(text))).with_context(|| {
        let said = read().unwrap_or_default();
        let last: Vec<_> = said.lines().rev().take(3).collect();
        format!("it said last: {}", last.into_iter().rev().collect::<Vec<_>>().join(" / "))
    })
}

/// Waits until something holds, at most while a program runs and not for ever.
pub(super) fn wait_until(
    process: &mut Guarded,
    holds: impl Fn() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        if process.has_ended() {
            bail!("the program has ended by itself");
        }
        if Instant::now() > deadline {
            bail!("the program does not come to work");
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
