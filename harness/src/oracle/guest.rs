//! Process 1 of the guest: mounts what it needs, loads the modules, runs its share of the work
//! and turns the machine off.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

/// Modules that load each other only when a rule asks for them, which takes a process each.
const MODULES: [&str; 40] = [
    "ip_vs",
    "ip_vs_rr",
    "ip_vs_wrr",
    "ip_vs_lc",
    "ip_vs_wlc",
    "ip_vs_sh",
    "ip_vs_mh",
    "ip_vs_dh",
    "ip_vs_sed",
    "ip_vs_nq",
    "ip_vs_lblc",
    "ip_vs_lblcr",
    "ip_vs_fo",
    "ip_vs_ovf",
    "veth",
    "dummy",
    "act_vlan",
    "cls_u32",
    "sch_ingress",
    "iptable_nat",
    "iptable_filter",
    "iptable_raw",
    "ip_set",
    "ip_set_hash_ip",
    "ip_set_hash_ipport",
    "ip_set_hash_ipportip",
    "ip_set_hash_ipportnet",
    "ip_set_bitmap_port",
    "xt_set",
    "xt_mark",
    "xt_u32",
    "xt_nat",
    "xt_MASQUERADE",
    "xt_conntrack",
    "xt_tcpudp",
    "xt_addrtype",
    "xt_comment",
    "ipt_REJECT",
    "nf_conntrack",
    "nf_nat",
];

/// The environment that the kernel's command line gives process 1.
pub const MODULE_FOLDER: &str = "TRUNKLINE_MODULES";

/// Prepares the guest, runs `work`, says what became of it on the console, and turns the machine
/// off. It does not return where that works.
///
/// # Errors
/// Where the machine cannot be turned off, that is, where this is no guest.
pub fn run(folder: &Path, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    if std::process::id() != 1 {
        bail!("this is for process 1 of a guest");
    }
    let result = prepare(folder).and_then(|()| work());
    if let Err(error) = &result {
        println!("guest: {error:#}");
    }
    let status = u8::from(result.is_err()).to_string();
    fs::write(folder.join("status"), status).context("write the status")?;
    reboot(RebootMode::RB_POWER_OFF).context("turn the guest off")?;
    Ok(())
}

fn prepare(folder: &Path) -> anyhow::Result<()> {
    let attach = |kind: &str, at: &Path, options: Option<&str>| {
        mount(Some("none"), at, Some(kind), MsFlags::empty(), options)
            .with_context(|| format!("mount {kind} at {}", at.display()))
    };
    attach("proc", Path::new("/proc"), None)?;
    attach("sysfs", Path::new("/sys"), None)?;
    attach("tmpfs", Path::new("/run"), None)?;
    // The host's files are read only but for this folder.
    let path = folder.to_str().context("the folder's name is no text")?;
    attach("hostfs", folder, Some(path))?;
    let modules = std::env::var(MODULE_FOLDER).context("no folder of modules given")?;
    let modprobe = |arguments: &[&str]| {
        let status = Command::new("/sbin/modprobe").args(["-d", &modules]).args(arguments).status();
        match status.context("run modprobe")? {
            status if status.success() => anyhow::Ok(()),
            status => bail!("modprobe {}: {status}", arguments.join(" ")),
        }
    };
    // Something needs IPv6, and nothing is to speak it.
    modprobe(&["ipv6", "disable_ipv6=1"])?;
    modprobe(&[&["-a"], &MODULES[..]].concat())
}
