//! Packets, from the IP header on, and the frames they travel in. They are built with etherparse,
//! so that what the datapath writes is not checked against itself.

use std::net::Ipv4Addr;

use datapath::wire::Mac;
use datapath::wire::tcp::Flags;
use etherparse::UdpHeader;
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header, TcpHeader};

pub(crate) type Addr = (Ipv4Addr, u16);

pub(crate) const SYN: Flags = Flags::SYN;
pub(crate) const SYN_ACK: Flags = Flags::SYN.union(Flags::ACK);
pub(crate) const ACK: Flags = Flags::ACK;
pub(crate) const FIN: Flags = Flags::FIN.union(Flags::ACK);
pub(crate) const RST: Flags = Flags::RST;

fn ip(src: Ipv4Addr, dst: Ipv4Addr, proto: IpNumber, len: usize) -> Ipv4Header {
    let len = u16::try_from(len).expect("a length");
    let mut header = Ipv4Header::new(len, 64, proto, src.octets(), dst.octets()).expect("a header");
    header.dont_fragment = true;
    header.identification = 0x1234;
    header.header_checksum = header.calc_header_checksum();
    header
}

/// What a segment has beside its ports.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) flags: Flags,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Segment {
    /// One without options and data that offers a window of 4,096 bytes.
    pub(crate) fn new(flags: Flags, seq: u32, ack: u32) -> Self {
        Self { flags, seq, ack, window: 4_096, options: Vec::new(), data: Vec::new() }
    }

    /// The packet that carries it.
    pub(crate) fn packet(&self, src: Addr, dst: Addr) -> Vec<u8> {
        let flags = self.flags;
        let mut header = TcpHeader::new(src.1, dst.1, self.seq, self.window);
        header.acknowledgment_number = self.ack;
        header.set_options_raw(&self.options).expect("options");
        header.syn = flags.contains(Flags::SYN);
        header.ack = flags.contains(Flags::ACK);
        header.fin = flags.contains(Flags::FIN);
        header.rst = flags.contains(Flags::RST);
        header.psh = flags.contains(Flags::PSH);
        header.urg = flags.contains(Flags::URG);
        let data = &self.data;
        let ip = ip(src.0, dst.0, IpNumber::TCP, header.header_len() + data.len());
        header.checksum = header.calc_checksum_ipv4(&ip, data).expect("a sum");
        [&ip.to_bytes()[..], &header.to_bytes(), data].concat()
    }
}

/// A segment carrying `data`, at a place of its own in the flow.
pub(crate) fn tcp_data(src: Addr, dst: Addr, flags: Flags, data: &[u8]) -> Vec<u8> {
    let ack = if flags.contains(Flags::ACK) { 7 } else { 0 };
    Segment { data: data.to_vec(), ..Segment::new(flags, 1_000, ack) }.packet(src, dst)
}

/// A segment without data.
pub(crate) fn tcp(src: Addr, dst: Addr, flags: Flags) -> Vec<u8> {
    tcp_data(src, dst, flags, &[])
}

/// A datagram.
pub(crate) fn udp(src: Addr, dst: Addr, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + data.len()).expect("a length");
    let ip = ip(src.0, dst.0, IpNumber::UDP, usize::from(len));
    let header = UdpHeader::with_ipv4_checksum(src.1, dst.1, &ip, data).expect("a header");
    [&ip.to_bytes()[..], &header.to_bytes(), data].concat()
}

fn icmp(src: Ipv4Addr, dst: Ipv4Addr, kind: Icmpv4Type, data: &[u8]) -> Vec<u8> {
    let header = Icmpv4Header::with_checksum(kind, data);
    let ip = ip(src, dst, IpNumber::ICMP, header.header_len() + data.len());
    [&ip.to_bytes()[..], &header.to_bytes(), data].concat()
}

/// An echo request.
pub(crate) fn ping(src: Ipv4Addr, dst: Ipv4Addr, id: u16) -> Vec<u8> {
    ping_with(src, dst, id, b"ping")
}

/// An echo request carrying `data`.
pub(crate) fn ping_with(src: Ipv4Addr, dst: Ipv4Addr, id: u16, data: &[u8]) -> Vec<u8> {
    icmp(src, dst, Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq: 1 }), data)
}

/// An echo reply.
pub(crate) fn pong(src: Ipv4Addr, dst: Ipv4Addr, id: u16) -> Vec<u8> {
    icmp(src, dst, Icmpv4Type::EchoReply(IcmpEchoHeader { id, seq: 1 }), b"ping")
}

/// A port-unreachable error that quotes `packet`.
pub(crate) fn unreachable(src: Ipv4Addr, dst: Ipv4Addr, packet: &[u8]) -> Vec<u8> {
    let port = etherparse::icmpv4::DestUnreachableHeader::Port;
    icmp(src, dst, Icmpv4Type::DestinationUnreachable(port), &packet[..28])
}

/// An ICMP error of this type and code that quotes all of `quoted`; `word` is what its header
/// ends with.
pub(crate) fn error(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    (type_u8, code_u8): (u8, u8),
    word: u32,
    quoted: &[u8],
) -> Vec<u8> {
    let bytes5to8 = word.to_be_bytes();
    icmp(src, dst, Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 }, quoted)
}

/// The packet with its IP header changed and the header's checksum right again.
pub(crate) fn with_ip(mut packet: Vec<u8>, change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let (mut header, _) = Ipv4Header::from_slice(&packet).expect("a header");
    change(&mut header);
    header.header_checksum = header.calc_header_checksum();
    packet[..20].copy_from_slice(&header.to_bytes());
    packet
}

/// The packet with another TTL.
pub(crate) fn with_ttl(packet: Vec<u8>, ttl: u8) -> Vec<u8> {
    with_ip(packet, |header| header.time_to_live = ttl)
}

/// An Ethernet frame.
pub(crate) fn frame(
    dst: Mac,
    src: Mac,
    tag: Option<u16>,
    ethertype: u16,
    payload: &[u8],
) -> Vec<u8> {
    let tag = tag.map_or(Vec::new(), |id| [[0x81, 0x00], id.to_be_bytes()].concat());
    [&dst.0[..], &src.0, &tag, &ethertype.to_be_bytes(), payload].concat()
}
