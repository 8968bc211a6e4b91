//! The frames that are sent, and what they have to be after the way. Built from the lab's
//! addresses by another library than the datapath's own, so that the two check each other.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use anyhow::Context;
use datapath::lab::Lab;
use datapath::node::{ETH0, ETH1, Interface};
use datapath::wire::Mac;
use etherparse::{PacketBuilder, VlanId};

use super::forwarder::Kind;
use super::load::{FRAME_CHECK, Load, PORTS, Proto};

/// Source port of the first flow.
pub const FIRST_PORT: u16 = 10_000;
/// TTL of what is sent.
const TTL: u8 = 64;
/// Where a frame without tag has its source port and its destination port.
const SRC_PORT_AT: usize = 34;
const DST_PORT_AT: usize = 36;
/// Sequence numbers of the first segments of clients and servers.
const CLIENT_SEQ: u32 = 1_000;
const SERVER_SEQ: u32 = 5_000_000;

/// One side of a frame.
type End = (Ipv4Addr, u16);

/// What a frame is to its flow, in the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// The client's first segment.
    Syn,
    /// The server's answer to it.
    SynAck,
    /// With which the client's end is established.
    Ack,
    /// A datagram, or a segment with a payload, from the client.
    Data,
    /// The server's.
    Answer,
    /// The client has sent everything.
    Fin,
    /// The server has as well.
    FinAck,
    /// The end.
    LastAck,
}

impl Act {
    /// Whether it is the client who sends it.
    #[must_use]
    pub const fn is_request(self) -> bool {
        !matches!(self, Self::SynAck | Self::Answer | Self::FinAck)
    }

    /// What begins a flow: sent one after the other, each when the one before has arrived.
    #[must_use]
    pub const fn opening(proto: Proto) -> &'static [Self] {
        match proto {
            Proto::Udp => &[Self::Data, Self::Answer],
            Proto::Tcp => &[Self::Syn, Self::SynAck, Self::Data, Self::Answer],
        }
    }
}

/// Where a frame is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// At the end that sends it to a forwarder of this kind.
    Sent(Kind),
    /// At the other end, after a forwarder of this kind.
    Arrived(Kind),
}

/// One of the flows: who sends, whom it asks, and from which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The pod, by its place among those of the load.
    pub pod: u16,
    /// The service.
    pub service: u16,
    /// The client's port.
    pub port: u16,
}

/// What a frame has in front of its payload: MAC addresses, VID, addresses with ports, TTL.
type Front = ([Mac; 2], Option<u16>, [End; 2], u8);

/// A pod and the service that it asks.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The MAC addresses that reach the pod: destination, source.
    pub last_hop: [Mac; 2],
    /// The pod's VID.
    pub vid: u16,
    /// The service's address and port.
    pub front: (Ipv4Addr, u16),
    /// The endpoint's.
    pub backend: (Ipv4Addr, u16),
}

/// A pod that sends.
#[derive(Clone, Debug)]
struct Client {
    ip: Ipv4Addr,
    mac: Mac,
    cali: Mac,
    vid: u16,
}

/// A service that is asked, and who answers.
#[derive(Clone, Debug)]
struct Service {
    front: End,
    backend: End,
    /// The MAC addresses that reach the endpoint on its veth: source, destination.
    last_hop: [Mac; 2],
}

/// The addresses of all flows. Frames of one pod, service and size are a *stream*: they differ in
/// the client's port, with which the checksum changes.
#[derive(Clone, Debug)]
pub struct Frames {
    clients: Vec<Client>,
    services: Vec<Service>,
    /// Bytes of each size, without the wire's checksum.
    sizes: Vec<usize>,
    proto: Proto,
    node: Ipv4Addr,
    eth0: Mac,
    trunk: Mac,
    gateway: Mac,
    /// Number of flows.
    pub flows: u32,
}

impl Frames {
    /// The flows of a load, from the lab's first pods to its first services.
    ///
    /// # Errors
    /// Where the lab has no such pods and services.
    pub fn of(lab: &Lab, load: &Load) -> anyhow::Result<Self> {
        let client = |pod: &datapath::lab::Pod| Client {
            ip: pod.ip,
            mac: pod.mac,
            cali: pod.cali_mac,
            vid: pod.vid.get(),
        };
        let clients: Vec<_> = lab.pods.iter().take(load.pods.into()).map(client).collect();
        anyhow::ensure!(clients.len() == usize::from(load.pods), "the lab has fewer pods");
        let service = |at: u16| -> anyhow::Result<Service> {
            let service = lab.services.get(usize::from(at)).context("the lab has no service")?;
            let port = service.ports.first().context("the service has no port")?;
            let endpoint = service.endpoints.first().and_then(|e| lab.pods.get(e.pod));
            let endpoint = endpoint.context("the service has no endpoint")?;
            let ip = service.cluster_ip.context("the service has no ClusterIP")?;
            let backend = (endpoint.ip, port.target_port);
            let last_hop = [endpoint.cali_mac, endpoint.mac];
            Ok(Service { front: (ip, port.port), backend, last_hop })
        };
        let services = (0..load.services).map(service).collect::<anyhow::Result<_>>()?;
        let node = lab.pods.first().context("the lab has no pod")?.node;
        let interfaces = Interface::of_node(lab, node).context("the lab has no node")?;
        let interface = |port: datapath::journey::PortId| {
            interfaces.get(usize::from(port.0)).context("the node lacks an interface")
        };
        let primary = interface(ETH0)?;
        let eni = primary.eni.and_then(|eni| lab.enis.get(eni)).context("eth0 has no ENI")?;
        Ok(Self {
            clients,
            services,
            sizes: load.sizes.sizes().map(|size| usize::from(size) - FRAME_CHECK).collect(),
            proto: load.proto,
            node: eni.ip,
            eth0: primary.mac,
            trunk: interface(ETH1)?.mac,
            gateway: lab.vpc.gateway_mac,
            flows: load.flows,
        })
    }

    /// The transport.
    #[must_use]
    pub const fn proto(&self) -> Proto {
        self.proto
    }

    /// Number of sizes.
    #[must_use]
    pub fn sizes(&self) -> usize {
        self.sizes.len()
    }

    /// Number of streams.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.clients.len() * self.services.len() * self.sizes.len()
    }

    /// A flow by its number: the pods have turns, and then the services.
    #[must_use]
    pub fn flow(&self, number: u32) -> Flow {
        // Loads have so few pods and services, and no more flows than ports to each of them.
        let (pods, services) = (self.clients.len() as u32, self.services.len() as u32);
        let port = number / pods / services % PORTS;
        Flow {
            pod: (number % pods) as u16,
            service: (number / pods % services) as u16,
            port: FIRST_PORT + port as u16,
        }
    }

    /// The number of a flow; nothing where no flow of a load has that port.
    #[must_use]
    pub fn number(&self, flow: Flow) -> Option<u32> {
        let (pods, services) = (self.clients.len() as u32, self.services.len() as u32);
        let port = u32::from(flow.port.checked_sub(FIRST_PORT)?);
        Some(((port * services) + u32::from(flow.service)) * pods + u32::from(flow.pod))
    }

    /// The pods by their addresses.
    #[must_use]
    pub fn client_addresses(&self) -> HashMap<[u8; 4], u16> {
        self.clients.iter().map(|client| client.ip.octets()).zip(0..).collect()
    }

    /// The services by the address that is picked of their endpoint's and their own.
    pub fn service_addresses(
        &self,
        pick: impl Fn(Ipv4Addr, Ipv4Addr) -> Ipv4Addr,
    ) -> HashMap<[u8; 4], u16> {
        let address = |service: &Service| pick(service.backend.0, service.front.0).octets();
        self.services.iter().map(address).zip(0..).collect()
    }

    /// The address and port of the service that a flow asks.
    #[must_use]
    pub fn service(&self, flow: Flow) -> (Ipv4Addr, u16) {
        let service = self.services.get(usize::from(flow.service));
        service.map_or((Ipv4Addr::UNSPECIFIED, 0), |service| service.front)
    }

    /// The stream of a flow's frames of one size.
    #[must_use]
    pub fn stream(&self, flow: Flow, size: usize) -> usize {
        let pair = usize::from(flow.pod) * self.services.len() + usize::from(flow.service);
        pair * self.sizes.len() + size
    }

    /// A frame of every stream, of the flow whose client's port is the first: what the others are
    /// made of by [`set_port`].
    #[must_use]
    pub fn templates(&self, act: Act, leg: Leg) -> Vec<Vec<u8>> {
        let mut templates = Vec::with_capacity(self.streams());
        for pod in 0..self.clients.len() as u16 {
            for service in 0..self.services.len() as u16 {
                let flow = Flow { pod, service, port: FIRST_PORT };
                templates
                    .extend((0..self.sizes.len()).map(|size| self.frame(act, leg, flow, size)));
            }
        }
        templates
    }

    /// One frame. Only [`Act::Data`] and [`Act::Answer`] have the size that is asked for.
    #[must_use]
    pub fn frame(&self, act: Act, leg: Leg, flow: Flow, size: usize) -> Vec<u8> {
        let (Some(client), Some(service)) =
            (self.clients.get(usize::from(flow.pod)), self.services.get(usize::from(flow.service)))
        else {
            return Vec::new();
        };
        let (macs, vid, ends, ttl) = match (act.is_request(), leg) {
            (true, leg) => self.request(leg, client, service, flow.port),
            (false, leg) => self.answer(leg, client, service, flow.port),
        };
        let stream = self.stream(flow, size);
        let bytes = self.sizes.get(size).copied().unwrap_or_default();
        match self.proto {
            Proto::Udp => udp(macs, vid, ends, ttl, &payload(stream, bytes.saturating_sub(42))),
            Proto::Tcp if matches!(act, Act::Data | Act::Answer) => {
                tcp(macs, vid, ends, ttl, act, &payload(stream, bytes.saturating_sub(54)))
            }
            Proto::Tcp => tcp(macs, vid, ends, ttl, act, &[]),
        }
    }

    /// What a client's frame has in front of its payload.
    fn request(&self, leg: Leg, client: &Client, service: &Service, port: u16) -> Front {
        let end = (client.ip, port);
        let next_hop = [self.eth0, self.gateway];
        match leg {
            Leg::Sent(kind) => {
                ([client.mac, client.cali], tag(kind, client), [end, service.front], TTL)
            }
            Leg::Arrived(Kind::Trunk) => {
                let by_trunk = [self.trunk, self.gateway];
                (by_trunk, Some(client.vid), [end, service.backend], TTL - 1)
            }
            // One TTL less and the endpoint's address (spec SCN-29, SCN-34).
            Leg::Arrived(Kind::Node | Kind::Busy | Kind::Ovs | Kind::Ipvs) => {
                (next_hop, None, [end, service.backend], TTL - 1)
            }
            // The VPC is no router to be seen; the second node is another one.
            Leg::Arrived(Kind::Fused) => (service.last_hop, None, [end, service.backend], TTL - 2),
            Leg::Arrived(Kind::Nat) => {
                (next_hop, None, [(self.node, port), service.backend], TTL - 1)
            }
            Leg::Arrived(Kind::Forward | Kind::Rules | Kind::Rules200) => {
                (next_hop, None, [end, service.front], TTL - 1)
            }
            Leg::Arrived(Kind::L2fwd | Kind::Devmap | Kind::Testpmd) => {
                (next_hop, None, [end, service.front], TTL)
            }
        }
    }

    /// What the frame of who answers has in front of its payload.
    fn answer(&self, leg: Leg, client: &Client, service: &Service, port: u16) -> Front {
        let end = (client.ip, port);
        match leg {
            // Where the source was translated, the node is answered.
            Leg::Sent(Kind::Nat) => {
                ([self.gateway, self.eth0], None, [service.backend, (self.node, port)], TTL)
            }
            Leg::Sent(Kind::Ipvs | Kind::Ovs) => {
                ([self.gateway, self.eth0], None, [service.backend, end], TTL)
            }
            Leg::Sent(Kind::Fused) => {
                let [cali, pod] = service.last_hop;
                ([pod, cali], None, [service.backend, end], TTL)
            }
            // As the VPC delivers it: tagged, to the trunk (spec SCN-15).
            Leg::Sent(_) => {
                ([self.gateway, self.trunk], Some(client.vid), [service.backend, end], TTL)
            }
            Leg::Arrived(kind) => {
                let routers = if kind == Kind::Fused { 2 } else { 1 };
                ([client.cali, client.mac], tag(kind, client), [service.front, end], TTL - routers)
            }
        }
    }

    /// The MAC addresses that leave the node by eth0: destination, source.
    #[must_use]
    pub fn next_hop(&self) -> [Mac; 2] {
        [self.gateway, self.eth0]
    }

    /// The node's address.
    #[must_use]
    pub const fn node_ip(&self) -> Ipv4Addr {
        self.node
    }

    /// The first pod and the first service, between which other forwarders are set up.
    ///
    /// # Errors
    /// Where there are none.
    pub fn pair(&self) -> anyhow::Result<Pair> {
        let client = self.clients.first().context("the load has no pod")?;
        let service = self.services.first().context("the load has no service")?;
        Ok(Pair {
            last_hop: [client.mac, client.cali],
            vid: client.vid,
            front: service.front,
            backend: service.backend,
        })
    }
}

#[cfg(test)]
impl Pair {
    /// A pair for the tests of those that are set up between one.
    pub(super) fn of_tests() -> Self {
        Self {
            last_hop: [Mac([6; 6]), Mac([8; 6])],
            vid: 101,
            front: (Ipv4Addr::new(192, 168, 31, 1), 53),
            backend: (Ipv4Addr::new(10, 0, 32, 1), 5_353),
        }
    }
}

/// Open vSwitch has tags in front of the pod, to take them off and put them on.
fn tag(kind: Kind, client: &Client) -> Option<u16> {
    (kind == Kind::Ovs).then_some(client.vid)
}

/// What is behind the headers: the stream's number, room for the time with its complement, which
/// add up to nothing, and a text.
fn payload(stream: usize, bytes: usize) -> Vec<u8> {
    let head = (stream as u16).to_be_bytes().into_iter().chain([0, 0, 0, 0, 255, 255, 255, 255]);
    head.chain(*b"trunkline bench ").chain((0..=255).cycle()).take(bytes).collect()
}

/// Where a frame's payload begins.
#[must_use]
pub const fn payload_at(proto: Proto) -> usize {
    match proto {
        Proto::Udp => 42,
        Proto::Tcp => 54,
    }
}

/// Makes an untagged frame that of another flow of its stream: sets the client's port, and the
/// checksum as RFC 1624 has it.
pub fn set_port(frame: &mut [u8], proto: Proto, is_request: bool, port: u16) {
    let at = if is_request { SRC_PORT_AT } else { DST_PORT_AT };
    set_word(frame, proto, at, port);
}

/// The same for a frame with a VLAN tag.
pub fn set_port_tagged(frame: &mut [u8], proto: Proto, port: u16) {
    if let Some(inner) = frame.get_mut(4..) {
        set_port(inner, proto, false, port);
    }
}

fn set_word(frame: &mut [u8], proto: Proto, at: usize, new: u16) {
    let check_at = match proto {
        Proto::Udp => 40,
        Proto::Tcp => 50,
    };
    let word = |frame: &[u8], at: usize| {
        let bytes = frame.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
        u32::from(bytes.map_or(0, u16::from_be_bytes))
    };
    let sum = (!word(frame, check_at) & 0xffff) + (!word(frame, at) & 0xffff) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // A datagram's checksum of zero means none; all ones says the same as a sum.
    let check = match (!sum & 0xffff, proto) {
        (0, Proto::Udp) => 0xffff,
        (check, _) => check as u16,
    };
    for (at, value) in [(at, new), (check_at, check)] {
        if let Some(bytes) = frame.get_mut(at..at + 2) {
            bytes.copy_from_slice(&value.to_be_bytes());
        }
    }
}

/// A datagram from the first of each pair to the second.
fn udp(macs: [Mac; 2], vid: Option<u16>, ends: [End; 2], ttl: u8, payload: &[u8]) -> Vec<u8> {
    let udp = packet(macs, vid, ends, ttl).udp(ends[0].1, ends[1].1);
    let mut frame = Vec::with_capacity(udp.size(payload.len()));
    // Writing into memory fails for a payload beyond 64 KiB only.
    let _ = udp.write(&mut frame, payload);
    frame
}

/// A segment from the first of each pair to the second, as both ends have come so far at `act`.
fn tcp(
    macs: [Mac; 2],
    vid: Option<u16>,
    ends: [End; 2],
    ttl: u8,
    act: Act,
    payload: &[u8],
) -> Vec<u8> {
    let (seq, ack) = match act {
        Act::Syn => (CLIENT_SEQ, 0),
        Act::SynAck => (SERVER_SEQ, CLIENT_SEQ + 1),
        Act::Ack | Act::Data | Act::Fin => (CLIENT_SEQ + 1, SERVER_SEQ + 1),
        // Data is offered over and over: nobody confirms it.
        Act::Answer => (SERVER_SEQ + 1, CLIENT_SEQ + 1),
        Act::FinAck => (SERVER_SEQ + 1, CLIENT_SEQ + 2),
        Act::LastAck => (CLIENT_SEQ + 2, SERVER_SEQ + 2),
    };
    let mut tcp = packet(macs, vid, ends, ttl).tcp(ends[0].1, ends[1].1, seq, 64_240);
    if act != Act::Syn {
        tcp = tcp.ack(ack);
    }
    tcp = match act {
        Act::Syn | Act::SynAck => tcp.syn(),
        Act::Data | Act::Answer => tcp.psh(),
        Act::Fin | Act::FinAck => tcp.fin(),
        Act::Ack | Act::LastAck => tcp,
    };
    let mut frame = Vec::with_capacity(tcp.size(payload.len()));
    // As above.
    let _ = tcp.write(&mut frame, payload);
    frame
}

fn packet(
    macs: [Mac; 2],
    vid: Option<u16>,
    ends: [End; 2],
    ttl: u8,
) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let [src, dst] = macs.map(|mac| mac.0);
    let [src_ip, dst_ip] = ends.map(|(ip, _)| ip.octets());
    let ethernet = PacketBuilder::ethernet2(src, dst);
    match vid.and_then(|vid| VlanId::try_new(vid).ok()) {
        Some(vid) => ethernet.single_vlan(vid).ipv4(src_ip, dst_ip, ttl),
        None => ethernet.ipv4(src_ip, dst_ip, ttl),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::generator::Input;
    use crate::bench::lab::Shape;

    fn frames(proto: Proto, sizes: &str) -> Frames {
        let sizes = sizes.parse().expect("sizes");
        let load =
            Load { sizes, flows: 600, pods: 3, services: 2, proto, ..Load::smallest(Input::Skb) };
        let lab = datapath::lab::load(&Shape::of(&load).text(), "bench").expect("a lab");
        Frames::of(&lab, &load).expect("its frames")
    }

    #[test]
    fn a_template_with_another_port_is_the_frame_of_that_flow() {
        for proto in [Proto::Udp, Proto::Tcp] {
            let frames = frames(proto, "imix");
            assert_eq!(frames.streams(), 3 * 2 * 3);
            for act in [Act::Data, Act::Answer] {
                for leg in [Leg::Sent(Kind::Node), Leg::Arrived(Kind::Node)] {
                    let templates = frames.templates(act, leg);
                    for number in (0..600).step_by(7) {
                        let flow = frames.flow(number);
                        let size = number as usize % 3;
                        let mut made = templates[frames.stream(flow, size)].clone();
                        if !act.is_request() && leg == Leg::Sent(Kind::Node) {
                            set_port_tagged(&mut made, proto, flow.port);
                        } else {
                            set_port(&mut made, proto, act.is_request(), flow.port);
                        }
                        assert_eq!(made, frames.frame(act, leg, flow, size));
                    }
                }
            }
        }
    }

    #[test]
    fn flows_differ_and_sizes_are_those_asked_for() {
        let frames = frames(Proto::Tcp, "64,1518,8518");
        let mut sent: Vec<_> = (0..600)
            .map(|n| frames.frame(Act::Data, Leg::Sent(Kind::Node), frames.flow(n), 0))
            .collect();
        assert!(sent.iter().all(|frame| frame.len() + FRAME_CHECK == 64));
        assert!((0..600).all(|number| frames.number(frames.flow(number)) == Some(number)));
        sent.sort_unstable();
        sent.dedup();
        assert_eq!(sent.len(), 600);
        for (size, bytes) in [(1, 1_518), (2, 8_518)] {
            let large = frames.frame(Act::Answer, Leg::Arrived(Kind::Node), frames.flow(1), size);
            assert_eq!(large.len() + FRAME_CHECK, bytes);
        }
    }
}
