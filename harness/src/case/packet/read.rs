//! Bytes to a packet.

use datapath::wire::ipv4::HEADER_LEN;
use datapath::wire::{Protocol, checksum, tcp, udp};

use super::{Body, Kind, Packet, Sum, TCP_HEADER, Tcp, UDP_HEADER, options};

impl Packet {
    /// The packet at the start of `ip`; `None` where that is no IPv4 header. A packet may be cut
    /// short, as a quoted one is.
    #[must_use]
    pub fn read(ip: &[u8]) -> Option<Self> {
        let [vihl, tos, l0, l1, i0, i1, f0, f1, ttl, protocol, _, _, addresses @ ..] =
            *ip.first_chunk::<HEADER_LEN>()?;
        let header_len = usize::from(vihl & 0x0f) * 4;
        if vihl >> 4 != 4 || header_len < HEADER_LEN {
            return None;
        }
        let header = ip.get(..header_len)?;
        let len = u16::from_be_bytes([l0, l1]);
        let whole = usize::from(len) <= ip.len() && usize::from(len) >= header_len;
        let payload = ip.get(header_len..usize::from(len)).unwrap_or(&ip[header_len..]);
        let place = u16::from_be_bytes([f0, f1]);
        let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
        let mut packet = Self {
            ttl,
            tos,
            id: u16::from_be_bytes([i0, i1]),
            df: place & 0x4000 != 0,
            offset: (place & 0x1fff) << 3,
            more: place & 0x2000 != 0,
            options: header[HEADER_LEN..].to_vec(),
            header_sum: if checksum::of(header) == 0 { Sum::Right } else { Sum::Wrong },
            total: (!whole).then_some(len),
            ..Self::new([s0, s1, s2, s3].into(), [d0, d1, d2, d3].into(), Body::Bare(protocol))
        };
        if packet.offset == 0 {
            packet.read_body(protocol, payload);
        } else {
            payload.clone_into(&mut packet.data);
        }
        Some(packet)
    }

    fn read_body(&mut self, protocol: u8, payload: &[u8]) {
        let read = match Protocol(protocol) {
            Protocol::TCP => read_tcp(payload),
            Protocol::UDP => read_udp(payload),
            Protocol::ICMP => read_icmp(payload),
            _ => None,
        };
        let Some((body, at)) = read else {
            payload.clone_into(&mut self.data);
            return;
        };
        self.body = body;
        payload[at..].clone_into(&mut self.data);
        let Some(sum) = self.sum_at().and_then(|at| payload.get(at..)?.first_chunk()) else {
            return;
        };
        self.sum = match u16::from_be_bytes(*sum) {
            0 if matches!(self.body, Body::Udp { .. }) => Sum::Absent,
            sum if self.more || self.total.is_some() => Sum::Unknown(sum),
            _ if self.sum_of(payload) == u16::MAX => Sum::Right,
            _ => Sum::Wrong,
        };
    }
}

/// A transport header, and where what follows it begins.
type Read = Option<(Body, usize)>;

fn read_tcp(payload: &[u8]) -> Read {
    let header = tcp::Header::parse(payload)?;
    let at = usize::from(header.header_len);
    let options = options::read(&payload[TCP_HEADER..at])?;
    let tcp = Tcp {
        ports: (header.src_port, header.dst_port),
        flags: payload[13],
        seq: header.seq,
        ack: header.ack,
        window: header.window,
        urgent: u16::from_be_bytes([payload[18], payload[19]]),
        options,
    };
    Some((Body::Tcp(tcp), at))
}

fn read_udp(payload: &[u8]) -> Read {
    let [s0, s1, d0, d1, l0, l1, ..] = *payload.first_chunk::<UDP_HEADER>()?;
    let ports = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    let len = u16::from_be_bytes([l0, l1]);
    let len = (usize::from(len) != payload.len()).then_some(len);
    Some((Body::Udp { ports, len }, udp::HEADER_LEN))
}

fn read_icmp(payload: &[u8]) -> Read {
    let [kind, code, _, _, word @ ..] = *payload.first_chunk::<8>()?;
    Some((Body::Icmp { kind: Kind { kind, code }, word }, 8))
}
