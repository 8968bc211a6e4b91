//! Captures: reading pcap and pcapng, writing pcapng.
//!
//! [`read`] takes a whole file's bytes and gives back its interfaces and packets, which borrow
//! from them. Of pcapng it knows several sections and interfaces, `if_tsresol`, `if_tsoffset`,
//! direction flags, and simple and obsolete packet blocks; blocks it does not know are skipped.
//!
//! Reading pcapng is our own code: the `pcap-file` crate leaves `if_tsresol` to its caller, hands
//! out the padding of simple packets as data, and refuses whole files for an `if_tzone` or for
//! options that end without an end mark, which other programs write. Reading pcap and
//! writing pcapng are built on the crate.

mod classic;
mod error;
mod pcapng;
mod scan;
mod writer;

pub use error::CaptureError;
pub use writer::Writer;

/// The link type of Ethernet, the only one that can be replayed.
pub const ETHERNET: u32 = 1;

/// Which way a packet went, seen from the interface it was captured at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// It arrived.
    Inbound,
    /// It left.
    Outbound,
}

impl Direction {
    /// The direction that the two lowest bits of `epb_flags` tell, if any.
    #[must_use]
    pub const fn from_flags(flags: u32) -> Option<Self> {
        match flags & 0b11 {
            0b01 => Some(Self::Inbound),
            0b10 => Some(Self::Outbound),
            _ => None,
        }
    }

    /// The direction as `epb_flags` has it.
    #[must_use]
    pub const fn flags(self) -> u32 {
        match self {
            Self::Inbound => 0b01,
            Self::Outbound => 0b10,
        }
    }
}

/// An interface of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name; where the file names none, its number in the file, counted from 0.
    pub name: String,
    /// Its link type, [`ETHERNET`] being 1.
    pub link_type: u32,
}

/// A packet of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its number in the file, counted from 1 as Wireshark does.
    pub number: u64,
    /// The interface it was captured at, an index into [`Capture::interfaces`].
    pub interface: usize,
    /// When, in nanoseconds since 1970; `None` for a simple packet, which does not tell.
    pub at: Option<u64>,
    /// Which way it went, where the file tells.
    pub direction: Option<Direction>,
    /// Its length on the wire.
    pub original_len: u32,
    /// What was captured of it.
    pub data: &'a [u8],
}

impl Packet<'_> {
    /// Whether only the beginning of the packet was captured.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        usize::try_from(self.original_len).is_ok_and(|len| self.data.len() < len)
    }
}

/// What a capture file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture<'a> {
    /// The interfaces of all sections, in file order. A pcap file has one, named after nothing.
    pub interfaces: Vec<Interface>,
    /// The packets, in file order.
    pub packets: Vec<Packet<'a>>,
    /// Whether the format names interfaces (pcapng) or cannot (pcap).
    pub names_interfaces: bool,
}

/// Reads a capture in either format, told apart by its first four bytes.
///
/// # Errors
/// The first place at which the file contradicts its format or ends too early.
pub fn read(bytes: &[u8]) -> Result<Capture<'_>, CaptureError> {
    match bytes.first_chunk::<4>() {
        Some(&pcapng::MAGIC) => pcapng::read(bytes),
        Some(magic) if classic::is_magic(*magic) => classic::read(bytes),
        Some(magic) => Err(CaptureError::NotACapture(*magic)),
        None => Err(CaptureError::TooShort(bytes.len())),
    }
}
