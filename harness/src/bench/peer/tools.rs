//! Programs of other packages that a comparison uses, and how they are installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::bench::forwarder::{Kind, Row, Spread};
use crate::doctor::receives_when_asked;
use crate::live::worker::ASKED_IN_VAIN;

/// Where administrators' programs are, whatever the caller's PATH says.
const FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A program, or another file that is there where a package is, and the packages to install.
type Need = (&'static str, &'static [&'static str]);

const IP: Need = ("ip", &["iproute2"]);
const ETHTOOL: Need = ("ethtool", &["ethtool"]);
const NFT: Need = ("nft", &["nftables"]);
const IPVSADM: Need = ("ipvsadm", &["ipvsadm"]);
const TESTPMD: Need =
    ("dpdk-testpmd", &["dpdk-dev", "librte-net-af-xdp23", "librte-mempool-ring23"]);
const OVS: Need = ("ovs-vswitchd", &["openvswitch-switch"]);

/// Where a program is.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
}

fn needs(row: Row) -> Vec<Need> {
    let mut needs = match row.kind {
        Kind::Node | Kind::Trunk | Kind::Busy | Kind::Fused => vec![],
        Kind::L2fwd | Kind::Devmap => vec![],
        Kind::Forward | Kind::Rules | Kind::Rules200 => vec![IP],
        Kind::Nat => vec![IP, NFT],
        Kind::Ipvs => vec![IP, IPVSADM],
        Kind::Testpmd => vec![TESTPMD],
        Kind::Ovs => vec![OVS],
    };
    if row.spread == Spread::Threaded && row.kind != Kind::Devmap {
        needs.push(ETHTOOL);
    }
    needs
}

/// Why a row cannot be measured on this machine; `None` where nothing stands against it.
#[must_use]
pub fn missing(row: Row) -> Option<String> {
    let missing = needs(row).into_iter().find(|(name, _)| program(name).is_none());
    if let Some((name, packages)) = missing {
        return Some(format!("{name} is not installed (packages {})", packages.join(" ")));
    }
    if row.kind == Kind::Busy {
        return match receives_when_asked() {
            Ok(true) => None,
            Ok(false) => Some(ASKED_IN_VAIN.to_owned()),
            Err(error) => Some(format!("{error:#}")),
        };
    }
    let has_ipvs = Path::new("/proc/sys/net/ipv4/vs").exists();
    (row.kind == Kind::Ipvs && !has_ipvs).then(|| "this kernel has no ip_vs".to_owned())
}

/// Installs, by apt-get, what rows need and is not there.
///
/// # Errors
/// Where apt-get fails or is not there.
pub fn install(rows: &[Row]) -> anyhow::Result<()> {
    let needs = rows.iter().flat_map(|row| needs(*row));
    let mut packages: Vec<_> =
        needs.filter(|(name, _)| program(name).is_none()).flat_map(|(_, p)| p).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let output = Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&packages)
        // Daemons that come with them are not to be started: the bench starts its own.
        .envs([("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")])
        .stdin(Stdio::null())
        .output()
        .context("run apt-get")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("apt-get install {}: {}", packages.join(" "), said.trim());
    }
    Ok(())
}
