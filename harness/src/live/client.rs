//! What the commands do with a lab: bring it up, ask its daemon, end it.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use crossbeam::channel::bounded;
use datapath::journey::Hop;
use datapath::lab::Lab;
use datapath::link::ElementId;

use super::daemon::READY;
use super::protocol::{Answer, Envelope, Ledger, Reply, Request, Status, VERSION};
use super::state::{COMING_UP, State};
use super::worker::{ASKED_IN_VAIN, Forwarding, Poll, shares};
use crate::doctor::receives_when_asked;
use crate::net::process;
use crate::net::teardown::Removed;
use crate::show::Query;

/// How long a daemon may take to answer, and to close its ports and answer.
const PATIENCE: Duration = Duration::from_secs(30);
const STOPPING: Duration = Duration::from_secs(10);
/// Lines of a failed daemon's log that are worth showing.
const LOG_TAIL: usize = 12;

/// A lab that is up.
#[derive(Clone, Debug)]
pub struct Client {
    state: State,
    /// Keeps a tied lab up; when the last holder is gone, the lab ends.
    _tie: Option<Arc<ChildStdin>>,
}

/// Whom a lab lives for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Until it is taken down.
    OfItsOwn,
    /// At most as long as this process.
    Tied,
}

/// Brings a lab up and returns when it forwards. On failure nothing is left of it.
///
/// # Errors
/// A bad lab file, a missing right, a name that is taken, or what the daemon says.
pub fn up(
    name: &str,
    lab_text: &str,
    forwarding: Forwarding,
    life: Life,
) -> anyhow::Result<Client> {
    if !nix::unistd::geteuid().is_root() {
        bail!("a lab in namespaces needs root; `trunkline run --on memory` does not");
    }
    let lab = datapath::lab::load(lab_text, "the lab file")?;
    // Said before anything is made.
    if forwarding.poll == Poll::KernelBusy && !receives_when_asked()? {
        bail!("{ASKED_IN_VAIN}");
    }
    shares(&forwarding.of(lab), forwarding.workers)?;
    let state = State::create(name, lab_text)?;
    match state.write_forwarding(&forwarding).and_then(|()| start_daemon(&state, life)) {
        Ok(tie) => Ok(Client { state, _tie: tie.map(Arc::new) }),
        Err(error) => {
            let error = match log_tail(&state) {
                Some(tail) => error.context(tail),
                None => error,
            };
            state.clean()?;
            Err(error)
        }
    }
}

fn start_daemon(state: &State, life: Life) -> anyhow::Result<Option<ChildStdin>> {
    let log = File::create(state.log()).context("create the daemon's log")?;
    // This very program, even where its file has been replaced since.
    let mut daemon = Command::new("/proc/self/exe")
        .args(["daemon", state.name()])
        .args((life == Life::Tied).then_some("--tied"))
        .stdin(if life == Life::Tied { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("start the daemon")?;
    let stdout = daemon.stdout.take().ok_or_else(|| anyhow!("the daemon has no output"))?;
    let (told, ready) = bounded(1);
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = told.send(line);
    });
    match ready.recv_timeout(COMING_UP) {
        Ok(line) if line.trim_end() == READY => return Ok(daemon.stdin.take()),
        Ok(_) => {}
        Err(_) => daemon.kill().context("end a daemon that does not get ready")?,
    }
    let status = daemon.wait()?;
    Err(anyhow!("the lab did not come up: its daemon ended with {status}"))
}

fn log_tail(state: &State) -> Option<String> {
    let log = std::fs::read_to_string(state.log()).ok()?;
    let lines: Vec<_> = log.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_TAIL)..)?;
    (!tail.is_empty()).then(|| tail.join("\n"))
}

/// The lab of that name, or the only one that is up where none is named.
///
/// # Errors
/// Where there is none, or no name and several.
pub fn find(name: Option<&str>) -> anyhow::Result<Client> {
    let state = match name {
        Some(name) => State::of(name)?,
        None => {
            let mut all = State::all()?;
            let only = all.pop().context("no lab is up; `trunkline up LAB` starts one")?;
            if !all.is_empty() {
                bail!("several labs are up: say which with --lab NAME (`trunkline ps` lists them)");
            }
            only
        }
    };
    if !state.exists() {
        bail!("no lab {} is up (`trunkline ps` lists them)", state.name());
    }
    Ok(Client { state, _tie: None })
}

impl Client {
    /// The lab's folder.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The lab as it is in force.
    ///
    /// # Errors
    /// Where its file cannot be read any more.
    pub fn lab(&self) -> anyhow::Result<Lab> {
        self.state.lab()
    }

    /// Asks the daemon.
    ///
    /// # Errors
    /// Where the daemon does not answer, or answers with an error.
    pub fn ask(&self, request: Request) -> anyhow::Result<Answer> {
        let mut stream = UnixStream::connect(self.state.socket()).map_err(|error| {
            let name = self.state.name();
            let why = match error.kind() {
                ErrorKind::PermissionDenied => format!("lab {name} is another user's"),
                _ => format!("lab {name} has no daemon any more; `trunkline down {name}`"),
            };
            anyhow::Error::new(error).context(why)
        })?;
        let stopping = matches!(request, Request::Stop);
        stream.set_read_timeout(Some(if stopping { STOPPING } else { PATIENCE }))?;
        let mut text = serde_json::to_string(&Envelope { version: VERSION, request })?;
        text.push('\n');
        stream.write_all(text.as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).context("wait for the daemon's answer")?;
        let reply: Reply = serde_json::from_str(&line).context("understand the daemon")?;
        if reply.version != VERSION {
            bail!("the daemon speaks protocol version {}, this is {VERSION}", reply.version);
        }
        reply.result.map_err(|error| anyhow!(error))
    }

    /// Who the daemon is.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn status(&self) -> anyhow::Result<Status> {
        match self.ask(Request::Status)? {
            Answer::Status(status) => Ok(status),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    /// The books of every element and port.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn ledger(&self) -> anyhow::Result<Ledger> {
        match self.ask(Request::Ledger)? {
            Answer::Ledger(ledger) => Ok(ledger),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    /// Has the lab take over another version of its file (spec LAB-29).
    ///
    /// # Errors
    /// As [`Client::ask`], or where the file is no lab or one with other machines; nothing has
    /// changed then.
    pub fn apply(&self, lab_text: &str) -> anyhow::Result<()> {
        match self.ask(Request::Apply { text: lab_text.to_owned() })? {
            Answer::Done => Ok(()),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    /// A table of the running elements: as text, and for machines.
    ///
    /// # Errors
    /// As [`Client::ask`], or where the query names a node that the lab does not have.
    pub fn show(&self, query: Query) -> anyhow::Result<(String, serde_json::Value)> {
        match self.ask(Request::Show { query })? {
            Answer::Table { text, json } => Ok((text, json)),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    /// Ends the recording of journeys and takes the hops.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn close_journals(&self) -> anyhow::Result<Vec<(ElementId, Vec<Hop>)>> {
        match self.ask(Request::JournalClose)? {
            Answer::Journals { hops } => Ok(hops),
            other => bail!("unexpected answer {other:?}"),
        }
    }

    /// Ends the lab. Works without its daemon as well.
    ///
    /// # Errors
    /// Where something could not be removed.
    pub fn down(&self) -> anyhow::Result<Removed> {
        // A daemon that does not answer, or has just been stopped by somebody else, is ended with
        // whatever else is left.
        if let Some(daemon) = self.state.daemon() {
            let _ = self.ask(Request::Stop);
            // It answers when the lab is gone, and ends after that.
            process::stop(daemon, STOPPING)?;
        }
        self.state.clean()
    }
}
