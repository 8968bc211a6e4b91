//! The five values that name one direction of a flow.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::{Address, Protocol, icmpv4};

/// Addresses, protocol and ports of a packet.
///
/// An ICMP query has its identifier as source port and `type << 8 | code` as destination port,
/// as conntrack has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
// So that a copy is one move: pieces of odd sizes, written and read again at once, stall.
#[repr(align(4))]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Protocol.
    pub proto: Protocol,
}

/// In as few and wide pieces as there are: tables hash tuples all the time.
impl<A: Address> Hash for Tuple<A> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (src, dst) = (u64::from(self.src_port), u64::from(self.dst_port));
        A::hash_both(self.src, self.dst, state);
        state.write_u64(src << 32 | dst << 16 | u64::from(self.proto.0));
    }
}

impl<A: Address> Tuple<A> {
    /// The tuple of the answer, or `None` for an ICMP message that has no answer.
    #[must_use]
    #[inline]
    pub fn inverse(&self) -> Option<Self> {
        let (src_port, dst_port) = if self.proto == Protocol::ICMP {
            let [kind, code] = self.dst_port.to_be_bytes();
            let query = icmpv4::Header { kind, code, id: self.src_port };
            (self.src_port, u16::from_be_bytes([query.inverse_kind()?, code]))
        } else {
            (self.dst_port, self.src_port)
        };
        Some(Self { src: self.dst, dst: self.src, src_port, dst_port, proto: self.proto })
    }
}

impl<A: Copy> Tuple<A> {
    /// The tuple of the answer, for protocols whose ports are ports.
    #[must_use]
    #[inline]
    pub const fn turned(&self) -> Self {
        let Self { src: dst, dst: src, src_port: dst_port, dst_port: src_port, proto } = *self;
        Self { src, dst, src_port, dst_port, proto }
    }
}

impl<A: Address> fmt::Display for Tuple<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.proto == Protocol::ICMP {
            let [kind, code] = self.dst_port.to_be_bytes();
            let (src, dst, id) = (self.src, self.dst, self.src_port);
            return write!(f, "icmp {src} > {dst} type {kind} code {code} id {id}");
        }
        let Self { src, dst, src_port, dst_port, proto } = self;
        write!(f, "{proto} {src}:{src_port} > {dst}:{dst_port}")
    }
}

impl<A: Address> fmt::Debug for Tuple<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
