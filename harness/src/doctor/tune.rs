//! Where a lab's work is done: `doctor --tune` moves it off the processor on which the forwarder
//! spins, and `doctor --untune` back (spec LAB-31).

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::report::{Check, Finding, Remedy, Status};
use crate::live::client::Client;
use crate::live::state::State;
use crate::live::topology::whole_places;
use crate::net::plan::{Topology, User};
use crate::net::sysfs;

/// Weight of the daemon's session on a processor, as `nice` counts: about ten times an ordinary one.
const WEIGHT: &str = "-10";
/// Name of the threads that forward.
const FORWARDER: &str = "forwarder";

const CORE: &str = "forwarder-core";
const SESSION: &str = "forwarder-weight";
const STEERING: &str = "pod-steering";
const THREADS: &str = "napi-threads";

/// A setting that can be changed and changed back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Knob {
    /// The processors that a thread may use.
    Processors(i32),
    /// The weight of a process's session.
    Weight(u32),
    /// A link's setting, below its folder in `/sys/class/net`.
    Link { namespace: String, ifname: String, setting: String },
}

/// A setting that was changed, as it is noted in the lab's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    knob: Knob,
    before: String,
    after: String,
}

/// What is wanted of a setting, and why.
struct Wish {
    check: &'static str,
    knob: Knob,
    value: String,
    why: &'static str,
}

/// Tunes a lab, and notes what it changes before it changes it.
pub(super) fn tune(client: &Client) -> anyhow::Result<Vec<Check>> {
    let state = client.state();
    let daemon = state.daemon().context("the lab has no daemon")?.pid;
    let processors = processors_of(Pid::from_raw(daemon.cast_signed()))?;
    if processors.len() < 2 {
        let why = "there is one processor alone: nothing can be moved off it";
        return Ok([CORE, SESSION, STEERING, THREADS].map(|id| Check::unknown(id, why)).into());
    }
    let places = whole_places(&client.lab()?, state.name(), state.forwarding()?.workers)?;
    let mut noted = read(state)?;
    let (own, wishes) = wishes(daemon, &processors, &places.topology)?;
    let others: Vec<_> = processors.into_iter().filter(|core| !own.contains(core)).collect();
    let before = threads_of_kernel()?;
    let mut told = Vec::new();
    for wish in wishes {
        let outcome = grant(state, &mut noted, &wish);
        told.push((wish, outcome));
    }
    // They end when their setting is put back, so that nothing is noted of them.
    for thread in threads_of_kernel()?.into_iter().filter(|thread| !before.contains(thread)) {
        Knob::Processors(thread).write(&list(&others))?;
    }
    Ok([CORE, SESSION, STEERING, THREADS].map(|id| check(id, &told)).into())
}

/// Changes everything back.
pub(super) fn untune(state: &State) -> anyhow::Result<Vec<Check>> {
    let mut findings = Vec::new();
    let mut left = Vec::new();
    for change in read(state)?.into_iter().rev() {
        let Change { knob, before, after } = &change;
        let outcome = knob.write(before);
        let remedy = Remedy::Tune(format!("puts back {before}"));
        let problem = format!("{} is {after}", knob.name());
        let finding = Finding::warn(problem, "it was changed by --tune", remedy);
        let failed = outcome.is_err();
        findings.push(knob.at(finding.repaired(outcome)));
        if failed {
            left.push(change);
        }
    }
    if !findings.is_empty() {
        left.reverse();
        write(state, &left)?;
    }
    let found = if findings.is_empty() { "nothing was tuned" } else { "as before --tune" };
    Ok(vec![Check::new("tuning", found, findings)])
}

/// Whether a link's setting says what `--tune` has made it say.
pub(super) fn is_tuned(state: &State, namespace: &str, path: &str, found: &str) -> bool {
    read(state).unwrap_or_default().iter().any(|change| match &change.knob {
        Knob::Link { namespace: noted, ifname, setting } => {
            noted == namespace
                && sysfs::file(ifname, setting).as_os_str() == path
                && change.knob.same(&change.after, found)
        }
        _ => false,
    })
}

fn file(state: &State) -> PathBuf {
    state.folder().join("tuned.json")
}

/// What was changed so far, oldest first.
fn read(state: &State) -> anyhow::Result<Vec<Change>> {
    match fs::read_to_string(file(state)) {
        Ok(text) => serde_json::from_str(&text).context("read what was tuned"),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).context("read what was tuned"),
    }
}

fn write(state: &State, changes: &[Change]) -> anyhow::Result<()> {
    fs::write(file(state), serde_json::to_string(changes)?).context("note what is tuned")
}

/// The processors that a thread may use, in order.
fn processors_of(thread: Pid) -> anyhow::Result<Vec<usize>> {
    let may = sched_getaffinity(thread).context("read the processors it may use")?;
    Ok((0..CpuSet::count()).filter(|core| may.is_set(*core).unwrap_or(false)).collect())
}

/// The processors that forwarders get, the last ones, of which the others are kept free; and
/// everything that is wanted of a lab, in the order in which it is done.
fn wishes(
    daemon: u32,
    processors: &[usize],
    topology: &Topology,
) -> anyhow::Result<(Vec<usize>, Vec<Wish>)> {
    let forwarders = threads(&format!("/proc/{daemon}/task"), FORWARDER)?;
    let few = forwarders.len().clamp(1, processors.len() - 1);
    let (others, own) = processors.split_at(processors.len() - few);
    let mut wishes = Vec::new();
    let mut wish = |check, knob, value: String, why| wishes.push(Wish { check, knob, value, why });
    for (thread, core) in forwarders.into_iter().zip(own.iter().cycle()) {
        let why = "moved from one to another it finds its tables in neither's cache";
        wish(CORE, Knob::Processors(thread), list(&[*core]), why);
    }
    let why = "what else wants that processor takes half of it from a thread that spins";
    wish(SESSION, Knob::Weight(daemon), WEIGHT.into(), why);
    for link in &topology.links {
        for (end, far) in [(&link.a, &link.b), (&link.b, &link.a)] {
            let knob = |setting: String| Knob::Link {
                namespace: end.namespace.clone(),
                ifname: end.ifname.clone(),
                setting,
            };
            match (end.user, far.user) {
                (User::Stack, _) => {
                    let why = "the pod's stack receives inside the forwarder's sending";
                    for queue in 0..link.queues {
                        let knob = knob(format!("queues/rx-{queue}/rps_cpus"));
                        wish(STEERING, knob, mask(others), why);
                    }
                }
                (User::Forwarder, User::Forwarder) => {
                    let why = "what one element sends is received for the next inside its sending";
                    wish(THREADS, knob("threaded".into()), "1".into(), why);
                }
                _ => {}
            }
        }
    }
    Ok((own.to_vec(), wishes))
}

/// Makes a setting say what is wanted. What it said before; `None` where that was the same.
fn grant(state: &State, noted: &mut Vec<Change>, wish: &Wish) -> anyhow::Result<Option<String>> {
    let before = wish.knob.read()?;
    if wish.knob.same(&before, &wish.value) {
        return Ok(None);
    }
    match noted.iter_mut().find(|change| change.knob == wish.knob) {
        // What it said before the first time is what it is to say again.
        Some(change) => change.after.clone_from(&wish.value),
        None => noted.push(Change {
            knob: wish.knob.clone(),
            before: before.clone(),
            after: wish.value.clone(),
        }),
    }
    write(state, noted)?;
    wish.knob.write(&wish.value)?;
    Ok(Some(before))
}

/// What has become of the wishes of a check.
fn check(id: &str, told: &[(Wish, anyhow::Result<Option<String>>)]) -> Check {
    let of_it = told.iter().filter(|(wish, _)| wish.check == id);
    let mut findings = Vec::new();
    let mut all = 0;
    for (Wish { knob, value, why, .. }, outcome) in of_it {
        all += 1;
        let (before, outcome) = match outcome {
            Ok(None) => continue,
            Ok(Some(before)) => (before.as_str(), Ok(())),
            Err(error) => ("not changed", Err(anyhow!("{error:#}"))),
        };
        let remedy = Remedy::Tune(format!("writes {value}"));
        let finding = Finding::warn(format!("{} is {before}", knob.name()), *why, remedy);
        findings.push(knob.at(finding.repaired(outcome)));
    }
    let changed = findings.iter().filter(|finding| finding.status == Status::Fixed).count();
    Check::new(id, format!("{changed} of {all} settings changed"), findings)
}

impl Knob {
    /// What a reader calls it.
    fn name(&self) -> String {
        match self {
            Self::Processors(thread) => format!("the list of processors of thread {thread}"),
            Self::Weight(process) => format!("the weight of the session of process {process}"),
            Self::Link { setting, .. } => setting.clone(),
        }
    }

    /// Says where it is.
    fn at(&self, finding: Finding) -> Finding {
        match self {
            Self::Link { namespace, ifname, .. } => Finding {
                namespace: Some(namespace.clone()),
                interface: Some(ifname.clone()),
                ..finding
            },
            _ => finding,
        }
    }

    fn read(&self) -> anyhow::Result<String> {
        match self {
            Self::Processors(thread) => Ok(list(&processors_of(Pid::from_raw(*thread))?)),
            Self::Weight(process) => {
                // It reads "/autogroup-25 nice 0".
                let text = fs::read_to_string(autogroup(*process)).context("read the weight")?;
                let nice = text.trim().rsplit_once(' ').context("the weight is not told")?.1;
                Ok(nice.to_owned())
            }
            Self::Link { namespace, ifname, setting } => {
                let read = sysfs::run_in(namespace, || sysfs::read(ifname, setting))?;
                read.with_context(|| format!("read {setting}"))
            }
        }
    }

    fn write(&self, value: &str) -> anyhow::Result<()> {
        match self {
            Self::Processors(thread) => {
                let mut only = CpuSet::new();
                for core in value.split(',') {
                    only.set(core.parse()?)?;
                }
                let placed = sched_setaffinity(Pid::from_raw(*thread), &only);
                placed.with_context(|| format!("place thread {thread}"))
            }
            Self::Weight(process) => {
                fs::write(autogroup(*process), value).context("change the weight")
            }
            Self::Link { namespace, ifname, setting } => {
                let file = sysfs::file(ifname, setting);
                let written = sysfs::run_in(namespace, || fs::write(file, value))?;
                written.with_context(|| format!("change {setting}"))?;
                // A device without a NAPI takes a thread for it in silence, and has none.
                let reads = self.read()?;
                if !self.same(&reads, value) {
                    bail!("it still says {reads}");
                }
                Ok(())
            }
        }
    }

    /// Whether two values are one. The kernel writes masks with commas and leading zeros.
    fn same(&self, one: &str, other: &str) -> bool {
        let plain = |mask: &str| mask.replace(',', "").trim_start_matches('0').to_owned();
        match self {
            Self::Link { .. } => plain(one) == plain(other),
            _ => one == other,
        }
    }
}

fn autogroup(process: u32) -> String {
    format!("/proc/{process}/autogroup")
}

/// Processors as a list.
fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// Processors as the kernel's masks are written: words of 32 bits in hexadecimal, the highest first.
fn mask(cores: &[usize]) -> String {
    let words = cores.iter().max().map_or(1, |highest| highest / 32 + 1);
    let word = |at: usize| {
        cores
            .iter()
            .filter(|core| **core / 32 == at)
            .fold(0_u32, |word, core| word | 1 << (core % 32))
    };
    (0..words).rev().map(|at| format!("{:08x}", word(at))).collect::<Vec<_>>().join(",")
}

/// The numbers of the tasks in a folder of `/proc` whose name begins so.
fn threads(folder: &str, name: &str) -> anyhow::Result<Vec<i32>> {
    let mut found = Vec::new();
    for task in fs::read_dir(folder).with_context(|| format!("list {folder}"))?.flatten() {
        let Ok(number) = task.file_name().to_string_lossy().parse() else { continue };
        // One that has ended meanwhile has no name.
        if fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.starts_with(name)) {
            found.push(number);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The threads in which the kernel receives for devices.
fn threads_of_kernel() -> anyhow::Result<Vec<i32>> {
    threads("/proc", "napi/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_as_the_kernel_reads_them() {
        assert_eq!(mask(&[0]), "00000001");
        assert_eq!(mask(&[0, 1, 3]), "0000000b");
        assert_eq!(mask(&[2, 33]), "00000002,00000004");
        let link =
            Knob::Link { namespace: String::new(), ifname: String::new(), setting: String::new() };
        assert!(link.same("00000000,0000000b", "b") && link.same("0", "00000000"));
        assert!(!link.same("1", "2"));
        assert!(!Knob::Processors(1).same("0,1", "1"));
    }
}
