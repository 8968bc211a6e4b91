//! TCP connections through the node, of which the bench plays both ends: clients in the pods, and
//! servers where the VPC would be. Every segment that arrives is held against what it has to be.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::bed::{Bed, PRIMARY, TRUNK};
use super::far_end::{BATCH, FarEnd};
use super::forwarder::{Books, Kind};
use super::frames::{Act, FIRST_PORT, Flow, Frames, Leg, set_port, set_port_tagged};
use super::load::Proto;

/// Connections that begin or are asked at once, where nothing says how many: half of what a ring
/// on their way holds.
const WINDOW: u64 = 128;
/// Connections begun between two looks at what has arrived.
const TURN: u64 = 32;
/// Without a segment for so long, nothing is on its way any more.
const SILENCE: Duration = Duration::from_millis(200);

/// How far a connection has come, in the order of the acts that lead there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Nothing was sent.
    #[default]
    None,
    /// The client has sent its first segment.
    Begun,
    /// The client has the server's answer.
    Answered,
    /// The server knows that it has.
    Established,
    /// The client has sent something more: a question, or its end.
    Asked,
    /// The server's answer to that has arrived, and where it was the end the server knows so.
    Done,
}

/// What has become of the connections of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Begun.
    pub begun: u64,
    /// Established at both ends.
    pub established: u64,
    /// Answered once more, or ended in order.
    pub done: u64,
    /// Segments that arrived and were not expected there, or not so.
    pub wrong: u64,
}

/// What connections do once they are established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Stay,
    /// They end in order, the client first.
    End,
}

/// Frames of an act as they are sent and as they are to arrive, one for each stream.
#[derive(Debug)]
struct Templates {
    sent: Vec<Vec<u8>>,
    arrived: Vec<Vec<u8>>,
}

/// Both ends.
#[derive(Debug)]
pub struct Talk<'a> {
    pods: &'a mut [FarEnd],
    vpc: FarEnd,
    trunk: FarEnd,
    ends: Ends<'a>,
    /// Frames sent from the pods before the talk began, and lost at their ends.
    pods_sent: u64,
    pods_lost: u64,
}

/// What is known of all connections.
#[derive(Debug)]
struct Ends<'a> {
    bed: &'a Bed,
    frames: &'a Frames,
    templates: HashMap<Act, Templates>,
    clients: HashMap<[u8; 4], u16>,
    backends: HashMap<[u8; 4], u16>,
    fronts: HashMap<[u8; 4], u16>,
    stages: Vec<Stage>,
    counts: Counts,
    then: Then,
    scratch: Vec<u8>,
}

impl<'a> Talk<'a> {
    /// Opens the ends of a node that has just been started, for the flows of a load of segments.
    ///
    /// # Errors
    /// Where an end cannot be bound.
    pub fn open(
        bed: &'a Bed,
        frames: &'a Frames,
        pods: &'a mut [FarEnd],
        then: Then,
    ) -> anyhow::Result<Self> {
        let gateway = bed.gateway();
        let (vpc, trunk) = (bed.open_far(PRIMARY)?, bed.open_far(TRUNK)?);
        let acts = [
            Act::Syn,
            Act::SynAck,
            Act::Ack,
            Act::Data,
            Act::Answer,
            Act::Fin,
            Act::FinAck,
            Act::LastAck,
        ];
        let templates = acts.map(|act| {
            let [sent, arrived] = [Leg::Sent(Kind::Node), Leg::Arrived(Kind::Node)]
                .map(|leg| frames.templates(act, leg));
            (act, Templates { sent, arrived })
        });
        let pods_sent = pods.iter().map(FarEnd::sent).sum();
        let pods_lost = pods.iter().map(FarEnd::lost).sum();
        let ends = Ends {
            bed,
            frames,
            templates: templates.into(),
            clients: frames.client_addresses(),
            backends: frames.service_addresses(|backend, _| backend),
            fronts: frames.service_addresses(|_, front| front),
            stages: vec![Stage::None; frames.flows as usize],
            counts: Counts::default(),
            then,
            scratch: Vec::new(),
        };
        let [vpc, trunk] = [vpc, trunk].map(|port| FarEnd::new(port, gateway));
        Ok(Self { pods, vpc, trunk, ends, pods_sent, pods_lost })
    }

    /// What has become of the connections so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.ends.counts
    }

    /// Begins the connections of `flows`, or as many of them as are due within `time`: at a rate,
    /// or as fast as the node answers. Returns how many were due, and how long it took in seconds;
    /// nothing is on its way then.
    pub fn begin(
        &mut self,
        flows: Range<u32>,
        rate: Option<f64>,
        time: Duration,
        stop: impl Fn() -> bool,
    ) -> (u64, f64) {
        let (all, before) = (u64::from(flows.end - flows.start), self.ends.counts);
        let (began, mut begun) = (Instant::now(), 0);
        let (mut given_up, mut last) = (0, began);
        while begun < all && began.elapsed() < time && !stop() {
            let established = self.ends.counts.established - before.established;
            let most = match rate {
                Some(rate) => (rate * began.elapsed().as_secs_f64()) as u64,
                None => established + given_up + WINDOW,
            };
            let turn = most.min(all).saturating_sub(begun).min(TURN);
            for _ in 0..turn {
                let number = flows.start + begun as u32;
                if !self.ends.send(Act::Syn, number, self.pods, &mut self.trunk) {
                    break;
                }
                self.ends.stages[number as usize] = Stage::Begun;
                self.ends.counts.begun += 1;
                begun += 1;
            }
            // What has arrived comes first: a ring that runs over here is nobody's fault but ours.
            let mut arrived = self.turn();
            while arrived >= BATCH && !stop() {
                arrived = self.turn();
            }
            if arrived > 0 || turn > 0 {
                last = Instant::now();
            } else if last.elapsed() > SILENCE {
                // What was lost has to make room for others.
                given_up = begun - established;
            }
        }
        let took = began.elapsed().min(time).as_secs_f64();
        self.settle();
        let due = rate.map_or(begun, |rate| ((rate * took) as u64).min(all));
        (due.max(begun), took)
    }

    /// Has the client of every established connection ask once more. Nothing is on its way
    /// afterwards.
    pub fn ask_all(&mut self, stop: impl Fn() -> bool) {
        self.pass(
            |stage| {
                let asks = *stage == Stage::Established;
                asks.then(|| {
                    *stage = Stage::Asked;
                    Act::Data
                })
            },
            stop,
        );
    }

    /// Has clients send again what was not answered. Returns whether there was any. Nothing is on
    /// its way afterwards.
    pub fn repeat(&mut self, stop: impl Fn() -> bool) -> bool {
        let again = |stage: &mut Stage| match stage {
            Stage::Begun => Some(Act::Syn),
            Stage::Answered => Some(Act::Ack),
            Stage::Asked => Some(Act::Data),
            Stage::None | Stage::Established | Stage::Done => None,
        };
        self.pass(again, stop) > 0
    }

    /// Has clients send what `next` says for the stage of each connection, so many at a time that
    /// all can be on their way. Returns how many there were.
    fn pass(&mut self, next: impl Fn(&mut Stage) -> Option<Act>, stop: impl Fn() -> bool) -> u64 {
        let (before, mut sent, mut given_up) = (self.through(), 0, 0);
        let mut last = Instant::now();
        for number in 0..self.ends.frames.flows {
            let stage = self.ends.stages.get_mut(number as usize);
            let Some(act) = stage.and_then(&next) else { continue };
            // One that finds no room is repeated, as one that is lost.
            self.ends.send(act, number, self.pods, &mut self.trunk);
            sent += 1;
            while sent - given_up >= self.through() - before + WINDOW && !stop() {
                if self.turn() > 0 {
                    last = Instant::now();
                } else if last.elapsed() > SILENCE {
                    // What was lost has to make room for others.
                    given_up = sent - (self.through() - before);
                }
            }
            if stop() {
                break;
            }
        }
        self.settle();
        sent
    }

    /// Steps that connections have come through: to be established, and to be answered.
    const fn through(&self) -> u64 {
        self.ends.counts.established + self.ends.counts.done
    }

    /// One look at both ends. Returns how many segments had arrived.
    fn turn(&mut self) -> usize {
        let Self { pods, vpc, trunk, ends, .. } = self;
        let mut answers = Vec::new();
        let mut arrived = vpc.each(|frame| answers.extend(ends.at_server(frame)));
        for (pod, end) in (0_u16..).zip(pods.iter_mut()) {
            arrived += end.each(|frame| ends.at_client(pod, frame, &mut answers));
        }
        for (act, number) in answers {
            ends.send(act, number, pods, trunk);
        }
        pods.iter_mut().for_each(FarEnd::flush);
        trunk.flush();
        arrived
    }

    /// Looks until nothing has arrived for a while.
    fn settle(&mut self) {
        let mut last = Instant::now();
        while last.elapsed() < SILENCE {
            if self.turn() > 0 {
                last = Instant::now();
            }
        }
    }

    /// Segments that arrived at the bench's ends faster than it took them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.vpc.lost() + self.pods.iter().map(FarEnd::lost).sum::<u64>() - self.pods_lost
    }

    /// What does not add up, once nothing is on its way, given what the forwarder has counted and
    /// the wires have lost.
    #[must_use]
    pub fn faults(&self, books: &Books, [pod_wire, eth0_wire]: [u64; 2]) -> Vec<String> {
        let mut faults = books.imbalances.clone();
        let sent = self.pods.iter().map(FarEnd::sent).sum::<u64>() - self.pods_sent;
        let arrived = books.received + books.ring_full + books.rx_dropped + pod_wire;
        if sent != arrived {
            faults.push(format!("pods' wires: {sent} sent, {arrived} arrived or were lost"));
        }
        let left = self.vpc.received() + self.vpc.lost() + eth0_wire;
        if books.sent != left {
            faults.push(format!("exit's wire: {} sent, {left} arrived or were lost", books.sent));
        }
        if self.ends.counts.wrong > 0 {
            faults.push(format!("{} segments arrived wrong", self.ends.counts.wrong));
        }
        faults
    }
}

impl Ends<'_> {
    /// Sends a segment of a connection from the end whose it is; false where there is no room.
    fn send(&self, act: Act, number: u32, pods: &mut [FarEnd], trunk: &mut FarEnd) -> bool {
        let flow = self.frames.flow(number);
        let Some(templates) = self.templates.get(&act) else { return false };
        let template = &templates.sent[self.frames.stream(flow, 0)];
        if act.is_request() {
            let change = |frame: &mut [u8]| set_port(frame, Proto::Tcp, true, flow.port);
            pods[usize::from(flow.pod)].send_as(0, template, change)
        } else {
            let change = |frame: &mut [u8]| set_port_tagged(frame, Proto::Tcp, flow.port);
            trunk.send_as(self.bed.trunk_queue(flow.pod), template, change)
        }
    }

    /// A segment that has arrived at a server, and what it answers.
    fn at_server(&mut self, frame: &[u8]) -> Option<(Act, u32)> {
        let flow = address(frame, 26).and_then(|ip| self.clients.get(&ip)).and_then(|pod| {
            let service = *self.backends.get(&address(frame, 30)?)?;
            Some(Flow { pod: *pod, service, port: port(frame, 34)? })
        });
        let (number, act) = self.right(flow, frame, true)?;
        let stage = &mut self.stages[number as usize];
        match (act, *stage) {
            (Act::Syn, Stage::Begun) => Some((Act::SynAck, number)),
            (Act::Ack, Stage::Answered) => {
                *stage = Stage::Established;
                self.counts.established += 1;
                None
            }
            // The client has sent both together, and they keep their order.
            (Act::Fin, Stage::Established) => {
                *stage = Stage::Asked;
                Some((Act::FinAck, number))
            }
            (Act::Data, Stage::Asked) => Some((Act::Answer, number)),
            (Act::LastAck, Stage::Asked) => {
                *stage = Stage::Done;
                self.counts.done += 1;
                None
            }
            // What came before it was lost.
            (Act::Fin, Stage::Answered) => None,
            _ => {
                self.counts.wrong += 1;
                None
            }
        }
    }

    /// A segment that has arrived at a client, and what it answers.
    fn at_client(&mut self, pod: u16, frame: &[u8], answers: &mut Vec<(Act, u32)>) {
        let flow = address(frame, 26)
            .and_then(|ip| self.fronts.get(&ip))
            .and_then(|service| Some(Flow { pod, service: *service, port: port(frame, 36)? }));
        let Some((number, act)) = self.right(flow, frame, false) else { return };
        let stage = &mut self.stages[number as usize];
        match (act, *stage) {
            (Act::SynAck, Stage::Begun) => {
                *stage = Stage::Answered;
                answers.push((Act::Ack, number));
                if self.then == Then::End {
                    answers.push((Act::Fin, number));
                }
            }
            (Act::FinAck, Stage::Asked) => answers.push((Act::LastAck, number)),
            (Act::Answer, Stage::Asked) => {
                *stage = Stage::Done;
                self.counts.done += 1;
            }
            _ => self.counts.wrong += 1,
        }
    }

    /// The connection and the act of a segment that is right to its last byte; any other is
    /// counted.
    fn right(&mut self, flow: Option<Flow>, frame: &[u8], request: bool) -> Option<(u32, Act)> {
        let found = flow.zip(act(frame, request)).and_then(|(flow, act)| {
            let number = self.frames.number(flow).filter(|n| *n < self.frames.flows)?;
            let template = self.templates.get(&act)?.arrived.get(self.frames.stream(flow, 0))?;
            self.scratch.clone_from(template);
            set_port(&mut self.scratch, Proto::Tcp, request, flow.port);
            (self.scratch == frame).then_some((number, act))
        });
        self.counts.wrong += u64::from(found.is_none());
        found
    }
}

/// What a segment is by its flags; with a payload it is data.
fn act(frame: &[u8], request: bool) -> Option<Act> {
    Some(match (frame.get(47)?, request) {
        (0x02, true) => Act::Syn,
        (0x12, false) => Act::SynAck,
        (0x18, true) => Act::Data,
        (0x18, false) => Act::Answer,
        (0x11, true) => Act::Fin,
        (0x11, false) => Act::FinAck,
        // By its acknowledgement: the server's end counts as one more.
        (0x10, true) if frame.get(45)? & 1 == 1 => Act::Ack,
        (0x10, true) => Act::LastAck,
        _ => return None,
    })
}

fn address(frame: &[u8], at: usize) -> Option<[u8; 4]> {
    frame.get(at..at + 4)?.try_into().ok()
}

fn port(frame: &[u8], at: usize) -> Option<u16> {
    let port = u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?);
    (port >= FIRST_PORT).then_some(port)
}
