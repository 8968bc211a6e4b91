//! A rewrite of addresses and ports, worked out apart from any packet.

use super::checksum::Delta;
use super::{Address, Protocol, Tuple};

/// From one tuple to another of the same protocol, with what that does to checksums (RFC 1624).
///
/// Working it out costs more than applying it, so what happens to every packet of a flow is worked
/// out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation<A: Address> {
    /// The tuple that a packet has afterwards.
    pub to: Tuple<A>,
    /// What it does to checksums.
    pub deltas: Deltas,
}

/// What a rewrite does to a packet's checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deltas {
    /// The change of the IP header's checksum.
    pub(super) header: Delta,
    /// The change of the transport's checksum.
    pub(super) transport: Delta,
}

impl Deltas {
    /// And that the packet has one hop less to live.
    #[must_use]
    pub const fn and_hop(self) -> Self {
        Self { header: self.header.join(Delta::TTL), transport: self.transport }
    }
}

impl<A: Address> Translation<A> {
    /// The rewrite that makes `to` out of `from`.
    #[must_use]
    #[inline]
    pub fn new(from: &Tuple<A>, to: &Tuple<A>) -> Self {
        let header = Delta::default()
            .bytes(from.src.octets().as_ref(), to.src.octets().as_ref())
            .bytes(from.dst.octets().as_ref(), to.dst.octets().as_ref());
        let transport = match from.proto {
            // Of an ICMP query only the identifier can change, and there is no pseudo-header.
            Protocol::ICMP => Delta::default().word(from.src_port, to.src_port),
            _ => header.word(from.src_port, to.src_port).word(from.dst_port, to.dst_port),
        };
        Self { to: *to, deltas: Deltas { header, transport } }
    }
}
