//! Open vSwitch in user space on afxdp ports, with a database and a folder of its own: takes the
//! pod's tag off, tracks the flow, translates it, and the answer back.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use datapath::wire::Mac;
use tempfile::TempDir;

use crate::bench::bed::{Bed, PRIMARY, cali};
use crate::bench::clock::Clock;
use crate::bench::forwarder::Peer;
use crate::bench::frames::{Frames, Pair};
use crate::bench::machine::Cores;
use crate::net::process::spawn_in;

use super::process::{Guarded, wait_until};
use super::tools::program;

/// Longest that a tool waits for a daemon, in seconds.
const TIMEOUT: &str = "--timeout=20";
/// The database's form, as the package installs it.
const FORM: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// The daemons. The switch ends before its database.
#[derive(Debug)]
pub struct Ovs {
    switch: Guarded,
    _database: Guarded,
    folder: TempDir,
    namespace: String,
}

impl Ovs {
    /// Starts it in the node's namespace, with both veths as ports.
    ///
    /// # Errors
    /// Where it is not installed or a step fails; the daemons are ended then.
    pub fn start(bed: &Bed, frames: &Frames, cores: Cores) -> anyhow::Result<Self> {
        let (pod, eth0) = (bed.near(cali(0))?, bed.near(PRIMARY)?);
        let namespace = pod.namespace;
        let folder = tempfile::Builder::new().prefix("trunkline-ovs").tempdir()?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        run(&folder, &namespace, "ovsdb-tool", &["create", &file("conf.db"), FORM])?;
        let remote = format!("--remote=punix:{}", file("db.sock"));
        let arguments = [file("conf.db"), remote, control(&folder, "ovsdb")];
        let mut database = daemon(&folder, &namespace, "ovsdb-server", &arguments)?;
        let socket = folder.path().join("db.sock");
        wait_until(&mut database, || Ok(socket.exists()))?;
        let mask = format!("other_config:pmd-cpu-mask={:x}", 1_u128 << cores.forwarder);
        let set = ["--no-wait", "set", "Open_vSwitch", ".", &mask];
        vsctl(&folder, &namespace, &["--no-wait", "init"])?;
        vsctl(&folder, &namespace, &set)?;
        let arguments = [format!("unix:{}", file("db.sock")), control(&folder, "switch")];
        let switch = daemon(&folder, &namespace, "ovs-vswitchd", &arguments)?;
        let ovs = Self { switch, _database: database, folder, namespace };
        ovs.add_ports([&pod.ifname, &eth0.ifname])?;
        ovs.add_flows(frames)?;
        Ok(ovs)
    }

    fn add_ports(&self, [pod, eth0]: [&str; 2]) -> anyhow::Result<()> {
        let bridge = ["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"];
        let closed = ["--", "set", "bridge", "br0", "fail_mode=secure"];
        let mut line: Vec<_> = bridge.into_iter().chain(closed).collect();
        for (name, number) in [(pod, "ofport_request=1"), (eth0, "ofport_request=2")] {
            line.extend(["--", "add-port", "br0", name, "--", "set", "interface", name]);
            line.extend(["type=afxdp", "options:xdp-mode=native", number]);
        }
        vsctl(&self.folder, &self.namespace, &line).with_context(|| self.complaint())?;
        // A port that could not be opened is an entry in the database and nothing else.
        for name in [pod, eth0] {
            let error = vsctl(&self.folder, &self.namespace, &["get", "interface", name, "error"])?;
            if !matches!(error.trim(), "[]" | "") {
                bail!("port {name}: {} ({})", error.trim(), self.complaint());
            }
        }
        Ok(())
    }

    /// The last errors that the switch has logged.
    fn complaint(&self) -> String {
        let log = self.folder.path().join("ovs-vswitchd.log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let errors: Vec<_> = log.lines().filter(|line| line.contains("|ERR|")).collect();
        errors[errors.len().saturating_sub(3)..].join(" / ")
    }

    fn add_flows(&self, frames: &Frames) -> anyhow::Result<()> {
        let file = self.folder.path().join("flows");
        std::fs::write(&file, flows(frames.pair()?, frames.next_hop()))?;
        let bridge = format!("unix:{}", self.folder.path().join("br0.mgmt").display());
        let flows = file.display().to_string();
        // The first version with tags that are taken off and put on.
        let add = [TIMEOUT, "-O", "OpenFlow13", "add-flows", &bridge, &flows];
        run(&self.folder, &self.namespace, "ovs-ofctl", &add)?;
        Ok(())
    }
}

impl Peer for Ovs {
    fn clock(&self) -> Option<Clock> {
        Some(Clock::Process(self.switch.id()))
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        // Ended by a signal it would leave the devices of its bridge behind.
        let control = self.folder.path().join("switch.ctl").display().to_string();
        let exit = [TIMEOUT, "-t", &control, "exit", "--cleanup"];
        if let Err(error) = run(&self.folder, &self.namespace, "ovs-appctl", &exit) {
            tracing::warn!(%error, "Open vSwitch could not clean up");
        }
    }
}

/// The flows: what comes tagged from the pod is translated to the endpoint, what answers goes
/// back with the tag. Frames that are neither are dropped.
fn flows(pair: Pair, next_hop: [Mac; 2]) -> String {
    let rewrite = |[dst, src]: [Mac; 2]| format!("mod_dl_dst:{dst},mod_dl_src:{src},dec_ttl");
    let (out, back) = (rewrite(next_hop), rewrite(pair.last_hop));
    let Pair { vid, front: (_, port), backend: (backend, target), .. } = pair;
    format!(
        "table=0,in_port=1,dl_vlan={vid},udp,actions=pop_vlan,ct(table=1,nat)\n\
         table=0,in_port=2,udp,actions=ct(table=2,nat)\n\
         table=1,ct_state=+trk+est,ip,actions={out},output:2\n\
         table=1,ct_state=+trk+new,udp,tp_dst={port},\
         actions=ct(commit,nat(dst={backend}:{target})),{out},output:2\n\
         table=2,ct_state=+trk+est,ip,actions={back},push_vlan:0x8100,mod_vlan_vid:{vid},output:1\n"
    )
}

/// Where a daemon listens for `ovs-appctl`.
fn control(folder: &TempDir, name: &str) -> String {
    format!("--unixctl={}", folder.path().join(name).with_extension("ctl").display())
}

fn command(folder: &TempDir, name: &str) -> anyhow::Result<Command> {
    let path = program(name).with_context(|| format!("{name} is not installed"))?;
    let mut command = Command::new(path);
    let folders = ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"];
    command.envs(folders.map(|variable| (variable, folder.path())));
    Ok(command)
}

fn daemon(
    folder: &TempDir,
    namespace: &str,
    name: &str,
    arguments: &[String],
) -> anyhow::Result<Guarded> {
    let mut command = command(folder, name)?;
    command.args(arguments).args(["--no-chdir", "-vconsole:off"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.arg(format!("--log-file={}", folder.path().join(name).with_extension("log").display()));
    Ok(Guarded::new(spawn_in(namespace, &mut command)?))
}

fn vsctl(folder: &TempDir, namespace: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let database = format!("--db=unix:{}", folder.path().join("db.sock").display());
    run(folder, namespace, "ovs-vsctl", &[&[TIMEOUT, &database], arguments].concat())
}

/// Runs one of its tools, and gives what it prints.
fn run(
    folder: &TempDir,
    namespace: &str,
    name: &str,
    arguments: &[&str],
) -> anyhow::Result<String> {
    let mut command = command(folder, name)?;
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = spawn_in(namespace, &mut command)?.wait_with_output()?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_has_a_flow_to_its_endpoint() {
        let text = flows(Pair::of_tests(), [Mac([2; 6]), Mac([4; 6])]);
        assert!(text.contains("in_port=1,dl_vlan=101,udp,actions=pop_vlan"), "{text}");
        assert!(text.contains("tp_dst=53,actions=ct(commit,nat(dst=10.0.32.1:5353))"), "{text}");
    }
}
