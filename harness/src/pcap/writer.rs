//! Writing pcapng: one section, little-endian, nanoseconds, nothing that two equal runs would
//! write differently.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, Endianness, PcapError};

use super::Direction;

/// Longest frame announced, as tcpdump announces it.
const SNAP_LEN: u32 = 262_144;
/// `if_tsresol` of nanoseconds.
const NANOSECONDS: u8 = 9;

/// A pcapng file being written.
pub struct Writer<W: Write> {
    inner: PcapNgWriter<W>,
}

impl<W: Write> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// Begins a file that declares `interfaces`, Ethernet all, in this order.
    ///
    /// # Errors
    /// What `out` refused.
    pub fn new<'n>(out: W, interfaces: impl IntoIterator<Item = &'n str>) -> io::Result<Self> {
        let mut inner = PcapNgWriter::with_endianness(out, Endianness::Little).map_err(plain)?;
        for name in interfaces {
            let block = InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: SNAP_LEN,
                options: vec![
                    InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                    InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
                ],
            };
            inner.write_pcapng_block(block).map_err(plain)?;
        }
        Ok(Self { inner })
    }

    /// Writes one packet, seen at `at` nanoseconds since 1970 at the interface with this number.
    ///
    /// # Errors
    /// What the file refused; an interface that was not declared; a frame over 4 GiB.
    pub fn packet(
        &mut self,
        interface: usize,
        at: u64,
        direction: Direction,
        frame: &[u8],
    ) -> io::Result<()> {
        let number = |n: usize| u32::try_from(n).map_err(io::Error::other);
        let block = EnhancedPacketBlock {
            interface_id: number(interface)?,
            timestamp: Duration::from_nanos(at),
            original_len: number(frame.len())?,
            data: Cow::Borrowed(frame),
            options: vec![EnhancedPacketOption::Flags(direction.flags())],
        };
        self.inner.write_pcapng_block(block).map_err(plain)?;
        Ok(())
    }

    /// Writes out what is still in memory.
    ///
    /// # Errors
    /// What the file refused.
    pub fn flush(&mut self) -> io::Result<()> {
        self.inner.get_mut().flush()
    }

    /// What is written to.
    pub fn into_inner(self) -> W {
        self.inner.into_inner()
    }
}

/// The error that the file itself gave, where there is one.
fn plain(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
