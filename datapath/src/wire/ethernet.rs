//! Ethernet II headers (IEEE 802.3) and 802.1Q tags.

use super::{Mac, Vid};
use crate::port::Buffer;

/// Length of an untagged header, in bytes.
pub const HEADER_LEN: usize = 14;
/// Length of a tag, in bytes.
pub const TAG_LEN: usize = 4;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of an 802.1ad service tag.
pub const QINQ: u16 = 0x88a8;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// The header of an untagged frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Destination.
    pub dst: Mac,
    /// Source.
    pub src: Mac,
    /// EtherType, or a length where it is below 1536.
    pub ethertype: u16,
}

impl Header {
    /// The header of `frame`, or `None` where the frame is shorter than 14 bytes.
    #[must_use]
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *frame.first_chunk()?;
        Some(Self {
            dst: Mac([d0, d1, d2, d3, d4, d5]),
            src: Mac([s0, s1, s2, s3, s4, s5]),
            ethertype: u16::from_be_bytes([t0, t1]),
        })
    }

    /// Writes the header at the start of `frame`; nothing where the frame is too short.
    pub fn emit(&self, frame: &mut [u8]) {
        if let Some(header) = frame.first_chunk_mut::<HEADER_LEN>() {
            let [dst @ .., _, _, _, _, _, _, _, _] = header;
            *dst = self.dst.0;
            let [_, _, _, _, _, _, src @ .., _, _] = header;
            *src = self.src.0;
            let [.., t0, t1] = header;
            [*t0, *t1] = self.ethertype.to_be_bytes();
        }
    }
}

/// Writes both MACs, leaving the EtherType as it is.
#[inline]
pub fn set_macs(frame: &mut [u8], dst: Mac, src: Mac) {
    if let Some(macs) = frame.first_chunk_mut::<12>() {
        let [d @ .., _, _, _, _, _, _] = macs;
        *d = dst.0;
        let [_, _, _, _, _, _, s @ ..] = macs;
        *s = src.0;
    }
}

/// What stands before a frame's EtherType: both MACs, and the tag where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Destination and source.
    Plain([u8; 12]),
    /// And the tag.
    Tagged([u8; 16]),
}

impl Link {
    /// To `dst` from `src`, tagged with `vid` if there is one.
    #[must_use]
    pub fn new(dst: Mac, src: Mac, vid: Option<Vid>) -> Self {
        let (Mac([d0, d1, d2, d3, d4, d5]), Mac([s0, s1, s2, s3, s4, s5])) = (dst, src);
        let macs = [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5];
        let Some(vid) = vid else { return Self::Plain(macs) };
        let ([t0, t1], [c0, c1]) = (VLAN.to_be_bytes(), vid.get().to_be_bytes());
        Self::Tagged([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1, c0, c1])
    }

    /// How much longer it is than without a tag, in bytes.
    #[must_use]
    #[inline(always)]
    pub const fn room(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tagged(_) => TAG_LEN,
        }
    }

    /// Writes it at the start of a frame, which has room for it.
    #[inline(always)]
    pub fn put(&self, frame: &mut [u8]) {
        match self {
            Self::Plain(link) => {
                if let Some(start) = frame.first_chunk_mut() {
                    *start = *link;
                }
            }
            Self::Tagged(link) => {
                if let Some(start) = frame.first_chunk_mut() {
                    *start = *link;
                }
            }
        }
    }
}

/// The tag of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The VID field, 0 to 4095.
    pub id: u16,
}

impl Tag {
    /// The VID, or `None` where the field is 0 (priority tag) or 4095 (reserved).
    #[must_use]
    pub const fn vid(self) -> Option<Vid> {
        Vid::new(self.id)
    }
}

/// A frame's header, its EtherType being that of the packet; the VID of the tag, if there is one; and
/// where the packet begins. `None` where that is cut short or the tag names no VLAN.
#[must_use]
#[inline(always)]
pub fn read(frame: &[u8]) -> Option<(Header, Option<Vid>, usize)> {
    let header = Header::parse(frame)?;
    let Some(tag) = tag(frame) else { return Some((header, None, HEADER_LEN)) };
    let [.., t0, t1] = *frame.first_chunk::<{ HEADER_LEN + TAG_LEN }>()?;
    let ethertype = u16::from_be_bytes([t0, t1]);
    Some((Header { ethertype, ..header }, Some(tag.vid()?), HEADER_LEN + TAG_LEN))
}

/// The frame's 802.1Q tag, or `None` for an untagged or too short frame.
#[must_use]
#[inline]
pub fn tag(frame: &[u8]) -> Option<Tag> {
    let [.., t0, t1, c0, c1] = *frame.first_chunk::<16>()?;
    (u16::from_be_bytes([t0, t1]) == VLAN)
        .then(|| Tag { id: u16::from_be_bytes([c0, c1]) & 0x0fff })
}

/// Removes the frame's tag by moving the MACs four bytes up.
pub fn pop<B: Buffer>(frame: &mut B) {
    let bytes = frame.bytes_mut();
    if bytes.len() >= HEADER_LEN + TAG_LEN {
        bytes.copy_within(..12, TAG_LEN);
        frame.shrink_front(TAG_LEN);
    }
}

/// Adds a tag with priority 0 by moving the MACs four bytes down. Returns false and changes
/// nothing where the buffer has no headroom left.
#[must_use]
pub fn push<B: Buffer>(frame: &mut B, vid: Vid) -> bool {
    if !frame.grow_front(TAG_LEN) {
        return false;
    }
    let bytes = frame.bytes_mut();
    if bytes.len() < HEADER_LEN + TAG_LEN {
        frame.shrink_front(TAG_LEN);
        return false;
    }
    if let Some(header) = bytes.first_chunk_mut::<16>() {
        let [_, _, _, _, macs @ ..] = *header;
        let ([t0, t1], [c0, c1]) = (VLAN.to_be_bytes(), vid.get().to_be_bytes());
        let [to @ .., _, _, _, _] = header;
        *to = macs;
        let [.., tag0, tag1, control0, control1] = header;
        [*tag0, *tag1, *control0, *control1] = [t0, t1, c0, c1];
    }
    true
}
