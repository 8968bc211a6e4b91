//! Who offers the load: requests of each flow in turn, as many as are due or as one core can send.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use nix::time::{ClockId, clock_gettime};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xdp_progs::Offer;

use super::bed::{Bed, cali};
use super::far_end::{BATCH, FarEnd};
use super::forwarder::Kind;
use super::frames::{Act, FIRST_PORT, Frames, Leg, payload_at, set_port};
use super::load::{Load, Proto};
use crate::net::namespace;

/// Datagrams sent by one system call of the live generator: half a second or more. The call ends
/// with a wait for all processors that costs tens of milliseconds.
const LIVE_FRAMES: u32 = 1 << 22;
/// How long the last frames may take to be taken by the kernel.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a VLAN tag.
const TAG: usize = 4;
/// Most sockets that a generator opens.
const MOST_SOCKETS: u32 = 4_096;

/// How the load comes into the node's wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Input {
    /// As socket buffers, as a pod's stack sends: the generator's core is the limit.
    Skb,
    /// As XDP frames that never were socket buffers: the forwarder's core is the limit.
    Live,
    /// From UDP sockets of the pods' own stacks.
    Sockets,
}

impl Input {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skb => "skb",
            Self::Live => "live",
            Self::Sockets => "sockets",
        }
    }
}

/// What a generator has done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Offered {
    /// Frames that were due by the clock.
    pub due: u64,
    /// Of these, frames that were handed to the wire.
    pub sent: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Which frame has the next turn.
#[derive(Debug)]
struct Turns {
    /// The flows, in a random order that is the same every time.
    flows: Vec<u32>,
    /// The size of each frame.
    sizes: Vec<usize>,
    next: usize,
}

impl Turns {
    fn new(load: &Load) -> Self {
        let mut flows: Vec<u32> = (0..load.flows).collect();
        let mut state = load.seed;
        for at in (1..flows.len()).rev() {
            flows.swap(at, below(&mut state, at as u64 + 1) as usize);
        }
        Self { flows, sizes: load.sizes.pattern(), next: 0 }
    }

    /// The flow's number and the frame's size.
    fn now(&self) -> (u32, usize) {
        (self.flows[self.next % self.flows.len()], self.sizes[self.next % self.sizes.len()])
    }
}

/// A number below a bound, of Marsaglia's xorshift.
fn below(state: &mut u64, bound: u64) -> u64 {
    *state = if *state == 0 { 1 } else { *state };
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % bound
}

/// Sends on AF_XDP sockets at the pods' ends.
#[derive(Debug)]
pub struct Skb<'a> {
    frames: &'a Frames,
    pods: &'a mut [FarEnd],
    templates: Vec<Vec<u8>>,
    turns: Turns,
    stamped: bool,
    /// Bytes of the tag that frames have, if any.
    tag: usize,
}

impl Skb<'_> {
    /// Sends up to so many; where the wire is full, the same flow has the next turn again.
    fn send(&mut self, most: u64) -> u64 {
        let proto = self.frames.proto();
        let mut sent = 0;
        let now = if self.stamped { stamp() } else { [0; 8] };
        while sent < most {
            let (number, size) = self.turns.now();
            let flow = self.frames.flow(number);
            let template = &self.templates[self.frames.stream(flow, size)];
            let (stamped, tag) = (self.stamped, self.tag);
            let change = |frame: &mut [u8]| {
                // Behind the tag all is as without it.
                let frame = frame.get_mut(tag..).unwrap_or_default();
                set_port(frame, proto, true, flow.port);
                let at = payload_at(proto) + 2;
                if let Some(room) = frame.get_mut(at..at + now.len()).filter(|_| stamped) {
                    room.copy_from_slice(&now);
                }
            };
            if !self.pods[usize::from(flow.pod)].send_as(0, template, change) {
                break;
            }
            self.turns.next += 1;
            sent += 1;
        }
        self.pods.iter_mut().for_each(FarEnd::flush);
        sent
    }
}

/// The time, and its complement.
fn stamp() -> [u8; 8] {
    // There is such a clock on every Linux.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        // The counter reads the low half of the nanoseconds.
        (now.tv_sec() as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec() as u64) as u32
    });
    let mut both = [0; 8];
    both[..4].copy_from_slice(&now.to_ne_bytes());
    both[4..].copy_from_slice(&(!now).to_ne_bytes());
    both
}

/// Sends from a UDP socket of each flow in the pod's namespace.
#[derive(Debug)]
pub struct Sockets {
    sockets: Vec<(UdpSocket, (Ipv4Addr, u16), u32)>,
    /// What a datagram of each stream carries.
    payloads: Vec<Vec<u8>>,
    frames: Frames,
    sizes: Vec<usize>,
    next: usize,
}

impl Sockets {
    fn open(bed: &Bed, load: &Load, frames: &Frames) -> anyhow::Result<Self> {
        anyhow::ensure!(
            load.flows <= MOST_SOCKETS,
            "sockets have {MOST_SOCKETS} flows at most, not {}",
            load.flows
        );
        let mut sockets = Vec::new();
        for number in Turns::new(load).flows {
            let flow = frames.flow(number);
            let pod = bed.far(cali(flow.pod))?;
            let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, flow.port));
            let socket = namespace::run_in(&pod.namespace, bind)?.context("open a pod's socket")?;
            socket.set_nonblocking(true)?;
            // Whole datagrams have no id then, as the bench's own.
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?;
            sockets.push((socket, frames.service(flow), number));
        }
        let at = payload_at(Proto::Udp);
        let templates = frames.templates(Act::Data, Leg::Sent(Kind::Node));
        let payloads = templates.iter().map(|frame| frame[at..].to_vec()).collect();
        Ok(Self { sockets, payloads, frames: frames.clone(), sizes: load.sizes.pattern(), next: 0 })
    }

    fn send(&mut self, most: u64) -> u64 {
        let mut sent = 0;
        while sent < most {
            let (socket, service, number) = &self.sockets[self.next % self.sockets.len()];
            let size = self.sizes[self.next % self.sizes.len()];
            let stream = self.frames.stream(self.frames.flow(*number), size);
            if socket.send_to(&self.payloads[stream], service).is_err() {
                break;
            }
            self.next += 1;
            sent += 1;
        }
        sent
    }
}

/// A generator at the pods' ends.
#[derive(Debug)]
pub enum Generator<'a> {
    /// See [`Input::Skb`].
    Skb(Skb<'a>),
    /// See [`Input::Live`].
    Live {
        /// The program.
        program: Offer,
        /// A request, of which the program makes every flow's.
        request: Vec<u8>,
        /// The network namespace that it is sent in.
        home: String,
    },
    /// See [`Input::Sockets`].
    Sockets(Sockets),
}

impl<'a> Generator<'a> {
    /// Makes it ready to send the requests of all flows from the pods' ends to a forwarder of this
    /// kind, `stamped` with the time or not.
    ///
    /// # Errors
    /// Where its program cannot be loaded or its sockets cannot be opened; a load of XDP frames
    /// that are not all of one stream.
    pub fn new(
        load: &Load,
        kind: Kind,
        bed: &Bed,
        frames: &'a Frames,
        pods: &'a mut [FarEnd],
        stamped: bool,
    ) -> anyhow::Result<Self> {
        Ok(match load.input {
            Input::Skb => {
                let templates = frames.templates(Act::Data, Leg::Sent(kind));
                let turns = Turns::new(load);
                let tag = if kind == Kind::Ovs { TAG } else { 0 };
                Self::Skb(Skb { frames, pods, templates, turns, stamped, tag })
            }
            Input::Live => {
                let streams = frames.templates(Act::Data, Leg::Sent(kind));
                let [request] = &streams[..] else {
                    anyhow::bail!("XDP frames are of one pod, one service and one size");
                };
                anyhow::ensure!(frames.proto() == Proto::Udp, "XDP frames are UDP");
                let device = bed.far(cali(0))?;
                let index = || datapath_io::link::index(&device.ifname);
                let index = namespace::run_in(&device.namespace, index)??;
                let flows = u16::try_from(load.flows).context("XDP frames have fewer flows")?;
                let program = Offer::load(index, FIRST_PORT, flows)?;
                Self::Live { program, request: request.clone(), home: device.namespace }
            }
            Input::Sockets => Self::Sockets(Sockets::open(bed, load, frames)?),
        })
    }

    /// Sends until it is told to stop, or for so long: at a rate in frames a second, what is due
    /// by the clock, whatever becomes of it; or as much as the core can. XDP frames have no rate.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn run(
        &mut self,
        rate: Option<f64>,
        time: Option<Duration>,
        stop: &AtomicBool,
    ) -> anyhow::Result<Offered> {
        if let Self::Live { program, request, home } = self {
            namespace::enter(home)?;
            let (before, began) = (program.offered()?, Instant::now());
            while !stop.load(Ordering::Relaxed) && time.is_none_or(|t| began.elapsed() < t) {
                program.send(request, LIVE_FRAMES)?;
            }
            let sent = program.offered()? - before;
            return Ok(Offered { due: sent, sent, seconds: began.elapsed().as_secs_f64() });
        }
        let began = Instant::now();
        let mut sent = 0;
        let mut elapsed = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) && time.is_none_or(|time| elapsed < time) {
            let due = rate.map_or(u64::MAX, |rate| due(rate, elapsed));
            let turn = due.saturating_sub(sent).min(BATCH as u64);
            sent += match self {
                Self::Skb(skb) => skb.send(turn),
                Self::Sockets(sockets) => sockets.send(turn),
                Self::Live { .. } => 0,
            };
            elapsed = began.elapsed();
        }
        if let Self::Skb(skb) = self {
            skb.pods.iter_mut().for_each(|pod| pod.drain(PATIENCE));
        }
        let due = rate.map_or(sent, |rate| due(rate, elapsed.min(time.unwrap_or(elapsed))));
        Ok(Offered { due: due.max(sent), sent, seconds: elapsed.as_secs_f64() })
    }

    /// Frames sent past the pods' ports, which count what goes through them.
    ///
    /// # Errors
    /// Where the program's counter cannot be read.
    pub fn sent_past_ports(&self) -> anyhow::Result<u64> {
        Ok(match self {
            Self::Skb(_) => 0,
            Self::Live { program, .. } => program.offered()?,
            Self::Sockets(sockets) => sockets.next as u64,
        })
    }

    /// Frames sent through the pods' ports so far.
    #[must_use]
    pub fn sent_through_ports(&self) -> u64 {
        match self {
            Self::Skb(skb) => skb.pods.iter().map(FarEnd::sent).sum(),
            Self::Live { .. } | Self::Sockets(_) => 0,
        }
    }
}

/// Frames that are due after some time.
fn due(rate: f64, elapsed: Duration) -> u64 {
    // Rates are some millions a second at most, times some minutes.
    (rate * elapsed.as_secs_f64()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flow_has_its_turn_in_an_order_of_the_seed() {
        let load = |seed| Load { seed, flows: 100, ..Load::smallest(Input::Skb) };
        let order = |seed| Turns::new(&load(seed)).flows;
        let mut sorted = order(1);
        assert_eq!(order(1), sorted);
        assert_ne!(order(1), order(2));
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_stamp_adds_up_to_nothing() {
        let stamp = stamp();
        let words = stamp.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let sum = words.sum::<u32>();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
