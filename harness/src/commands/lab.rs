//! `up`, `apply`, `down`, `ps`, `exec`, `ledger`: labs that live in namespaces.

use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use datapath::lab::Lab;
use datapath::link::HostId;
use datapath::node::ToaCounters;
use datapath::node::ipvs::LocalPorts;

use super::{NO, Versioned};
use crate::lab_file;
use crate::live::client::{self, Life};
use crate::live::daemon;
use crate::live::protocol::{FnatReport, Ledger};
use crate::live::state::State;
use crate::live::topology::host_namespace;
use crate::live::worker::Forwarding;
use crate::net::namespace;

/// Bring a lab up in network namespaces and forward until `down`.
#[derive(Debug, Args)]
pub struct Up {
    /// The lab file.
    lab: PathBuf,
    /// Name of the lab; by default the letters and digits of the file's name.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    forwarding: Forwarding,
}

impl Up {
    /// Runs the command.
    ///
    /// # Errors
    /// What kept the lab from coming up; nothing is left of it.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let mut out = std::io::stdout().lock();
        let (text, lab) = read_linted(&self.lab)?;
        let name = self.name.clone().unwrap_or_else(|| default_name(&self.lab));
        let client = client::up(&name, &text, self.forwarding, Life::OfItsOwn)?;
        let (nodes, pods) = (lab.nodes.len(), lab.pods.len());
        writeln!(
            out,
            "{name} is up: {nodes} nodes, {pods} pods; log in {}",
            client.state().log().display()
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Have a lab that is up take over another version of its file: profile, switches and services may
/// be others, machines may not. Flows and connections live on.
#[derive(Debug, Args)]
pub struct Apply {
    /// The lab file.
    file: PathBuf,
    /// Name of the lab; may be left out when only one is up.
    #[arg(long)]
    lab: Option<String>,
}

impl Apply {
    /// Runs the command.
    ///
    /// # Errors
    /// A mistake in the file, other machines in it, or no such lab; nothing has changed then.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let text = read_linted(&self.file)?.0;
        let client = client::find(self.lab.as_deref())?;
        client.apply(&text)?;
        let (name, file) = (client.state().name(), self.file.display());
        writeln!(std::io::stdout(), "{name} has taken over {file}")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A lab file's text and what it means; warnings are told. It is read here too, so that a mistake
/// is told with the name of the user's own file.
fn read_linted(file: &Path) -> anyhow::Result<(String, Lab)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let (lab, lints) = datapath::lab::load_linted(&text, &file.display().to_string())?;
    if !lints.problems.is_empty() {
        writeln!(std::io::stderr(), "{lints}")?;
    }
    Ok((text, lab))
}

/// A lab's name from its file's: lower-case letters and digits only, a letter first.
fn default_name(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
    let name: String =
        stem.unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    let name = name.trim_start_matches(|c: char| c.is_ascii_digit());
    if name.is_empty() { "lab".into() } else { name.into() }
}

/// End a lab and leave nothing behind; works without its daemon as well.
#[derive(Debug, Args)]
pub struct Down {
    /// Name of the lab; may be left out when only one is up.
    name: Option<String>,
    /// The same, as every other command has it.
    #[arg(long, conflicts_with = "name")]
    lab: Option<String>,
}

impl Down {
    /// Runs the command.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let mut out = std::io::stdout().lock();
        // Namespaces may be left of a lab whose folder is gone: a named lab is always cleaned.
        let state = match self.name.as_ref().or(self.lab.as_ref()) {
            Some(name) => State::of(name)?,
            None => client::find(None)?.state().clone(),
        };
        let known = state.exists();
        let removed =
            if known { client::find(Some(state.name()))?.down()? } else { state.clean()? };
        if !known && removed.namespaces.is_empty() {
            bail!("there is no lab {}", state.name());
        }
        writeln!(out, "{} is down", state.name())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// List the labs that are up.
#[derive(Debug, Args)]
pub struct Ps {}

impl Ps {
    /// Runs the command.
    ///
    /// # Errors
    /// Where the labs cannot be listed.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let mut out = std::io::stdout().lock();
        let all = State::all()?;
        let width = width(20, all.iter().map(State::name));
        writeln!(
            out,
            "{:<width$} {:>8} {:>8} {:>6} {:>6}  STATE",
            "LAB", "PID", "UP", "NODES", "PODS"
        )?;
        for state in all {
            let name = state.name().to_owned();
            match client::find(Some(&name)).and_then(|client| client.status()) {
                Ok(s) => {
                    let (up, nodes, pods) = (format!("{}s", s.up_seconds), s.nodes, s.pods);
                    writeln!(out, "{name:<width$} {:>8} {up:>8} {nodes:>6} {pods:>6}  up", s.pid)?;
                }
                Err(error) => {
                    let state = match is_forbidden(&error) {
                        true => "running (no permission to ask)".to_owned(),
                        false => format!("without daemon: `trunkline down {name}`"),
                    };
                    let [pid, up, nodes, pods] = ["-"; 4];
                    writeln!(out, "{name:<width$} {pid:>8} {up:>8} {nodes:>6} {pods:>6}  {state}")?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The width of a column of names, at least `least`.
fn width<'a>(least: usize, names: impl Iterator<Item = &'a str>) -> usize {
    names.map(str::len).fold(least, usize::max)
}

/// Whether the system has refused something for want of rights.
fn is_forbidden(error: &anyhow::Error) -> bool {
    let kind = |cause: &std::io::Error| cause.kind() == ErrorKind::PermissionDenied;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(kind))
}

/// Run a command in the namespace of a pod, a node's own stack or an outside host.
#[derive(Debug, Args)]
pub struct Exec {
    /// `NS/NAME` or `pod:NS/NAME`, `node:NAME`, `outside:NAME`.
    host: String,
    /// Name of the lab; may be left out when only one is up.
    #[arg(long)]
    lab: Option<String>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    /// Runs the command in place of this process: the exit status is the program's own, or 126 or
    /// 127 where it cannot be run or is not there.
    ///
    /// # Errors
    /// Where there is no such host.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let client = client::find(self.lab.as_deref())?;
        let lab = client.lab()?;
        let host = find_host(&lab, &self.host)?;
        let place = host_namespace(client.state().name(), &lab, host).context("no such host")?;
        namespace::enter(&place)?;
        let [program, args @ ..] = self.command.as_slice() else { bail!("no command") };
        let error = Command::new(program).args(args).exec();
        eprintln!("trunkline: run {program}: {error}");
        // As a shell tells the two apart.
        Ok(ExitCode::from(if error.kind() == ErrorKind::NotFound { 127 } else { 126 }))
    }
}

/// The lab of a file, or the running lab of that name, or the only one that is up.
///
/// # Errors
/// Where there is no such lab, or the file is none.
pub fn lab_of(named: Option<&str>) -> anyhow::Result<Lab> {
    match named.map(Path::new).filter(|path| is_file_name(path)) {
        Some(file) => lab_file::load(file),
        None => client::find(named)?.lab(),
    }
}

/// Whether what `--lab` names is a file and not a running lab.
#[must_use]
pub fn is_file_name(path: &Path) -> bool {
    path.is_file() || path.components().count() > 1 || path.extension().is_some()
}

/// The host that a name means.
///
/// # Errors
/// Where the lab has no such host; the message lists those it has.
pub fn find_host(lab: &Lab, name: &str) -> anyhow::Result<HostId> {
    HostId::named(lab, name).with_context(|| {
        let names: Vec<_> = HostId::all(lab).map(|host| host.name(lab).to_string()).collect();
        format!("there is no {name}; the lab has {}", names.join(", "))
    })
}

/// Print the books of a lab: every frame that came in, and what became of it.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// Name of the lab; may be left out when only one is up.
    #[arg(long)]
    lab: Option<String>,
    /// Print JSON, of the form in docs/schema/ledger.json.
    #[arg(long)]
    json: bool,
}

impl LedgerArgs {
    /// Runs the command. The exit status tells whether the books balance.
    ///
    /// # Errors
    /// Where the daemon does not answer.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let mut out = std::io::stdout().lock();
        let ledger = client::find(self.lab.as_deref())?.ledger()?;
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&Versioned::new(&ledger))?)?;
        } else {
            print_ledger(&ledger, &mut out)?;
        }
        let balanced = ledger.imbalances.is_empty() && ledger.elements.values().all(|e| e.balanced);
        Ok(if balanced { ExitCode::SUCCESS } else { NO })
    }
}

/// Ports of the local addresses, and what was told of clients.
fn print_fnat(fnat: &FnatReport, out: &mut impl Write) -> std::io::Result<()> {
    for LocalPorts { ip, used, free, missed } in &fnat.local_addresses {
        writeln!(out, "  {used:>10}  ports of {ip} used, {free} free, {missed} missed")?;
    }
    let ToaCounters { inserted, too_large, no_room } = fnat.toa;
    let left_out = too_large + no_room;
    if inserted + left_out > 0 {
        writeln!(out, "  {inserted:>10}  segments with TOA, {left_out} without for want of room")?;
    }
    Ok(())
}

fn print_ledger(ledger: &Ledger, out: &mut impl Write) -> std::io::Result<()> {
    let names = width(28, ledger.elements.keys().map(String::as_str));
    let ports = width(16, ledger.ports.iter().map(|port| port.port.as_str()));
    writeln!(
        out,
        "{:<names$} {:>10} {:>8} {:>10} {:>9} {:>8} {:>8} {:>6}",
        "ELEMENT", "RECEIVED", "MADE", "SENT", "DELIVERED", "DROPPED", "ABSORBED", "HELD"
    )?;
    for (name, e) in &ledger.elements {
        writeln!(
            out,
            "{name:<names$} {:>10} {:>8} {:>10} {:>9} {:>8} {:>8} {:>6}",
            e.received, e.made, e.sent, e.delivered, e.dropped, e.absorbed, e.held
        )?;
        for (reason, count) in &e.drops {
            writeln!(out, "  {count:>10}  {reason}")?;
        }
        if let Some(cache) = ledger.flow_caches.get(name) {
            writeln!(out, "  {:>10}  sent by learned paths", cache.hits)?;
        }
        if let Some(fnat) = ledger.fnat.get(name) {
            print_fnat(fnat, out)?;
        }
    }
    writeln!(out)?;
    writeln!(
        out,
        "{:<names$} {:<ports$} {:>5} {:>10} {:>10}  LOST",
        "ELEMENT", "PORT", "QUEUE", "RX", "TX"
    )?;
    for port in &ledger.ports {
        for (number, q) in port.queues.iter().enumerate() {
            writeln!(
                out,
                "{:<names$} {:<ports$} {number:>5} {:>10} {:>10}  {}",
                port.element,
                port.port,
                q.rx,
                q.tx,
                q.losses()
            )?;
        }
    }
    for imbalance in &ledger.imbalances {
        writeln!(out, "NOT CONSERVED: {imbalance}")?;
    }
    Ok(())
}

/// The daemon of a lab; `up` starts it.
#[derive(Debug, Args)]
pub struct Daemon {
    /// Name of the lab.
    name: String,
    /// End with the process at the other end of standard input.
    #[arg(long)]
    tied: bool,
}

impl Daemon {
    /// Runs the daemon until it is told to end.
    ///
    /// # Errors
    /// Where the lab cannot be brought up.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        daemon::run(&self.name, self.tied)?;
        Ok(ExitCode::SUCCESS)
    }
}
