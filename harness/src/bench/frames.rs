//! The datagrams that are sent, and what they have to be after the way. Built from the lab's
//! addresses by another library than the datapath's own, so that the two check each other.

use std::net::Ipv4Addr;

use anyhow::Context;
use datapath::lab::Lab;
use datapath::node::{ETH0, ETH1, Interface};
use datapath::wire::Mac;
use etherparse::{PacketBuilder, VlanId};

/// Source port of the first flow.
pub const FIRST_PORT: u16 = 10_000;
/// TTL of what is sent.
const TTL: u8 = 64;
/// Bytes behind the headers; with them a frame has 60 bytes, and 64 with its checksum on a wire.
const PAYLOAD: [u8; 18] = *b"trunkline bench 64";

/// One side of a datagram.
type End = (Ipv4Addr, u16);

/// The addresses of all flows, which differ in the client's port only.
#[derive(Clone, Debug)]
pub struct Frames {
    client: Ipv4Addr,
    service: End,
    backend: End,
    pod: Mac,
    cali: Mac,
    eth0: Mac,
    trunk: Mac,
    gateway: Mac,
    vid: u16,
    /// MAC addresses of the endpoint and of its cali veth, where requests go all the way to it.
    server: Option<[Mac; 2]>,
    /// Number of flows.
    pub flows: u16,
}

impl Frames {
    /// The flows from the lab's first pod to its first service: as they leave its node, or as they
    /// come to the endpoint.
    ///
    /// # Errors
    /// Where the lab has no such pod and service.
    pub fn of(lab: &Lab, flows: u16, to_the_end: bool) -> anyhow::Result<Self> {
        let pod = lab.pods.first().context("the lab has no pod")?;
        let service = lab.services.first().context("the lab has no service")?;
        let port = service.ports.first().context("the service has no port")?;
        let endpoint = service.endpoints.first().and_then(|e| lab.pods.get(e.pod));
        let server = endpoint.context("the service has no endpoint")?;
        let interfaces = Interface::of_node(lab, pod.node).context("the lab has no node")?;
        let mac = |port: datapath::journey::PortId| {
            let interface = interfaces.get(usize::from(port.0));
            interface.map(|interface| interface.mac).context("the node lacks an interface")
        };
        Ok(Self {
            client: pod.ip,
            service: (service.cluster_ip.context("the service has no ClusterIP")?, port.port),
            backend: (server.ip, port.target_port),
            pod: pod.mac,
            cali: pod.cali_mac,
            eth0: mac(ETH0)?,
            trunk: mac(ETH1)?,
            gateway: lab.vpc.gateway_mac,
            vid: pod.vid.get(),
            server: to_the_end.then_some([server.mac, server.cali_mac]),
            flows,
        })
    }

    fn client(&self, flow: u16) -> End {
        (self.client, FIRST_PORT + flow)
    }

    /// What the pod sends.
    #[must_use]
    pub fn request(&self, flow: u16) -> Vec<u8> {
        datagram([self.pod, self.cali], None, [self.client(flow), self.service], TTL)
    }

    /// What is to become of it: the endpoint's address, one TTL less for each node (spec SCN-29,
    /// SCN-34).
    #[must_use]
    pub fn forwarded(&self, flow: u16) -> Vec<u8> {
        datagram(self.leaving(), None, [self.client(flow), self.backend], TTL - self.nodes())
    }

    /// What is to become of it in a forwarder that changes the MAC addresses only.
    #[must_use]
    pub fn passed_on(&self, flow: u16) -> Vec<u8> {
        datagram(self.leaving(), None, [self.client(flow), self.service], TTL)
    }

    /// The endpoint's answer: as it sends it, or as the VPC delivers it: tagged, to the trunk (spec
    /// SCN-15).
    #[must_use]
    pub fn answer(&self, flow: u16) -> Vec<u8> {
        let ends = [self.backend, self.client(flow)];
        match self.server {
            Some(macs) => datagram(macs, None, ends, TTL),
            None => datagram([self.gateway, self.trunk], Some(self.vid), ends, TTL),
        }
    }

    /// What the pod gets of it.
    #[must_use]
    pub fn answered(&self, flow: u16) -> Vec<u8> {
        let ends = [self.service, self.client(flow)];
        datagram([self.cali, self.pod], None, ends, TTL - self.nodes())
    }

    /// The MAC addresses with which requests leave: destination, source.
    #[must_use]
    pub fn next_hop(&self) -> [Mac; 2] {
        let [src, dst] = self.leaving();
        [dst, src]
    }

    /// The MAC addresses with which requests leave: source, destination.
    fn leaving(&self) -> [Mac; 2] {
        self.server.map_or([self.eth0, self.gateway], |[server, cali]| [cali, server])
    }

    /// Nodes on the way, each of which takes one from the TTL.
    fn nodes(&self) -> u8 {
        if self.server.is_some() { 2 } else { 1 }
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
