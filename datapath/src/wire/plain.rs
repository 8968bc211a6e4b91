//! Frames that nearly all traffic is made of, read in one go.

use std::net::Ipv4Addr;

use super::checksum::{holds, words};
use super::tcp::Flags;
use super::{Deltas, Mac, Protocol, Tuple, ethernet, ipv4, tcp, udp};

/// Where the transport header begins.
const L4: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN;
/// EtherType, version and length of an IPv4 header without options.
const IPV4_PLAIN: [u8; 3] = [0x08, 0x00, 0x45];

/// What a frame says that carries an ordinary packet: untagged, IPv4 without options and not a
/// fragment, a TCP segment that opens a connection or belongs to an open one, or a UDP datagram with
/// a checksum. Lengths fit and both checksums are right: what [`Packet::parse`](super::Packet::parse)
/// and [`Packet::checksum_holds`](super::Packet::checksum_holds) would say too.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    /// The packet's tuple.
    pub tuple: Tuple<Ipv4Addr>,
    /// Header and payload, in bytes.
    pub total_len: u16,
    /// Time to live.
    pub ttl: u8,
    /// Control bits of a segment; none of a datagram.
    pub flags: Flags,
}

impl Plain {
    /// Whether it may be the first of its flow.
    #[must_use]
    pub fn may_open(&self) -> bool {
        self.tuple.proto == Protocol::UDP || self.flags.contains(Flags::SYN)
    }

    /// The packet in a frame that is for `mac`; `None` where it is for somebody else or not ordinary.
    #[must_use]
    #[inline(always)]
    pub fn read(frame: &[u8], mac: Mac) -> Option<Self> {
        let head = frame.first_chunk::<{ L4 + udp::HEADER_LEN }>()?;
        let [dst @ .., _, _, _, _, _, _, e0, e1, vihl] = head.first_chunk::<15>()?;
        let ordinary = [*e0, *e1, *vihl] == IPV4_PLAIN && head[20] & 0x3f == 0 && head[21] == 0;
        if !ordinary || *dst != mac.0 {
            return None;
        }
        let total_len = u16::from_be_bytes([head[16], head[17]]);
        let end = ethernet::HEADER_LEN + usize::from(total_len);
        let segment = frame.get(L4..end)?;
        let (flags, covered) = match head[23] {
            17 => {
                let len = usize::from(u16::from_be_bytes([head[38], head[39]]));
                let made = [head[40], head[41]] != [0; 2];
                let whole = len >= udp::HEADER_LEN && made;
                (Flags::empty(), if whole { segment.get(..len)? } else { return None })
            }
            6 => {
                let header = segment.first_chunk::<{ tcp::HEADER_LEN }>()?;
                let len = usize::from(header[12] >> 4) * 4;
                let flags = Flags::from_bits_truncate(header[13]);
                let decisive = Flags::SYN | Flags::FIN | Flags::RST | Flags::ACK;
                let ordinary = [Flags::SYN, Flags::ACK].contains(&(flags & decisive));
                if !ordinary || len < tcp::HEADER_LEN || len > segment.len() {
                    return None;
                }
                (flags, segment)
            }
            _ => return None,
        };
        let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, rest @ .., _, _, _, _, _, _, _, _] = head;
        let header = rest.first_chunk::<{ ipv4::HEADER_LEN }>()?;
        let [.., a0, a1, a2, a3, b0, b1, b2, b3] = *header;
        // Sliced from a packet, so the length fits.
        let [l0, l1] = (covered.len() as u16).to_be_bytes();
        let pseudo = words(&[a0, a1, a2, a3, b0, b1, b2, b3]) + words(&[0, head[23], l0, l1]);
        if !holds(words(header)) || !holds(pseudo + words(covered)) {
            return None;
        }
        Some(Self {
            tuple: Tuple {
                src: Ipv4Addr::new(head[26], head[27], head[28], head[29]),
                dst: Ipv4Addr::new(head[30], head[31], head[32], head[33]),
                src_port: u16::from_be_bytes([head[34], head[35]]),
                dst_port: u16::from_be_bytes([head[36], head[37]]),
                proto: Protocol(head[23]),
            },
            total_len,
            ttl: head[22],
            flags,
        })
    }

    /// Writes the addresses and ports of `to` into the packet in `ip`, takes one from its TTL, and does
    /// to its checksums what `deltas` say of both: all that a hop does to a packet.
    #[inline(always)]
    pub fn forward(&self, ip: &mut [u8], to: &Tuple<Ipv4Addr>, deltas: Deltas) {
        let Some(head) = ip.first_chunk_mut::<{ ipv4::HEADER_LEN + 8 }>() else { return };
        head[8] = self.ttl.wrapping_sub(1);
        let sum = deltas.header.apply(u16::from_be_bytes([head[10], head[11]]));
        [head[10], head[11]] = sum.to_be_bytes();
        let [s0, s1, s2, s3] = to.src.octets();
        let [d0, d1, d2, d3] = to.dst.octets();
        let ([p0, p1], [q0, q1]) = (to.src_port.to_be_bytes(), to.dst_port.to_be_bytes());
        let [_, _, _, _, _, _, _, _, _, _, _, _, tuple @ .., _, _, _, _] = head;
        *tuple = [s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, q0, q1];
        if self.tuple.proto == Protocol::UDP {
            let sum = deltas.transport.apply(u16::from_be_bytes([head[26], head[27]]));
            // A sum of zero would mean that none was made.
            [head[26], head[27]] = if sum == 0 { [0xff; 2] } else { sum.to_be_bytes() };
        } else if let Some([.., c0, c1]) = ip.first_chunk_mut::<{ ipv4::HEADER_LEN + 18 }>() {
            [*c0, *c1] = deltas.transport.apply(u16::from_be_bytes([*c0, *c1])).to_be_bytes();
        }
    }
}
