//! IPv4 packets as a case writes and sees them: every field of every header, right or wrong.
//!
//! A [`Packet`] is made of a frame's bytes ([`Packet::read`]) or by a case's words, is written as
//! bytes ([`Packet::bytes`]) and as words ([`Packet::fields`]). Nothing of it is left out on the
//! way, so that two packets with the same words are the same packet.

mod fields;
mod icmp;
mod options;
mod read;

use std::net::Ipv4Addr;

use datapath::wire::ipv4::HEADER_LEN;
use datapath::wire::{Protocol, checksum};

pub use fields::{Field, flags_of, from_hex};
pub use icmp::{Kind, MESSAGES};
pub use options::TcpOption;

/// Bytes of UDP's header.
const UDP_HEADER: usize = 8;
/// Bytes of TCP's header without options.
const TCP_HEADER: usize = 20;

/// The state of a checksum field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sum {
    /// As it has to be.
    #[default]
    Right,
    /// Wrong.
    Wrong,
    /// Left out, as UDP may.
    Absent,
    /// This, of a packet that is not all there, so that nobody can tell.
    Unknown(u16),
}

/// An IPv4 packet or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Don't fragment.
    pub df: bool,
    /// Bytes of the whole packet before this fragment.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// IP options, padded to a multiple of four bytes.
    pub options: Vec<u8>,
    /// The header's checksum.
    pub header_sum: Sum,
    /// The length field, where it is not that of the bytes at hand: a quoted packet is cut.
    pub total: Option<u16>,
    /// What the packet carries.
    pub body: Body,
    /// The checksum of `body`.
    pub sum: Sum,
    /// What follows the transport header.
    pub data: Vec<u8>,
}

/// A transport header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp {
        /// Source and destination port.
        ports: (u16, u16),
        /// The length field, where it is not that of the bytes at hand.
        len: Option<u16>,
    },
    /// ICMP.
    Icmp {
        /// Type and code.
        kind: Kind,
        /// The second word of the header.
        word: [u8; 4],
    },
    /// Another protocol, a later fragment, or a header that is cut short.
    Bare(u8),
}

/// A TCP header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Source and destination port.
    pub ports: (u16, u16),
    /// Control bits with ECE and CWR.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Window, unscaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options in their order; what pads them is left out.
    pub options: Vec<TcpOption>,
}

impl Packet {
    /// A packet with a TTL of 64 and nothing else that is worth saying.
    #[must_use]
    pub const fn new(src: Ipv4Addr, dst: Ipv4Addr, body: Body) -> Self {
        Self {
            src,
            dst,
            ttl: 64,
            tos: 0,
            id: 0,
            df: false,
            offset: 0,
            more: false,
            options: Vec::new(),
            header_sum: Sum::Right,
            total: None,
            body,
            sum: Sum::Right,
            data: Vec::new(),
        }
    }

    /// The number of the protocol it carries.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        match self.body {
            Body::Tcp(_) => Protocol::TCP.0,
            Body::Udp { .. } => Protocol::UDP.0,
            Body::Icmp { .. } => Protocol::ICMP.0,
            Body::Bare(protocol) => protocol,
        }
    }

    /// Source and destination port, where it has them.
    #[must_use]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match &self.body {
            Body::Tcp(tcp) => Some(tcp.ports),
            Body::Udp { ports, .. } => Some(*ports),
            Body::Icmp { .. } | Body::Bare(_) => None,
        }
    }

    /// Sequence numbers a TCP segment takes: its data, and one for SYN and FIN each.
    #[must_use]
    pub fn sequence_len(&self) -> u32 {
        let Body::Tcp(tcp) = &self.body else { return 0 };
        let data = u32::try_from(self.data.len()).unwrap_or(0);
        data + u32::from(tcp.flags & 1) + u32::from(tcp.flags >> 1 & 1)
    }

    /// The packet's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut payload = self.body_bytes();
        payload.extend_from_slice(&self.data);
        self.seal(&mut payload);
        let header_len = HEADER_LEN + self.options.len();
        let mut ip = vec![0; header_len];
        let total = self.total.unwrap_or_else(|| short(header_len + payload.len()));
        let place = u16::from(self.df) << 14 | u16::from(self.more) << 13 | self.offset >> 3;
        let vihl = 0x40 | u8::try_from(header_len / 4).unwrap_or(15);
        ip[..2].copy_from_slice(&[vihl, self.tos]);
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        ip[4..6].copy_from_slice(&self.id.to_be_bytes());
        ip[6..8].copy_from_slice(&place.to_be_bytes());
        ip[8..10].copy_from_slice(&[self.ttl, self.protocol()]);
        ip[12..16].copy_from_slice(&self.src.octets());
        ip[16..20].copy_from_slice(&self.dst.octets());
        ip[HEADER_LEN..].copy_from_slice(&self.options);
        let sum = spoiled(checksum::of(&ip), self.header_sum);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip.extend_from_slice(&payload);
        ip
    }

    /// The packet in fragments for links of this MTU, each as it goes on the wire; the packet
    /// itself where it fits.
    #[must_use]
    pub fn cut(&self, mtu: u16) -> Vec<Vec<u8>> {
        let whole = self.bytes();
        if whole.len() <= usize::from(mtu) {
            return vec![whole];
        }
        let header_len = HEADER_LEN + self.options.len();
        let room = (usize::from(mtu).saturating_sub(header_len) / 8 * 8).max(8);
        let payload = &whole[header_len..];
        let pieces = payload.chunks(room).enumerate();
        let fragment = |(number, piece): (usize, &[u8])| {
            let offset = short(number * room);
            let more = usize::from(offset) + piece.len() < payload.len();
            Self {
                offset,
                more,
                body: Body::Bare(self.protocol()),
                data: piece.to_vec(),
                ..self.clone()
            }
            .bytes()
        };
        pieces.map(fragment).collect()
    }

    /// The transport header, its checksum zero.
    fn body_bytes(&self) -> Vec<u8> {
        match &self.body {
            Body::Tcp(tcp) => {
                let options = options::bytes(&tcp.options);
                let header_len = TCP_HEADER + options.len();
                let mut bytes = Vec::with_capacity(header_len);
                bytes.extend(tcp.ports.0.to_be_bytes());
                bytes.extend(tcp.ports.1.to_be_bytes());
                bytes.extend(tcp.seq.to_be_bytes());
                bytes.extend(tcp.ack.to_be_bytes());
                bytes.extend([u8::try_from(header_len / 4).unwrap_or(15) << 4, tcp.flags]);
                bytes.extend(tcp.window.to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(tcp.urgent.to_be_bytes());
                bytes.extend(options);
                bytes
            }
            Body::Udp { ports, len } => {
                let len = len.unwrap_or_else(|| short(UDP_HEADER + self.data.len()));
                let mut bytes = Vec::with_capacity(UDP_HEADER);
                bytes.extend(ports.0.to_be_bytes());
                bytes.extend(ports.1.to_be_bytes());
                bytes.extend(len.to_be_bytes());
                bytes.extend([0, 0]);
                bytes
            }
            Body::Icmp { kind, word } => {
                let mut bytes = vec![kind.kind, kind.code, 0, 0];
                bytes.extend(word);
                bytes
            }
            Body::Bare(_) => Vec::new(),
        }
    }

    /// Writes the transport's checksum into its bytes.
    fn seal(&self, payload: &mut [u8]) {
        let Some(at) = self.sum_at() else { return };
        if self.sum == Sum::Absent {
            return;
        }
        let sum = match !self.sum_of(payload) {
            0 if matches!(self.body, Body::Udp { .. }) => 0xffff,
            sum => sum,
        };
        let sum = match self.sum {
            Sum::Unknown(sum) => sum,
            state => spoiled(sum, state),
        };
        payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// Where in the transport header its checksum is.
    const fn sum_at(&self) -> Option<usize> {
        match self.body {
            Body::Tcp(_) => Some(16),
            Body::Udp { .. } => Some(6),
            Body::Icmp { .. } => Some(2),
            Body::Bare(_) => None,
        }
    }

    /// The sum over a transport's bytes and what else it covers: all ones where it is right.
    fn sum_of(&self, payload: &[u8]) -> u16 {
        let (src, dst) = (self.src.octets(), self.dst.octets());
        let pseudo = match self.body {
            Body::Icmp { .. } => 0,
            _ => checksum::pseudo_header(&src, &dst, self.protocol(), short(payload.len())),
        };
        checksum::fold(checksum::sum(payload, pseudo))
    }
}

/// A checksum, made wrong where it is to be.
const fn spoiled(sum: u16, state: Sum) -> u16 {
    match state {
        Sum::Wrong => sum ^ 0x0101,
        _ => sum,
    }
}

/// A length as header fields hold it.
fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// The data a case sends where it only says how much: the alphabet again and again.
#[must_use]
pub fn filler(len: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(len).collect()
}
