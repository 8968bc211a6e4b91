//! `bench answers`: how long a request waits for its answer, one at a time, through one node and
//! through a kernel that forwards, on the same veths. Client and server are UDP sockets of two pods.

use std::fmt;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use hdrhistogram::Histogram;

use super::bed::{Bed, cali};
use super::forwarder::{Forwarder, Kind, Row};
use super::frames::Frames;
use super::generator::Input;
use super::load::Load;
use super::machine::{Cores, pin};
use super::node::Node;
use super::report::{Better, Case, Mode, Report, Unit};
use super::run::Setting;
use super::session::Session;
use crate::live::worker::Poll;
use crate::net::namespace;

/// Requests before any is timed: neighbours are found, flows are known.
const WARM_UP: u32 = 200;
/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the server looks whether it is still needed.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The shares of all answers whose time is told, with their names.
const QUANTILES: [(f64, &str); 3] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99")];
/// Where client and server listen.
const PORT: u16 = 5_353;
/// Digits of a time that are right.
const DIGITS: u8 = 3;

/// What answers are timed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// The kernel as a router with one route, client and server on a core each, as on two machines:
    /// what the others are held against.
    Kernel,
    /// The same with everything on one core: nobody has to wake a processor.
    KernelOneCore,
    /// The node, spinning.
    Spinning,
    /// The node, asleep when idle.
    Adaptive,
}

/// How long to time, and what is expected.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds; each times every way.
    pub rounds: u32,
    /// For how long each.
    pub time: Duration,
    /// How long the client rests before each request.
    pub pause: Duration,
    /// The most that a way's median may be of the kernel's.
    pub expected: Vec<(Way, f64)>,
}

/// What was timed of one way.
#[derive(Debug)]
struct Timed {
    way: Way,
    /// Each quantile of each round, in microseconds.
    rounds: Vec<[f64; QUANTILES.len()]>,
    asked: u64,
    lost: u64,
    faults: Vec<String>,
}

/// Times.
///
/// # Errors
/// Where the machine cannot run it. Nothing is left behind in any case.
pub fn answers(plan: &Plan) -> anyhow::Result<Report> {
    let mut session = Session::open(&Load { pods: 2, ..Load::smallest(Input::Sockets) }, |_| ())?;
    // The pods' own stacks are to have what arrives there.
    session.pods.clear();
    let mut all = Way::value_variants().iter().map(|way| Timed::of(*way)).collect::<Vec<_>>();
    let interrupted = session.rounds(plan.rounds, |session, round| {
        let first = round as usize % all.len();
        for at in (first..all.len()).chain(0..first) {
            let timed = &mut all[at];
            let (setting, _, progress) = session.parts();
            progress.say(timed.way.to_string());
            let took = setting.while_near(|| timed.round(&setting, plan))?;
            timed.rounds.push(took);
            let [p50, ..] = took;
            progress.line(&format!("{:<16} p50 {p50:.1} us", timed.way.to_string()));
        }
        Ok(())
    })?;
    let cases = cases(plan, &all);
    Ok(Report { load: None, ..session.report(Mode::Answers, cases, interrupted) })
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::KernelOneCore => "kernel-one-core",
            Self::Spinning => "spinning",
            Self::Adaptive => "adaptive",
        })
    }
}

impl Way {
    /// Where the server runs. The client is on the generator's core, and so is all of the node's
    /// company: its own core is the forwarder's.
    const fn server(self, cores: Cores) -> usize {
        match self {
            Self::Kernel => cores.forwarder,
            Self::KernelOneCore | Self::Spinning | Self::Adaptive => cores.generator,
        }
    }

    fn start(self, bed: &Bed, frames: &Frames, cores: Cores) -> anyhow::Result<Forwarder> {
        let poll = match self {
            Self::Kernel | Self::KernelOneCore => {
                return Row::from(Kind::Forward).start(bed, frames, cores);
            }
            Self::Spinning => Poll::Busy,
            Self::Adaptive => Poll::Adaptive,
        };
        Ok(Forwarder::Node(Node::start(bed, Kind::Node, poll, cores.forwarder)?))
    }
}

impl Timed {
    const fn of(way: Way) -> Self {
        Self { way, rounds: Vec::new(), asked: 0, lost: 0, faults: Vec::new() }
    }

    /// Asks for some time, and says how long the answers took.
    fn round(
        &mut self,
        setting: &Setting<'_>,
        plan: &Plan,
    ) -> anyhow::Result<[f64; QUANTILES.len()]> {
        let forwarder = self.way.start(setting.bed, setting.frames, setting.cores)?;
        let [client, server] = sockets(setting.bed)?;
        client.set_read_timeout(Some(PATIENCE))?;
        server.set_read_timeout(Some(LOOK_EVERY))?;
        let stop = AtomicBool::new(false);
        let (cores, core) = (setting.cores, self.way.server(setting.cores));
        let took = thread::scope(|scope| {
            let serving = scope.spawn(|| {
                pin(core)?;
                serve(&server, &stop)
            });
            let asking = scope.spawn(|| {
                pin(cores.generator)?;
                self.ask(setting, &client, plan)
            });
            let asked = asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            stop.store(true, Ordering::Relaxed);
            let served = serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            asked.and_then(|took| served.map(|()| took))
        })?;
        if let Some(books) = forwarder.books(setting.bed.clients)? {
            self.faults.extend(books.imbalances);
        }
        Ok(took)
    }

    /// Asks one request after the other and times the answers.
    fn ask(
        &mut self,
        setting: &Setting<'_>,
        client: &UdpSocket,
        plan: &Plan,
    ) -> anyhow::Result<[f64; QUANTILES.len()]> {
        let mut times = Histogram::<u64>::new_with_max(PATIENCE.as_nanos() as u64 * 2, DIGITS)?;
        let (mut number, mut until) = (0_u32, None);
        let mut buffer = [0; 64];
        while until.is_none_or(|until| Instant::now() < until) {
            setting.wait(plan.pause)?;
            if number == WARM_UP {
                until = Some(Instant::now() + plan.time);
            }
            number += 1;
            let mut request = *b"trunkline answers:";
            request[..4].copy_from_slice(&number.to_be_bytes());
            let began = Instant::now();
            client.send(&request).context("send a request")?;
            match client.recv(&mut buffer) {
                Ok(length) if buffer.get(..length) == Some(&request[..]) => {
                    let took = began.elapsed().as_nanos();
                    if until.is_some() {
                        times.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
                    }
                }
                Ok(_) => bail!("an answer is not what was sent"),
                Err(error) if is_late(&error) => self.lost += 1,
                Err(error) => return Err(error).context("receive an answer"),
            }
        }
        self.asked += u64::from(number);
        Ok(QUANTILES.map(|(q, _)| times.value_at_quantile(q) as f64 / 1e3))
    }
}

/// A socket of the first pod that is connected to one of the second.
fn sockets(bed: &Bed) -> anyhow::Result<[UdpSocket; 2]> {
    let server = bed.lab.pods.get(1).context("the lab has one pod only")?;
    let open = |pod| -> anyhow::Result<UdpSocket> {
        let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT));
        let socket = namespace::run_in(&bed.far(cali(pod))?.namespace, bind)?;
        socket.context("open a pod's socket")
    };
    let both = [open(0)?, open(1)?];
    both[0].connect((server.ip, PORT)).context("connect a pod's socket")?;
    Ok(both)
}

/// Answers every request with itself until it is told to stop.
fn serve(server: &UdpSocket, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        match server.recv_from(&mut buffer) {
            Ok((length, client)) => {
                let answer = buffer.get(..length).unwrap_or_default();
                server.send_to(answer, client).context("send an answer")?;
            }
            Err(error) if is_late(&error) => {}
            Err(error) => return Err(error).context("receive a request"),
        }
    }
    Ok(())
}

/// Whether nothing has come in time.
fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn cases(plan: &Plan, all: &[Timed]) -> Vec<Case> {
    let Some((kernel, others)) = all.split_first() else { return Vec::new() };
    let mut cases = Vec::new();
    for timed in others {
        let group = timed.way.to_string();
        for (at, (_, name)) in QUANTILES.iter().enumerate() {
            let of = |timed: &Timed| timed.rounds.iter().map(|round| round[at]).collect();
            let case = Case::new(&group, name, Unit::Microseconds, Better::Lower, of(timed));
            let mut case = case.against(&kernel.way.to_string(), of(kernel));
            let expected = plan.expected.iter().find(|(way, _)| *way == timed.way);
            if let Some((_, most)) = expected.filter(|_| at == 0) {
                case = case.expecting(*most);
            }
            if at == 0 {
                case.offered = timed.asked;
                let pause = plan.pause.as_micros();
                case.notes.push(format!("one request at a time, {pause} us after an answer"));
                case.faults.extend(timed.fault().into_iter().chain(kernel.fault()));
                case.faults.extend(timed.faults.iter().cloned());
            }
            cases.push(case);
        }
    }
    cases
}

impl Timed {
    fn fault(&self) -> Option<String> {
        let Self { way, asked, lost, .. } = self;
        (*lost > 0).then(|| format!("{way}: {lost} of {asked} requests without an answer"))
    }
}
