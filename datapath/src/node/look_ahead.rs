//! Reading ahead: what the packets of a batch will look up is read for all of them before the first
//! is handled, so that tables larger than the cache make a batch wait about once, where each of its
//! packets waited several times. Nothing is changed, and nothing depends on it.

use std::net::Ipv4Addr;

use smallvec::SmallVec;

use super::Node;
use crate::port::Buffer;
use crate::wire::{Protocol, Tuple, ethernet};

/// Flows from which on it is worth the work.
const LARGE: u32 = 8_192;

/// Packets of a batch, as a rule.
const BATCH: usize = 64;

impl<B: Buffer> Node<B> {
    /// Reads what the packets of `batch` will look up first.
    pub(super) fn look_ahead(&self, batch: &[B]) {
        if self.conntrack.len() < LARGE || batch.len() < 2 {
            return;
        }
        let tuples: SmallVec<[_; BATCH]> =
            batch.iter().filter_map(|frame| peek(frame.bytes())).collect();
        let hashes: SmallVec<[_; BATCH]> =
            tuples.iter().map(|tuple| self.conntrack.hash_of(tuple)).collect();
        let slots: SmallVec<[_; BATCH]> =
            hashes.iter().map(|hash| self.conntrack.look_ahead(*hash)).collect();
        for (tuple, slot) in tuples.iter().zip(slots) {
            match slot {
                Some(slot) => self.conntrack.look_into(slot),
                // A flow to be: ipvs will be asked both ways.
                None => self.connections().look_ahead(tuple),
            }
        }
    }
}

/// The tuple of a plain packet, unchecked: whatever this takes for one, handling looks closely.
#[inline]
fn peek(frame: &[u8]) -> Option<Tuple<Ipv4Addr>> {
    let tagged = ethernet::tag(frame).is_some();
    let ip = frame.get(ethernet::HEADER_LEN + if tagged { ethernet::TAG_LEN } else { 0 }..)?;
    let [0x45, _, _, _, _, _, _, _, _, proto, _, _, s0, s1, s2, s3, d0, d1, d2, d3, p0, p1, q0, q1] =
        *ip.first_chunk()?
    else {
        return None;
    };
    Some(Tuple {
        src: Ipv4Addr::new(s0, s1, s2, s3),
        dst: Ipv4Addr::new(d0, d1, d2, d3),
        src_port: u16::from_be_bytes([p0, p1]),
        dst_port: u16::from_be_bytes([q0, q1]),
        proto: Protocol(proto),
    })
}
