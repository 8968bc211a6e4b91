//! Frames and labs that the benches share.

use datapath::element::{Element, Output, Place};
use datapath::journey::PortId;
use datapath::lab::{self, Lab};
use datapath::node::{ETH0, FIRST_CALI, Node};
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::wire::arp::{Arp, Operation};
use datapath::wire::{Mac, Protocol, ethernet, ipv4};

/// The article's scenario 8 as one node sees it, with UDP instead of TCP: a client pod, a service
/// with a load-balancer address, and an endpoint on another node.
const LAB: &str = "
vpc:
  cidr: 10.0.0.0/16
  vSwitches: {vsw-a: {cidr: 10.0.4.0/24}, vsw-b: {cidr: 10.0.5.0/24}}
  securityGroups: {sg-open: {ingress: [{peer: 0.0.0.0/0}]}}
nodes:
  - {name: n1, eth0: {ip: 10.0.4.20, securityGroups: sg-open}, trunk: {ip: 10.0.4.120}}
  - {name: n2, eth0: {ip: 10.0.4.244, securityGroups: sg-open}, trunk: {ip: 10.0.4.144}}
pods:
  - {name: demo/client, node: n1, ip: 10.0.4.27, member: {securityGroups: sg-open}}
  - {name: demo/server, node: n2, ip: 10.0.5.35, member: {securityGroups: sg-open}}
services:
  - name: demo/dns
    clusterIP: 192.168.31.83
    loadBalancer: 47.243.87.204
    ports: [{port: 53, targetPort: 5353, proto: udp}]
    endpoints: [{pod: demo/server}]
switches: {masqueradeRandomFully: false}
limits: {flows: 131072}
";

/// Where the client pod's frames come in.
pub const FROM_CLIENT: Place = Place { port: PortId(FIRST_CALI), queue: 0 };

/// The lab of scenario 8.
///
/// # Panics
/// Never: the lab is right.
#[must_use]
pub fn scenario8() -> Lab {
    lab::load(LAB, "bench").expect("the bench's lab loads")
}

/// The 60-byte datagram of flow `flow` (its number is the source port less 1024) to the
/// load-balancer address.
#[must_use]
pub fn request(lab: &Lab, flow: u16) -> Vec<u8> {
    let pod = &lab.pods[0];
    let mut frame = vec![0; 60];
    ethernet::Header { dst: pod.cali_mac, src: pod.mac, ethertype: ethernet::IPV4 }
        .emit(&mut frame);
    ipv4::Header {
        src: pod.ip,
        dst: lab.services[0].load_balancer[0],
        protocol: Protocol::UDP,
        ttl: 64,
        tos: 0,
        id: 0,
        total_len: 46,
        header_len: 20,
        dont_fragment: true,
        fragment: false,
    }
    .emit(&mut frame[ethernet::HEADER_LEN..]);
    let udp = &mut frame[ethernet::HEADER_LEN + ipv4::HEADER_LEN..];
    udp[..2].copy_from_slice(&(1024 + flow).to_be_bytes());
    udp[2..4].copy_from_slice(&53_u16.to_be_bytes());
    udp[4..6].copy_from_slice(&26_u16.to_be_bytes());
    // A checksum of all ones stands for a sum of zero; what matters is that there is one.
    udp[6..8].copy_from_slice(&[0xff, 0xff]);
    frame
}

/// The client's node with `flows` flows through it, and one datagram of each.
///
/// # Panics
/// Where the node does not forward what it should.
#[must_use]
pub fn established(flows: u16) -> (Node<Heap>, Vec<Vec<u8>>, Output<Heap>) {
    let lab = scenario8();
    let mut node = Node::new(&lab, 0).expect("the lab has a node");
    let mut out = Output::default();
    out.blanks.resize_with(64, Heap::default);
    let frames: Vec<_> = (0..flows).map(|flow| request(&lab, flow)).collect();
    for (number, frame) in frames.iter().enumerate() {
        node.process(&mut vec![Heap::new(frame)], FROM_CLIENT, Time::ZERO, &mut out);
        if number == 0 {
            let answer = gateway(&lab);
            let place = Place { port: ETH0, queue: 0 };
            node.process(&mut vec![Heap::new(&answer)], place, Time::ZERO, &mut out);
        }
    }
    // One ARP request, then every datagram.
    assert_eq!(out.departures.len(), usize::from(flows) + 1, "the node forwards every flow");
    out.departures.clear();
    (node, frames, out)
}

/// The ARP reply with which the VPC answers for its gateway.
fn gateway(lab: &Lab) -> [u8; datapath::wire::arp::FRAME_LEN] {
    let eni = &lab.enis[lab.nodes[0].primary];
    let (mac, own): (Mac, Mac) = (lab.vpc.gateway_mac, eni.mac);
    Arp {
        operation: Operation::Reply,
        sender_mac: mac,
        sender_ip: lab.vpc.vswitches[eni.vswitch].gateway(),
        target_mac: own,
        target_ip: eni.ip,
    }
    .frame(own, mac)
}

/// Copies a frame into a buffer that has been used before.
pub fn refill(buffer: &mut Heap, frame: &[u8]) {
    buffer.reset();
    assert!(buffer.set_len(frame.len()), "a datagram fits into a buffer");
    buffer.bytes_mut().copy_from_slice(frame);
}
