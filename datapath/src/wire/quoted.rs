//! The packet that an ICMP error quotes (RFC 792), and its rewrite.

use std::net::Ipv4Addr;

use super::checksum::{self, Delta};
use super::packet::{put, set_word, word};
use super::{Address, Packet, Protocol, Translation, Transport, Tuple, icmpv4, ipv4};

/// Of the quoted transport header at least this much must be there (RFC 792).
const QUOTED_TRANSPORT: usize = 8;
/// A TCP checksum is known to be one only where the whole header is quoted.
const TCP_HEADER: usize = super::tcp::HEADER_LEN;

/// A quoted packet: what its headers say, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<A: Address> {
    /// Its addresses, protocol and ports as they are now.
    pub tuple: Tuple<A>,
    /// Type of the error that quotes it.
    pub kind: u8,
    /// The error's IP header, in bytes.
    outer_len: usize,
    /// The quoted IP header, in bytes.
    header_len: usize,
}

/// What a rewrite does to the checksums within the quoted packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotedSums {
    /// Both follow, as far as they are quoted (conntrack's NAT).
    Update,
    /// The header's is made anew, the transport's stays (ipvs's NAT).
    HeaderOnly,
}

impl Packet<Ipv4Addr> {
    /// The packet that this error, whose bytes `ip` begins with, quotes; `None` where this is no
    /// error or quotes too little. Of the quote only the IP header and eight bytes need be there,
    /// and its checksum is not looked at, since a translator may have left it wrong.
    #[must_use]
    pub fn quoted(&self, ip: &[u8]) -> Option<Quoted<Ipv4Addr>> {
        let Transport::Icmp { kind, .. } = self.transport else { return None };
        if !icmpv4::is_error(kind) {
            return None;
        }
        let outer_len = usize::from(self.header_len);
        let quote = ip.get(..usize::from(self.total_len))?.get(outer_len + icmpv4::HEADER_LEN..)?;
        let [vihl, _, _, _, _, _, f0, f1, _, proto, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
            *quote.first_chunk::<{ ipv4::HEADER_LEN }>()?;
        let header_len = usize::from(vihl & 0x0f) * 4;
        // Behind a fragment's header, but for the first, are no ports.
        let later_fragment = u16::from_be_bytes([f0, f1]) & 0x1fff != 0;
        if vihl >> 4 != 4 || header_len < ipv4::HEADER_LEN || later_fragment {
            return None;
        }
        let [a, b, c, d, e, f, ..] = *quote.get(header_len..)?.first_chunk::<QUOTED_TRANSPORT>()?;
        let proto = Protocol(proto);
        let (src_port, dst_port) = match proto {
            Protocol::TCP | Protocol::UDP => {
                (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            }
            Protocol::ICMP => (u16::from_be_bytes([e, f]), u16::from_be_bytes([a, b])),
            _ => (0, 0),
        };
        let (src, dst) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3));
        let tuple = Tuple { src, dst, src_port, dst_port, proto };
        Some(Quoted { tuple, kind, outer_len, header_len })
    }
}

impl<A: Address> Quoted<A> {
    /// Gives the packet quoted in the error `ip` the addresses and ports of `to`; the error's own
    /// checksum follows, wrong if it was. The protocol of `to` is the packet's own. Of a quoted
    /// ICMP query only the addresses and the identifier change.
    pub fn rewrite(&mut self, ip: &mut [u8], to: Tuple<A>, sums: QuotedSums) {
        let from = self.tuple;
        if from == to {
            return;
        }
        let Some(message) = ip.get_mut(self.outer_len..) else { return };
        let Some((icmp, quote)) = message.split_at_mut_checked(icmpv4::HEADER_LEN) else { return };
        put(quote, A::SRC_AT, to.src.octets().as_ref());
        put(quote, A::DST_AT, to.dst.octets().as_ref());
        let addresses = Translation::new(&from, &to).deltas.header;
        let header = self.rewrite_header_sum(quote, addresses, sums);
        let transport = self.rewrite_transport(quote, addresses, &to, sums);
        if let Some(sum) = word(icmp, icmpv4::CHECKSUM_AT) {
            let changed = addresses.join(header).join(transport);
            set_word(icmp, icmpv4::CHECKSUM_AT, changed.apply(sum));
        }
        self.tuple = to;
    }

    /// Corrects the quoted header's checksum and tells what that changed.
    fn rewrite_header_sum(&self, quote: &mut [u8], addresses: Delta, sums: QuotedSums) -> Delta {
        let Some((at, old)) = A::CHECKSUM_AT.and_then(|at| Some((at, word(quote, at)?))) else {
            return Delta::default();
        };
        let new = match sums {
            QuotedSums::Update => addresses.apply(old),
            QuotedSums::HeaderOnly => {
                set_word(quote, at, 0);
                checksum::of(quote.get(..self.header_len).unwrap_or_default())
            }
        };
        set_word(quote, at, new);
        Delta::default().word(old, new)
    }

    /// Rewrites the quoted ports or identifier and tells what that changed, the transport's
    /// checksum included.
    fn rewrite_transport(
        &self,
        quote: &mut [u8],
        addresses: Delta,
        to: &Tuple<A>,
        sums: QuotedSums,
    ) -> Delta {
        let from = &self.tuple;
        let Some(transport) = quote.get_mut(self.header_len..) else { return Delta::default() };
        let exchange = |transport: &mut [u8], at, old: u16, new: u16| {
            put(transport, at, &new.to_be_bytes());
            Delta::default().word(old, new)
        };
        let (ports, sum_at, covered) = match from.proto {
            Protocol::TCP | Protocol::UDP => {
                let src = exchange(transport, 0, from.src_port, to.src_port);
                let ports = exchange(transport, 2, from.dst_port, to.dst_port).join(src);
                let at = if from.proto == Protocol::TCP { 16 } else { 6 };
                (ports, at, ports.join(addresses))
            }
            Protocol::ICMP => {
                let id = exchange(transport, 4, from.src_port, to.src_port);
                (id, 2, id)
            }
            _ => return Delta::default(),
        };
        let quoted_whole = from.proto != Protocol::TCP || transport.len() >= TCP_HEADER;
        let old = word(transport, sum_at).filter(|_| quoted_whole && sums == QuotedSums::Update);
        let Some(old) = old.filter(|old| *old != 0 || from.proto != Protocol::UDP) else {
            return ports;
        };
        // A computed zero is written as all ones: zero means that none was made (RFC 768).
        let new = match covered.apply(old) {
            0 if from.proto == Protocol::UDP => 0xffff,
            new => new,
        };
        set_word(transport, sum_at, new);
        ports.join(Delta::default().word(old, new))
    }
}
