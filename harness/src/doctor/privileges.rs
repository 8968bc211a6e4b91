//! What this process may do.

use datapath::link::ElementId;
use datapath_io::memory_plan;
use nix::sys::resource::{Resource, getrlimit};

use super::report::{Check, Finding, Remedy};
use crate::scenario::find;

/// Numbers of capabilities, as the kernel has them.
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;
/// The capabilities Trunkline uses: name, number, what follows without it.
const NEEDED: [(&str, u32, &str); 5] = [
    ("CAP_NET_ADMIN", 12, "no link can be made or changed"),
    ("CAP_NET_RAW", 13, "no AF_XDP socket can be opened"),
    ("CAP_IPC_LOCK", CAP_IPC_LOCK, "packet memory counts against the locked-memory limit"),
    ("CAP_SYS_ADMIN", CAP_SYS_ADMIN, "no network namespace can be made or entered"),
    ("CAP_BPF", CAP_BPF, "no XDP program can be loaded"),
];

const LOCKED: &str = "locked-memory";
const OPEN: &str = "open-files";
/// What a user without rights can do about it.
pub(super) const AS_ROOT: &str = "sudo trunkline doctor";
/// Files that a daemon has open for a port (program, map, link and its parts) and for itself.
const FILES_A_PORT: u64 = 4;
const FILES: u64 = 32;

/// What a lab like the article's takes of what is limited.
struct Needs {
    /// Bytes of packet memory, which is locked.
    locked: u64,
    /// Open files.
    files: u64,
}

impl Needs {
    fn of_the_article() -> anyhow::Result<Self> {
        let source = find("article")?;
        let lab = datapath::lab::load(&source.text, &source.name)?;
        let plan = memory_plan(&lab, &ElementId::all(&lab).collect::<Vec<_>>())?;
        let ports: usize = plan.arenas.iter().map(|arena| arena.ports.len()).sum();
        let queues: u64 = plan.arenas.iter().map(|arena| u64::from(arena.queues)).sum();
        let files = queues + FILES_A_PORT * ports as u64 + FILES;
        Ok(Self { locked: plan.packet_bytes(), files })
    }
}

/// Examines them.
pub(super) fn examine() -> Vec<Check> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let locks = held.is_some_and(|held| holds(held, CAP_IPC_LOCK));
    let capabilities = match held {
        Some(held) => capabilities(held),
        None => Check::unknown("capabilities", "/proc/self/status does not tell"),
    };
    let mut checks = vec![root(), capabilities];
    match Needs::of_the_article() {
        Ok(needs) => checks.extend([locked_memory(locks, &needs), open_files(&needs)]),
        Err(error) => {
            let why = format!("{error:#}");
            checks.extend([LOCKED, OPEN].map(|id| Check::unknown(id, &why)));
        }
    }
    checks
}

const fn holds(held: u64, number: u32) -> bool {
    held >> number & 1 == 1
}

fn root() -> Check {
    let user = nix::unistd::geteuid();
    let mut findings = Vec::new();
    if !user.is_root() {
        findings.push(Finding::fail(
            format!("this is user {user}"),
            "labs in namespaces are for root alone; `trunkline run --on memory` needs nobody's rights",
            Remedy::run(AS_ROOT),
        ));
    }
    Check::new("root", format!("user {user}"), findings)
}

fn capabilities(held: u64) -> Check {
    // The kernel takes the older, larger right for CAP_BPF as well.
    let has =
        |number: u32| holds(held, number) || (number == CAP_BPF && holds(held, CAP_SYS_ADMIN));
    let (there, lacking): (Vec<_>, Vec<_>) =
        NEEDED.into_iter().partition(|(_, number, _)| has(*number));
    let names: Vec<_> = there.iter().map(|(name, ..)| *name).collect();
    let findings = lacking.into_iter().map(|(name, number, consequence)| {
        let remedy = Remedy::run(AS_ROOT);
        // Where the limit suffices, nothing is amiss; that is a check of its own.
        let of = if number == CAP_IPC_LOCK { Finding::warn } else { Finding::fail };
        of(format!("{name} is missing"), consequence, remedy)
    });
    let found = if names.is_empty() { "none of those needed".into() } else { names.join(", ") };
    Check::new("capabilities", found, findings.collect())
}

fn locked_memory(unlimited: bool, needs: &Needs) -> Check {
    if unlimited {
        return Check::new(LOCKED, "CAP_IPC_LOCK: no limit", Vec::new());
    }
    let need = needs.locked.div_ceil(1024);
    limit(LOCKED, Resource::RLIMIT_MEMLOCK, (1024, " KiB"), need, |limit| {
        Finding::fail(
            format!("at most {limit} KiB may be locked, a lab like the article's locks {need} KiB"),
            "packet memory cannot be registered with the kernel, and no such lab comes up",
            Remedy::run("ulimit -l unlimited"),
        )
    })
}

fn open_files(needs: &Needs) -> Check {
    let need = needs.files;
    limit(OPEN, Resource::RLIMIT_NOFILE, (1, ""), need, |limit| {
        Finding::fail(
            format!("a process may open {limit} files, the daemon of the article's lab has {need}"),
            "it cannot open its sockets, and no such lab comes up",
            Remedy::run("ulimit -n 65536"),
        )
    })
}

/// Holds a limit of this process, in units of so many, against what is needed.
fn limit(
    id: &str,
    resource: Resource,
    (unit, name): (u64, &str),
    need: u64,
    too_low: impl FnOnce(u64) -> Finding,
) -> Check {
    match getrlimit(resource) {
        Ok((limit, _)) => {
            let limit = limit / unit;
            let finding = (limit < need).then(|| too_low(limit));
            let found = format!("at most {limit}{name}, {need}{name} are needed");
            Check::new(id, found, finding.into_iter().collect())
        }
        Err(errno) => Check::unknown(id, errno.to_string()),
    }
}
