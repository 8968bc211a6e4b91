//! The flow cache: used where it may be, and never noticed (spec LAW-4, FLOW).

use std::cell::Cell;

use crate::common::*;
use datapath::element::{Element, Output, Place};
use datapath::journey::PortId;
use datapath::lab::Lab;
use datapath::node::{CacheCounters, ETH0, ETH1, Node};
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::wire::tcp::Flags;
use datapath::wire::{Mac, Packet, Protocol, Tuple, Vid, ethernet};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

/// A frame that left, with the port and queue it left by.
type Sent = (u16, u16, Vec<u8>);

/// The lab with or without a cache, with a change of its switches.
type LabFor = Box<dyn Fn(bool, &str) -> Lab>;

/// Two nodes that differ in nothing but the cache, given the same.
struct Twins {
    lab: Lab,
    lab_for: LabFor,
    cached: (Node<Heap>, Output<Heap>),
    walking: (Node<Heap>, Output<Heap>),
    now: Time,
}

impl Twins {
    fn new(profile: &str, switches: &str, limits: &str, toa: bool) -> Self {
        let head = format!("profile: {profile}\nlimits: {{{limits}}}");
        let switches = switches.to_owned();
        let lab_for = move |cache: bool, change: &str| {
            // Of two values of a switch the later one is meant.
            let kept =
                switches.split(", ").filter(|s| s.split(':').next() != change.split(':').next());
            let kept: Vec<_> = kept.chain([change]).filter(|s| !s.is_empty()).collect();
            let kept = kept.join(", ");
            let keys =
                format!("{head}\nswitches: {{flowCache: {cache}, icmpRatelimit: 0, {kept}}}");
            lab_fnat_with("2000-2002", &format!("toa: {toa}"), &keys)
        };
        let node = |cache| (Node::new(&lab_for(cache, ""), 0).expect("a node"), Output::default());
        let (cached, walking) = (node(true), node(false));
        let (lab, now) = (lab_for(true, ""), Time::from_secs(1));
        Self { lab, lab_for: Box::new(lab_for), cached, walking, now }
    }

    /// Both take over another version of their lab.
    fn change(&mut self, switch: &str) {
        self.cached.0.apply(&(self.lab_for)(true, switch), self.now);
        self.walking.0.apply(&(self.lab_for)(false, switch), self.now);
        assert_eq!(self.state(true), self.state(false));
    }

    fn both(
        &mut self,
        mut call: impl FnMut(&mut Node<Heap>, &mut Output<Heap>, Time),
    ) -> Vec<Sent> {
        let now = self.now;
        let [sent, expected] = [&mut self.cached, &mut self.walking].map(|(node, out)| {
            out.blanks.resize_with(8, Heap::default);
            call(node, out, now);
            let sent = out.departures.drain(..);
            sent.map(|d| (d.place.port.0, d.place.queue, d.frame.bytes().to_vec()))
                .collect::<Vec<Sent>>()
        });
        assert_eq!(sent, expected);
        assert_eq!(self.state(true), self.state(false));
        sent
    }

    /// Everything about a node that anybody can see, but for the cache.
    fn state(&self, cached: bool) -> String {
        let (node, _) = if cached { &self.cached } else { &self.walking };
        assert!(node.ledger().balances(node.held()));
        let flows: Vec<_> = node.conntrack().iter(self.now).collect();
        // Which slots they have, and so their order, depends on when the timer looked at others.
        let mut connections: Vec<_> = node.connections().iter(self.now).collect();
        connections.sort_by_key(|connection| connection.request);
        let neighbours: Vec<_> = node.neighbours().collect();
        let queues: Vec<_> = node.trunk_counters().collect();
        let ledger = (node.ledger(), node.held(), node.conntrack().evicted());
        let locals: Vec<_> = node.ipvs().local_addresses().ports().collect();
        let toa = node.toa_counters();
        let servers = node.ipvs().services().flat_map(|service| &service.servers);
        let servers: Vec<_> = servers.map(|server| node.ipvs().server(*server)).collect();
        format!(
            "{locals:?}\n{toa:?}\n{servers:#?}\n{flows:#?}\n{connections:#?}\n{neighbours:#?}\n{queues:#?}\n{ledger:#?}"
        )
    }

    fn put(&mut self, port: PortId, queue: u16, frame: &[u8]) -> Vec<Sent> {
        self.both(|node, out, now| {
            node.process(&mut vec![Heap::new(frame)], Place { port, queue }, now, out);
        })
    }

    /// A packet arrives as its sender's side of the wire would send it: to the node's address or
    /// to a pod's by eth0, to a pod behind its own ENI by the trunk.
    fn packet(&mut self, port: PortId, packet: &[u8], astray: bool) -> Vec<Sent> {
        let dst = Packet::parse(packet).expect("a packet").tuple.dst;
        let tag = (port == ETH1).then_some(if (dst == A) != astray { 101 } else { 102 });
        let port = if astray && port != ETH1 { CALI_B } else { port };
        let queue = tag.and_then(Vid::new).map_or(0, |vid| self.lab.trunk_queue(0, vid));
        let mac = self.cached.0.config().interface(port).expect("an interface").mac;
        let bytes = frame(mac, Mac([2, 8, 8, 8, 8, 8]), tag, ethernet::IPV4, packet);
        self.put(port, queue, &bytes)
    }

    /// Every neighbour that flows need asks for one of the node's addresses and is known by that.
    fn introduce(&mut self, last: u8) {
        let gateway = [10, 0, 4, 253].into();
        let pods = [(CALI_A, A, FAR), (CALI_B, B, FAR)];
        for (port, ip, asks_for) in
            pods.into_iter().chain([(ETH0, D, N1), (ETH0, gateway, N1), (ETH1, gateway, N1)])
        {
            self.put(port, 0, &who_has((Mac([2, 1, 1, 1, 1, last]), ip), asks_for));
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now = Time::from_nanos(self.now.as_nanos() + millis * 1_000_000);
        self.both(|node, out, now| node.on_time(now, out));
    }

    fn counters(&self) -> CacheCounters {
        self.cached.0.cache_counters()
    }
}

/// The packet in a frame that left.
fn packet_of((_, _, frame): &Sent) -> Option<Packet<std::net::Ipv4Addr>> {
    let at = if ethernet::tag(frame).is_some() { 18 } else { 14 };
    Packet::parse(frame.get(at..)?).ok()
}

/// Where the answer to a packet that left by `port` comes in: by the trunk to a pod's own address.
fn answers_by(port: u16, answer: &Tuple<std::net::Ipv4Addr>) -> PortId {
    match PortId(port) {
        ETH0 | ETH1 if answer.dst == A || answer.dst == B => ETH1,
        ETH0 | ETH1 => ETH0,
        other => other,
    }
}

/// One packet of a conversation.
#[derive(Clone, Debug)]
struct Talk {
    flow: usize,
    back: bool,
    flags: Flags,
    /// How far a segment lies from its flow's first, in sequence numbers and acknowledgments.
    ahead: (u32, u32),
    data: usize,
    ttl: u8,
    damage: bool,
    no_checksum: bool,
    /// It comes by another port, or by the trunk with another VID, than its kind usually does.
    astray: bool,
}

#[derive(Clone, Debug)]
enum Event {
    Talk(Talk),
    Wait(u64),
    NewMacs(u8),
    /// The lab changes this switch.
    Change(&'static str),
}

/// A conversation: who talks to whom, by which protocol.
type Ends = (PortId, Addr, Addr, bool);

fn ends() -> impl Strategy<Value = Ends> {
    let clients = vec![(CALI_A, A), (CALI_B, B), (HOST, N1), (ETH0, CLIENT), (ETH0, C)];
    let servers = vec![FAR, FAR_XIP, NEAR, NEAR_XIP, MANY, OWN, LOCAL_XIP, FNAT, B, C, D, A];
    prop_oneof![
        // Conversations that get into each other's way: one client port, one endpoint.
        1 => (Just((CALI_A, A)), select(vec![FAR, FAR_XIP, FNAT, C]), Just(40_001), any::<bool>()),
        1 => (select(clients), select(servers), select(vec![40_001, 8_080]), any::<bool>()),
        // Conversations that begin alike.
        3 => (
            select(vec![(CALI_A, A), (CALI_B, B)]),
            select(vec![FAR, FAR_XIP, NEAR_XIP, MANY]),
            prop_oneof![8 => 40_001..40_012_u16, 2 => select(vec![20, 5_353, 8_080])],
            any::<bool>()
        ),
    ]
    .prop_map(|((from, ip), server, source, udp)| {
        let port = match (server, udp) {
            (A | B | C | D, true) => 5_353,
            (A | B | C | D, false) => 8_080,
            (_, true) => 53,
            (_, false) => 80,
        };
        (from, (ip, source), (server, port), udp)
    })
}

fn event() -> impl Strategy<Value = Event> {
    let flags = prop_oneof![
        6 => Just(ACK),
        2 => Just(SYN),
        1 => select(vec![FIN, RST, ACK | Flags::PSH, Flags::empty()]),
    ];
    let ttl = prop_oneof![12 => Just(64_u8), 1 => select(vec![1, 2])];
    let data = prop_oneof![8 => 0..20_usize, 1 => select(vec![1_390, 1_490])];
    // The windows of all segments are 4,096: most lie inside.
    let step = || prop_oneof![8 => 0..600_u32, 1 => select(vec![4_000, 5_000, 90_000, 1 << 31])];
    let rare = |weight| prop::bool::weighted(weight);
    let rare = (rare(0.03), rare(0.05), rare(0.03));
    let talk = (0..12_usize, any::<bool>(), flags, (step(), step()), data, ttl, rare).prop_map(
        |(flow, back, flags, ahead, data, ttl, (damage, no_checksum, astray))| {
            Event::Talk(Talk { flow, back, flags, ahead, data, ttl, damage, no_checksum, astray })
        },
    );
    prop_oneof![
        40 => talk,
        2 => select(vec![1, 900, 11_000, 31_000, 130_000, 310_000, 901_000]).prop_map(Event::Wait),
        1 => (1..4_u8).prop_map(Event::NewMacs),
        1 => select(vec![
            "rpFilter: 1",
            "rpFilter: 2",
            "masqueradeAll: true",
            "vsConntrack: false",
            "ipvs: {natIcmpSend: true}",
            "ipvs: {sloppyTcp: true, connReuseMode: 0}",
            "vlanPush: false",
            "",
        ]).prop_map(Event::Change),
    ]
}

fn packet_for(talk: &Talk, src: Addr, dst: Addr, is_udp: bool) -> Vec<u8> {
    let data = vec![7; talk.data];
    let mut packet = if is_udp {
        udp(src, dst, &data)
    } else {
        let answers = talk.back && talk.flags.contains(Flags::SYN);
        let flags = if answers { SYN_ACK } else { talk.flags };
        let (seq, ack) = talk.ahead;
        Segment { data, ..Segment::new(flags, 1_000 + seq, 1_001 + ack) }.packet(src, dst)
    };
    packet = with_ttl(packet, talk.ttl);
    if is_udp && talk.no_checksum {
        packet[26..28].copy_from_slice(&[0, 0]);
    }
    if talk.damage
        && let Some(last) = packet.last_mut()
    {
        *last ^= 0x40;
    }
    packet
}

/// What has left last in each conversation.
type Memory = [Option<(u16, Tuple<std::net::Ipv4Addr>)>; 12];

fn play(twins: &mut Twins, flows: &[Ends], memory: &mut Memory, event: &Event) {
    match event {
        Event::Wait(millis) => twins.wait(*millis),
        Event::NewMacs(last) => twins.introduce(*last),
        Event::Change(switch) => twins.change(switch),
        Event::Talk(talk) => {
            let at = talk.flow % flows.len();
            let (from, src, dst, is_udp) = flows[at];
            let (port, packet) = match memory[at].filter(|_| talk.back) {
                Some((port, left)) => {
                    let answer = left.inverse().expect("TCP and UDP have answers");
                    let ends = ((answer.src, answer.src_port), (answer.dst, answer.dst_port));
                    (answers_by(port, &answer), packet_for(talk, ends.0, ends.1, is_udp))
                }
                None => (from, packet_for(talk, src, dst, is_udp)),
            };
            let sent = twins.packet(port, &packet, talk.astray);
            let ours = |sent: &&Sent| {
                packet_of(sent).is_some_and(|p| {
                    p.tuple.proto == if is_udp { Protocol::UDP } else { Protocol::TCP }
                })
            };
            if !talk.back
                && let Some(left) = sent.iter().find(ours)
            {
                memory[at] = packet_of(left).map(|packet| (left.0, packet.tuple));
            }
        }
    }
}

#[test]
fn nobody_can_tell_a_node_with_a_cache_from_one_without() {
    let profile = select(vec!["terway-1.3", "terway-1.4.0", "terway-1.4.2"]);
    let kube_proxy = (prop::bool::weighted(0.8), any::<bool>());
    let lab = (profile, kube_proxy, 0..3_u8, 0..4_u8, any::<bool>());
    let strategy =
        (lab, proptest::collection::vec(ends(), 1..12), proptest::collection::vec(event(), 1..150));
    let (hits, openings) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(400));
    let outcome =
        runner.run(&strategy, |((profile, (ct, random), rp, small, toa), flows, events)| {
            let switches =
                format!("vsConntrack: {ct}, masqueradeRandomFully: {random}, rpFilter: {rp}");
            let limits = if small == 0 { "flows: 3, neighbours: 5" } else { "flows: 64" };
            let mut twins = Twins::new(profile, &switches, limits, toa);
            twins.introduce(1);
            let mut memory = Memory::default();
            for event in &events {
                play(&mut twins, &flows, &mut memory, event);
            }
            hits.set(hits.get() + twins.counters().hits);
            openings.set(openings.get() + twins.counters().openings);
            assert_eq!(twins.walking.0.cache_counters(), CacheCounters::default());
            Ok(())
        });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(hits.get() > 1_000, "the cache was hardly used: {} hits", hits.get());
    assert!(openings.get() > 20, "it hardly opened a flow: {} did", openings.get());
}

/// Established conversations of every kind, and how many of their packets need no walk.
#[test]
fn every_packet_of_an_established_flow_but_the_first_of_each_direction_hits() {
    let tcp = [FAR, FAR_XIP, NEAR, FNAT, C].map(|server| (false, server));
    for (is_udp, server) in tcp.into_iter().chain([FAR_XIP, FNAT, C].map(|server| (true, server))) {
        let port = match (is_udp, server) {
            (true, C) => 5_353,
            (false, C) => 8_080,
            (true, _) => 53,
            (false, _) => 80,
        };
        let flow: Ends = (CALI_A, (A, 40_001), (server, port), is_udp);
        let switches = "masqueradeRandomFully: false";
        let mut twins = Twins::new("terway-1.4.0", switches, "flows: 8", false);
        twins.introduce(1);
        let mut memory = Memory::default();
        let mut say = |twins: &mut Twins, back: bool, flags| {
            let (damage, no_checksum, astray) = (false, false, false);
            let (ahead, data, ttl) = ((0, 0), 5, 64);
            let talk = Talk { flow: 0, back, flags, ahead, data, ttl, damage, no_checksum, astray };
            play(twins, &[flow], &mut memory, &Event::Talk(talk));
        };
        for (back, flags) in [(false, SYN), (true, SYN), (false, ACK), (true, ACK), (false, ACK)] {
            say(&mut twins, back, flags);
        }
        let before = twins.counters();
        for _ in 0..10 {
            say(&mut twins, false, ACK);
            say(&mut twins, true, ACK);
        }
        let after = twins.counters();
        assert_eq!(after.hits, before.hits + 20, "{server}, {before:?}");
        assert_eq!(after.learned, before.learned);
        // A neighbour's new MAC makes every path stale: one walk each way learns it again.
        twins.introduce(2);
        for _ in 0..3 {
            say(&mut twins, false, ACK);
            say(&mut twins, true, ACK);
        }
        assert_eq!(twins.counters().learned, after.learned + 2);
        assert_eq!(twins.counters().hits, after.hits + 4);
    }
}
