//! Bytes to headers and back, one file a protocol.
//!
//! Every `parse` checks lengths before it reads; nothing here panics on any input. Setters keep
//! checksums right incrementally (RFC 1624).

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmpv4;
pub mod ipv4;
mod packet;
mod plain;
mod quoted;
pub mod tcp;
mod tcp_option;
pub mod toa;
mod translation;
mod tuple;
pub mod udp;

pub use packet::{Packet, Transport, Unparsed, ZeroChecksum};
pub use plain::Plain;
pub use quoted::{Quoted, QuotedSums};
pub use translation::{Deltas, Translation};
pub use tuple::Tuple;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the address names a group (broadcast included).
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected six hexadecimal bytes separated by colons, as 02:00:00:00:01:00")]
pub struct BadMac;

impl FromStr for Mac {
    type Err = BadMac;
    fn from_str(s: &str) -> Result<Self, BadMac> {
        let mut bytes = [0; 6];
        let mut parts = s.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or(BadMac)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| BadMac)?;
        }
        if parts.next().is_some() { Err(BadMac) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = BadMac;
    fn try_from(s: String) -> Result<Self, BadMac> {
        s.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

/// A VLAN id that can name a member ENI: 1 to 4094.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Vid(u16);

impl Vid {
    /// `id` as a VID, or `None` where it is not within 1 to 4094.
    #[must_use]
    pub const fn new(id: u16) -> Option<Self> {
        if id >= 1 && id <= 4094 { Some(Self(id)) } else { None }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// The number is not a VID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a VID is within 1 to 4094")]
pub struct BadVid;

impl TryFrom<u16> for Vid {
    type Error = BadVid;
    fn try_from(id: u16) -> Result<Self, BadVid> {
        Self::new(id).ok_or(BadVid)
    }
}

impl From<Vid> for u16 {
    fn from(vid: Vid) -> Self {
        vid.get()
    }
}

impl fmt::Display for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An IP protocol number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);

    /// The field's lower-case name, or `None` for a protocol this datapath does not translate.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::ICMP => Some("icmp"),
            Self::TCP => Some("tcp"),
            Self::UDP => Some("udp"),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "proto-{}", self.0),
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An IP address of either family; every key and every rewrite is generic over it.
pub trait Address: Copy + Eq + Ord + Hash + fmt::Debug + fmt::Display + 'static {
    /// The unspecified address, all zeros.
    const UNSPECIFIED: Self;
    /// Where the source address begins in the IP header, in bytes.
    const SRC_AT: usize;
    /// Where the destination address begins in the IP header, in bytes.
    const DST_AT: usize;
    /// Where the header's own checksum is, for the family that has one.
    const CHECKSUM_AT: Option<usize>;

    /// The address in network order.
    fn octets(&self) -> impl AsRef<[u8]>;

    /// Hashes two addresses in as few pieces as there are.
    fn hash_both<H: Hasher>(one: Self, other: Self, state: &mut H);
}

impl Address for Ipv4Addr {
    const UNSPECIFIED: Self = Self::UNSPECIFIED;
    const SRC_AT: usize = 12;
    const DST_AT: usize = 16;
    const CHECKSUM_AT: Option<usize> = Some(10);
    fn octets(&self) -> impl AsRef<[u8]> {
        Self::octets(self)
    }
    #[inline]
    fn hash_both<H: Hasher>(one: Self, other: Self, state: &mut H) {
        state.write_u64(u64::from(one.to_bits()) << 32 | u64::from(other.to_bits()));
    }
}

impl Address for Ipv6Addr {
    const UNSPECIFIED: Self = Self::UNSPECIFIED;
    const SRC_AT: usize = 8;
    const DST_AT: usize = 24;
    const CHECKSUM_AT: Option<usize> = None;
    fn octets(&self) -> impl AsRef<[u8]> {
        Self::octets(self)
    }
    fn hash_both<H: Hasher>(one: Self, other: Self, state: &mut H) {
        state.write_u128(one.to_bits());
        state.write_u128(other.to_bits());
    }
}
