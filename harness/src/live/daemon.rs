//! The daemon of one lab: makes its namespaces, forwards, answers the control socket, and leaves
//! nothing behind (spec LAB-20, LAW-8).

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use crossbeam::channel::{Sender, bounded};
use datapath::lab::Lab;
use datapath::link::Snapshot;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::protocol::{Answer, Reply, Request, Status, VERSION};
use super::report;
use super::state::State;
use super::takeover;
use super::topology::{Places, whole_places};
use super::worker::{self, Forwarding, Poll, Worker};
use crate::net::process::ProcessId;
use crate::net::{self, namespace};
use crate::show;

/// What a daemon says on its standard output once it forwards.
pub const READY: &str = "ready";
/// How long a client may take to send its request or to take the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most control connections at a time, each with a thread of its own.
const CONNECTIONS: usize = 256;

/// A running lab, as its control connections see it.
struct Running {
    lab: Lab,
    places: Places,
    worker: Worker,
    began: Instant,
    /// Held while the lab takes over another version of its file: one at a time.
    applying: Mutex<()>,
}

/// Runs the daemon of a lab whose folder is there; returns when it is told to end. A `tied` daemon
/// also ends when its standard input does: with the process that needed the lab, however that
/// ended.
///
/// # Errors
/// Where the lab cannot be brought up. Whatever was made is removed again.
pub fn run(name: &str, tied: bool) -> anyhow::Result<()> {
    // A daemon belongs to no terminal. This fails only for a process that leads its group.
    let _ = nix::unistd::setsid();
    let state = State::of(name)?;
    state.write_daemon(ProcessId::current().context("read our own start time")?)?;
    // Blocked before any thread starts, so that only the waiting thread takes them.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("block signals")?;
    let unwinding = CleanUp(&state);
    let ended = forward(&state, signals, tied);
    let cleaned = state.clean();
    drop(unwinding);
    ended?;
    cleaned.map(drop)
}

/// Leaves nothing behind after a panic either.
struct CleanUp<'a>(&'a State);

impl Drop for CleanUp<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.clean();
        }
    }
}

fn forward(state: &State, signals: SigSet, tied: bool) -> anyhow::Result<()> {
    datapath_io::log_libbpf();
    let running = Arc::new(bring_up(state)?);
    let listener = UnixListener::bind(state.socket()).context("bind the control socket")?;
    let (end, ended) = bounded::<UnixStream>(1);
    let (stop, stopped) = bounded::<()>(2);
    let needed = stop.clone();
    std::thread::spawn(move || {
        let _ = signals.wait();
        let _ = stop.send(());
    });
    if tied {
        std::thread::spawn(move || {
            // Nothing is ever written to it: this returns when the other end is gone.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = needed.send(());
        });
    }
    let serving = Arc::clone(&running);
    std::thread::spawn(move || serve(&listener, &serving, &end));
    tracing::info!(lab = state.name(), "forwarding");
    // Where nobody waits for this any more, nobody needs the lab.
    writeln!(std::io::stdout(), "{READY}").context("tell that the lab is up")?;
    let asker = crossbeam::select! {
        recv(ended) -> asker => asker.ok(),
        recv(stopped) -> _ => None,
        recv(running.worker.ended()) -> _ => bail!("the forwarding thread has ended"),
    };
    running.worker.stop();
    if let Some(mut asker) = asker {
        state.clean()?;
        let _ = write_reply(&mut asker, Ok(Answer::Done));
    }
    Ok(())
}

/// Makes the namespaces and starts to forward.
fn bring_up(state: &State) -> anyhow::Result<Running> {
    let Forwarding { poll, workers, .. } = state.forwarding()?;
    let lab = state.lab()?;
    let places = whole_places(&lab, state.name(), workers)?;
    net::apply(&places.topology)?;
    if poll == Poll::KernelBusy {
        worker::defer_interrupts(&places.sites)?;
    }
    let worker = Worker::start(worker::seats(&lab, &places, workers)?, poll)?;
    Ok(Running { lab, places, worker, began: Instant::now(), applying: Mutex::new(()) })
}

/// Answers connections, each on a thread of its own, until one asks to stop.
fn serve(listener: &UnixListener, running: &Arc<Running>, end: &Sender<UnixStream>) {
    // Each thread holds a copy, so that their number is known.
    let open = Arc::new(());
    for stream in listener.incoming() {
        let served = stream.map_err(anyhow::Error::from).and_then(|mut stream| {
            if Arc::strong_count(&open) > CONNECTIONS {
                let busy = format!("{CONNECTIONS} control connections are open: try again");
                stream.set_write_timeout(Some(PATIENCE))?;
                return write_reply(&mut stream, Err(busy));
            }
            let (running, end, held) = (Arc::clone(running), end.clone(), Arc::clone(&open));
            std::thread::Builder::new().name("control".into()).spawn(move || {
                let _held = held;
                converse(stream, &running, &end);
            })?;
            Ok(())
        });
        if let Err(error) = served {
            tracing::warn!(%error, "a control connection failed");
        }
    }
}

/// Reads one request and answers it.
fn converse(mut stream: UnixStream, running: &Running, end: &Sender<UnixStream>) {
    match read_request(&mut stream) {
        Ok(Request::Stop) => drop(end.send(stream)),
        Ok(request) => {
            let result = answer(request, running).map_err(|error| format!("{error:#}"));
            if let Err(error) = write_reply(&mut stream, result) {
                tracing::warn!(%error, "an answer could not be sent");
            }
        }
        Err(error) => {
            let _ = write_reply(&mut stream, Err(format!("{error:#}")));
        }
    }
}

fn read_request(stream: &mut UnixStream) -> anyhow::Result<Request> {
    let peer = getsockopt(stream, PeerCredentials).context("read the peer's credentials")?;
    let own = nix::unistd::geteuid().as_raw();
    if peer.uid() != 0 && peer.uid() != own {
        bail!("user {} may not control this lab", peer.uid());
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Request::read(stream)?)
}

fn write_reply(stream: &mut UnixStream, result: Result<Answer, String>) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(&Reply { version: VERSION, result })?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    Ok(())
}

fn answer(request: Request, running: &Running) -> anyhow::Result<Answer> {
    let Running { lab, places, worker, began, .. } = running;
    match request {
        Request::Status => Ok(Answer::Status(Status {
            lab: places.name.clone(),
            pid: std::process::id(),
            up_seconds: began.elapsed().as_secs(),
            nodes: lab.nodes.len(),
            pods: lab.pods.len(),
        })),
        Request::Ledger => {
            let counted = worker.call(|link, _| report::count(link))?;
            Ok(Answer::Ledger(report::ledger(lab, places, counted, worker.imbalances())?))
        }
        Request::Show { query } => {
            let table = worker.call(move |link, now| {
                let nodes: Vec<_> = link.nodes().into_iter().map(|(_, node)| node).collect();
                let vpc = link.vpc().context("the VPC is not run")?;
                Ok::<_, anyhow::Error>(show::take(&query, link.lab(), &nodes, vpc, now)?)
            })??;
            Ok(Answer::Table { text: table.text(), json: serde_json::to_value(&table)? })
        }
        Request::Apply { text } => apply(running, &text),
        Request::JournalOpen { limit } => {
            worker.call(move |link, _| link.open_journals(limit))?;
            Ok(Answer::Done)
        }
        Request::JournalClose => {
            let hops = worker.call(|link, _| link.close_journals())?;
            Ok(Answer::Journals { hops })
        }
        Request::ServeTrunkQueue { node, queue, served } => {
            let found = worker.call(move |link, _| {
                link.node_mut(node).map(|node| node.serve_trunk_queue(queue, served))
            })?;
            found.context("there is no such node")?;
            Ok(Answer::Done)
        }
        Request::SetProgram { socket, attached } => {
            let site = places.sites.iter().find(|site| site.socket == socket);
            let namespace = site.context("there is no device at such a port")?.namespace.clone();
            worker.call(move |link, _| -> anyhow::Result<()> {
                // Nothing else this thread does depends on the namespace it is in.
                namespace::enter(&namespace)?;
                let port = link.device_mut(socket).context("there is no such port")?;
                Ok(port.set_attached(attached)?)
            })??;
            Ok(Answer::Done)
        }
        Request::Inject { socket, queue, frame, count } => {
            worker.call(move |link, _| link.start_injection(socket, queue, frame, count))?;
            Ok(Answer::Done)
        }
        Request::InjectionsLeft => {
            let count = worker.call(|link, _| link.injections_left())?;
            Ok(Answer::Count { count })
        }
        Request::Stop => bail!("stopping is not a question"),
    }
}

/// Has the link take over another version of the lab, and keeps its file.
fn apply(running: &Running, text: &str) -> anyhow::Result<Answer> {
    let state = State::of(&running.places.name)?;
    let lab = takeover::read(&running.lab, state.forwarding()?, text)?;
    let _one = running.applying.lock().map_err(|_| anyhow!("an earlier change has failed"))?;
    // What can fail comes first, so that a refusal changes nothing.
    state.write_lab(text)?;
    takeover::swap(&running.worker, Snapshot::new(lab))?;
    Ok(Answer::Done)
}
