//! The packet that an ICMP error quotes (RFC 792).

use std::net::Ipv4Addr;

use crate::wire::{Packet, Protocol, Transport, Tuple, icmpv4, ipv4};

/// The tuple of the packet that an ICMP error quotes; `None` where `packet`, whose bytes `ip`
/// begins with, is no error or quotes too little. Of the quote only the IP header and eight bytes
/// need be there, and its checksum is not looked at, since a translator may have left it wrong.
pub(super) fn quoted(packet: &Packet<Ipv4Addr>, ip: &[u8]) -> Option<Tuple<Ipv4Addr>> {
    // Unreachable, source quench, redirect, time exceeded, parameter problem.
    let Transport::Icmp { kind: 3 | 4 | 5 | 11 | 12, .. } = packet.transport else { return None };
    let quote = ip
        .get(..usize::from(packet.total_len))?
        .get(usize::from(packet.header_len) + icmpv4::HEADER_LEN..)?;
    let [vihl, _, _, _, _, _, _, _, _, proto, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        *quote.first_chunk::<{ ipv4::HEADER_LEN }>()?;
    let header_len = usize::from(vihl & 0x0f) * 4;
    if vihl >> 4 != 4 || header_len < ipv4::HEADER_LEN {
        return None;
    }
    let [a, b, c, d, e, f, ..] = *quote.get(header_len..)?.first_chunk::<8>()?;
    let proto = Protocol(proto);
    let (src_port, dst_port) = match proto {
        Protocol::TCP | Protocol::UDP => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        Protocol::ICMP => (u16::from_be_bytes([e, f]), u16::from_be_bytes([a, b])),
        _ => (0, 0),
    };
    Some(Tuple {
        src: Ipv4Addr::new(s0, s1, s2, s3),
        dst: Ipv4Addr::new(d0, d1, d2, d3),
        src_port,
        dst_port,
        proto,
    })
}
