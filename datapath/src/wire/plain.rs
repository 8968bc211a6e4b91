//! Packets that nearly all traffic is made of, read in one go.

use std::net::Ipv4Addr;

use super::checksum::{holds, words};
use super::tcp::Flags;
use super::{Deltas, Mac, Protocol, Tuple, ethernet, ipv4, tcp, udp};

/// The first byte of an IPv4 header without options.
const VERSION_AND_LENGTH: u8 = 0x45;

/// What an ordinary packet says: IPv4 without options and not a fragment, TCP or UDP. Lengths fit and
/// the header's checksum is right: what [`Packet::parse`](super::Packet::parse) would say too.
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

    /// The packet in an untagged frame that is for `mac`, if it is a TCP segment that opens a connection
    /// or belongs to an open one, or a UDP datagram with a checksum, and that checksum is right, as
    /// [`Packet::checksum_holds`](super::Packet::checksum_holds) would say. `None` for any other.
    #[must_use]
    #[inline(always)]
    pub fn read(frame: &[u8], mac: Mac) -> Option<Self> {
        let [dst @ .., _, _, _, _, _, _, e0, e1] =
            frame.first_chunk::<{ ethernet::HEADER_LEN }>()?;
        if [*e0, *e1] != ethernet::IPV4.to_be_bytes() || *dst != mac.0 {
            return None;
        }
        let (packet, header, covered) = Self::look(frame.get(ethernet::HEADER_LEN..)?)?;
        let decisive = Flags::SYN | Flags::FIN | Flags::RST | Flags::ACK;
        let ordinary = match packet.tuple.proto {
            Protocol::UDP => covered.get(6..8)? != [0; 2],
            _ => [Flags::SYN, Flags::ACK].contains(&(packet.flags & decisive)),
        };
        if !ordinary {
            return None;
        }
        // Sliced from a packet, so the length fits.
        let [l0, l1] = (covered.len() as u16).to_be_bytes();
        let (before, addresses) = header.split_at(ipv4::HEADER_LEN - 8);
        let addresses = words(addresses);
        let pseudo = addresses + words(&[0, header[9], l0, l1]);
        (holds(words(before) + addresses) && holds(pseudo + words(covered))).then_some(packet)
    }

    /// The packet at the start of `ip`, behind which there may be padding. At the transport's checksum
    /// nobody has looked.
    #[must_use]
    #[inline(always)]
    pub fn parse(ip: &[u8]) -> Option<Self> {
        let (packet, header, _) = Self::look(ip)?;
        holds(words(header)).then_some(packet)
    }

    /// The packet at the start of `ip`, its header, and what the transport's checksum covers. At
    /// checksums nobody has looked.
    #[inline(always)]
    fn look(ip: &[u8]) -> Option<(Self, &[u8; ipv4::HEADER_LEN], &[u8])> {
        let head = ip.first_chunk::<{ ipv4::HEADER_LEN + udp::HEADER_LEN }>()?;
        if head[0] != VERSION_AND_LENGTH || head[6] & 0x3f != 0 || head[7] != 0 {
            return None;
        }
        let total_len = u16::from_be_bytes([head[2], head[3]]);
        let segment = ip.get(ipv4::HEADER_LEN..usize::from(total_len))?;
        let (flags, covered) = match head[9] {
            17 => {
                let len = usize::from(u16::from_be_bytes([head[24], head[25]]));
                let whole = len >= udp::HEADER_LEN;
                (Flags::empty(), if whole { segment.get(..len)? } else { return None })
            }
            6 => {
                let header = segment.first_chunk::<{ tcp::HEADER_LEN }>()?;
                let len = usize::from(header[12] >> 4) * 4;
                if len < tcp::HEADER_LEN || len > segment.len() {
                    return None;
                }
                (Flags::from_bits_truncate(header[13]), segment)
            }
            _ => return None,
        };
        let tuple = Tuple {
            src: Ipv4Addr::new(head[12], head[13], head[14], head[15]),
            dst: Ipv4Addr::new(head[16], head[17], head[18], head[19]),
            src_port: u16::from_be_bytes([head[20], head[21]]),
            dst_port: u16::from_be_bytes([head[22], head[23]]),
            proto: Protocol(head[9]),
        };
        let packet = Self { tuple, total_len, ttl: head[8], flags };
        Some((packet, head.first_chunk()?, covered))
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
            [head[26], head[27]] = if sum == 0 { u16::MAX } else { sum }.to_be_bytes();
        } else if let Some([.., c0, c1]) = ip.first_chunk_mut::<{ ipv4::HEADER_LEN + 18 }>() {
            [*c0, *c1] = deltas.transport.apply(u16::from_be_bytes([*c0, *c1])).to_be_bytes();
        }
    }
}
