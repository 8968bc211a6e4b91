//! The article's scenario 8 as the client's node sees it, with UDP instead of TCP: pods, services
//! with a load-balancer address, and their endpoints on another node.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use datapath::element::{Element, Output, Place};
use datapath::journey::PortId;
use datapath::lab::{self, Lab};
use datapath::node::{ETH0, FIRST_CALI, Node};
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::wire::{Mac, Packet, ethernet};
use etherparse::PacketBuilder;

use crate::{BATCH, Work};

/// Flows of one client pod, each from a port of its own; full batches of them, so that a batch
/// comes from one pod, as from one veth.
const FLOWS_A_POD: u32 = 51_200;

/// A client's datagram is as long as the smallest frame allows.
pub(crate) const PAYLOAD: [u8; 18] = [7; 18];

/// The client's node with established flows through it.
#[derive(Debug)]
pub struct ClientNode {
    node: Node<Heap>,
    out: Output<Heap>,
    frames: Vec<Vec<u8>>,
}

impl ClientNode {
    /// A node through which every one of `flows` flows has been used from both sides. Its flow
    /// cache is on or off.
    ///
    /// # Panics
    /// Where the node does not forward what it should.
    #[must_use]
    pub fn established(flows: u32, cache: bool) -> Self {
        let lab = lab::load(&lab_text(flows, cache), "bench").expect("the bench's lab loads");
        let mut node = Node::new(&lab, 0).expect("the lab has a node");
        node.populate();
        let frames = (0..flows).map(|flow| request(&lab, flow)).collect();
        let mut this = Self { node, out: Output::default(), frames };
        this.establish(&lab, flows as usize);
        this
    }

    /// A node with `flows` established flows, whose frames each begin another: `newcomers` of them,
    /// SYNs to a ClusterIP, which nothing masquerades.
    ///
    /// # Panics
    /// Where the node does not forward what it should.
    #[must_use]
    pub fn with_newcomers(flows: u32, newcomers: u32) -> Self {
        let all = flows + newcomers;
        let lab = lab::load(&lab_text(all, true), "bench").expect("the bench's lab loads");
        let mut node = Node::new(&lab, 0).expect("the lab has a node");
        node.populate();
        let frames = (0..flows).map(|flow| request(&lab, flow)).collect();
        let mut this = Self { node, out: Output::default(), frames };
        this.establish(&lab, flows as usize);
        this.frames = (flows..all).map(|flow| opening(&lab, flow)).collect();
        this
    }

    /// The datagram of each of `flows` flows.
    ///
    /// # Panics
    /// Where the bench's lab does not load.
    #[must_use]
    pub fn datagrams(flows: u32) -> Vec<Vec<u8>> {
        let lab = lab::load(&lab_text(flows, true), "bench").expect("the bench's lab loads");
        (0..flows).map(|flow| request(&lab, flow)).collect()
    }

    /// Uses the first `flows` flows from both sides, until all have learned their paths: those that
    /// began later may have undone what the earlier ones had learned.
    fn establish(&mut self, lab: &Lab, flows: usize) {
        for _ in 0..2 {
            for flow in 0..flows {
                let request = self.frames[flow].clone();
                let left = self.forward(&request, place_of(flow), ETH0);
                let answer = answer(lab, &left);
                self.forward(&answer, Place { port: ETH0, queue: 0 }, place_of(flow).port);
            }
        }
    }

    /// The longest call of the node's timers, and how many there were, while all its flows end in
    /// the same moment.
    pub fn age(&mut self) -> (Duration, u32) {
        let mut longest = Duration::ZERO;
        let mut calls = 0;
        // All end of themselves at the latest when ipvs gives up UDP.
        let end = Time::from_secs(301);
        while self.node.poll_at().is_some_and(|at| at <= end) {
            let start = Instant::now();
            self.node.on_time(end, &mut self.out);
            longest = longest.max(start.elapsed());
            calls += 1;
        }
        (longest, calls)
    }

    /// Runs the node's timers once; whether more is due at the same moment.
    pub fn on_time(&mut self, now: Time) -> bool {
        self.node.on_time(now, &mut self.out);
        self.node.poll_at().is_some_and(|at| at <= now)
    }

    /// How many conntrack entries and ipvs connections live.
    #[must_use]
    pub fn living(&self, now: Time) -> (usize, usize) {
        (self.node.conntrack().iter(now).count(), self.node.connections().iter(now).count())
    }

    /// The one frame that leaves because of `frame`.
    fn forward(&mut self, frame: &[u8], from: Place, to: PortId) -> Vec<u8> {
        self.node.process(&mut vec![Heap::new(frame)], from, Time::ZERO, &mut self.out);
        let sent = self.out.departures.pop().expect("the node forwards every flow");
        assert!(self.out.departures.is_empty() && sent.place.port == to, "one frame, by {to:?}");
        sent.frame.bytes().to_vec()
    }
}

impl Work for ClientNode {
    fn frames(&self) -> &[Vec<u8>] {
        &self.frames
    }

    fn handle(&mut self, batch: &mut Vec<Heap>) {
        let first = self.pod_of(batch);
        let from = Place { port: PortId(FIRST_CALI + first), queue: 0 };
        self.node.process(batch, from, Time::ZERO, &mut self.out);
        batch.extend(self.out.departures.drain(..).map(|departure| departure.frame));
    }
}

/// A node with established flows, all of whose cached paths are void before each batch, since the
/// lab has been applied once more: every packet misses, is walked, and has its path learned.
#[derive(Debug)]
pub struct Forgetful {
    node: ClientNode,
    lab: Lab,
}

impl Forgetful {
    /// With so many flows.
    ///
    /// # Panics
    /// Where the node does not forward what it should.
    #[must_use]
    pub fn new(flows: u32) -> Self {
        let lab = lab::load(&lab_text(flows, true), "bench").expect("the bench's lab loads");
        Self { node: ClientNode::established(flows, true), lab }
    }
}

impl Work for Forgetful {
    fn frames(&self) -> &[Vec<u8>] {
        self.node.frames()
    }

    fn batch(&self) -> usize {
        // A flow's second packet in a batch would find the path that its first has learned.
        BATCH.min(self.frames().len())
    }

    fn before(&mut self) {
        self.node.node.apply(&self.lab, Time::ZERO);
    }

    fn handle(&mut self, batch: &mut Vec<Heap>) {
        self.node.handle(batch);
    }
}

impl ClientNode {
    /// The number of the pod that sent the first frame of a batch.
    fn pod_of(&self, batch: &[Heap]) -> u16 {
        let address = batch.first().and_then(|frame| frame.bytes().get(29).copied());
        u16::from(address.unwrap_or(FIRST_HOST) - FIRST_HOST)
    }
}

/// Last byte of the first pod's address.
const FIRST_HOST: u8 = 100;

/// Where the datagrams of a flow come in.
fn place_of(flow: usize) -> Place {
    let pod = flow / FLOWS_A_POD as usize;
    Place { port: PortId(FIRST_CALI + u16::try_from(pod).expect("few pods")), queue: 0 }
}

/// Two nodes, and for every 51,200 flows a client pod, a service and its endpoint. With ports of
/// the node's own choice kept as they are, each service has room for as many masqueraded flows.
pub(crate) fn lab_text(flows: u32, cache: bool) -> String {
    let mut text = format!(
        "
vpc:
  cidr: 10.0.0.0/16
  vSwitches: {{vsw-a: {{cidr: 10.0.4.0/24}}, vsw-b: {{cidr: 10.0.5.0/24}}}}
nodes:
  - {{name: n1, eth0: {{ip: 10.0.4.20}}, trunk: {{ip: 10.0.4.21}}}}
  - {{name: n2, eth0: {{ip: 10.0.4.22}}, trunk: {{ip: 10.0.4.23}}}}
switches: {{masqueradeRandomFully: false, permanentNeighbours: true, flowCache: {cache}}}
limits: {{flows: {}}}
",
        flows.max(1024) * 2
    );
    let pods = flows.div_ceil(FLOWS_A_POD);
    let mut list = |head: &str, line: &dyn Fn(u32) -> String| {
        let _ = writeln!(text, "{head}:");
        for number in 0..pods {
            let _ = writeln!(text, "  - {}", line(number));
        }
    };
    list("services", &|n| {
        format!(
            "{{name: demo/dns-{n}, clusterIP: 192.168.31.{n}, loadBalancer: 47.243.87.{n}, \
             ports: [{{port: 53, targetPort: 5353, proto: udp}}, {{port: 80, targetPort: 8080}}], \
             endpoints: [{{pod: demo/server-{n}}}]}}"
        )
    });
    let first = u32::from(FIRST_HOST);
    list("pods", &|n| format!("{{name: demo/client-{n}, node: n1, ip: 10.0.4.{}}}", first + n));
    for number in 0..pods {
        let ip = first + number;
        let _ = writeln!(text, "  - {{name: demo/server-{number}, node: n2, ip: 10.0.5.{ip}}}");
    }
    text
}

/// The 60-byte datagram of a flow to the load-balancer address.
pub(crate) fn request(lab: &Lab, flow: u32) -> Vec<u8> {
    let number = (flow / FLOWS_A_POD) as usize;
    let (pod, service) = (&lab.pods[number], &lab.services[number]);
    let port = u16::try_from(1024 + flow % FLOWS_A_POD).expect("a port");
    let builder = PacketBuilder::ethernet2(pod.mac.0, pod.cali_mac.0)
        .ipv4(pod.ip.octets(), service.load_balancer[0].octets(), 64)
        .udp(port, 53);
    let mut frame = Vec::new();
    builder.write(&mut frame, &PAYLOAD).expect("a small datagram");
    frame
}

/// The 54-byte SYN of a flow to the ClusterIP.
fn opening(lab: &Lab, flow: u32) -> Vec<u8> {
    let number = (flow / FLOWS_A_POD) as usize;
    let (pod, service) = (&lab.pods[number], &lab.services[number]);
    let port = u16::try_from(1024 + flow % FLOWS_A_POD).expect("a port");
    let builder = PacketBuilder::ethernet2(pod.mac.0, pod.cali_mac.0)
        .ipv4(pod.ip.octets(), service.cluster_ip.expect("a ClusterIP").octets(), 64)
        .tcp(port, 80, flow, 64_240)
        .syn();
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).expect("a small segment");
    frame
}

/// The answer to a datagram that has left the node, as the VPC delivers it to eth0.
fn answer(lab: &Lab, left: &[u8]) -> Vec<u8> {
    let tuple = Packet::parse(&left[ethernet::HEADER_LEN..]).expect("a packet").tuple;
    let Mac(own) = lab.enis[lab.nodes[0].primary].mac;
    let builder = PacketBuilder::ethernet2(lab.vpc.gateway_mac.0, own)
        .ipv4(tuple.dst.octets(), tuple.src.octets(), 64)
        .udp(tuple.dst_port, tuple.src_port);
    let mut frame = Vec::new();
    builder.write(&mut frame, &PAYLOAD).expect("a small datagram");
    frame
}
