//! One node alone, its ports' far ends answering ARP as well-behaved peers do.

use std::net::Ipv4Addr;

use datapath::element::{Element, Output, Place};
use datapath::journey::{Fate, Hop, PortId, Rewriter, Step};
use datapath::lab::Lab;
use datapath::node::{ETH0, ETH1, HOST0, InterfaceKind, Node};
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::verdict::DropReason;
use datapath::wire::arp::{Arp, Operation};
use datapath::wire::{Mac, ethernet};

use super::{View, frame};

/// A frame that left the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) port: PortId,
    pub(crate) queue: u16,
    pub(crate) bytes: Vec<u8>,
}

impl Seen {
    pub(crate) fn view(&self) -> View {
        View::of(&self.bytes)
    }

    pub(crate) fn arp(&self) -> Option<Arp> {
        let header = ethernet::Header::parse(&self.bytes)?;
        (header.ethertype == ethernet::ARP).then(|| Arp::parse(&self.bytes[14..])).flatten()
    }
}

/// Node 1 of a lab.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) lab: Lab,
    pub(crate) node: Node<Heap>,
    pub(crate) now: Time,
    out: Output<Heap>,
    /// The hops of the last frame and of what it caused.
    pub(crate) hops: Vec<Hop>,
    /// Whether ARP requests are answered.
    pub(crate) answers: bool,
}

impl Bench {
    pub(crate) fn new(lab: Lab) -> Self {
        let node = Node::new(&lab, 0).expect("a node");
        let now = Time::from_secs(1);
        Self { lab, node, now, out: Output::default(), hops: Vec::new(), answers: true }
    }

    /// Puts a frame in at a port and queue; what comes out, ARP left aside where it is answered.
    pub(crate) fn put(&mut self, port: PortId, queue: u16, bytes: &[u8]) -> Vec<Seen> {
        self.out.blanks.resize_with(64, Heap::default);
        self.out.journal.open(64);
        let mut batch = vec![Heap::new(bytes)];
        self.node.process(&mut batch, Place { port, queue }, self.now, &mut self.out);
        self.hops = self.out.journal.close();
        let seen = self.collect();
        if self.answers { self.answer(seen) } else { seen }
    }

    fn collect(&mut self) -> Vec<Seen> {
        let (ledger, held) = (self.node.ledger(), self.node.held());
        assert!(ledger.balances(held), "{ledger:?} with {held} held");
        let departures = self.out.departures.drain(..);
        let seen = departures.map(|d| Seen {
            port: d.place.port,
            queue: d.place.queue,
            bytes: d.frame.bytes().to_vec(),
        });
        seen.collect()
    }

    /// Answers ARP requests; what leaves beside them, and because of the answers.
    fn answer(&mut self, seen: Vec<Seen>) -> Vec<Seen> {
        let mut rest = Vec::new();
        for seen in seen {
            match seen.arp() {
                Some(arp) if arp.operation == Operation::Request => {
                    let hops = std::mem::take(&mut self.hops);
                    let mac = self.peer(seen.port);
                    let answer = arp.answer(mac).frame(arp.sender_mac, mac);
                    rest.extend(self.put(seen.port, 0, &answer));
                    self.hops.splice(0..0, hops);
                }
                _ => rest.push(seen),
            }
        }
        rest
    }

    /// MAC of the far end of a port's wire.
    pub(crate) fn peer(&self, port: PortId) -> Mac {
        match self.node.config().interface(port).map(|i| i.kind) {
            Some(InterfaceKind::Cali { pod }) => self.lab.pods[pod].mac,
            Some(InterfaceKind::Host0) => self.lab.nodes[0].host_mac,
            _ => self.lab.vpc.gateway_mac,
        }
    }

    /// MAC of the node's own end.
    pub(crate) fn mac(&self, port: PortId) -> Mac {
        self.node.config().interface(port).expect("an interface").mac
    }

    /// The packet in a frame from the far end of a port.
    pub(crate) fn framed(&self, port: PortId, tag: Option<u16>, packet: &[u8]) -> Vec<u8> {
        frame(self.mac(port), self.peer(port), tag, ethernet::IPV4, packet)
    }

    /// A packet arrives untagged; what comes out.
    pub(crate) fn packet(&mut self, port: PortId, packet: &[u8]) -> Vec<Seen> {
        let bytes = self.framed(port, None, packet);
        self.put(port, 0, &bytes)
    }

    /// A packet arrives on the trunk with a tag and on its queue.
    pub(crate) fn tagged(&mut self, vid: u16, packet: &[u8]) -> Vec<Seen> {
        let bytes = self.framed(ETH1, Some(vid), packet);
        let queue = datapath::wire::Vid::new(vid).map_or(0, |vid| self.lab.trunk_queue(0, vid));
        self.put(ETH1, queue, &bytes)
    }

    /// The one frame that comes out.
    pub(crate) fn sent(&mut self, port: PortId, packet: &[u8]) -> Seen {
        let mut seen = self.packet(port, packet);
        assert_eq!(seen.len(), 1, "{:?}", self.hops);
        seen.remove(0)
    }

    /// Why a packet is dropped; nothing comes out.
    pub(crate) fn dropped(&mut self, port: PortId, packet: &[u8]) -> DropReason {
        let seen = self.packet(port, packet);
        assert!(seen.is_empty(), "{seen:?}");
        self.reason()
    }

    /// Why a packet is dropped, and the one answer its sender gets.
    pub(crate) fn refused(&mut self, port: PortId, packet: &[u8]) -> (DropReason, View) {
        let seen = self.sent(port, packet);
        assert_eq!(seen.port, port, "the answer goes to the sender");
        (self.reason(), seen.view())
    }

    /// Why the last frame was dropped.
    pub(crate) fn reason(&self) -> DropReason {
        let dropped = self.hops.iter().find_map(|hop| match hop.fate {
            Fate::Dropped(reason) => Some(reason),
            _ => None,
        });
        dropped.unwrap_or_else(|| panic!("nothing dropped: {:?}", self.hops))
    }

    /// The steps of the last packet, which its ARP requests may precede.
    pub(crate) fn steps(&self) -> &[Step] {
        let came = |hop: &&Hop| hop.arrival.is_some_and(|arrival| arrival.tuple.is_some());
        &self.hops.iter().find(came).expect("a hop").steps
    }

    /// Who rewrote the last packet, in order.
    pub(crate) fn rewriters(&self) -> Vec<Rewriter> {
        let by = self.steps().iter().filter_map(|step| match step {
            Step::Rewritten { by, .. } => Some(*by),
            _ => None,
        });
        by.collect()
    }

    /// Lets time pass and runs timers; what comes out.
    pub(crate) fn wait(&mut self, nanos: u64) -> Vec<Seen> {
        self.now = Time::from_nanos(self.now.as_nanos() + nanos);
        self.out.blanks.resize_with(64, Heap::default);
        self.out.journal.open(64);
        self.node.on_time(self.now, &mut self.out);
        self.hops = self.out.journal.close();
        self.collect()
    }

    /// Flows, as `original | reply`.
    pub(crate) fn flows(&self) -> Vec<String> {
        let flows = self.node.conntrack().iter(self.now);
        flows.map(|(original, reply, _)| format!("{original} | {reply}")).collect()
    }

    /// States of the connections.
    pub(crate) fn states(&self) -> Vec<&'static str> {
        self.node.connections().iter(self.now).map(|c| c.state.name()).collect()
    }
}

/// An ARP request from the far end of a port.
pub(crate) fn who_has(sender: (Mac, Ipv4Addr), target_ip: Ipv4Addr) -> Vec<u8> {
    let (sender_mac, sender_ip) = sender;
    let request = Arp {
        operation: Operation::Request,
        sender_mac,
        sender_ip,
        target_mac: Mac::default(),
        target_ip,
    };
    request.frame(Mac::BROADCAST, sender_mac).to_vec()
}

/// The ENIs' ports, where VIPs are answered for.
pub(crate) const ENI_PORTS: [PortId; 2] = [ETH0, ETH1];
/// The port to the node's own stack.
pub(crate) const HOST: PortId = HOST0;
