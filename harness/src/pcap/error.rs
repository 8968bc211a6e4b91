//! What can be wrong with a capture file.

/// Why a capture cannot be read. The file's name is the caller's to add.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The file has no room for a magic number.
    #[error("{0} bytes are too few for a pcap or pcapng file")]
    TooShort(usize),
    /// The file begins like neither format.
    #[error(
        "neither pcap nor pcapng: the file begins with {:02x} {:02x} {:02x} {:02x}",
        .0[0], .0[1], .0[2], .0[3]
    )]
    NotACapture([u8; 4]),
    /// The file ends where more was announced.
    #[error("the file ends inside {what}, which begins at byte {offset}")]
    CutShort {
        /// What it ends in.
        what: String,
        /// Where that begins.
        offset: usize,
    },
    /// Something contradicts the format.
    #[error("{what} at byte {offset}: {why}")]
    Malformed {
        /// The block or packet.
        what: String,
        /// Where it begins.
        offset: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A packet names an interface that its section has not declared.
    #[error("packet {number}: interface {interface} is not declared; its section has {declared}")]
    UnknownInterface {
        /// The packet.
        number: u64,
        /// The number it names, counted from 0 in its section.
        interface: u32,
        /// How many interfaces the section has declared before it.
        declared: usize,
    },
    /// A timestamp is before 1970 or after 2554.
    #[error("packet {0}: its time is before 1970 or after 2554")]
    TimeOutOfRange(u64),
}
