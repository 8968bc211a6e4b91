//! DPDK's testpmd on net_af_xdp: another program's loop over the same sockets.

use std::fs::File;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::bench::bed::{Bed, PRIMARY, cali};
use crate::bench::clock::Clock;
use crate::bench::forwarder::Peer;
use crate::bench::frames::Frames;
use crate::bench::machine::Cores;
use crate::net::process::spawn_in;

use super::process::{Guarded, wait_for_text};
use super::tools::program;

/// What it says once it forwards.
const FORWARDS: &str = "Press enter to exit";

/// A running testpmd. Its control thread is on the generator's core, where it sleeps.
#[derive(Debug)]
pub struct Testpmd {
    process: Guarded,
    _log: tempfile::TempDir,
}

impl Testpmd {
    /// Starts it in the node's namespace and waits until it forwards.
    ///
    /// # Errors
    /// Where it is not installed, or does not come to forwarding; it is ended then.
    pub fn start(bed: &Bed, frames: &Frames, cores: Cores) -> anyhow::Result<Self> {
        let (pod, eth0) = (bed.near(cali(0))?, bed.near(PRIMARY)?);
        let log = tempfile::tempdir().context("make a folder")?;
        let said = log.path().join("testpmd.log");
        let output = File::create(&said)?;
        // Into a file it would say nothing before it ends, were it not for stdbuf.
        let mut command = Command::new(program("stdbuf").context("stdbuf is not installed")?);
        command
            .arg("-oL")
            .arg(program("dpdk-testpmd").context("it is not installed")?)
            .args(["-l", &format!("{},{}", cores.generator, cores.forwarder)])
            .args(["--main-lcore", &cores.generator.to_string()])
            // Huge pages gain nothing for a packet memory in copy mode.
            .args(["--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--no-shconf"])
            .args(["--vdev", &format!("net_af_xdp0,iface={}", pod.ifname)])
            .args(["--vdev", &format!("net_af_xdp1,iface={}", eth0.ifname)])
            .args(["--", "--forward-mode=mac", "--auto-start", "--nb-cores=1"])
            .args([&format!("--eth-peer=1,{}", frames.next_hop()[0]), "--burst=64"])
            .args(["--total-num-mbufs=8192"])
            // It ends where its input does.
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output);
        let process = Guarded::new(spawn_in(&pod.namespace, &mut command)?);
        let mut testpmd = Self { process, _log: log };
        wait_for_text(&mut testpmd.process, &said, FORWARDS)?;
        Ok(testpmd)
    }
}

impl Peer for Testpmd {
    fn clock(&self) -> Option<Clock> {
        Some(Clock::Process(self.process.id()))
    }
}
