//! TCP headers (RFC 9293), as far as a middlebox reads them.

use bitflags::bitflags;

/// Length of a header without options, in bytes.
pub const HEADER_LEN: usize = 20;

bitflags! {
    /// The control bits of a segment.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    pub struct Flags: u8 {
        /// No more data from the sender.
        const FIN = 0x01;
        /// Synchronise sequence numbers.
        const SYN = 0x02;
        /// Reset the connection.
        const RST = 0x04;
        /// Push function.
        const PSH = 0x08;
        /// The acknowledgment field is significant.
        const ACK = 0x10;
        /// The urgent pointer is significant.
        const URG = 0x20;
    }
}

/// A header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Header with options, in bytes: 20 to 60.
    pub header_len: u8,
    /// Control bits.
    pub flags: Flags,
    /// Window as written, unscaled.
    pub window: u16,
}

impl Header {
    /// The header at the start of `segment`, or `None` where the segment is cut short.
    #[must_use]
    #[inline(always)]
    pub fn parse(segment: &[u8]) -> Option<Self> {
        let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, off, flags, w0, w1, ..] =
            *segment.first_chunk::<HEADER_LEN>()?;
        let header_len = (off >> 4) * 4;
        let whole = usize::from(header_len);
        (whole >= HEADER_LEN && whole <= segment.len()).then(|| Self {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            seq: u32::from_be_bytes([q0, q1, q2, q3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            header_len,
            flags: Flags::from_bits_truncate(flags),
            window: u16::from_be_bytes([w0, w1]),
        })
    }

    /// Writes a header without options at the start of `segment`, its checksum zero; nothing
    /// where the segment is shorter than 20 bytes.
    pub fn emit(&self, segment: &mut [u8]) {
        let Some(h) = segment.first_chunk_mut::<HEADER_LEN>() else { return };
        let [s0, s1] = self.src_port.to_be_bytes();
        let [d0, d1] = self.dst_port.to_be_bytes();
        let [q0, q1, q2, q3] = self.seq.to_be_bytes();
        let [a0, a1, a2, a3] = self.ack.to_be_bytes();
        let [w0, w1] = self.window.to_be_bytes();
        let flags = self.flags.bits();
        *h = [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, 0x50, flags, w0, w1, 0, 0, 0, 0];
    }
}

/// The longest window scale that counts (RFC 7323).
pub const MAX_WINDOW_SCALE: u8 = 14;

/// One option of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// How far the sender's windows are to be shifted.
    WindowScale(u8),
    /// The sender understands selective acknowledgments.
    SackPermitted,
    /// Blocks that came out of order, eight bytes each: left edge, right edge.
    Sack(&'a [u8]),
    /// Any other, or one of these with a length it cannot have.
    Other,
}

/// The options of a header, in their order, up to the first that is not sound.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// No options.
    pub const NONE: Self = Self(&[]);

    /// The options in what follows a header's fixed part.
    #[must_use]
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether the header has no room for options.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        const END: u8 = 0;
        const NO_OPERATION: u8 = 1;
        loop {
            let (kind, rest) = self.0.split_first()?;
            match *kind {
                END => return None,
                NO_OPERATION => self.0 = rest,
                kind => {
                    let len = usize::from(*rest.first()?);
                    let (option, rest) = self.0.split_at_checked(len)?;
                    let value = option.get(2..)?;
                    self.0 = rest;
                    return Some(TcpOption::of(kind, value));
                }
            }
        }
    }
}

impl<'a> TcpOption<'a> {
    const fn of(kind: u8, value: &'a [u8]) -> Self {
        match (kind, value) {
            (3, [scale]) => Self::WindowScale(*scale),
            (4, []) => Self::SackPermitted,
            (5, [_, ..]) if value.len().is_multiple_of(8) => Self::Sack(value),
            _ => Self::Other,
        }
    }
}
