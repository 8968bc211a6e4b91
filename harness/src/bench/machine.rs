//! The machine: which cores are used, and how its speed is told.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nearness::Nearness;
use crate::live::state::RUN;

/// Steps of the loop that calibrates: some milliseconds.
const STEPS: u64 = 20_000_000;
/// The highest priority a session can have.
const RAISED: &str = "-20";
/// How this process's session stands against other sessions for the processors.
const AUTOGROUP: &str = "/proc/self/autogroup";

/// The calling thread, as the kernel's affinity calls have it.
const SELF: Pid = Pid::from_raw(0);

/// Where the two threads that work run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// The generator's, which the kernel also delivers its frames on.
    pub generator: usize,
    /// The forwarder's, on which the kernel also delivers what it sends.
    pub forwarder: usize,
}

impl Cores {
    /// The first two that this process may use.
    ///
    /// # Errors
    /// Where there is only one.
    pub fn first_two() -> anyhow::Result<Self> {
        let may = sched_getaffinity(SELF).context("read the processors we may use")?;
        let mut cores = (0..CpuSet::count()).filter(|core| may.is_set(*core).unwrap_or(false));
        let (Some(generator), Some(forwarder)) = (cores.next(), cores.next()) else {
            bail!("the generator and the forwarder need a processor each, and there is only one");
        };
        Ok(Self { generator, forwarder })
    }
}

/// Waits until no other measurement runs on this machine, and keeps others waiting until the
/// result is dropped.
///
/// # Errors
/// Where the folder of labs cannot be made or locked.
pub fn alone() -> anyhow::Result<File> {
    let lock = || -> std::io::Result<File> {
        fs::create_dir_all(RUN)?;
        let folder = File::open(RUN)?;
        folder.lock()?;
        Ok(folder)
    };
    lock().with_context(|| format!("lock {RUN}"))
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// What the kernel says.
pub fn pin(core: usize) -> anyhow::Result<()> {
    let mut only = CpuSet::new();
    only.set(core)?;
    sched_setaffinity(SELF, &only).with_context(|| format!("stay on processor {core}"))
}

/// Puts this session before all others while it lives; without it, a machine that does other work
/// gives a spinning thread half a processor. Nice values count within a session only.
#[derive(Debug)]
pub struct Priority {
    before: Option<String>,
}

impl Priority {
    /// Raises it, where the kernel groups processes by session.
    #[must_use]
    pub fn raise() -> Self {
        // It reads "/autogroup-25 nice 0".
        let text = fs::read_to_string(AUTOGROUP).unwrap_or_default();
        let before = text.rsplit_once(' ').map(|(_, nice)| nice.trim().to_owned());
        // A measurement that was killed could not lower it again.
        let before = before.map(|nice| if nice == RAISED { "0".to_owned() } else { nice });
        Self { before: before.filter(|_| fs::write(AUTOGROUP, RAISED).is_ok()) }
    }

    /// Whether that worked.
    #[must_use]
    pub const fn is_raised(&self) -> bool {
        self.before.is_some()
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(error) = fs::write(AUTOGROUP, before)
        {
            tracing::warn!(%error, "the session's priority stays raised");
        }
    }
}

/// How long a fixed piece of arithmetic takes now. Virtual machines have faster and slower spells.
#[must_use]
pub fn calibrate() -> Duration {
    let began = Instant::now();
    let mut value = black_box(1_u64);
    for step in 0..STEPS {
        value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step);
    }
    black_box(value);
    began.elapsed()
}

/// What was measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name; empty where it has none.
    pub processor: String,
    /// Processors that may be used.
    pub cores: usize,
    /// The generator's.
    pub generator_core: usize,
    /// The forwarder's.
    pub forwarder_core: usize,
    /// Whether the session was put before others.
    pub priority_raised: bool,
    /// Whether this program was built with optimisation.
    pub optimised: bool,
    /// The governor of the generator's processor; empty where the machine has none.
    pub governor: String,
    /// The share of the processors' time that the host of a virtual machine took away meanwhile.
    pub steal: f64,
    /// How near the two cores were meanwhile; none in reports from before anybody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearness: Option<Nearness>,
    /// What the kernel does about each known weakness of the processor, where it has that one.
    pub mitigations: BTreeMap<String, String>,
}

impl Machine {
    /// This machine.
    ///
    /// # Errors
    /// Where the kernel does not tell its release.
    pub fn this(cores: Cores, priority: &Priority) -> anyhow::Result<Self> {
        let governor =
            format!("/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor", cores.generator);
        let kernel = nix::sys::utsname::uname().context("read the kernel's release")?;
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let name = name.and_then(|line| line.split_once(": ")).map(|(_, name)| name.to_owned());
        Ok(Self {
            kernel: kernel.release().to_string_lossy().into_owned(),
            processor: name.unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            generator_core: cores.generator,
            forwarder_core: cores.forwarder,
            priority_raised: priority.is_raised(),
            optimised: !cfg!(debug_assertions),
            governor: fs::read_to_string(governor).unwrap_or_default().trim().to_owned(),
            steal: 0.0,
            nearness: None,
            mitigations: mitigations(),
        })
    }
}

impl Machine {
    /// What matters of it, in a line.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self { kernel, processor, cores, generator_core, forwarder_core, .. } = self;
        format!(
            "Linux {kernel}, {processor}, generator on core {generator_core}, forwarder on core \
             {forwarder_core} of {cores}"
        )
    }
}

fn mitigations() -> BTreeMap<String, String> {
    let folder = fs::read_dir("/sys/devices/system/cpu/vulnerabilities");
    let each = folder.into_iter().flatten().flatten().filter_map(|file| {
        let text = fs::read_to_string(file.path()).ok()?;
        let text = text.trim();
        let name = file.file_name().to_string_lossy().into_owned();
        (text != "Not affected").then(|| (name, text.to_owned()))
    });
    each.collect()
}

/// Time of all processors together, in clock ticks: what the host took away, and all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    stolen: u64,
    all: u64,
}

impl Ticks {
    /// Until now.
    #[must_use]
    pub fn now() -> Self {
        Self::read(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// Of what /proc/stat says: user, nice, system, idle, iowait, irq, softirq, steal.
    fn read(text: &str) -> Self {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "));
        let ticks: Vec<u64> = line
            .into_iter()
            .flat_map(str::split_whitespace)
            .map_while(|n| n.parse().ok())
            .collect();
        let stolen = ticks.get(7).copied().unwrap_or(0);
        Self { stolen, all: ticks.iter().take(8).sum() }
    }

    /// The share that was taken away since then.
    #[must_use]
    pub fn stolen_since(self, before: Self) -> f64 {
        let [stolen, all] =
            [self.stolen - before.stolen, self.all - before.all].map(|ticks| ticks as f64);
        if all > 0.0 { stolen / all } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_a_share_of_all_ticks() {
        let before = Ticks::read("cpu  10 0 10 60 0 0 0 20 5 0\ncpu0 1 1 1\n");
        let after = Ticks::read("cpu  20 0 20 120 0 0 0 40 9 0\n");
        assert_eq!(after.stolen_since(before), 0.2);
        assert_eq!(Ticks::read(""), Ticks::default());
    }
}
