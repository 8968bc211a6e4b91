//! The datagrams that are sent, and what they have to be after the way. Built from the lab's
//! addresses by another library than the datapath's own, so that the two check each other.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use anyhow::Context;
use datapath::lab::Lab;
use datapath::node::{ETH0, ETH1, Interface};
use datapath::wire::Mac;
use etherparse::{PacketBuilder, VlanId};

/// Client port of the first flow.
pub const FIRST_PORT: u16 = 10_000;
/// Most client ports of one service port.
const CLIENTS: u32 = 50_000;
/// TTL of what is sent.
const TTL: u8 = 64;
/// Bytes behind the headers; with them a frame has 60 bytes, and 64 with its checksum on a wire.
const PAYLOAD: [u8; 18] = *b"trunkline bench 64";

/// One side of a datagram.
type End = (Ipv4Addr, u16);

/// How many flows: every client port to every service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flows {
    clients: u16,
    /// Ports of the service.
    pub services: u16,
}

impl Flows {
    /// As few as are at least so many, at most a million or so.
    #[must_use]
    pub const fn at_least(count: u32) -> Self {
        let count = if count == 0 { 1 } else { count };
        let services = count.div_ceil(CLIENTS);
        // Both are far below 65,536.
        Self { clients: count.div_ceil(services) as u16, services: services as u16 }
    }

    /// Their number.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.clients as u32 * self.services as u32
    }

    /// The clients' ports.
    #[must_use]
    pub const fn clients(self) -> RangeInclusive<u16> {
        FIRST_PORT..=FIRST_PORT + (self.clients - 1)
    }

    /// The client's port of a flow, and how far its service port is from the first. All clients
    /// ask the first service port before they go on to the next.
    const fn of(self, flow: u32) -> (u16, u16) {
        let (client, service) = (flow % self.clients as u32, flow / self.clients as u32);
        (FIRST_PORT + client as u16, service as u16)
    }
}

/// The addresses of all flows, which differ in their ports only.
#[derive(Clone, Debug)]
pub struct Frames {
    client: Ipv4Addr,
    service: End,
    backend: End,
    node: Ipv4Addr,
    pod: Mac,
    cali: Mac,
    eth0: Mac,
    trunk: Mac,
    gateway: Mac,
    vid: u16,
    /// The flows.
    pub flows: Flows,
}

impl Frames {
    /// The flows from the lab's first pod to its first service.
    ///
    /// # Errors
    /// Where the lab has no such pod and service.
    pub fn of(lab: &Lab, flows: Flows) -> anyhow::Result<Self> {
        let pod = lab.pods.first().context("the lab has no pod")?;
        let service = lab.services.first().context("the lab has no service")?;
        let port = service.ports.first().context("the service has no port")?;
        let endpoint = service.endpoints.first().and_then(|e| lab.pods.get(e.pod));
        let backend = endpoint.context("the service has no endpoint")?.ip;
        let interfaces = Interface::of_node(lab, pod.node).context("the lab has no node")?;
        let interface = |port: datapath::journey::PortId| {
            interfaces.get(usize::from(port.0)).context("the node lacks an interface")
        };
        let primary = interface(ETH0)?;
        let eni = primary.eni.and_then(|eni| lab.enis.get(eni)).context("eth0 has no ENI")?;
        Ok(Self {
            client: pod.ip,
            service: (service.cluster_ip.context("the service has no ClusterIP")?, port.port),
            backend: (backend, port.target_port),
            node: eni.ip,
            pod: pod.mac,
            cali: pod.cali_mac,
            eth0: primary.mac,
            trunk: interface(ETH1)?.mac,
            gateway: lab.vpc.gateway_mac,
            vid: pod.vid.get(),
            flows,
        })
    }

    /// The client's port of a flow, behind an address.
    fn client(&self, flow: u32, ip: Ipv4Addr) -> End {
        (ip, self.flows.of(flow).0)
    }

    /// The service's port of a flow, or the endpoint's, at an address whose first port is given.
    fn server(&self, flow: u32, (ip, first): End) -> End {
        (ip, first + self.flows.of(flow).1)
    }

    /// From the client, in its own name or in the node's, to the service or the endpoint.
    fn out(&self, flow: u32, client: Ipv4Addr, server: End) -> [End; 2] {
        [self.client(flow, client), self.server(flow, server)]
    }

    /// The other way.
    fn back(&self, flow: u32, server: End, client: Ipv4Addr) -> [End; 2] {
        [self.server(flow, server), self.client(flow, client)]
    }

    /// What the pod sends.
    #[must_use]
    pub fn request(&self, flow: u32) -> Vec<u8> {
        let ends = self.out(flow, self.client, self.service);
        datagram([self.pod, self.cali], None, ends, TTL)
    }

    /// The same with the pod's tag, for a forwarder that is to take tags off.
    #[must_use]
    pub fn tagged_request(&self, flow: u32) -> Vec<u8> {
        let ends = self.out(flow, self.client, self.service);
        datagram([self.pod, self.cali], Some(self.vid), ends, TTL)
    }

    /// What is to become of it in the node: the endpoint's address, one TTL less (spec SCN-29,
    /// SCN-34).
    #[must_use]
    pub fn forwarded(&self, flow: u32) -> Vec<u8> {
        let ends = self.out(flow, self.client, self.backend);
        datagram([self.eth0, self.gateway], None, ends, TTL - 1)
    }

    /// What is to become of it where its source is translated too.
    #[must_use]
    pub fn masqueraded(&self, flow: u32) -> Vec<u8> {
        let ends = self.out(flow, self.node, self.backend);
        datagram([self.eth0, self.gateway], None, ends, TTL - 1)
    }

    /// What is to become of it in a router that translates nothing.
    #[must_use]
    pub fn routed(&self, flow: u32) -> Vec<u8> {
        let ends = self.out(flow, self.client, self.service);
        datagram([self.eth0, self.gateway], None, ends, TTL - 1)
    }

    /// What is to become of it in a forwarder that changes the MAC addresses only.
    #[must_use]
    pub fn passed_on(&self, flow: u32) -> Vec<u8> {
        let ends = self.out(flow, self.client, self.service);
        datagram([self.eth0, self.gateway], None, ends, TTL)
    }

    /// The endpoint's answer as the VPC delivers it: tagged, to the trunk (spec SCN-15).
    #[must_use]
    pub fn answer(&self, flow: u32) -> Vec<u8> {
        let ends = self.back(flow, self.backend, self.client);
        datagram([self.gateway, self.trunk], Some(self.vid), ends, TTL)
    }

    /// The endpoint's answer to the pod, where it comes back by eth0.
    #[must_use]
    pub fn plain_answer(&self, flow: u32) -> Vec<u8> {
        let ends = self.back(flow, self.backend, self.client);
        datagram([self.gateway, self.eth0], None, ends, TTL)
    }

    /// The endpoint's answer to what was sent in the node's name.
    #[must_use]
    pub fn masqueraded_answer(&self, flow: u32) -> Vec<u8> {
        let ends = self.back(flow, self.backend, self.node);
        datagram([self.gateway, self.eth0], None, ends, TTL)
    }

    /// The answer of the service itself, where nothing is translated on the way.
    #[must_use]
    pub fn routed_answer(&self, flow: u32) -> Vec<u8> {
        let ends = self.back(flow, self.service, self.client);
        datagram([self.gateway, self.eth0], None, ends, TTL)
    }

    /// What the pod gets of an answer.
    #[must_use]
    pub fn answered(&self, flow: u32) -> Vec<u8> {
        let ends = self.back(flow, self.service, self.client);
        datagram([self.cali, self.pod], None, ends, TTL - 1)
    }

    /// The same with the pod's tag.
    #[must_use]
    pub fn tagged_answered(&self, flow: u32) -> Vec<u8> {
        let ends = self.back(flow, self.service, self.client);
        datagram([self.cali, self.pod], Some(self.vid), ends, TTL - 1)
    }

    /// The MAC addresses that leave the node by eth0: destination, source.
    #[must_use]
    pub fn next_hop(&self) -> [Mac; 2] {
        [self.gateway, self.eth0]
    }

    /// The MAC addresses that reach the pod: destination, source.
    #[must_use]
    pub fn last_hop(&self) -> [Mac; 2] {
        [self.pod, self.cali]
    }

    /// The pod's address.
    #[must_use]
    pub fn pod_ip(&self) -> Ipv4Addr {
        self.client
    }

    /// The pod's VID.
    #[must_use]
    pub fn vid(&self) -> u16 {
        self.vid
    }

    /// The node's address.
    #[must_use]
    pub fn node_ip(&self) -> Ipv4Addr {
        self.node
    }

    /// The service's address and each of its ports.
    #[must_use]
    pub fn services(&self) -> (Ipv4Addr, RangeInclusive<u16>) {
        let (ip, first) = self.service;
        (ip, first..=first + (self.flows.services - 1))
    }

    /// The endpoint's address and its port for the first of the service's.
    #[must_use]
    pub fn backend(&self) -> (Ipv4Addr, u16) {
        self.backend
    }
}

/// A datagram from the first of each pair to the second.
fn datagram(macs: [Mac; 2], vid: Option<u16>, ends: [End; 2], ttl: u8) -> Vec<u8> {
    let [src, dst] = macs.map(|mac| mac.0);
    let [(src_ip, src_port), (dst_ip, dst_port)] = ends;
    let [src_ip, dst_ip] = [src_ip, dst_ip].map(|ip| ip.octets());
    let ethernet = PacketBuilder::ethernet2(src, dst);
    let ip = match vid.and_then(|vid| VlanId::try_new(vid).ok()) {
        Some(vid) => ethernet.single_vlan(vid).ipv4(src_ip, dst_ip, ttl),
        None => ethernet.ipv4(src_ip, dst_ip, ttl),
    };
    let udp = ip.udp(src_port, dst_port);
    let mut frame = Vec::with_capacity(udp.size(PAYLOAD.len()));
    // Writing into memory fails for a payload beyond 64 KiB only.
    let _ = udp.write(&mut frame, &PAYLOAD);
    frame
}

/// The requests of all flows in turn, without end, each made of the one before.
#[derive(Clone, Debug)]
pub struct Requests {
    frame: Vec<u8>,
    /// Where the UDP header begins.
    udp: usize,
    /// The sum of everything under the checksum but the ports.
    rest: u32,
    flows: Flows,
    first_service: u16,
    next: u32,
}

impl Requests {
    /// Of flows whose first request is this frame.
    ///
    /// # Errors
    /// Where it is no datagram of [`Frames`].
    pub fn new(first: Vec<u8>, flows: Flows) -> anyhow::Result<Self> {
        let udp = first.len().checked_sub(PAYLOAD.len() + 8).context("a datagram is too short")?;
        let mut requests = Self { frame: first, udp, rest: 0, flows, first_service: 0, next: 0 };
        let [client, service, check] = [0, 2, 6].map(|at| requests.word(at));
        requests.first_service = service;
        requests.rest = u32::from(!check) + u32::from(!client) + u32::from(!service);
        Ok(requests)
    }

    fn word(&self, at: usize) -> u16 {
        let bytes = self.frame.get(self.udp + at..self.udp + at + 2);
        bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_be_bytes)
    }

    fn set_word(&mut self, at: usize, value: u16) {
        if let Some(bytes) = self.frame.get_mut(self.udp + at..self.udp + at + 2) {
            bytes.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// The request whose turn it is.
    #[must_use]
    pub fn current(&self) -> &[u8] {
        &self.frame
    }

    /// Goes on to the next.
    pub fn advance(&mut self) {
        self.next = if self.next + 1 < self.flows.count() { self.next + 1 } else { 0 };
        let (client, service) = self.flows.of(self.next);
        let service = self.first_service + service;
        // RFC 1624: what was taken out is in the rest already.
        let mut sum = self.rest + u32::from(client) + u32::from(service);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        // A checksum of zero means none; all ones says the same as a sum.
        let check = if sum == 0xffff { 0xffff } else { !(sum as u16) };
        self.set_word(0, client);
        self.set_word(2, service);
        self.set_word(6, check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_client_ports_times_service_ports() {
        let shape = |count| {
            let flows = Flows::at_least(count);
            (flows.clients, flows.services, flows.count())
        };
        assert_eq!(shape(0), (1, 1, 1));
        assert_eq!(shape(1_000), (1_000, 1, 1_000));
        assert_eq!(shape(50_001), (25_001, 2, 50_002));
        assert_eq!(shape(1_000_000), (50_000, 20, 1_000_000));
        let flows = Flows::at_least(1_000_000);
        assert_eq!(flows.clients(), 10_000..=59_999);
        assert_eq!([flows.of(0), flows.of(49_999), flows.of(50_000)].map(|(_, s)| s), [0, 0, 1]);
        assert_eq!(flows.of(999_999), (59_999, 19));
    }

    #[test]
    fn every_request_is_the_one_that_would_be_built_anew() {
        let lab = include_str!("../../../scenarios/bench.yaml");
        let lab = datapath::lab::load(lab, "bench.yaml").expect("a lab");
        let frames = Frames::of(&lab, Flows::at_least(120_001)).expect("its flows");
        for build in [Frames::request, Frames::tagged_request] {
            let mut requests = Requests::new(build(&frames, 0), frames.flows).expect("a datagram");
            // Once round, and over the end.
            for flow in (0..frames.flows.count()).chain(0..3) {
                assert_eq!(requests.current(), build(&frames, flow), "flow {flow}");
                requests.advance();
            }
        }
    }
}
