//! UDP headers (RFC 768).

/// Length of a header, in bytes.
pub const HEADER_LEN: usize = 8;

/// A header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Header and payload together, in bytes.
    pub len: u16,
    /// The checksum field; zero where the sender made none.
    pub checksum: u16,
}

impl Header {
    /// The header at the start of `datagram`, or `None` where it is cut short or its length does
    /// not fit.
    #[must_use]
    #[inline(always)]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let [s0, s1, d0, d1, l0, l1, c0, c1] = *datagram.first_chunk()?;
        let len = u16::from_be_bytes([l0, l1]);
        let fits = usize::from(len) >= HEADER_LEN && usize::from(len) <= datagram.len();
        fits.then(|| Self {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            len,
            checksum: u16::from_be_bytes([c0, c1]),
        })
    }
}
