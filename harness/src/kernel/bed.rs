//! A lab whose nodes are namespaces of this kernel and whose VPC is ours.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use crossbeam::channel::{Receiver, Sender, bounded};
use datapath::counters::LedgerReport;
use datapath::element::{Departure, Element, Output, Place};
use datapath::journey::Hop;
use datapath::lab::Lab;
use datapath::link::{
    Direction, ElementId, HostId, Peer, Socket, arp_answer, is_arp, peer_of, socket_of,
};
use datapath::node::NodeConfig;
use datapath::node::ipvs::{Change, changes};
use datapath::node::kube_proxy::GracefulTermination;
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::vpc::Vpc;
use rustix::process::setpriority_process;

use super::program::{Program, calls};
use super::settings::cannot_be_set;
use super::stack::Stack;
use super::tables::Timers;
use super::wires::{Names, Wires, node_namespace, topology};
use super::{tables, tool};
use crate::case::{Bed, CannotJudge, CaseDatapath, Crossing, Tables};
use crate::net::{self, namespace};

/// Buffers the VPC finds ready for frames of its own.
const BLANKS: usize = 64;

/// Beds that are set up at the same time. Their tools wait for the kernel more than they compute,
/// and those that run already are not to be kept waiting.
const SETTING_UP: usize = 4;

/// The datapath `kernel`. Its beds are told apart by a number, so that many can run at once.
#[derive(Debug)]
pub struct Kernel {
    beds: AtomicUsize,
    /// Has as many messages as beds are being set up.
    setting_up: (Sender<()>, Receiver<()>),
    turn: Turn,
}

impl Default for Kernel {
    fn default() -> Self {
        let (beds, setting_up) = (AtomicUsize::new(0), bounded(SETTING_UP));
        Self { beds, setting_up, turn: Turn(bounded(1)) }
    }
}

impl CaseDatapath for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn start(&self, lab: &Lab, _: &str) -> anyhow::Result<Box<dyn Bed>> {
        if let Some(why) = cannot_be_set(lab) {
            return Err(CannotJudge::new(why).into());
        }
        let number = self.beds.fetch_add(1, Ordering::Relaxed);
        let (begin, end) = &self.setting_up;
        begin.send(())?;
        stand_back(true)?;
        let bed = KernelBed::start(lab, &format!("bed{number}"), self.turn.clone());
        end.recv()?;
        let mut bed = bed?;
        stand_back(false)?;
        bed.turn.take()?;
        bed.started = Instant::now();
        Ok(Box::new(bed))
    }
}

/// Who may do something. One case has it from its beginning to its end but for the time it waits,
/// so that little real time passes in what takes none of the case's.
#[derive(Clone, Debug)]
struct Turn((Sender<()>, Receiver<()>));

impl Turn {
    fn take(&self) -> anyhow::Result<()> {
        Ok(self.0.0.send(())?)
    }

    fn give_back(&self) {
        let _ = self.0.1.try_recv();
    }
}

/// Lets this thread, and the tools it starts, have the processor after all others, or no longer.
fn stand_back(back: bool) -> anyhow::Result<()> {
    setpriority_process(None, if back { 19 } else { 0 }).context("set a thread's priority")
}

/// A lab that runs on the kernel's nodes.
#[derive(Debug)]
pub(super) struct KernelBed {
    turn: Turn,
    lab: Lab,
    name: String,
    vpc: Vpc<Heap>,
    out: Output<Heap>,
    started: Instant,
    wires: Wires,
    /// Frames on their way to a port.
    pending: VecDeque<(Socket, Vec<u8>)>,
    seen: Vec<Crossing>,
    /// Time that the case has let pass. Real time is ahead of it.
    passed: Duration,
    /// What kube-proxy lets end its connections, by node.
    graceful: Vec<GracefulTermination>,
    /// The nodes' timers as they were after what happened last; empty where nobody has asked.
    timers: Vec<Timers>,
    /// Last, so that the sockets are closed before the namespaces go.
    _names: Names,
}

impl KernelBed {
    /// A lab that has the kernel for itself.
    pub(super) fn alone(lab: &Lab) -> anyhow::Result<Self> {
        let turn = Turn(bounded(1));
        turn.take()?;
        Self::start(lab, "alone", turn)
    }

    /// Programs the nodes and wires them up; `name` tells the lab from others.
    fn start(lab: &Lab, name: &str, turn: Turn) -> anyhow::Result<Self> {
        let mut programs: Vec<_> =
            (0..lab.nodes.len()).map(|node| Program::new(lab, node)).collect::<Result<_, _>>()?;
        let topology = topology(lab, name, &programs)?;
        let names = Names::of(&topology);
        net::apply(&topology)?;
        for (node, program) in programs.iter_mut().enumerate() {
            program.rules += &Stack::silence(lab, node)?;
            program_node(&node_namespace(name, node), program)?;
        }
        Ok(Self {
            turn,
            lab: lab.clone(),
            name: name.to_owned(),
            vpc: Vpc::new(lab),
            out: Output::default(),
            started: Instant::now(),
            wires: Wires::open(lab, name)?,
            pending: VecDeque::new(),
            seen: Vec::new(),
            passed: Duration::ZERO,
            graceful: lab.nodes.iter().map(|_| GracefulTermination::default()).collect(),
            timers: Vec::new(),
            _names: names,
        })
    }

    /// The time since the lab began.
    pub(super) fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Lets the lab run until that moment.
    pub(super) fn run_until(&mut self, until: Time) -> anyhow::Result<()> {
        loop {
            self.pump()?;
            let now = self.now();
            if self.vpc.poll_at().is_some_and(|at| at <= now) {
                self.out.blanks.resize_with(BLANKS, Heap::default);
                self.vpc.on_time(now, &mut self.out);
                self.take_from_vpc();
                continue;
            }
            let left = until.since(self.now());
            if left.is_zero() {
                return Ok(());
            }
            let due = self.vpc.poll_at().map_or(left, |at| at.since(now));
            self.wires.wait(left.min(due))?;
        }
    }

    /// The next moment at which the VPC has something to do.
    pub(super) fn poll_at(&self) -> Option<Time> {
        self.vpc.poll_at()
    }

    /// Has the VPC write down up to `limit` hops.
    pub(super) fn open_journal(&mut self, limit: usize) {
        self.out.journal.open(limit);
    }

    /// What the VPC has written down, and what it has counted.
    pub(super) fn close_journal(&mut self) -> (Vec<Hop>, LedgerReport) {
        let report = LedgerReport::new(self.vpc.ledger(), self.vpc.held());
        (self.out.journal.close(), report)
    }

    /// Moves frames until none is on its way.
    fn pump(&mut self) -> anyhow::Result<()> {
        self.take_from_nodes()?;
        while let Some((socket, frame)) = self.pending.pop_front() {
            self.see(socket, Direction::In, &frame);
            match socket.element {
                ElementId::Vpc => {
                    let mut batch = vec![Heap::new(&frame)];
                    let place = Place { port: socket.port, queue: 0 };
                    self.out.blanks.resize_with(BLANKS, Heap::default);
                    self.vpc.process(&mut batch, place, self.now(), &mut self.out);
                    self.take_from_vpc();
                }
                ElementId::Node(node) => {
                    self.wires.send(node, socket.port, &frame)?;
                    self.take_from_nodes()?;
                }
            }
        }
        Ok(())
    }

    fn take_from_nodes(&mut self) -> anyhow::Result<()> {
        for (socket, frame) in self.wires.settle()? {
            self.leave(socket, frame);
        }
        Ok(())
    }

    fn take_from_vpc(&mut self) {
        for Departure { place, frame } in std::mem::take(&mut self.out.departures) {
            let socket = Socket { element: ElementId::Vpc, port: place.port };
            self.leave(socket, frame.bytes().to_vec());
        }
    }

    /// Takes a frame from the port it has left by to where the port's wire leads.
    fn leave(&mut self, socket: Socket, frame: Vec<u8>) {
        self.see(socket, Direction::Out, &frame);
        match peer_of(&self.lab, socket) {
            Some(Peer::Socket(peer)) => self.pending.push_back((peer, frame)),
            Some(Peer::Host(host)) if is_arp(&frame) => {
                let answer = arp_answer(&self.lab, host, &frame);
                self.pending.extend(answer.map(|answer| (socket, answer.to_vec())));
            }
            Some(Peer::Host(_)) | None => {}
        }
    }

    fn see(&mut self, socket: Socket, direction: Direction, frame: &[u8]) {
        self.seen.push(Crossing { socket, direction, frame: frame.to_vec() });
    }

    /// Lets time pass until the case's own time is this, with kube-proxy's rounds in it.
    fn wait_out(&mut self, until: Duration) -> anyhow::Result<()> {
        while let Some(at) = self.graceful.iter().filter_map(GracefulTermination::poll_at).min() {
            let at = at.since(Time::ZERO);
            if at > until {
                break;
            }
            self.wait_until(at)?;
            self.terminate_gracefully()?;
        }
        self.wait_until(until)
    }

    /// Lets time pass until the case's own time is this.
    fn wait_until(&mut self, passed: Duration) -> anyhow::Result<()> {
        self.passed = passed;
        // What the work since then took has passed already.
        self.run_until(Time::ZERO + self.passed)
    }

    /// kube-proxy's round at every node (spec IPVS-44).
    fn terminate_gracefully(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        for (node, graceful) in self.graceful.iter_mut().enumerate() {
            let name = node_namespace(&self.name, node);
            let in_use = tables::Servers::read(&name)?;
            let due = graceful.on_time(now, |key, address| in_use.connections(key, address));
            if !due.is_empty() {
                tool::run(&name, &["ipvsadm", "-R"], &calls(&due))?;
                tables::await_expiry(&name)?;
            }
        }
        Ok(())
    }
}

impl Bed for KernelBed {
    fn send(&mut self, from: HostId, frame: &[u8]) -> anyhow::Result<()> {
        let socket = socket_of(&self.lab, from).context("the lab has no such host")?;
        self.timers.clear();
        self.pending.push_back((socket, frame.to_vec()));
        Ok(())
    }

    fn settle(&mut self) -> anyhow::Result<Vec<Crossing>> {
        self.pump()?;
        Ok(std::mem::take(&mut self.seen))
    }

    fn advance(&mut self, by: Duration) -> anyhow::Result<()> {
        self.timers.clear();
        let until = self.passed + by;
        self.turn.give_back();
        let waited = self.wait_out(until);
        self.turn.take()?;
        waited
    }

    fn clock(&self) -> Option<Duration> {
        Some(self.started.elapsed())
    }

    fn apply(&mut self, lab: &Lab, _: &str) -> anyhow::Result<()> {
        self.timers.clear();
        if !self.lab.has_machines_of(lab) {
            bail!("the other lab has other machines");
        }
        let now = self.now();
        for (node, graceful) in self.graceful.iter_mut().enumerate() {
            let name = node_namespace(&self.name, node);
            let services = |lab| NodeConfig::new(lab, node, 1).map(|config| config.services);
            let before = services(&self.lab).context("no such node")?;
            let after = services(lab).context("no such node")?;
            let removes = changes(&before, &after).iter().any(Change::is_removal);
            // A tool takes its time: it is asked only where the answer counts.
            let servers = if removes && lab.switches.ipvs.graceful_termination {
                tables::Servers::read(&name)?
            } else {
                tables::Servers::default()
            };
            let in_use = |key, address| servers.connections(key, address);
            let calls = graceful.sync(&before, &after, now, in_use);
            let program = Program::change(&self.lab, lab, node, &calls)?;
            namespace::run_in(&name, || {
                program.sysctls.iter().try_for_each(|sysctl| net::write_sysctl(&name, sysctl))
            })??;
            program_node(&name, &program)?;
            if lab.switches.ipvs.expire_nodest_conn && calls.iter().any(Change::is_removal) {
                tables::await_expiry(&name)?;
            }
        }
        self.lab = lab.clone();
        Ok(())
    }

    fn tables(&mut self, node: usize) -> anyhow::Result<Tables> {
        // The tools take their time, which is none of the case's: all nodes' timers are read at
        // the first question after something happened.
        if self.timers.is_empty() {
            let names = (0..self.lab.nodes.len()).map(|node| node_namespace(&self.name, node));
            self.timers = names.map(|name| Timers::read(&name)).collect::<anyhow::Result<_>>()?;
        }
        let timers = self.timers.get(node).context("the lab has no such node")?.clone();
        tables::read(&node_namespace(&self.name, node), timers)
    }
}

impl Drop for KernelBed {
    fn drop(&mut self) {
        self.turn.give_back();
    }
}

/// Runs the tools that program a node, those that have something to do.
fn program_node(namespace: &str, program: &Program) -> anyhow::Result<()> {
    let mut busy = program.calls().into_iter().filter(|(_, text)| !text.is_empty());
    busy.try_for_each(|(command, text)| tool::run(namespace, command, text).map(drop))
}
