//! ICMP for IPv4 (RFC 792).

/// Length of a header, in bytes.
pub const HEADER_LEN: usize = 8;
/// Where the checksum is in a header.
pub const CHECKSUM_AT: usize = 2;
/// Type of an echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Type of a destination-unreachable error.
pub const UNREACHABLE: u8 = 3;
/// Type of a source-quench error.
pub const SOURCE_QUENCH: u8 = 4;
/// Type of a redirect.
pub const REDIRECT: u8 = 5;
/// Type of an echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Type of a time-exceeded error.
pub const TIME_EXCEEDED: u8 = 11;
/// Type of a parameter-problem error.
pub const PARAMETER_PROBLEM: u8 = 12;
/// Code of destination unreachable: no such protocol.
pub const PROTOCOL_UNREACHABLE: u8 = 2;
/// Code of destination unreachable: no such port.
pub const PORT_UNREACHABLE: u8 = 3;

/// Whether a message of this type is about another packet, which it quotes.
#[must_use]
pub const fn is_error(kind: u8) -> bool {
    matches!(kind, UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM)
}

/// A header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Identifier of a query; the first half of the unused word of an error.
    pub id: u16,
}

impl Header {
    /// The header at the start of `message`, or `None` where it is cut short.
    #[must_use]
    #[inline]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let [kind, code, _, _, i0, i1, ..] = *message.first_chunk::<HEADER_LEN>()?;
        Some(Self { kind, code, id: u16::from_be_bytes([i0, i1]) })
    }

    /// The type that answers this query, or `None` where this is not a query or answer that
    /// conntrack follows (nf_conntrack_proto_icmp.c: echo, timestamp, information, mask).
    #[must_use]
    pub const fn inverse_kind(self) -> Option<u8> {
        match self.kind {
            0 => Some(8),
            8 => Some(0),
            13 => Some(14),
            14 => Some(13),
            15 => Some(16),
            16 => Some(15),
            17 => Some(18),
            18 => Some(17),
            _ => None,
        }
    }
}
