//! Ways through one element, and the whole link they are taken from: a client and a server talk in
//! memory, what came in at each element is recorded, and then played to that element alone.
//!
//! Hooks cannot be measured one by one, since the walk calls them and nobody else does. What can be
//! is a way for each combination of them; the difference between two ways is a hook's price.

use std::cell::RefCell;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;

use datapath::element::{Element, Output, Place};
use datapath::lab::{self, Lab, Scheduler};
use datapath::link::{Direction, ElementId, HostId, MemoryLink, Socket, Tap};
use datapath::node::Node;
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::vpc::Vpc;
use datapath::wire::{Mac, Packet, ethernet};
use etherparse::PacketBuilder;

use crate::Work;

/// As much as makes a UDP datagram the smallest frame.
const PAYLOAD: [u8; 18] = [7; 18];
/// The port from which clients talk.
const CLIENT_PORT: u16 = 40_000;
/// Endpoints of the service whose scheduler is measured.
const ENDPOINTS: u8 = 16;

/// A client, and the address and port to which it talks.
#[derive(Clone, Copy, Debug)]
pub struct Talk {
    /// What combination of hooks this is on the first node.
    pub name: &'static str,
    client: HostId,
    server: SocketAddrV4,
}

const POD: HostId = HostId::Pod(0);
const NODE: HostId = HostId::NodeHost(0);

const fn talk(name: &'static str, client: HostId, server: [u8; 4], port: u16) -> Talk {
    let [a, b, c, d] = server;
    Talk { name, client, server: SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port) }
}

/// Pod to pod of another node: PREROUTING, FORWARD, POSTROUTING.
pub const FORWARDED: Talk = talk("pod to pod on another node", POD, [10, 0, 5, 100], 5353);
/// Pod to an ipvs service: LOCAL_IN, and on the way back FORWARD with ipvs.
pub const BALANCED: Talk = talk("pod to ClusterIP", POD, [192, 168, 31, 1], 53);
/// Pod to the service's load-balancer address, which is masqueraded too: the article's S8.
pub const MASQUERADED: Talk = talk("pod to load balancer", POD, [47, 243, 87, 1], 53);

/// Every kind of way; each is a way of requests and one of answers.
pub const TALKS: [Talk; 6] = [
    FORWARDED,
    talk("pod to pod on the same node", POD, [10, 0, 4, 101], 5353),
    BALANCED,
    MASQUERADED,
    talk("node to pod", NODE, [10, 0, 5, 100], 5353),
    talk("node to ClusterIP", NODE, [192, 168, 31, 1], 53),
];

/// What a client or server says.
#[derive(Clone, Copy, Debug)]
enum Message {
    Datagram,
    Segment { syn: bool, seq: u32, ack: Option<u32>, payload: &'static [u8] },
}

/// A request, and its answer where somebody waits for one.
type Round = (Message, Option<Message>);

/// A flow in use from both sides.
const UDP: [Round; 2] = [(Message::Datagram, Some(Message::Datagram)); 2];
/// A datagram.
const ONE: [Round; 1] = [(Message::Datagram, None)];
/// A connection that is opened, and then bytes both ways.
const TCP: [Round; 3] = [TCP_HANDSHAKE, TCP_DATA, TCP_DATA];
const TCP_HANDSHAKE: Round = (
    Message::Segment { syn: true, seq: 1_000, ack: None, payload: &[] },
    Some(Message::Segment { syn: true, seq: 2_000, ack: Some(1_001), payload: &[] }),
);
const TCP_DATA: Round = (
    Message::Segment { syn: false, seq: 1_001, ack: Some(2_001), payload: &PAYLOAD },
    Some(Message::Segment { syn: false, seq: 2_001, ack: Some(1_019), payload: &PAYLOAD }),
);

/// A link over which one client has talked to one server.
#[derive(Debug)]
pub struct Link {
    link: MemoryLink,
    /// What the hosts said in the last round.
    said: Vec<(HostId, Vec<u8>)>,
    /// What came in at elements in all rounds, in order.
    came_in: Vec<(Socket, Vec<u8>)>,
    rounds: usize,
}

impl Link {
    /// After two datagrams each way. The nodes' flow cache is on or off.
    ///
    /// # Panics
    /// Where the link loses a frame, here and below.
    #[must_use]
    pub fn udp(talk: Talk, cache: bool) -> Self {
        Self::new(load(&one_endpoint(), cache), talk, &UDP)
    }

    /// After a TCP connection has been opened and used both ways; its last bytes are sent again
    /// for as long as one likes.
    #[must_use]
    pub fn tcp(talk: Talk, cache: bool) -> Self {
        Self::new(load(&one_endpoint(), cache), talk, &TCP)
    }

    /// After one datagram to a service that schedules each datagram by itself.
    #[must_use]
    pub fn scheduled(scheduler: Scheduler) -> Self {
        Self::new(load(&many_endpoints(scheduler), false), BALANCED, &ONE)
    }

    fn new(lab: Lab, talk: Talk, rounds: &[Round]) -> Self {
        let mut link = MemoryLink::new(lab);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let into = Rc::clone(&seen);
        link.watch(move |_, tap, direction, frame| {
            if let (Tap::Port(socket), Direction::In) = (tap, direction) {
                into.borrow_mut().push((socket, frame.to_vec()));
            }
        });
        let mut said = Vec::new();
        for (request, answer) in rounds {
            let opening = opening(link.lab(), talk, *request);
            let (server, received) = pass(&mut link, talk.client, &opening);
            said = vec![(talk.client, opening)];
            if let Some(answer) = answer {
                let answer = reply(&received, *answer);
                let (client, _) = pass(&mut link, server, &answer);
                assert_eq!(client, talk.client, "the answer comes back");
                said.push((server, answer));
            }
        }
        link.watch(|_, _, _, _| ());
        Self { link, said, came_in: seen.take(), rounds: rounds.len() }
    }

    /// Repeats the last request and its answer, each through both nodes and the VPC.
    pub fn round(&mut self) {
        for (host, frame) in &self.said {
            pass(&mut self.link, *host, frame);
        }
    }

    /// The way of requests through an element, which has met everything of its own before.
    #[must_use]
    pub fn requests(&self, element: ElementId) -> Way {
        let came_in = self.came_in_at(element);
        Way::new(self.link.lab(), element, &came_in, came_in.len() - came_in.len() / self.rounds)
    }

    /// The way of answers through an element.
    #[must_use]
    pub fn answers(&self, element: ElementId) -> Way {
        let came_in = self.came_in_at(element);
        Way::new(self.link.lab(), element, &came_in, came_in.len() - 1)
    }

    fn came_in_at(&self, element: ElementId) -> Vec<&(Socket, Vec<u8>)> {
        self.came_in.iter().filter(|(socket, _)| socket.element == element).collect()
    }
}

/// One element, and a frame that takes the same way through it every time.
pub struct Way {
    element: Box<dyn Element<Heap>>,
    place: Place,
    frames: Vec<Vec<u8>>,
    out: Output<Heap>,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Way {
    /// The way of the frame that came in as number `which`, after all of them have.
    fn new(lab: &Lab, element: ElementId, came_in: &[&(Socket, Vec<u8>)], which: usize) -> Self {
        let element: Box<dyn Element<Heap>> = match element {
            ElementId::Node(node) => Box::new(Node::new(lab, node).expect("a node of the lab")),
            ElementId::Vpc => Box::new(Vpc::new(lab)),
        };
        let (socket, frame) = came_in[which];
        let place = Place { port: socket.port, queue: 0 };
        let mut this = Self { element, place, frames: vec![frame.clone()], out: Output::default() };
        for (socket, frame) in came_in {
            this.place.port = socket.port;
            this.handle(&mut vec![Heap::new(frame)]);
        }
        this.place = place;
        this
    }
}

impl Work for Way {
    fn frames(&self) -> &[Vec<u8>] {
        &self.frames
    }

    fn handle(&mut self, batch: &mut Vec<Heap>) {
        self.element.process(batch, self.place, Time::ZERO, &mut self.out);
        batch.extend(self.out.departures.drain(..).map(|departure| departure.frame));
    }
}

/// Has a host send a frame, and returns who receives it and what it then is.
fn pass(link: &mut MemoryLink, from: HostId, frame: &[u8]) -> (HostId, Heap) {
    link.send(from, frame);
    link.settle();
    let delivery = link.take_delivery().expect("the link delivers every frame");
    (delivery.host, delivery.frame)
}

/// A request as the client sends it to its gateway.
fn opening(lab: &Lab, talk: Talk, message: Message) -> Vec<u8> {
    let (own, ip, gateway) = match talk.client {
        HostId::Pod(pod) => (lab.pods[pod].mac, lab.pods[pod].ip, lab.pods[pod].cali_mac),
        HostId::NodeHost(node) => {
            let node = &lab.nodes[node];
            (node.host_mac, lab.enis[node.primary].ip, node.host0_mac)
        }
        HostId::Outside(_) => unreachable!("no talk begins outside"),
    };
    frame((own, gateway), (SocketAddrV4::new(ip, CLIENT_PORT), talk.server), message)
}

/// The answer to a frame that a host has received.
fn reply(received: &Heap, message: Message) -> Vec<u8> {
    let header = ethernet::Header::parse(received.bytes()).expect("a frame");
    let ip = &received.bytes()[ethernet::HEADER_LEN..];
    let tuple = Packet::<Ipv4Addr>::parse(ip).expect("a packet").tuple;
    let own = SocketAddrV4::new(tuple.dst, tuple.dst_port);
    frame((header.dst, header.src), (own, SocketAddrV4::new(tuple.src, tuple.src_port)), message)
}

/// The frame of a message, from the first to the second of each pair.
fn frame(
    (own, next): (Mac, Mac),
    (from, to): (SocketAddrV4, SocketAddrV4),
    message: Message,
) -> Vec<u8> {
    let packet =
        PacketBuilder::ethernet2(own.0, next.0).ipv4(from.ip().octets(), to.ip().octets(), 64);
    let mut frame = Vec::new();
    match message {
        Message::Datagram => packet.udp(from.port(), to.port()).write(&mut frame, &PAYLOAD),
        Message::Segment { syn, seq, ack, payload } => {
            let mut segment = packet.tcp(from.port(), to.port(), seq, 64_240);
            if syn {
                segment = segment.syn();
            }
            if let Some(ack) = ack {
                segment = segment.ack(ack);
            }
            segment.write(&mut frame, payload)
        }
    }
    .expect("a small packet");
    frame
}

/// What every ENI of the lab has, so that the VPC judges every packet.
const OPEN: &str = "securityGroups: [open]";

fn load(services_and_servers: &str, cache: bool) -> Lab {
    let text = format!(
        "
vpc:
  cidr: 10.0.0.0/16
  vSwitches: {{vsw-a: {{cidr: 10.0.4.0/24}}, vsw-b: {{cidr: 10.0.5.0/24}}}}
  securityGroups: {{open: {{ingress: [{{proto: all, peer: 10.0.0.0/16}}]}}}}
nodes:
  - {{name: n1, eth0: {{ip: 10.0.4.20, {OPEN}}}, trunk: {{ip: 10.0.4.21, {OPEN}}}}}
  - {{name: n2, eth0: {{ip: 10.0.4.22, {OPEN}}}, trunk: {{ip: 10.0.4.23, {OPEN}}}}}
switches: {{permanentNeighbours: true, flowCache: {cache}}}
limits: {{flows: 1024}}
pods:
  - {{name: demo/client, node: n1, ip: 10.0.4.100, member: {{{OPEN}}}}}
  - {{name: demo/neighbour, node: n1, ip: 10.0.4.101, member: {{{OPEN}}}}}
{services_and_servers}"
    );
    lab::load(&text, "bench").expect("the bench's lab loads")
}

/// A service over UDP and TCP with one endpoint.
fn one_endpoint() -> String {
    format!(
        "
  - {{name: demo/server, node: n2, ip: 10.0.5.100, member: {{{OPEN}}}}}
services:
  - name: demo/dns
    clusterIP: 192.168.31.1
    loadBalancer: 47.243.87.1
    ports: [{{port: 53, targetPort: 5353, proto: udp}}, {{port: 53, targetPort: 5353}}]
    endpoints: [{{pod: demo/server}}]
"
    )
}

/// A service that schedules each datagram by itself, and its endpoints.
fn many_endpoints(scheduler: Scheduler) -> String {
    let line = |n| {
        let ip = 100 + n;
        format!("  - {{name: demo/server-{n}, node: n2, ip: 10.0.5.{ip}, member: {{{OPEN}}}}}\n")
    };
    let servers: String = (0..ENDPOINTS).map(line).collect();
    let endpoints: Vec<_> = (0..ENDPOINTS).map(|n| format!("{{pod: demo/server-{n}}}")).collect();
    format!(
        "
{servers}
services:
  - name: demo/dns
    clusterIP: 192.168.31.1
    scheduler: {}
    onePacket: true
    ports: [{{port: 53, targetPort: 5353, proto: udp}}]
    endpoints: [{}]
",
        scheduler.name(),
        endpoints.join(", ")
    )
}
