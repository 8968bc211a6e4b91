//! A TCP segment as connection tracking reads it.

use std::net::Ipv4Addr;

use super::tcp::Kind;
use crate::wire::tcp::{self, Flags, MAX_WINDOW_SCALE, Options, TcpOption};
use crate::wire::{Packet, Plain, Protocol, Transport, ipv4};

/// What of a segment decides about its flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) kind: Kind,
    pub(super) flags: Flags,
    pub(super) seq: u32,
    /// The sequence number behind its last byte; SYN and FIN count as one.
    pub(super) end: u32,
    pub(super) ack: u32,
    /// As written, unscaled.
    pub(super) window: u16,
    options: Options<'a>,
}

/// What the SYN says that begins a flow.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) struct Syn {
    /// The sequence number behind it.
    pub(super) end: u32,
    /// As written.
    pub(super) window: u16,
    /// What its options offer, if it has any.
    pub(super) offer: Option<Offer>,
}

/// What an ordinary packet says that may begin a flow.
#[derive(Clone, Copy, Debug)]
pub(in crate::node) enum First {
    /// A datagram.
    Datagram,
    /// A segment with SYN and neither ACK, FIN nor RST.
    Segment(Syn),
}

impl First {
    /// That of a packet in `ip`; `None` where the packet is neither.
    #[inline(always)]
    pub(super) fn of(packet: &Plain, ip: &[u8]) -> Option<Self> {
        if packet.tuple.proto == Protocol::UDP {
            return Some(Self::Datagram);
        }
        let segment = Segment::of_plain(packet, ip)?;
        (segment.kind == Kind::Syn).then(|| Self::Segment(Syn::of(&segment)))
    }
}

impl Syn {
    /// That of a segment which is one.
    #[inline(always)]
    pub(super) fn of(segment: &Segment<'_>) -> Self {
        Self { end: segment.end, window: segment.window, offer: segment.offer() }
    }
}

/// What a SYN says of its sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::node) struct Offer {
    pub(super) window_scale: Option<u8>,
    pub(super) sack_permitted: bool,
}

impl<'a> Segment<'a> {
    /// The segment of `packet` in `ip`; `None` where it is none.
    pub(super) fn of(packet: &Packet<Ipv4Addr>, ip: &'a [u8]) -> Option<Self> {
        let Transport::Tcp { flags, seq, ack, window, payload_len, .. } = packet.transport else {
            return None;
        };
        let counted = u32::from(flags.contains(Flags::SYN)) + u32::from(flags.contains(Flags::FIN));
        let end = seq.wrapping_add(u32::from(payload_len)).wrapping_add(counted);
        let (kind, options) = (Kind::of(flags), packet.tcp_options(ip));
        Some(Self { kind, flags, seq, end, ack, window, options })
    }

    /// The segment of an ordinary packet in `ip`.
    #[inline]
    pub(super) fn of_plain(packet: &Plain, ip: &'a [u8]) -> Option<Self> {
        let segment = ip.get(ipv4::HEADER_LEN..usize::from(packet.total_len))?;
        let tcp::Header { seq, ack, flags, window, header_len, .. } = tcp::Header::parse(segment)?;
        let payload_len = segment.len() as u32 - u32::from(header_len);
        let options = segment.get(tcp::HEADER_LEN..usize::from(header_len)).unwrap_or_default();
        let (kind, options) = (Kind::of(flags), Options::of(options));
        let counted = u32::from(flags.contains(Flags::SYN));
        let end = seq.wrapping_add(payload_len).wrapping_add(counted);
        Some(Self { kind, flags, seq, end, ack, window, options })
    }

    /// What the options offer; `None` where the header has no room for any.
    #[inline]
    pub(super) fn offer(&self) -> Option<Offer> {
        let mut offer = Offer::default();
        for option in self.options {
            match option {
                TcpOption::WindowScale(scale) => {
                    offer.window_scale = Some(scale.min(MAX_WINDOW_SCALE));
                }
                TcpOption::SackPermitted => offer.sack_permitted = true,
                TcpOption::Sack(_) | TcpOption::Other => {}
            }
        }
        (!self.options.is_empty()).then_some(offer)
    }

    /// The highest sequence number acknowledged, selectively or not.
    pub(super) fn highest_ack(&self) -> u32 {
        let blocks = self.options.into_iter().find_map(|option| match option {
            TcpOption::Sack(blocks) => Some(blocks),
            _ => None,
        });
        let edges = blocks.unwrap_or_default().as_chunks::<8>().0.iter();
        edges
            .map(|[.., r0, r1, r2, r3]| u32::from_be_bytes([*r0, *r1, *r2, *r3]))
            .fold(self.ack, |highest, edge| if after(edge, highest) { edge } else { highest })
    }
}

/// Whether sequence number `a` comes before `b`, around the circle of 2^32.
pub(super) const fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) >= 1 << 31
}

/// Whether sequence number `a` comes after `b`.
pub(super) const fn after(a: u32, b: u32) -> bool {
    before(b, a)
}
