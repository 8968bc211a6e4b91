//! What is installed, where labs live, and what is left of those that are no more.

use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::privileges::AS_ROOT;
use super::report::{Check, Finding, Remedy, Status};
use crate::live::state::{RUN, State};
use crate::live::topology::ANCHOR;
use crate::net::{namespace, stats};

/// Programs: name, Debian package, what does not work without it, how bad that is.
const PROGRAMS: [(&str, &str, &str, Status); 4] = [
    ("curl", "curl", "`run --on afxdp` has no client", Status::Fail),
    ("nginx", "nginx-light", "`run --on afxdp` has no server", Status::Fail),
    ("ip", "iproute2", "nobody can look into a lab with `ip netns`", Status::Warn),
    ("ethtool", "ethtool", "netns-scripts leave offloads on", Status::Warn),
];
/// Room that labs need on the file system of [`RUN`]: logs, sockets, pages.
const ROOM: u64 = 16 << 20;

/// Examines it; with `fix`, repairs what can be, but of dead labs removes only those in `named`
/// where any are.
pub(super) fn examine(named: &[String], fix: bool) -> Vec<Check> {
    vec![programs(), run_folder(), run_space(), names_shared(fix), leftovers(named, fix)]
}

fn programs() -> Check {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let is_there = |name: &str| {
        let runs = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
        folders.iter().any(|folder| runs(&folder.join(name)))
    };
    let mut found = Vec::new();
    let mut findings = Vec::new();
    for (name, package, consequence, status) in PROGRAMS {
        if is_there(name) {
            found.push(name);
            continue;
        }
        let install = format!("apt-get install --no-install-recommends {package}");
        let problem = format!("{name} is not in the PATH");
        let finding = Finding::fail(problem, consequence, Remedy::Run(install));
        findings.push(Finding { status, ..finding });
    }
    Check::new("programs", found.join(", "), findings)
}

/// The folder of labs, or the nearest above it that exists.
fn run_or_above() -> &'static Path {
    let run = Path::new(RUN);
    run.ancestors().find(|folder| folder.exists()).unwrap_or(run)
}

fn run_folder() -> Check {
    let folder = run_or_above();
    let finding = access(folder, AccessFlags::W_OK).err().map(|errno| {
        Finding::fail(
            format!("{} cannot be written: {errno}", folder.display()),
            "a lab has no place for its control socket and its log",
            Remedy::run(AS_ROOT),
        )
    });
    Check::new("run-folder", folder.display().to_string(), finding.into_iter().collect())
}

fn run_space() -> Check {
    const ID: &str = "run-space";
    match statvfs(run_or_above()) {
        Ok(room) => {
            let free = room.blocks_available() * room.fragment_size();
            let found = format!("{} MiB free", free >> 20);
            let finding = Finding::warn(
                format!("{found} on the file system of {RUN}"),
                "a lab's log and pages may not fit",
                Remedy::run(format!("df {RUN}")),
            );
            Check::new(ID, found, (free < ROOM).then_some(finding).into_iter().collect())
        }
        Err(errno) => Check::unknown(ID, errno.to_string()),
    }
}

/// Whether names of namespaces that are made in one mount namespace are seen in all.
fn names_shared(fix: bool) -> Check {
    const ID: &str = "netns-mount";
    let text = match fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => text,
        Err(error) => return Check::unknown(ID, error.to_string()),
    };
    let mut mounts =
        text.lines().filter(|line| line.split(' ').nth(4) == Some(namespace::DIRECTORY));
    match mounts.next_back() {
        None => Check::new(ID, "none yet: the first lab makes it", Vec::new()),
        Some(mount) if mount.contains(" shared:") => Check::new(ID, "shared", Vec::new()),
        Some(_) => {
            let finding = Finding::warn(
                format!("{} is not a shared mount", namespace::DIRECTORY),
                "a process with mounts of its own does not see new namespaces and keeps old ones",
                Remedy::fix("shares it"),
            );
            let finding = if fix {
                finding.repaired(namespace::prepare_directory().map_err(Into::into))
            } else {
                finding
            };
            Check::new(ID, "not shared", vec![finding])
        }
    }
}

/// Labs without a daemon, and namespaces that look like a lab's.
fn leftovers(named: &[String], fix: bool) -> Check {
    const ID: &str = "leftovers";
    let labs = match State::all() {
        Ok(labs) => labs,
        Err(error) => return Check::unknown(ID, format!("{error:#}")),
    };
    let mut findings = Vec::new();
    for state in labs.iter().filter(|state| state.is_left()) {
        let finding = Finding::warn(
            format!("lab {} has no daemon any more", state.name()),
            "its namespaces and processes stay, and no lab of that name can come up",
            Remedy::fix(format!("removes it, as `trunkline down {}` does", state.name())),
        );
        let meant = named.is_empty() || named.iter().any(|name| name == state.name());
        let finding =
            if fix && meant { finding.repaired(state.clean().map(drop)) } else { finding };
        findings.push(finding);
    }
    for name in strays() {
        findings.push(Finding::warn(
            format!("there are namespaces of a lab {name} that `up` did not make"),
            "they were made by netns-scripts, or are left of a lab whose folder is gone",
            Remedy::Run(format!("trunkline down {name}")),
        ));
    }
    let found = if findings.is_empty() { "none".into() } else { format!("{}", findings.len()) };
    Check::new(ID, found, findings)
}

/// Labs without a folder whose namespaces are there, known by the private veth that every one has.
fn strays() -> Vec<String> {
    let names = namespace::list("").unwrap_or_default();
    let labs = names.iter().filter_map(|name| {
        let lab = name.strip_suffix("-vpc")?;
        let state = State::of(lab).ok()?;
        let is_a_lab = stats::read(name).ok()?.contains_key(ANCHOR.0);
        // A lab's folder is there before its namespaces and until they are gone, so in this order
        // one that just comes up or goes down is not taken for a stray.
        (is_a_lab && !state.exists() && namespace::exists(name)).then(|| lab.to_owned())
    });
    labs.collect()
}
