//! IPv4 headers (RFC 791).

use std::net::Ipv4Addr;

use super::{Protocol, checksum};

/// Length of a header without options, in bytes.
pub const HEADER_LEN: usize = 20;

/// What is wrong with a header that the node must not forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Cut short, wrong version, or a length that does not fit.
    Header,
    /// The header checksum is wrong.
    Checksum,
}

/// A header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source.
    pub src: Ipv4Addr,
    /// Destination.
    pub dst: Ipv4Addr,
    /// What follows the header.
    pub protocol: Protocol,
    /// Time to live.
    pub ttl: u8,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Header and payload together, in bytes.
    pub total_len: u16,
    /// Header with options, in bytes: 20 to 60.
    pub header_len: u8,
    /// The don't-fragment flag.
    pub dont_fragment: bool,
    /// Whether this is a fragment (more follow, or its offset is not zero); where it lies,
    /// [`Fragment::of`] says.
    pub fragment: bool,
}

impl Header {
    /// The header at the start of `packet`, checked as the kernel's `ip_rcv_core` does: version,
    /// lengths against the bytes at hand, header checksum. Trailing padding is allowed.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline(always)]
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let Some(h) = packet.first_chunk::<HEADER_LEN>() else { return Err(Malformed::Header) };
        let [vihl, tos, l0, l1, i0, i1, f0, f1, ttl, proto, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
            *h;
        let header_len = (vihl & 0x0f) * 4;
        let total_len = u16::from_be_bytes([l0, l1]);
        if vihl >> 4 != 4
            || usize::from(header_len) < HEADER_LEN
            || usize::from(total_len) > packet.len()
            || total_len < u16::from(header_len)
        {
            return Err(Malformed::Header);
        }
        let options = match usize::from(header_len) {
            HEADER_LEN => 0,
            len => checksum::words(packet.get(HEADER_LEN..len).unwrap_or_default()),
        };
        if !checksum::holds(checksum::words(h) + options) {
            return Err(Malformed::Checksum);
        }
        let fragment = u16::from_be_bytes([f0, f1]);
        Ok(Self {
            src: Ipv4Addr::new(s0, s1, s2, s3),
            dst: Ipv4Addr::new(d0, d1, d2, d3),
            protocol: Protocol(proto),
            ttl,
            tos,
            id: u16::from_be_bytes([i0, i1]),
            total_len,
            header_len,
            dont_fragment: fragment & 0x4000 != 0,
            fragment: fragment & 0x3fff != 0,
        })
    }

    /// Writes a header without options at the start of `packet`, with its checksum; nothing
    /// where the packet is shorter than 20 bytes.
    pub fn emit(&self, packet: &mut [u8]) {
        let Some(h) = packet.first_chunk_mut::<HEADER_LEN>() else { return };
        let [l0, l1] = self.total_len.to_be_bytes();
        let [i0, i1] = self.id.to_be_bytes();
        let flags = if self.dont_fragment { 0x40 } else { 0 };
        let [s0, s1, s2, s3] = self.src.octets();
        let [d0, d1, d2, d3] = self.dst.octets();
        let Protocol(proto) = self.protocol;
        *h = [
            0x45, self.tos, l0, l1, i0, i1, flags, 0, self.ttl, proto, 0, 0, s0, s1, s2, s3, d0,
            d1, d2, d3,
        ];
        let sum = checksum::of(h);
        let [_, _, _, _, _, _, _, _, _, _, c0, c1, ..] = h;
        [*c0, *c1] = sum.to_be_bytes();
    }
}

/// Where a fragment lies in the payload of its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Bytes of payload before it, a multiple of 8.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
}

impl Fragment {
    /// What the header at the start of `packet` says; a whole packet lies at 0 with none to follow.
    #[must_use]
    pub fn of(packet: &[u8]) -> Self {
        let field = super::packet::word(packet, 6).unwrap_or(0);
        Self { offset: (field & 0x1fff) << 3, more: field & 0x2000 != 0 }
    }

    /// Makes the header at the start of `packet` that of this fragment, which is all of `packet`:
    /// its length, its place, DF not set, its checksum.
    pub fn mark(self, packet: &mut [u8]) {
        let len = u16::try_from(packet.len()).unwrap_or(u16::MAX);
        let more = if self.more { 0x2000 } else { 0 };
        super::packet::set_word(packet, 2, len);
        super::packet::set_word(packet, 6, more | self.offset >> 3);
        renew_checksum(packet);
    }
}

/// Computes the checksum of a header without options anew.
pub fn renew_checksum(packet: &mut [u8]) {
    super::packet::set_word(packet, 10, 0);
    let sum = checksum::of(packet.get(..HEADER_LEN).unwrap_or_default());
    super::packet::set_word(packet, 10, sum);
}

/// Takes one from the TTL and corrects the checksum; the caller has seen that it is above one.
#[inline]
pub fn decrement_ttl(packet: &mut [u8]) {
    if let Some([_, _, _, _, _, _, _, _, ttl, _, c0, c1, ..]) =
        packet.first_chunk_mut::<HEADER_LEN>()
        && *ttl > 0
    {
        *ttl -= 1;
        let sum = checksum::Delta::TTL.apply(u16::from_be_bytes([*c0, *c1]));
        [*c0, *c1] = sum.to_be_bytes();
    }
}
