//! The fragments of one packet, as far as they have come.

use super::Whole;
use crate::verdict::DropReason;
use crate::wire::ipv4::{self, Fragment, Header};

/// A fragment that has come.
#[derive(Debug)]
struct Part<P> {
    /// Where its payload begins and ends in the packet's, in bytes. A packet that grows too large
    /// is noticed when it is whole.
    start: u32,
    end: u32,
    /// Whether it was put right behind the one before, so that both belong to one run.
    joined: bool,
    item: P,
}

/// The fragments of one packet in order of their place; `P` is a fragment as its owner keeps it.
#[derive(Debug)]
pub(crate) struct Gathering<P> {
    parts: Vec<Part<P>>,
    /// Where the payload ends as far as it is known.
    end: u32,
    /// Whether the last fragment has come, so that `end` is final.
    has_last: bool,
    /// Bytes of payload that have come.
    got: u32,
    /// The largest fragment, header included, and the largest of those with DF.
    largest: u16,
    largest_df: u16,
    /// Every value of the two ECN bits that has come, one bit each.
    ecn: u8,
}

impl<P> Default for Gathering<P> {
    fn default() -> Self {
        let (largest, largest_df) = (0, 0);
        Self { parts: Vec::new(), end: 0, has_last: false, got: 0, largest, largest_df, ecn: 0 }
    }
}

impl<P> Gathering<P> {
    /// Puts a fragment into its place.
    ///
    /// # Errors
    /// The fragment, and why it does not fit: [`FragmentDuplicate`](DropReason::FragmentDuplicate)
    /// leaves the others as they are, everything else spoils the packet (spec FRAG-4, FRAG-5).
    pub(super) fn add(
        &mut self,
        header: &Header,
        fragment: Fragment,
        item: P,
    ) -> Result<(), (P, DropReason)> {
        let start = u32::from(fragment.offset);
        let len = header.total_len - u16::from(header.header_len);
        // What another fragment follows is cut to whole units of eight bytes.
        let len = if fragment.more { len & !7 } else { len };
        let end = start + u32::from(len);
        let beyond = if fragment.more {
            self.has_last && end > self.end
        } else {
            end < self.end || (self.has_last && end != self.end)
        };
        if beyond || len == 0 {
            return Err((item, DropReason::FragmentInvalid));
        }
        let joined = match self.fit(start, end) {
            Ok(joined) => joined,
            Err(reason) => return Err((item, reason)),
        };
        let at = self.parts.partition_point(|part| part.start < start);
        self.parts.insert(at, Part { start, end, joined, item });
        self.has_last |= !fragment.more;
        self.end = self.end.max(end);
        self.got += u32::from(len);
        self.ecn |= 1 << (header.tos & 3);
        let size = u16::from(header.header_len) + len;
        self.largest = self.largest.max(size);
        if header.dont_fragment {
            self.largest_df = self.largest_df.max(size);
        }
        Ok(())
    }

    /// Whether a fragment goes right behind the last one. What lies within a run of fragments that
    /// came one behind the other has come before; what touches anything otherwise overlaps
    /// (inet_frag_queue_insert).
    fn fit(&self, start: u32, end: u32) -> Result<bool, DropReason> {
        let last = self.parts.last().map_or(0, |last| last.end);
        if last < end {
            let joined = start == last && !self.parts.is_empty();
            return if start < last { Err(DropReason::FragmentOverlap) } else { Ok(joined) };
        }
        for run in self.parts.chunk_by(|_, next| next.joined) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            if end > first.start && start < last.end {
                let within = start >= first.start && end <= last.end;
                return Err(if within {
                    DropReason::FragmentDuplicate
                } else {
                    DropReason::FragmentOverlap
                });
            }
        }
        Ok(false)
    }

    /// Whether nothing is missing.
    pub(super) fn is_complete(&self) -> bool {
        self.has_last && self.got == self.end
    }

    /// How many fragments have come.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// The fragments in order of their place.
    pub(crate) fn into_items(self) -> impl Iterator<Item = P> {
        self.parts.into_iter().map(|part| part.item)
    }

    /// The first fragment of the packet, if it has come.
    pub(crate) fn into_first(self) -> (Option<P>, Vec<P>) {
        let has_first = self.parts.first().is_some_and(|part| part.start == 0);
        let mut items: Vec<_> = self.into_items().collect();
        (has_first.then(|| items.remove(0)), items)
    }

    /// The packet, where nothing is missing; `ip` shows the bytes of a fragment from its IP header
    /// on (ip_frag_reasm, spec FRAG-6).
    ///
    /// # Errors
    /// It is too large, or its fragments' ECN bits contradict each other.
    pub(crate) fn whole(&self, ip: impl Fn(&P) -> &[u8]) -> Result<Whole, DropReason> {
        let total_len = u16::try_from(self.end + ipv4::HEADER_LEN as u32);
        let total_len = total_len.map_err(|_| DropReason::FragmentInvalid)?;
        let congestion = congestion(self.ecn).ok_or(DropReason::FragmentInvalid)?;
        let mut bytes = vec![0; ipv4::HEADER_LEN];
        let mut came = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let len = (part.end - part.start) as usize;
            let payload = ip(&part.item).get(ipv4::HEADER_LEN..).and_then(|ip| ip.get(..len));
            bytes.extend_from_slice(payload.ok_or(DropReason::FragmentInvalid)?);
            came.push(part.end - part.start);
        }
        let first = self.parts.first().and_then(|part| Header::parse(ip(&part.item)).ok());
        let first = first.ok_or(DropReason::FragmentInvalid)?;
        let header = Header {
            total_len,
            tos: first.tos | congestion,
            dont_fragment: self.largest_df == self.largest,
            fragment: false,
            ..first
        };
        header.emit(&mut bytes);
        Ok(Whole::gathered(bytes, came, self.largest))
    }
}

/// What the fragments' ECN bits add to the packet's (RFC 3168, 5.3): congestion met by one was
/// met by the packet; those of a transport that does not take part are all alike.
fn congestion(came: u8) -> Option<u8> {
    const NOT_ECT: u8 = 1;
    const CE: u8 = 1 << 3;
    match came {
        NOT_ECT => Some(0),
        _ if came & NOT_ECT != 0 => None,
        _ if came & CE != 0 => Some(3),
        _ => Some(0),
    }
}
