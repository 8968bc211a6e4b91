//! Cases on AF_XDP: the real forwarder on real veths, in virtual time, between hosts that are
//! silent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use datapath::counters::LedgerReport;
use datapath::element::Element;
use datapath::lab::Lab;
use datapath::link::{
    Direction, ElementId, HostId, Peer, Snapshot, Socket, arp_answer, peer_of, socket_of,
};
use datapath::time::Time;
use datapath_io::budget::Plan;
use datapath_io::{Frame, LiveLink, PacketSocket, Tapped, memory_plan};
use nix::errno::Errno;

use super::private::{Ground, Hosts};
use super::topology::{STACK_IFNAME, host_namespace, places, port_name};
use super::worker;
use crate::case::{Bed, CannotJudge, CaseDatapath, Crossing, Tables, drops, tables};
use crate::journey::Recording;
use crate::net::namespace;

/// Hops kept of each element.
const HOPS: usize = 65_536;
/// How long a frame may be on a wire. It takes microseconds.
const WIRE_BOUND: Duration = Duration::from_secs(10);

/// The datapath `afxdp` for cases. What it has set up serves one case after the other, since packet
/// memories stay until the process ends.
#[derive(Clone, Debug, Default)]
pub struct Beds {
    idle: Arc<Mutex<Vec<Stage>>>,
}

impl CaseDatapath for Beds {
    fn name(&self) -> &'static str {
        "afxdp"
    }

    fn start(&self, lab: &Lab, text: &str) -> anyhow::Result<Box<dyn Bed>> {
        if !nix::unistd::geteuid().is_root() {
            bail!("a lab in namespaces needs root; `trunkline test --on memory` does not");
        }
        let mut stage = match self.take(lab)? {
            Some(stage) => stage,
            None => Stage::make(lab, text)?,
        };
        if !stage.link.renew(lab.clone()) {
            bail!("a lab's ports are not those of its places");
        }
        stage.link.open_journals(HOPS);
        stage.link.open_tap();
        let beds = self.clone();
        let (now, seen, pending) = (Time::ZERO, Vec::new(), VecDeque::new());
        Ok(Box::new(LiveBed { stage: Some(stage), beds, now, seen, pending }))
    }
}

impl Beds {
    /// An idle stage that fits a lab.
    fn take(&self, lab: &Lab) -> anyhow::Result<Option<Stage>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        for index in 0..idle.len() {
            if idle[index].fits(lab)? {
                return Ok(Some(idle.swap_remove(index)));
            }
        }
        Ok(None)
    }

    fn put_back(&self, stage: Stage) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stage);
    }
}

/// A lab in namespaces with its forwarder and the hosts' ends of its wires.
#[derive(Debug)]
struct Stage {
    link: LiveLink,
    ends: BTreeMap<HostId, PacketSocket>,
    memory: Plan,
    /// Last, so that the sockets are closed before the namespaces go.
    ground: Ground,
}

impl Stage {
    fn make(lab: &Lab, text: &str) -> anyhow::Result<Self> {
        let memory = memory_of(lab)?;
        let anchors = u16::try_from(memory.arenas.len()).context("too many packet memories")?;
        let ground = Ground::make(lab, text, anchors, Hosts::Silent)?;
        let places = &ground.places;
        // On a thread of its own, which opening moves from namespace to namespace.
        let link = namespace::run_in(&places.anchor.0, || worker::open(lab.clone(), places))??;
        let mut ends = BTreeMap::new();
        for host in HostId::all(lab) {
            let at = host_namespace(&places.name, lab, host).context("a host without a name")?;
            ends.insert(host, namespace::run_in(&at, || PacketSocket::open(STACK_IFNAME))??);
        }
        Ok(Self { link, ends, memory, ground })
    }

    /// Whether a lab would have the same places and memories.
    fn fits(&self, lab: &Lab) -> anyhow::Result<bool> {
        let memory = memory_of(lab)?;
        let anchors = u16::try_from(memory.arenas.len()).context("too many packet memories")?;
        let mut places = places(lab, &self.ground.places.name, anchors)?;
        places.silence_hosts();
        Ok(memory == self.memory && places == self.ground.places)
    }
}

fn memory_of(lab: &Lab) -> anyhow::Result<Plan> {
    Ok(memory_plan(lab, &ElementId::all(lab).collect::<Vec<_>>())?)
}

/// A stage while a case is played on it.
struct LiveBed {
    /// There until the bed is dropped.
    stage: Option<Stage>,
    beds: Beds,
    /// Time stands still unless the case lets it pass.
    now: Time,
    seen: Vec<Crossing>,
    /// Where the next frames arrive, in the order in which they were sent.
    pending: VecDeque<(Socket, u16)>,
}

impl LiveBed {
    fn stage(&mut self) -> anyhow::Result<&mut Stage> {
        self.stage.as_mut().context("the lab is gone")
    }

    /// Moves frames one at a time, in the order in which they were sent, until all have arrived.
    fn run(&mut self) -> anyhow::Result<()> {
        while let Some(&(socket, queue)) = self.pending.front() {
            let now = self.now;
            let link = &mut self.stage()?.link;
            let arrived = until_arrived(|| Ok(link.poll_one(socket, queue, now).then_some(())));
            arrived.with_context(|| {
                let element = socket.element.name(link.lab());
                format!("at {} of {element}", port_name(link.lab(), socket))
            })?;
            self.follow()?;
            self.pending.pop_front();
        }
        Ok(())
    }

    /// Keeps what has crossed ports and follows what has left to the other ends of the wires.
    fn follow(&mut self) -> anyhow::Result<()> {
        for Tapped { socket, queue, direction, frame } in self.stage()?.link.take_tapped() {
            let peer = peer_of(self.stage()?.link.lab(), socket);
            let frame = match (direction, peer) {
                // It is shown as the host gets it.
                (Direction::Out, Some(Peer::Host(host))) => self.receive(host)?,
                (Direction::Out, Some(Peer::Socket(peer))) => {
                    self.pending.push_back((peer, queue));
                    frame
                }
                (Direction::In, _) | (Direction::Out, None) => frame,
            };
            self.seen.push(Crossing { socket, direction, frame });
        }
        Ok(())
    }

    /// The frame that is on its way to a host, which answers ARP.
    fn receive(&mut self, host: HostId) -> anyhow::Result<Vec<u8>> {
        let Stage { link, ends, .. } = self.stage()?;
        let end = ends.get_mut(&host).context("the lab has no such host")?;
        let arrived = || {
            link.flush();
            Ok(end.receive()?)
        };
        let frame =
            until_arrived(arrived).with_context(|| format!("at {}", host.name(link.lab())))?;
        if let Some(answer) = arp_answer(link.lab(), host, &frame) {
            self.send(host, &answer)?;
        }
        Ok(frame)
    }
}

/// Asks until something has arrived.
fn until_arrived<T>(mut arrived: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(arrived) = arrived()? {
            return Ok(arrived);
        }
        if begin.elapsed() > WIRE_BOUND {
            bail!("a frame that was sent has not arrived after {} s", WIRE_BOUND.as_secs());
        }
        // The kernel may need the core to take the frame to the other end.
        std::thread::yield_now();
    }
}

impl Bed for LiveBed {
    fn send(&mut self, from: HostId, frame: &[u8]) -> anyhow::Result<()> {
        let Stage { link, ends, .. } = self.stage()?;
        let end = ends.get(&from).context("the lab has no such host")?;
        let socket = socket_of(link.lab(), from).context("the lab has no such host")?;
        match end.send(frame) {
            Ok(()) => self.pending.push_back((socket, 0)),
            Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                let why = "a host's interface sends no frame longer than its MTU";
                return Err(CannotJudge::new(why).into());
            }
            Err(error) => return Err(error).context("send a frame from a host"),
        }
        Ok(())
    }

    fn settle(&mut self) -> anyhow::Result<Vec<Crossing>> {
        self.run()?;
        if let Some(imbalance) = self.stage()?.link.imbalances().first() {
            bail!("frames are not conserved: {imbalance}");
        }
        Ok(std::mem::take(&mut self.seen))
    }

    fn advance(&mut self, by: Duration) -> anyhow::Result<()> {
        let until = self.now + by;
        self.run()?;
        while let Some(at) = self.stage()?.link.poll_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let now = self.now;
            // No frame is on its way, so that only timers run.
            self.stage()?.link.poll(now);
            self.follow()?;
            self.run()?;
        }
        self.now = until;
        Ok(())
    }

    fn apply(&mut self, lab: &Lab, _text: &str) -> anyhow::Result<()> {
        let now = self.now;
        Ok(self.stage()?.link.apply(Snapshot::new(lab.clone()), now)?)
    }

    fn tables(&mut self, node: usize) -> anyhow::Result<Tables> {
        let now = self.now;
        let link = &self.stage()?.link;
        let at = link.nodes().get(node).context("the lab has no such node")?;
        Ok(tables(link.lab(), at, now))
    }

    fn drops(&mut self, element: ElementId) -> anyhow::Result<Vec<String>> {
        let mut elements = self.stage()?.link.elements();
        let found = elements.find(|(id, ..)| *id == element);
        let (_, element, _) = found.context("the lab has no such element")?;
        Ok(drops(element.ledger()))
    }

    fn recording(&mut self) -> Option<Recording> {
        let link = &mut self.stage.as_mut()?.link;
        let hops = link.close_journals();
        let ledger =
            |element: &dyn Element<Frame>| LedgerReport::new(element.ledger(), element.held());
        let ledgers = link.elements().map(|(id, element, _)| (id, ledger(element))).collect();
        Some(Recording { hops, ledgers, ports: Vec::new(), frames_only: false })
    }
}

impl Drop for LiveBed {
    /// The next case may have the stage, unless a frame is still on one of its wires.
    fn drop(&mut self) {
        if self.pending.is_empty()
            && let Some(stage) = self.stage.take()
        {
            self.beds.put_back(stage);
        }
    }
}
