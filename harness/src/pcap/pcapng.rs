//! pcapng: blocks, sections, interfaces and the three kinds of packet block.

use super::error::CaptureError;
use super::scan::{Scan, options};
use super::{Capture, Direction, Interface, Packet};

/// A section header's block type, the same in either byte order.
pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Bytes of a block outside its body: type, length, and the length again.
const FRAMING: usize = 12;

const OPTION_NAME: u16 = 2;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;
const OPTION_FLAGS: u16 = 2;

/// Reads a pcapng file.
pub(super) fn read(bytes: &[u8]) -> Result<Capture<'_>, CaptureError> {
    let mut reader = Reader::default();
    let mut offset = 0;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        offset += reader.block(rest, offset)?;
    }
    Ok(Capture { interfaces: reader.interfaces, packets: reader.packets, names_interfaces: true })
}

/// How an interface's timestamps are to be read.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// `if_tsresol`: a power of ten, or of two with the highest bit set.
    resolution: u8,
    /// `if_tsoffset`, in seconds.
    offset: i64,
    /// Longest data of a simple packet; 0 for no limit.
    snap_len: u32,
}

impl Clock {
    /// Nanoseconds since 1970; `None` where they do not fit.
    fn nanos(self, ticks: u64) -> Option<u64> {
        let exponent = u32::from(self.resolution & 0x7f);
        let nanos = if self.resolution & 0x80 == 0 {
            match exponent.checked_sub(9) {
                None => u128::from(ticks) * 10u128.pow(9 - exponent),
                Some(more) => 10u128.checked_pow(more).map_or(0, |by| u128::from(ticks) / by),
            }
        } else {
            u128::from(ticks).saturating_mul(1_000_000_000).checked_shr(exponent).unwrap_or(0)
        };
        let offset = i128::from(self.offset) * 1_000_000_000;
        u64::try_from(i128::try_from(nanos).ok()?.checked_add(offset)?).ok()
    }
}

#[derive(Debug, Default)]
struct Reader<'a> {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// One for each of `interfaces`.
    clocks: Vec<Clock>,
    /// The first interface of the present section.
    first: usize,
    packets: Vec<Packet<'a>>,
}

/// A block's body and where it came from, for messages.
struct Body<'a> {
    what: String,
    offset: usize,
    scan: Scan<'a>,
}

impl Body<'_> {
    fn malformed(&self, why: &'static str) -> CaptureError {
        CaptureError::Malformed { what: self.what.clone(), offset: self.offset, why }
    }
}

impl<'a> Reader<'a> {
    /// Reads the block at the start of `rest`; gives its length.
    fn block(&mut self, rest: &'a [u8], offset: usize) -> Result<usize, CaptureError> {
        let cut = |what: &str| CaptureError::CutShort { what: what.to_owned(), offset };
        if rest.starts_with(&MAGIC) {
            let mark = rest.get(8..).and_then(|r| r.first_chunk::<4>());
            self.big_endian = match mark.ok_or_else(|| cut("a section header"))? {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => {
                    let what = "section header".to_owned();
                    let why = "its byte-order magic is unknown";
                    return Err(CaptureError::Malformed { what, offset, why });
                }
            };
        }
        let mut scan = Scan::new(rest, self.big_endian);
        let (Some(kind), Some(len)) = (scan.u32(), scan.u32()) else {
            return Err(cut("a block's header"));
        };
        let what = self.name_of(kind);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let malformed = |why| CaptureError::Malformed { what: what.clone(), offset, why };
        if len < FRAMING || !len.is_multiple_of(4) {
            return Err(malformed("its length is below 12 or no multiple of 4"));
        }
        let body = scan.take(len - FRAMING).ok_or_else(|| cut(&what))?;
        let trailer = scan.u32().ok_or_else(|| cut(&what))?;
        if usize::try_from(trailer) != Ok(len) {
            return Err(malformed("its two lengths differ"));
        }
        let body = Body { what, offset, scan: Scan::new(body, self.big_endian) };
        self.read_body(kind, body)?;
        Ok(len)
    }

    /// What messages call a block of this kind that comes next.
    fn name_of(&self, kind: u32) -> String {
        match kind {
            SECTION => "section header".to_owned(),
            INTERFACE => format!("interface {}", self.interfaces.len()),
            OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET => {
                format!("packet {}", self.packets.len() + 1)
            }
            _ => format!("block of type {kind:#x}"),
        }
    }

    fn read_body(&mut self, kind: u32, mut body: Body<'a>) -> Result<(), CaptureError> {
        match kind {
            SECTION => self.section(body),
            INTERFACE => self.interface(body),
            ENHANCED_PACKET => {
                let interface = body.scan.u32();
                self.packet(interface, body)
            }
            OBSOLETE_PACKET => {
                let interface = body.scan.u16().map(u32::from);
                let _drops = body.scan.u16();
                self.packet(interface, body)
            }
            SIMPLE_PACKET => self.simple_packet(body),
            _ => Ok(()),
        }
    }

    fn section(&mut self, mut body: Body<'a>) -> Result<(), CaptureError> {
        let _byte_order = body.scan.u32();
        if body.scan.u16() != Some(1) {
            return Err(body.malformed("its version is not 1.x"));
        }
        self.first = self.interfaces.len();
        Ok(())
    }

    fn interface(&mut self, mut body: Body<'a>) -> Result<(), CaptureError> {
        let scan = &mut body.scan;
        let (Some(link_type), Some(_), Some(snap_len)) = (scan.u16(), scan.u16(), scan.u32())
        else {
            return Err(body.malformed("it is too short for its fields"));
        };
        let mut name = None;
        let mut clock = Clock { resolution: 6, offset: 0, snap_len };
        let whole = options(body.scan, |code, mut value| match code {
            OPTION_NAME => name = Some(String::from_utf8_lossy(value.rest).into_owned()),
            OPTION_RESOLUTION => {
                clock.resolution = value.rest.first().copied().unwrap_or(clock.resolution);
            }
            OPTION_OFFSET => clock.offset = value.i64().unwrap_or(clock.offset),
            _ => {}
        });
        if !whole {
            return Err(body.malformed("an option is cut short"));
        }
        let name = name.unwrap_or_else(|| self.interfaces.len().to_string());
        self.interfaces.push(Interface { name, link_type: u32::from(link_type) });
        self.clocks.push(clock);
        Ok(())
    }

    /// The index of a section's interface into all interfaces, and its clock.
    fn find(&self, interface: u32) -> Result<(usize, Clock), CaptureError> {
        let found = usize::try_from(interface).ok().and_then(|i| self.first.checked_add(i));
        found.and_then(|i| Some((i, *self.clocks.get(i)?))).ok_or_else(|| {
            CaptureError::UnknownInterface {
                number: self.packets.len() as u64 + 1,
                interface,
                declared: self.interfaces.len() - self.first,
            }
        })
    }

    /// An enhanced or obsolete packet, from its timestamp on.
    fn packet(&mut self, interface: Option<u32>, mut body: Body<'a>) -> Result<(), CaptureError> {
        let number = self.packets.len() as u64 + 1;
        let scan = &mut body.scan;
        let (Some(interface), Some(high), Some(low), Some(captured), Some(original_len)) =
            (interface, scan.u32(), scan.u32(), scan.u32(), scan.u32())
        else {
            return Err(body.malformed("it is too short for its fields"));
        };
        let captured = usize::try_from(captured).unwrap_or(usize::MAX);
        let Some(data) = scan.take(captured) else {
            return Err(body.malformed("it holds fewer bytes than it says were captured"));
        };
        let padding = data.len().next_multiple_of(4) - data.len();
        scan.take(padding.min(scan.rest.len()));
        let mut direction = None;
        let whole = options(body.scan, |code, mut value| {
            if code == OPTION_FLAGS {
                direction = value.u32().and_then(Direction::from_flags);
            }
        });
        if !whole {
            return Err(body.malformed("an option is cut short"));
        }
        let (interface, clock) = self.find(interface)?;
        let ticks = u64::from(high) << 32 | u64::from(low);
        let at = clock.nanos(ticks).ok_or(CaptureError::TimeOutOfRange(number))?;
        self.packets.push(Packet {
            number,
            interface,
            at: Some(at),
            direction,
            original_len,
            data,
        });
        Ok(())
    }

    /// A simple packet: of the section's first interface, at no known time, its captured length
    /// being what its snap length left of it.
    fn simple_packet(&mut self, mut body: Body<'a>) -> Result<(), CaptureError> {
        let number = self.packets.len() as u64 + 1;
        let Some(original_len) = body.scan.u32() else {
            return Err(body.malformed("it is too short for its fields"));
        };
        let (interface, clock) = self.find(0)?;
        let limit = if clock.snap_len == 0 { u32::MAX } else { clock.snap_len };
        let captured = usize::try_from(original_len.min(limit)).unwrap_or(usize::MAX);
        let Some(data) = body.scan.take(captured) else {
            return Err(body.malformed("it holds fewer bytes than its length and snap length say"));
        };
        self.packets.push(Packet {
            number,
            interface,
            at: None,
            direction: None,
            original_len,
            data,
        });
        Ok(())
    }
}
