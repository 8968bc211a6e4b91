//! `bench idle`: what ports on which nothing arrives cost a busy one. The same load goes through a
//! node of one pod and through one of many, of which all but one are idle, in turn.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::bed::{Bed, NODE};
use super::far_end::FarEnd;
use super::forwarder::{Forwarder, Kind};
use super::frames::Frames;
use super::generator::Input;
use super::lab::Shape;
use super::load::Load;
use super::machine::pin;
use super::report::{Better, Case, Mode, Report, Unit};
use super::run::Setting;
use super::session::Session;
use super::window::Window;

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

/// Both nodes, the one alone with its pod and that of the crowd. Each is started once, and stands still
/// while the other is measured: when hundreds of sockets are opened or closed, the kernel clears up
/// for a while.
struct Nodes {
    both: [Forwarder; 2],
    crowd: Crowd,
}

/// What was measured of a node in each round.
#[derive(Debug, Default)]
struct Measured {
    /// Under each input.
    windows: [Vec<Window>; INPUTS.len()],
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
    let mut nodes = Nodes::start(&mut session, Crowd::make(&load, plan.idle)?)?;
    let mut both = [Measured::default(), Measured::default()];
    let interrupted = session.rounds(plan.rounds, |session, round| {
        let first = round as usize % both.len();
        let order = [first, 1 - first];
        for (number, input) in INPUTS.into_iter().enumerate() {
            session.load.input = input;
            let windows = nodes.rates(session, order, plan.time)?;
            let [alone, crowd] = windows.each_ref().map(|window| window.mpps);
            let (name, idle) = (input.name(), plan.idle);
            session
                .progress
                .line(&format!("{name:<5} none idle {alone:.3} Mpps, {idle} idle {crowd:.3} Mpps"));
            both.iter_mut().zip(windows).for_each(|(of, window)| of.windows[number].push(window));
        }
        let turns = nodes.empty_turns(session, order)?;
        both.iter_mut().zip(turns).for_each(|(of, turn)| of.turns.push(turn));
        Ok(())
    })?;
    session.load = load;
    let sizes = [size(&session.bed)?, size(&nodes.crowd.bed)?];
    Ok(session.report(Mode::Idle, cases(plan, &both, &sizes), interrupted))
}

impl Crowd {
    fn make(load: &Load, idle: u16) -> anyhow::Result<Self> {
        let bed = Bed::make(&Shape { idle, ..Shape::of(load) })?;
        Ok(Self { pods: bed.open_pods()?, frames: Frames::of(&bed.lab, load)?, bed })
    }

    /// A setting with this node in it, and its pods' ends.
    fn setting<'a>(&'a mut self, setting: &Setting<'a>) -> (Setting<'a>, &'a mut [FarEnd]) {
        let Self { pods, bed, frames } = self;
        (Setting { bed, frames, ..*setting }, pods)
    }
}

impl Nodes {
    fn start(session: &mut Session, mut crowd: Crowd) -> anyhow::Result<Self> {
        session.progress.say("starts the nodes");
        let (setting, pods, _) = session.parts();
        let alone = setting.start(Kind::Node, pods)?;
        let (setting, pods) = crowd.setting(&setting);
        let crowded = while_still(&alone, || setting.start(Kind::Node, pods))?;
        Ok(Self { both: [alone, crowded], crowd })
    }

    /// Measures both in an order under the session's load.
    fn rates(
        &mut self,
        session: &mut Session,
        order: [usize; 2],
        time: Duration,
    ) -> anyhow::Result<[Window; 2]> {
        let Self { both, crowd } = self;
        let mut windows = [Window::default(), Window::default()];
        for at in order {
            let input = session.load.input.name();
            let (setting, pods, progress) = session.parts();
            progress.say(format!("a node under {input}"));
            let (setting, pods) = if at == 0 { (setting, pods) } else { crowd.setting(&setting) };
            let measure = || setting.measure_started(Kind::Node, &both[at], time, pods);
            windows[at] = while_still(&both[1 - at], measure)?;
        }
        Ok(windows)
    }

    /// Nanoseconds that a turn of each takes when nothing has arrived anywhere.
    fn empty_turns(&self, session: &Session, order: [usize; 2]) -> anyhow::Result<[f64; 2]> {
        let Self { both, .. } = self;
        let mut turns = [0.0; 2];
        for at in order {
            let time = || empty_turn(&both[at], session.cores.forwarder);
            turns[at] = while_still(&both[1 - at], time)?;
        }
        Ok(turns)
    }
}

/// Does something while a node stands still.
fn while_still<T>(node: &Forwarder, job: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    node.worker().context("the node has no thread")?.call(|_, _| job())?
}

fn empty_turn(node: &Forwarder, core: usize) -> anyhow::Result<f64> {
    node.worker().context("the node has no thread")?.call(|link, now| {
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
            let windows: Vec<_> = of.windows[at].iter().collect();
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
