//! A lab like the article's, frames for it, and golden texts.

use std::net::Ipv4Addr;
use std::path::Path;

use datapath::element::Element;
use datapath::lab;
use datapath::link::{HostId, MemoryLink};
use datapath::node::Node;
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::wire::tcp::Flags;
use datapath::wire::{Mac, Packet, Protocol, Tuple, checksum, ethernet, ipv4, tcp};
use harness::show::{Query, Table, take};

pub(crate) const LAB: &str = include_str!("lab.yaml");

// Pods by index.
pub(crate) const CLIENT: usize = 0;
pub(crate) const SERVER: usize = 2;

pub(crate) const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 4, 27);
pub(crate) const SERVER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 5, 35);
pub(crate) const SLB_IP: Ipv4Addr = Ipv4Addr::new(47, 243, 87, 204);
pub(crate) const CLUSTER_IP_A: Ipv4Addr = Ipv4Addr::new(192, 168, 31, 83);
pub(crate) const CLUSTER_IP_C: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 10);
pub(crate) const OUTSIDE_IP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// The lab before its first packet.
pub(crate) fn link() -> MemoryLink {
    MemoryLink::new(lab::load(LAB, "lab.yaml").expect("a lab"))
}

/// A table of the lab as it is now.
pub(crate) fn shown(link: &MemoryLink, query: &Query) -> Table {
    let nodes: Vec<&Node<Heap>> =
        (0..link.lab().nodes.len()).filter_map(|index| link.node(index)).collect();
    take(query, link.lab(), &nodes, link.vpc(), link.now()).expect("a table")
}

/// Compares with `golden/NAME.txt`; writes it instead where `TRUNKLINE_BLESS` is set.
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/show/golden");
    let path = path.join(format!("{name}.txt"));
    if std::env::var_os("TRUNKLINE_BLESS").is_some() {
        std::fs::write(&path, text).expect("written");
    }
    let expected = std::fs::read_to_string(&path).expect("a golden text");
    assert!(text == expected, "{name} differs from its golden text; it is now\n{text}");
}

/// A whole IPv4 frame whose layer-4 part, checksum field at `sum_at`, is `l4`.
pub(crate) fn frame(
    macs: (Mac, Mac),
    tuple: Tuple<Ipv4Addr>,
    mut l4: Vec<u8>,
    sum_at: usize,
) -> Vec<u8> {
    let (dst, src) = macs;
    let len = u16::try_from(l4.len()).expect("a length");
    let pseudo = if tuple.proto == Protocol::ICMP {
        0
    } else {
        let (from, to) = (tuple.src.octets(), tuple.dst.octets());
        checksum::pseudo_header(&from, &to, tuple.proto.0, len)
    };
    let sum = !checksum::fold(checksum::sum(&l4, pseudo));
    l4[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = vec![0; ethernet::HEADER_LEN + ipv4::HEADER_LEN];
    ethernet::Header { dst, src, ethertype: ethernet::IPV4 }.emit(&mut bytes);
    let header = ipv4::Header {
        src: tuple.src,
        dst: tuple.dst,
        protocol: tuple.proto,
        ttl: 64,
        tos: 0,
        id: 1,
        total_len: 20 + len,
        header_len: 20,
        dont_fragment: true,
        fragment: false,
    };
    header.emit(&mut bytes[ethernet::HEADER_LEN..]);
    bytes.extend(l4);
    bytes
}

/// A TCP segment without data.
pub(crate) fn segment(
    macs: (Mac, Mac),
    (src, src_port): (Ipv4Addr, u16),
    (dst, dst_port): (Ipv4Addr, u16),
    flags: Flags,
) -> Vec<u8> {
    let header =
        tcp::Header { src_port, dst_port, seq: 1, ack: 1, header_len: 20, flags, window: 512 };
    let mut l4 = vec![0; tcp::HEADER_LEN];
    header.emit(&mut l4);
    let tuple = Tuple { src, dst, src_port, dst_port, proto: Protocol::TCP };
    frame(macs, tuple, l4, 16)
}

/// A UDP datagram without data.
pub(crate) fn datagram(
    macs: (Mac, Mac),
    (src, src_port): (Ipv4Addr, u16),
    (dst, dst_port): (Ipv4Addr, u16),
) -> Vec<u8> {
    let ports = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
    let l4 = [ports.as_slice(), &[0, 8, 0, 0]].concat();
    let tuple = Tuple { src, dst, src_port, dst_port, proto: Protocol::UDP };
    frame(macs, tuple, l4, 6)
}

/// An echo request.
pub(crate) fn echo(macs: (Mac, Mac), src: Ipv4Addr, dst: Ipv4Addr, id: u16) -> Vec<u8> {
    let [i0, i1] = id.to_be_bytes();
    let tuple = Tuple { src, dst, src_port: id, dst_port: 0x0800, proto: Protocol::ICMP };
    frame(macs, tuple, vec![8, 0, 0, 0, i0, i1, 0, 1], 2)
}

/// The segment that answers one.
pub(crate) fn answer(to: &[u8], flags: Flags) -> Vec<u8> {
    let header = ethernet::Header::parse(to).expect("a header");
    let tuple = Packet::parse(&to[ethernet::HEADER_LEN..]).expect("a packet").tuple;
    let macs = (header.src, header.dst);
    segment(macs, (tuple.dst, tuple.dst_port), (tuple.src, tuple.src_port), flags)
}

/// MACs of a frame from a pod: to its cali veth, from itself.
pub(crate) fn macs_of_pod(link: &MemoryLink, pod: usize) -> (Mac, Mac) {
    let pod = &link.lab().pods[pod];
    (pod.cali_mac, pod.mac)
}

/// Sends and waits; the one frame that came out, and where.
pub(crate) fn sent(link: &mut MemoryLink, from: HostId, frame: &[u8]) -> (HostId, Vec<u8>) {
    assert!(link.send(from, frame));
    link.settle();
    let delivery = link.take_delivery().expect("a delivery");
    assert!(link.take_delivery().is_none(), "more than one delivery");
    (delivery.host, delivery.frame.bytes().to_vec())
}

/// Sends what goes nowhere.
pub(crate) fn lost(link: &mut MemoryLink, from: HostId, frame: &[u8]) {
    assert!(link.send(from, frame));
    link.settle();
    assert!(link.take_delivery().is_none(), "a delivery");
}

/// A handshake, a half one, a datagram, a ping and some drops; 7.5 s later the lab is shown.
pub(crate) fn after_traffic() -> MemoryLink {
    let mut link = link();
    let pod = HostId::Pod;
    let macs = macs_of_pod(&link, CLIENT);
    let syn = segment(macs, (CLIENT_IP, 40_001), (SLB_IP, 80), Flags::SYN);
    let (server, request) = sent(&mut link, pod(CLIENT), &syn);
    assert_eq!(server, pod(SERVER));
    let (client, reply) = sent(&mut link, server, &answer(&request, Flags::SYN | Flags::ACK));
    assert_eq!(client, pod(CLIENT));
    sent(&mut link, client, &answer(&reply, Flags::ACK));
    let half = segment(macs, (CLIENT_IP, 40_002), (CLUSTER_IP_A, 80), Flags::SYN);
    sent(&mut link, pod(CLIENT), &half);
    sent(&mut link, pod(CLIENT), &datagram(macs, (CLIENT_IP, 40_003), (CLUSTER_IP_C, 53)));
    lost(&mut link, pod(CLIENT), &echo(macs, CLIENT_IP, SERVER_IP, 7));
    lost(&mut link, pod(CLIENT), &half[..20]);
    lost(
        &mut link,
        pod(CLIENT),
        &segment((macs.1, macs.1), (CLIENT_IP, 1), (SLB_IP, 80), Flags::SYN),
    );
    let outside = (link.lab().vpc.gateway_mac, link.lab().outside[0].mac);
    let syn = segment(outside, (OUTSIDE_IP, 50_000), (SLB_IP, 80), Flags::SYN);
    lost(&mut link, HostId::Outside(0), &syn);
    link.advance(Time::from_nanos(7_500_000_000));
    for id in datapath::link::ElementId::all(link.lab()) {
        let element: &dyn Element<Heap> = link.element(id).expect("an element");
        assert!(element.ledger().balances(element.held()));
    }
    link
}
