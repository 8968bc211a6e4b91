//! How much processor time work takes (spec BENCH-15).

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nix::libc;
use nix::unistd::{SysconfVar, sysconf};

/// Whose time is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// A thread of this process, by its number; what the kernel does in its name included.
    Thread(i32),
    /// All threads of a process that have not ended.
    Process(u32),
    /// The kernel on a processor: what it does for itself and in answer to frames. To the tick.
    Kernel(usize),
}

impl Clock {
    /// That of the calling thread.
    #[must_use]
    pub fn this_thread() -> Self {
        Self::Thread(nix::unistd::gettid().as_raw())
    }

    /// The time up to now.
    ///
    /// # Errors
    /// Where whoever it is has ended, or the kernel does not account for it.
    pub fn read(self) -> anyhow::Result<Duration> {
        match self {
            Self::Thread(thread) => of_task(&Path::new("/proc/self/task").join(thread.to_string())),
            Self::Process(process) => {
                let tasks = format!("/proc/{process}/task");
                let tasks = fs::read_dir(&tasks).with_context(|| format!("read {tasks}"))?;
                let times = tasks.map(|task| of_task(&task?.path()));
                times.filter(|time| !time.as_ref().is_err_and(has_ended)).sum()
            }
            Self::Kernel(core) => of_kernel(core),
        }
    }
}

/// Whether a task could not be read because it has ended since it was listed.
fn has_ended(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)))
}

/// How long a task has been on a processor: the first figure of its schedstat, in nanoseconds.
fn of_task(task: &Path) -> anyhow::Result<Duration> {
    let path = task.join("schedstat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let nanos = text.split_ascii_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Ok(Duration::from_nanos(nanos.with_context(|| format!("understand {}", path.display()))?))
}

fn of_kernel(core: usize) -> anyhow::Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let ticks = kernel_ticks(&text, core).context("no such processor in /proc/stat")?;
    let a_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

/// System, irq and softirq of a processor's line: the third, sixth and seventh figure.
fn kernel_ticks(stat: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core}");
    let mut lines = stat.lines().map(str::split_ascii_whitespace);
    let line = lines.find_map(|mut line| (line.next() == Some(&name)).then_some(line))?;
    let figures: Vec<u64> = line.filter_map(|figure| figure.parse().ok()).collect();
    [2, 5, 6].into_iter().map(|at| figures.get(at)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_ticks_are_of_the_processor_asked_for() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 1 2 3 4 5 6 7 8 0 0\ncpu10 9 9 9 9 9 9 9 9 0 0\n";
        assert_eq!(kernel_ticks(stat, 1), Some(3 + 6 + 7));
        assert_eq!(kernel_ticks(stat, 10), Some(27));
        assert_eq!(kernel_ticks(stat, 0), None);
    }

    #[test]
    fn a_threads_time_grows_with_its_work() {
        let clock = Clock::this_thread();
        let before = clock.read().expect("our own");
        let mut value = 1_u64;
        // The figure is brought up to date at each tick at the latest.
        while clock.read().expect("our own") == before {
            value = std::hint::black_box(value.wrapping_mul(3));
        }
        assert!(Clock::Process(std::process::id()).read().expect("our own") > before);
        Clock::Thread(0).read().expect_err("there is no such thread");
    }
}
