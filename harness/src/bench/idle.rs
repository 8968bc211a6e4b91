//! `bench idle`: what ports on which nothing arrives cost a busy one. The same load goes through a
//! node of one pod and through one of many, of which all but one are idle, in turn.

use std::time::{Duration, Instant};

use super::bed::{Bed, NODE};
use super::far_end::FarEnd;
use super::forwarder::Kind;
use super::frames::Frames;
use super::generator::Input;
use super::lab::Shape;
use super::load::Load;
use super::machine::pin;
use super::node::Node;
use super::report::{Better, Case, Mode, Report, Unit};
use super::run::Setting;
use super::session::Session;
use super::window::Window;
use crate::live::worker::Poll;

/// Turns over which one is timed.
const TURNS: u32 = 100_000;
/// How the load comes in.
const INPUTS: [Input; 2] = [Input::Skb, Input::Live];

/// How to measure, and what is expected.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Pods on which nothing arrives.
    pub idle: u16,
    /// Rounds; each measures both nodes.
    pub rounds: u32,
    /// For how long under each input.
    pub time: Duration,
    /// The least ratio of the rates that passes.
    pub expected: Option<f64>,
}

/// The node of many pods.
struct Crowd {
    // Ports are closed before the lab is taken down.
    pods: Vec<FarEnd>,
    bed: Bed,
    frames: Frames,
}

/// What was measured of a node in each round.
#[derive(Debug, Default)]
struct Measured {
    /// Under each input.
    windows: Vec<[Window; INPUTS.len()]>,
    /// Nanoseconds of a turn in which nothing has arrived.
    turns: Vec<f64>,
}

/// Measures with 64-byte UDP frames of 1,000 flows.
///
/// # Errors
/// [`WrongFrame`](super::rehearsal::WrongFrame), or where the machine cannot run it. Nothing is
/// left behind in any case.
pub fn idle(plan: &Plan) -> anyhow::Result<Report> {
    let load = Load::smallest(Input::Skb);
    let mut session = Session::open(&load, |_| ())?;
    let mut crowd = Crowd::make(&load, plan.idle)?;
    let mut both = [Measured::default(), Measured::default()];
    let interrupted = session.rounds(plan.rounds, |session, round| {
        let first = round as usize % both.len();
        for at in [first, 1 - first] {
            let (windows, turn) = match at {
                0 => measure(session, None, plan.time)?,
                _ => measure(session, Some(&mut crowd), plan.time)?,
            };
            let rates = windows.each_ref().map(|window| window.mpps);
            let ports = if at == 0 { 0 } else { plan.idle };
            session.progress.line(&format!(
                "{ports:>4} idle ports: skb {:.3} Mpps, live {:.3} Mpps, an empty turn {turn:.0} ns",
                rates[0], rates[1]
            ));
            both[at].windows.push(windows);
            both[at].turns.push(turn);
        }
        Ok(())
    })?;
    session.load = load;
    let sizes = [size(&session.bed)?, size(&crowd.bed)?];
    Ok(session.report(Mode::Idle, cases(plan, &both, &sizes), interrupted))
}

impl Crowd {
    fn make(load: &Load, idle: u16) -> anyhow::Result<Self> {
        let bed = Bed::make(&Shape { idle, ..Shape::of(load) })?;
        Ok(Self { pods: bed.open_pods()?, frames: Frames::of(&bed.lab, load)?, bed })
    }
}

/// Measures the session's node, or that of the crowd, once.
fn measure(
    session: &mut Session,
    mut crowd: Option<&mut Crowd>,
    time: Duration,
) -> anyhow::Result<([Window; INPUTS.len()], f64)> {
    let mut under = |input| {
        session.load.input = input;
        let (setting, pods, progress) = session.parts();
        progress.say(format!("the node under {}", input.name()));
        match &mut crowd {
            None => setting.measure(Kind::Node, time, pods),
            Some(Crowd { pods, bed, frames }) => {
                Setting { bed, frames, ..setting }.measure(Kind::Node, time, pods)
            }
        }
    };
    let [skb, live] = INPUTS;
    let windows = [under(skb)?, under(live)?];
    let bed = crowd.map_or(&session.bed, |crowd| &crowd.bed);
    Ok((windows, empty_turn(bed, session.cores.forwarder)?))
}

/// Nanoseconds that a turn of the forwarder takes when nothing has arrived anywhere.
fn empty_turn(bed: &Bed, core: usize) -> anyhow::Result<f64> {
    let node = Node::start(bed, Kind::Node, Poll::Busy, core)?;
    node.worker().call(|link, now| {
        let timed = || -> anyhow::Result<f64> {
            pin(core)?;
            let began = Instant::now();
            for _ in 0..TURNS {
                link.poll(now);
            }
            Ok(began.elapsed().as_nanos() as f64 / f64::from(TURNS))
        };
        // The caller keeps its processors.
        let timed = std::thread::scope(|scope| scope.spawn(timed).join());
        timed.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?
}

/// The node's sockets and the length of their rings.
fn size(bed: &Bed) -> anyhow::Result<String> {
    let plan = datapath_io::memory_plan(&bed.lab, &[NODE])?;
    let sockets: u32 = plan.arenas.iter().map(|arena| arena.queues).sum();
    let rings = plan.arenas.iter().map(|arena| arena.rings.rx).min().unwrap_or(0);
    let memories = plan.arenas.len();
    Ok(format!("{sockets} sockets, receive rings of {rings} frames, packet memories: {memories}"))
}

fn cases(plan: &Plan, [alone, crowd]: &[Measured; 2], sizes: &[String; 2]) -> Vec<Case> {
    let (name, reference) = (format!("{} idle", plan.idle), "none idle");
    let mut cases = Vec::new();
    for (at, input) in INPUTS.into_iter().enumerate() {
        let [alone, crowd] = [(reference, alone), (&name, crowd)].map(|(name, of)| {
            let windows: Vec<_> = of.windows.iter().map(|both| &both[at]).collect();
            Case::of_windows(input.name(), name, &windows)
        });
        let mut case = crowd.beside(alone);
        if let Some(least) = plan.expected {
            case = case.expecting(least);
        }
        cases.push(case);
    }
    let turn =
        Case::new("empty turn", &name, Unit::Nanoseconds, Better::Lower, crowd.turns.clone());
    let mut turn = turn.against(reference, alone.turns.clone());
    turn.notes.extend(
        [(reference, &sizes[0]), (&name, &sizes[1])].map(|(of, size)| format!("{of}: {size}")),
    );
    cases.push(turn);
    cases
}
