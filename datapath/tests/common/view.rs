//! Frames as etherparse reads them, every checksum checked.

use std::fmt;
use std::net::Ipv4Addr;

use datapath::wire::Mac;
use etherparse::{
    EtherType, Icmpv4Type, LinkExtSlice, LinkSlice, NetSlice, SlicedPacket, TransportSlice,
};

use super::Addr;

/// What a frame with an IPv4 packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) dst_mac: Mac,
    pub(crate) src_mac: Mac,
    pub(crate) vid: Option<u16>,
    /// The port is the identifier of an ICMP query.
    pub(crate) src: Addr,
    pub(crate) dst: Addr,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    pub(crate) id: u16,
    pub(crate) dont_fragment: bool,
    /// What kind of packet it is: `tcp SA`, `udp`, `icmp 3/3`, `proto 47`.
    pub(crate) kind: String,
    /// What follows the transport header; of an ICMP error the quoted packet.
    pub(crate) data: Vec<u8>,
}

impl View {
    /// Reads a frame; panics where it is not a sound IPv4 frame with right checksums.
    pub(crate) fn of(frame: &[u8]) -> Self {
        let sliced = SlicedPacket::from_ethernet(frame).expect("a packet");
        let Some(LinkSlice::Ethernet2(ethernet)) = &sliced.link else { panic!("not Ethernet") };
        let vid = sliced.link_exts.iter().find_map(|ext| match ext {
            LinkExtSlice::Vlan(tag) => {
                assert_eq!(tag.priority_code_point().value(), 0, "priority");
                Some(tag.vlan_identifier().value())
            }
            LinkExtSlice::Macsec(_) => None,
        });
        assert!(sliced.link_exts.len() <= 1, "more than one tag");
        if vid.is_some() {
            assert_eq!(ethernet.ether_type(), EtherType::VLAN_TAGGED_FRAME);
        }
        let packet = &frame[if vid.is_some() { 18 } else { 14 }..];
        Self {
            dst_mac: Mac(ethernet.destination()),
            src_mac: Mac(ethernet.source()),
            vid,
            ..Self::of_packet(packet)
        }
    }

    /// Reads a packet; MACs and tag are none.
    pub(crate) fn of_packet(packet: &[u8]) -> Self {
        assert!(checksums_hold(packet), "wrong checksum in {packet:02x?}");
        let sliced = SlicedPacket::from_ip(packet).expect("a packet");
        let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("not IPv4") };
        let header = ip.header();
        assert_eq!(usize::from(header.total_len()), packet.len(), "bytes behind the packet");
        let (kind, ports, data) = match &sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                let flags = [
                    (tcp.syn(), "S"),
                    (tcp.fin(), "F"),
                    (tcp.rst(), "R"),
                    (tcp.psh(), "P"),
                    (tcp.ack(), "A"),
                ];
                let flags: String = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
                let ports = (tcp.source_port(), tcp.destination_port());
                (format!("tcp {flags}"), ports, tcp.payload())
            }
            Some(TransportSlice::Udp(udp)) => {
                ("udp".to_owned(), (udp.source_port(), udp.destination_port()), udp.payload())
            }
            Some(TransportSlice::Icmpv4(icmp)) => {
                let id = match icmp.icmp_type() {
                    Icmpv4Type::EchoRequest(echo) | Icmpv4Type::EchoReply(echo) => echo.id,
                    _ => 0,
                };
                let kind = format!("icmp {}/{}", icmp.type_u8(), icmp.code_u8());
                (kind, (id, 0), icmp.payload())
            }
            _ => (format!("proto {}", header.protocol().0), (0, 0), ip.payload().payload),
        };
        Self {
            dst_mac: Mac::default(),
            src_mac: Mac::default(),
            vid: None,
            src: (header.source_addr(), ports.0),
            dst: (header.destination_addr(), ports.1),
            ttl: header.ttl(),
            tos: header.dcp().value() << 2 | header.ecn().value(),
            id: header.identification(),
            dont_fragment: header.dont_fragment(),
            kind,
            data: data.to_vec(),
        }
    }

    /// The source's address.
    pub(crate) fn from(&self) -> Ipv4Addr {
        self.src.0
    }

    /// Addresses and ports.
    pub(crate) fn tuple(&self) -> (Addr, Addr) {
        (self.src, self.dst)
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, src, dst, ttl, .. } = self;
        write!(f, "{kind} {}:{} > {}:{} ttl {ttl}", src.0, src.1, dst.0, dst.1)
    }
}

/// Whether the IP header's checksum and the transport's are right, as etherparse computes them; a
/// UDP datagram without one counts as right.
pub(crate) fn checksums_hold(packet: &[u8]) -> bool {
    let Ok(sliced) = SlicedPacket::from_ip(packet) else { return false };
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { return false };
    let header = ip.header().to_header();
    header.header_checksum == header.calc_header_checksum() && transport_holds(&sliced, &header)
}

fn transport_holds(sliced: &SlicedPacket<'_>, header: &etherparse::Ipv4Header) -> bool {
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let sum = tcp.to_header().calc_checksum_ipv4(header, tcp.payload());
            Ok(tcp.checksum()) == sum
        }
        Some(TransportSlice::Udp(udp)) => {
            let sum = udp.to_header().calc_checksum_ipv4(header, udp.payload());
            udp.checksum() == 0 || Ok(udp.checksum()) == sum
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            icmp.checksum() == icmp.icmp_type().calc_checksum(icmp.payload())
        }
        _ => true,
    }
}
