//! What this process may do.

use nix::sys::resource::{Resource, getrlimit};

use super::report::{Check, Finding, Remedy};

/// The capabilities Trunkline uses: name, number, what for.
const NEEDED: [(&str, u32, &str); 5] = [
    ("CAP_NET_ADMIN", 12, "no link can be made or changed"),
    ("CAP_NET_RAW", 13, "no AF_XDP socket can be opened"),
    (LOCK, LOCK_NUMBER, "packet memory counts against the locked-memory limit"),
    (ADMIN, ADMIN_NUMBER, "no network namespace can be made or entered"),
    ("CAP_BPF", 39, "no XDP program can be loaded"),
];
const LOCK: &str = "CAP_IPC_LOCK";
const LOCK_NUMBER: u32 = 14;
const ADMIN: &str = "CAP_SYS_ADMIN";
const ADMIN_NUMBER: u32 = 21;

/// Packet memory of a lab like the article's, in bytes, rounded up.
const PACKET_MEMORY: u64 = 64 << 20;
/// Files a daemon has open for a lab of some tens of pods: a socket for each queue, and program,
/// map and link for each port.
const OPEN_FILES: u64 = 1024;

/// Examines them.
pub(super) fn examine() -> Vec<Check> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let locks = held.is_some_and(|held| holds(held, LOCK_NUMBER));
    let capabilities = match held {
        Some(held) => capabilities(held),
        None => Check::unknown("capabilities", "/proc/self/status does not tell"),
    };
    vec![root(), capabilities, locked_memory(locks), open_files()]
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
            Remedy::run("sudo trunkline doctor"),
        ));
    }
    Check::new("root", format!("user {user}"), findings)
}

fn capabilities(held: u64) -> Check {
    // The kernel takes the older, larger right for CAP_BPF as well.
    let has = |number: u32| holds(held, number) || (number == 39 && holds(held, ADMIN_NUMBER));
    let (there, lacking): (Vec<_>, Vec<_>) =
        NEEDED.into_iter().partition(|(_, number, _)| has(*number));
    let names: Vec<_> = there.iter().map(|(name, ..)| *name).collect();
    let findings = lacking.iter().map(|(name, _, consequence)| {
        let remedy = Remedy::run("sudo trunkline doctor");
        // Where the limit suffices, nothing is amiss; that is a check of its own.
        let of = if *name == LOCK { Finding::warn } else { Finding::fail };
        of(format!("{name} is missing"), *consequence, remedy)
    });
    let found = if names.is_empty() { "none of those needed".into() } else { names.join(", ") };
    Check::new("capabilities", found, findings.collect())
}

fn locked_memory(unlimited: bool) -> Check {
    const ID: &str = "locked-memory";
    if unlimited {
        return Check::new(ID, format!("{LOCK}: no limit"), Vec::new());
    }
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((limit, _)) => {
            let found = format!("{} KiB", limit / 1024);
            let finding = Finding::fail(
                format!("the limit is {found}, a lab like the article's locks 64 MiB"),
                "packet memory cannot be registered with the kernel, and no lab comes up",
                Remedy::run("ulimit -l unlimited"),
            );
            Check::new(ID, found, (limit < PACKET_MEMORY).then_some(finding).into_iter().collect())
        }
        Err(errno) => Check::unknown(ID, errno.to_string()),
    }
}

fn open_files() -> Check {
    const ID: &str = "open-files";
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((limit, _)) => {
            let found = format!("at most {limit}");
            let finding = Finding::warn(
                format!("a process may open {limit} files"),
                "a daemon needs one a queue and three a port; a large lab does not come up",
                Remedy::run("ulimit -n 65536"),
            );
            Check::new(ID, found, (limit < OPEN_FILES).then_some(finding).into_iter().collect())
        }
        Err(errno) => Check::unknown(ID, errno.to_string()),
    }
}
