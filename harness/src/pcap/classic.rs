//! pcap: one interface, microseconds or nanoseconds, either byte order.

use std::borrow::Cow;

use pcap_file::TsResolution;
use pcap_file::pcap::PcapParser;

use super::error::CaptureError;
use super::{Capture, Interface, Packet};

/// Length of the file's header, in bytes.
const HEADER_LEN: usize = 24;

/// Whether a file beginning with `magic` is pcap.
pub(super) fn is_magic(magic: [u8; 4]) -> bool {
    const MICROSECONDS: u32 = 0xa1b2_c3d4;
    const NANOSECONDS: u32 = 0xa1b2_3c4d;
    let (big, little) = (u32::from_be_bytes(magic), u32::from_le_bytes(magic));
    [MICROSECONDS, NANOSECONDS].iter().any(|m| *m == big || *m == little)
}

/// Reads a pcap file. Packets are taken raw: what the format leaves open, such as a length above
/// the announced snap length, is no reason to refuse a file.
pub(super) fn read(bytes: &[u8]) -> Result<Capture<'_>, CaptureError> {
    let (mut rest, parser) = PcapParser::new(bytes)
        .map_err(|_| CaptureError::CutShort { what: "the file header".to_owned(), offset: 0 })?;
    let header = parser.header();
    let nanos = match header.ts_resolution {
        TsResolution::MicroSecond => 1_000,
        TsResolution::NanoSecond => 1,
    };
    let link_type = u32::from(header.datalink);
    let interfaces = vec![Interface { name: "0".to_owned(), link_type }];
    let mut packets = Vec::new();
    let mut offset = HEADER_LEN;
    for number in 1.. {
        if rest.is_empty() {
            break;
        }
        let Ok((after, raw)) = parser.next_raw_packet(rest) else {
            return Err(CaptureError::CutShort { what: format!("packet {number}"), offset });
        };
        // What was parsed from a slice borrows from it.
        let Cow::Borrowed(data) = raw.data else { break };
        packets.push(Packet {
            number,
            interface: 0,
            at: Some(u64::from(raw.ts_sec) * 1_000_000_000 + u64::from(raw.ts_frac) * nanos),
            direction: None,
            original_len: raw.orig_len,
            data,
        });
        offset += rest.len() - after.len();
        rest = after;
    }
    Ok(Capture { interfaces, packets, names_interfaces: false })
}
