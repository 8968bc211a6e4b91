//! The VPC's learned paths against its walk (spec VPC-25, LAW-4).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::support::*;
use datapath::element::{Element, Output, Place};
use datapath::journey::{Hop, PortId, SgDirection};
use datapath::lab::Lab;
use datapath::lab::model::VpcRoute;
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::vpc::Vpc;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

/// Who sends: an address, the port its frames come in by, and their tag.
type Sender = (Ipv4Addr, PortId, Option<u16>);

const SENDERS: [Sender; 8] = [
    (IP[ETH0_1], P_ETH0_1, None),
    (IP[TRUNK_1], P_TRUNK_1, None),
    (IP[POD_A], P_TRUNK_1, Some(100)),
    (IP[POD_A], P_TRUNK_1, None),
    (IP[POD_D], P_TRUNK_1, Some(50)),
    (IP[POD_B], P_TRUNK_2, Some(7)),
    (IP[POD_C], P_TRUNK_2, Some(300)),
    (CLIENT, P_OUTSIDE, None),
];

/// An address that at most a custom route knows.
const BEYOND: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);

/// Packets from an address to another, as its owner sends them or somebody else.
#[derive(Clone, Debug)]
struct Flow {
    sender: Sender,
    from: Addr,
    to: Addr,
}

/// One packet of a flow.
#[derive(Clone, Debug)]
struct Sent {
    flow: Index,
    /// It answers the flow; at a load balancer one of the backends does.
    back: bool,
    kind: u8,
    /// Length of a datagram, and of the padding behind it, as a short frame has it on a real wire.
    more: usize,
    ttl: u8,
    /// It comes in fragments.
    cut: bool,
}

/// Packets that come in together, by each port those that are for it.
#[derive(Clone, Debug)]
struct Batch {
    sent: Vec<Sent>,
    /// Milliseconds since the one before, and whether timers have run since.
    after: (u64, bool),
    /// The journals are open.
    watched: bool,
    /// Before them nodes begin or cease to push tags.
    turn: bool,
}

fn flow() -> impl Strategy<Value = Flow> {
    let sender = select(SENDERS.to_vec());
    // Mostly its own.
    let source = prop_oneof![12 => Just(None), 1 => select(IP.to_vec()).prop_map(Some)];
    let to = prop_oneof![
        4 => select(IP.to_vec()),
        1 => select(vec![CLIENT, BEYOND]),
        2 => Just(VIP),
    ];
    let ports = select(vec![(80_u16, 81_u16), (81, 80), (5353, 80)]);
    (sender, source, to, ports).prop_map(|(sender, source, to, (sp, dp))| Flow {
        sender,
        from: (source.unwrap_or(sender.0), sp),
        to: (to, dp),
    })
}

/// So many flows that differ in a port.
fn crowd(flows: u16) -> impl Iterator<Item = Flow> {
    let sender = (IP[POD_A], P_TRUNK_1, Some(100));
    (0..flows).map(move |n| Flow { sender, from: (IP[POD_A], 2_000 + n), to: (IP[POD_B], 80) })
}

impl Flow {
    /// Its answers. Who has no wire here gives none.
    fn answers(&self, backend: usize) -> Option<Self> {
        let (ip, port) = match self.to {
            (VIP, _) => (IP[[POD_B, POD_C, POD_D][backend % 3]], 8080),
            to => to,
        };
        let sender = SENDERS.into_iter().find(|sender| sender.0 == ip)?;
        Some(Self { sender, from: (ip, port), to: self.from })
    }

    /// The port and the frames with which a packet of it comes.
    fn frames(&self, sent: &Sent) -> (PortId, Vec<Vec<u8>>) {
        let Self { sender: (_, port, tag), from, to } = *self;
        let mut packet = match sent.kind {
            0..=6 => udp(from, to, &vec![7; sent.more * 700]),
            7..=9 => tcp(from, to, SYN),
            10..=12 => tcp(from, to, ACK),
            13 => tcp(from, to, FIN),
            14 => tcp(from, to, RST),
            15 => unreachable(from.0, to.0, &udp(to, from, b"x")),
            _ => ping(from.0, to.0, 7, false),
        };
        packet[8] = sent.ttl;
        let sum = datapath::wire::checksum::of(&[&packet[..10], &packet[12..20]].concat());
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let pieces = match (sent.cut, sent.more) {
            (true, 1) => cut(&packet, 400),
            (true, _) => cut(&packet, 24),
            (false, _) => vec![packet],
        };
        let frame = |piece: &Vec<u8>| [ip_frame(tag, piece), vec![0; sent.more]].concat();
        (port, pieces.iter().map(frame).collect())
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let back = prop::bool::weighted(0.3);
    let cut = prop::bool::weighted(0.05);
    (any::<Index>(), back, 0..17_u8, 0..3_usize, 1..65_u8, cut)
        .prop_map(|(flow, back, kind, more, ttl, cut)| Sent { flow, back, kind, more, ttl, cut })
}

fn batch() -> impl Strategy<Value = Batch> {
    let few = prop::collection::vec(sent(), 1..4);
    let sent = prop_oneof![few, prop::collection::vec(sent(), 1..=64)];
    let millis = prop_oneof![6 => 0..50_u64, 1 => select(vec![500_000, 800_000, 911_000])];
    let seldom = || prop::bool::weighted(0.05);
    (sent, (millis, any::<bool>()), seldom(), seldom())
        .prop_map(|(sent, after, watched, turn)| Batch { sent, after, watched, turn })
}

/// One VPC that learns and one that walks, given the same.
struct Twins {
    vpcs: [(Vpc<Heap>, Output<Heap>); 2],
    lab: Lab,
    now: Time,
}

impl Twins {
    fn new(lab: &Lab) -> Self {
        let vpcs = [true, false].map(|learns| {
            let mut lab = lab.clone();
            lab.switches.flow_cache = learns;
            (Vpc::new(&lab), Output::default())
        });
        Self { vpcs, lab: lab.clone(), now: Time::ZERO }
    }

    /// Both do the same, with their journals open or closed; what both have sent.
    fn both(
        &mut self,
        watched: bool,
        call: impl Fn(&mut Vpc<Heap>, &mut Output<Heap>),
    ) -> Vec<Seen> {
        let [learned, walked] = self.vpcs.each_mut().map(|(vpc, out)| {
            out.journal.open(if watched { usize::MAX } else { 0 });
            call(vpc, out);
            let seen = out.departures.drain(..).map(|d| Seen {
                port: d.place.port,
                queue: d.place.queue,
                bytes: d.frame.bytes().to_vec(),
            });
            (seen.collect::<Vec<_>>(), out.journal.close())
        });
        let (seen, hops): (_, Vec<Hop>) = learned;
        assert_eq!(seen, walked.0);
        assert_eq!(hops, walked.1);
        self.compare();
        seen
    }

    /// Counters and sessions are the same in both.
    fn compare(&self) {
        let counts = self.vpcs.each_ref().map(|(vpc, _)| {
            let enis: Vec<_> = (0..self.lab.enis.len()).map(|eni| vpc.eni_counters(eni)).collect();
            let hits = [SgDirection::In, SgDirection::Out].map(|to| vpc.rule_hits(OPEN, to, 0));
            (vpc.ledger(), vpc.held(), vpc.poll_at(), enis, hits)
        });
        assert_eq!(counts[0], counts[1]);
        let [learning, walking] = self.vpcs.each_ref().map(|(vpc, _)| vpc.sessions(self.now));
        assert!(learning.eq(walking), "the sessions differ");
        assert_eq!(self.vpcs[1].0.cache_counters().hits, 0);
    }

    /// Frames come in by one port, at most 64 at a time.
    fn put(&mut self, port: PortId, frames: &[Vec<u8>], watched: bool) -> Vec<Seen> {
        let (place, now) = (Place { port, queue: 0 }, self.now);
        let batches = frames.chunks(64).map(|frames| {
            self.both(watched, |vpc, out| {
                let mut batch = frames.iter().map(|frame| Heap::new(frame)).collect();
                vpc.process(&mut batch, place, now, out);
            })
        });
        batches.collect::<Vec<_>>().concat()
    }

    /// Both have another version of the lab put in place.
    fn turn(&mut self) {
        self.lab.switches.vlan_push ^= true;
        for ((vpc, _), learns) in self.vpcs.iter_mut().zip([true, false]) {
            self.lab.switches.flow_cache = learns;
            vpc.adopt(&self.lab);
        }
    }

    fn play(&mut self, flows: &[Flow], batch: &Batch) {
        let Batch { sent, after: (millis, timers), watched, turn } = batch;
        if *turn {
            self.turn();
        }
        let now = Time::from_nanos(self.now.as_nanos() + millis * 1_000_000);
        self.now = now;
        if *timers {
            self.both(*watched, |vpc, out| vpc.on_time(now, out));
        }
        let mut batches = BTreeMap::<_, Vec<_>>::new();
        for sent in sent {
            let flow = sent.flow.get(flows);
            let answers = sent.back.then(|| flow.answers(sent.more)).flatten();
            let (port, frames) = answers.as_ref().unwrap_or(flow).frames(sent);
            batches.entry(port).or_default().extend(frames);
        }
        for (port, frames) in batches {
            self.put(port, &frames, *watched);
        }
    }
}

/// What the VPC and its groups are like: whether it takes from the TTL, checks sources, lets all in,
/// has a custom route, and expects tags.
type Traits = (bool, bool, bool, bool, bool);

fn lab_with((decrement_ttl, check, open, routed, vlan_push): Traits, mtu: u16) -> Lab {
    let mut lab = lab();
    lab.vpc.decrement_ttl = decrement_ttl;
    lab.enis[ETH0_1].src_dst_check = check;
    lab.nodes[1].trunk_mtu = mtu;
    lab.switches.vlan_push = vlan_push;
    if !open {
        lab.vpc.groups[OPEN].ingress = vec![rule(true, None, Some((80, 80)), "0.0.0.0/0")];
        lab.vpc.groups[OPEN].inner_accept = false;
    }
    if routed {
        let cidr = "172.16.0.0/12".parse().expect("a range");
        lab.vpc.routes = vec![VpcRoute { cidr, eni: ETH0_2 }];
    }
    lab
}

/// The same packets, some of them far apart, give the same frames, journeys, sessions and counters,
/// with a few flows and room for few, or with many.
#[test]
fn a_learned_path_is_the_walk_s() {
    let hits = Cell::new(0);
    let lab = (any::<Traits>(), select(vec![1500_u16, 1000]))
        .prop_map(|(traits, mtu)| lab_with(traits, mtu));
    let room = select(vec![(0_u16, 64_u32), (300, 640)]);
    let flows = prop::collection::vec(flow(), 1..12);
    let batches = prop::collection::vec(batch(), 1..24);
    let outcome = TestRunner::new(ProptestConfig::with_cases(1_000)).run(
        &(lab, room, flows, batches),
        |(mut lab, (others, sessions), mut flows, batches)| {
            lab.limits.sessions = sessions;
            let mut twins = Twins::new(&lab);
            let begin = |flow: Flow| ip_frame(Some(100), &udp(flow.from, flow.to, b"x"));
            let frames: Vec<_> = crowd(others).map(begin).collect();
            twins.put(P_TRUNK_1, &frames, false);
            flows.extend(crowd(others));
            batches.iter().for_each(|batch| twins.play(&flows, batch));
            hits.set(hits.get() + twins.vpcs[0].0.cache_counters().hits);
            Ok(())
        },
    );
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(hits.get() > 10_000, "hardly a path was used: {} hits", hits.get());
}

#[test]
fn the_second_packet_takes_the_path_of_the_first() {
    let mut twins = Twins::new(&lab());
    let frame = ip_frame(Some(100), &udp((IP[POD_A], 80), (IP[POD_B], 81), b"x"));
    let mut send = |watched| {
        let seen = twins.put(P_TRUNK_1, std::slice::from_ref(&frame), watched);
        let counters = twins.vpcs[0].0.cache_counters();
        (seen, counters.hits, counters.learned)
    };
    let (first, hits, learned) = send(false);
    assert_eq!((first.len(), hits, learned), (1, 0, 1));
    assert_eq!(send(false), (first.clone(), 1, 1));
    // A hop is the record of a walk.
    let (seen, hits, _) = send(true);
    assert_eq!((seen, hits), (first, 1));
}

/// What is too large for its receiver begins the life of the sender's session anew, but not that of
/// the receiver's.
#[test]
fn a_path_ends_with_the_session_at_its_receiver() {
    let mut twins = Twins::new(&lab_with((false, false, true, false, true), 1000));
    let frame = |len| ip_frame(Some(100), &udp((IP[POD_A], 80), (IP[POD_B], 81), &vec![7; len]));
    for (secs, len, leave, hits) in
        [(0, 1, 1, 0), (800, 1_400, 0, 0), (1_600, 1, 1, 0), (1_600, 1, 1, 1)]
    {
        twins.now = Time::from_secs(secs);
        assert_eq!(twins.put(P_TRUNK_1, &[frame(len)], false).len(), leave);
        assert_eq!(twins.vpcs[0].0.cache_counters().hits, hits);
    }
}

#[test]
fn a_path_of_another_version_of_the_lab_is_not_taken() {
    let mut twins = Twins::new(&lab());
    let frame = ip_frame(None, &udp((IP[POD_A], 80), (IP[POD_B], 81), b"x"));
    let sent_by = |twins: &mut Twins, eni: usize| {
        let counted = |twins: &Twins| twins.vpcs[0].0.eni_counters(eni).expect("an ENI").frames_out;
        let before = counted(twins);
        twins.put(P_TRUNK_1, std::slice::from_ref(&frame), false);
        counted(twins) == before + 1
    };
    assert!(sent_by(&mut twins, TRUNK_1) && sent_by(&mut twins, TRUNK_1));
    assert_eq!(twins.vpcs[0].0.cache_counters().hits, 1);
    twins.turn();
    assert_eq!(twins.vpcs[0].0.epoch(), 2);
    assert!(sent_by(&mut twins, POD_A), "the pod's own, as nodes push no tags");
    twins.turn();
    assert!(sent_by(&mut twins, TRUNK_1));
    let hits = twins.vpcs[0].0.cache_counters().hits;
    assert_eq!(hits, 1, "what was learned two versions before holds no more");
}
