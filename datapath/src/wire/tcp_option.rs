//! The options of a TCP header, found and replaced in place.

use super::checksum::Delta;
use super::packet::{put, set_word, word};
use super::tcp;

/// Ends the list.
const END: u8 = 0;
/// Fills a byte.
pub(super) const NOP: u8 = 1;
/// Where a TCP header has its checksum, in bytes.
const CHECKSUM_AT: usize = 16;
/// Longest option that is replaced here, with a byte before and one behind it.
const LONGEST: usize = 12;

/// Where in the packet `ip`, whose TCP header begins at `l4`, the option of this kind and length
/// is. What contradicts itself ends the search.
pub(super) fn find(ip: &[u8], l4: usize, kind: u8, len: usize) -> Option<usize> {
    let end = l4 + usize::from(ip.get(l4 + 12)? >> 4) * 4;
    let mut at = l4 + tcp::HEADER_LEN;
    while at < end {
        let size = match *ip.get(at)? {
            END => return None,
            NOP => 1,
            found => {
                let size = usize::from(*ip.get(at + 1)?);
                if size < 2 || at + size > end {
                    return None;
                }
                if found == kind && size == len {
                    return Some(at);
                }
                size
            }
        };
        at += size;
    }
    None
}

/// Writes `new`, at most ten bytes, at `at` into the header that begins at `l4`; the checksum
/// follows, wrong if it was. A header is a multiple of four bytes long, so the words around an
/// option are its own.
pub(super) fn replace(ip: &mut [u8], l4: usize, at: usize, new: &[u8]) {
    let start = at - (at - l4) % 2;
    let len = (at + new.len() - start).next_multiple_of(2).min(LONGEST);
    let mut old = [0; LONGEST];
    let Some(before) = ip.get(start..start + len) else { return };
    put(&mut old, 0, before);
    put(ip, at, new);
    let (Some(old), Some(after)) = (old.get(..len), ip.get(start..start + len)) else { return };
    let delta = Delta::default().bytes(old, after);
    if let Some(sum) = word(ip, l4 + CHECKSUM_AT) {
        set_word(ip, l4 + CHECKSUM_AT, delta.apply(sum));
    }
}
