//! Taking numbers off the front of bytes, in either byte order.

/// The rest of some bytes, and the byte order of their numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan<'a> {
    pub(super) rest: &'a [u8],
    pub(super) big_endian: bool,
}

impl<'a> Scan<'a> {
    pub(super) const fn new(rest: &'a [u8], big_endian: bool) -> Self {
        Self { rest, big_endian }
    }

    /// The next `n` bytes; `None`, taking nothing, where fewer are left.
    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let bytes = self.chunk()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let bytes = self.chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        let bytes = self.chunk()?;
        Some(if self.big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) })
    }
}

/// Calls `each` with code and value of every option of a pcapng block. Options may end with the
/// end mark or with the block; returns false where one is cut short.
pub(super) fn options<'a>(mut scan: Scan<'a>, mut each: impl FnMut(u16, Scan<'a>)) -> bool {
    while !scan.rest.is_empty() {
        let (Some(code), Some(len)) = (scan.u16(), scan.u16()) else { return false };
        if code == 0 {
            return true;
        }
        let len = usize::from(len);
        let Some(value) = scan.take(len) else { return false };
        each(code, Scan::new(value, scan.big_endian));
        // The last option's padding may be missing together with the end mark.
        let padding = len.next_multiple_of(4) - len;
        scan.take(padding.min(scan.rest.len()));
    }
    true
}
