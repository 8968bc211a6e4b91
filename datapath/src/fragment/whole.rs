//! A packet as it is between gathering and cutting.

use std::ops::Range;

use crate::port::Buffer;
use crate::wire::ipv4::{self, Fragment};

/// A packet in memory of its own: no frame holds it.
#[derive(Debug)]
pub(crate) struct Whole {
    bytes: Vec<u8>,
    /// Bytes of payload in each of the fragments it came in; empty where it did not.
    came: Vec<u32>,
    /// The largest of those, header included.
    largest: Option<u16>,
}

/// A fragment of a [`Whole`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    place: Fragment,
    /// Its payload in the packet's bytes.
    payload: Range<usize>,
}

impl Whole {
    /// A packet that came in fragments.
    pub(super) const fn gathered(bytes: Vec<u8>, came: Vec<u32>, largest: u16) -> Self {
        Self { bytes, came, largest: Some(largest) }
    }

    /// A packet that came in no fragments.
    pub(crate) const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, came: Vec::new(), largest: None }
    }

    /// The packet from its IP header on.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The packet, to change.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Size of the largest fragment it came in, header included; `None` where it came in none
    /// (frag_max_size).
    pub(crate) const fn largest(&self) -> Option<u16> {
        self.largest
    }

    /// The fragments in which it leaves by a device of this MTU: as they came where all of them
    /// fit, else as large as fits (ip_do_fragment, spec FRAG-8).
    pub(crate) fn pieces(&self, mtu: u16) -> Vec<Piece> {
        let total = self.bytes.len() - ipv4::HEADER_LEN;
        let room = usize::from(mtu).saturating_sub(ipv4::HEADER_LEN) & !7;
        // A device takes at least 68 bytes; less would never come to an end.
        let room = room.max(8) as u32;
        let as_came = self.largest.is_some_and(|largest| largest <= mtu);
        let mut sizes = self.came.iter().copied().filter(|_| as_came);
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < total {
            let rest = total - start;
            let fits = rest + ipv4::HEADER_LEN <= usize::from(mtu);
            let len = match sizes.next() {
                Some(len) => len as usize,
                None if fits => rest,
                None => rest.min(room as usize),
            };
            let offset = u16::try_from(start).unwrap_or(u16::MAX);
            let place = Fragment { offset, more: len < rest };
            let at = ipv4::HEADER_LEN + start;
            pieces.push(Piece { place, payload: at..at + len });
            start += len;
        }
        pieces
    }

    /// The fragments in which it came.
    pub(crate) fn pieces_as_came(&self) -> Vec<Piece> {
        self.pieces(u16::MAX)
    }
}

impl Piece {
    /// Writes the fragment of `whole` into an empty frame, behind the link header `link`. False
    /// where the frame is too small.
    pub(crate) fn emit<B: Buffer>(&self, whole: &Whole, link: &[u8], frame: &mut B) -> bool {
        let header = whole.bytes.get(..ipv4::HEADER_LEN).unwrap_or_default();
        let payload = whole.bytes.get(self.payload.clone()).unwrap_or_default();
        frame.reset();
        if !frame.set_len(link.len() + header.len() + payload.len()) {
            return false;
        }
        let mut to = frame.bytes_mut();
        for part in [link, header, payload] {
            let Some((here, rest)) = to.split_at_mut_checked(part.len()) else { return false };
            here.copy_from_slice(part);
            to = rest;
        }
        let ip = frame.bytes_mut().get_mut(link.len()..).unwrap_or_default();
        self.place.mark(ip);
        true
    }

    /// Gives this fragment, which begins with its own header in `ip`, what translation has changed
    /// in `whole`: addresses and payload.
    pub(crate) fn update(&self, whole: &Whole, ip: &mut [u8]) {
        let addresses = 12..ipv4::HEADER_LEN;
        let from = [addresses.clone(), self.payload.clone()].map(|range| whole.bytes.get(range));
        let Some((header, payload)) = ip.split_at_mut_checked(ipv4::HEADER_LEN) else { return };
        let to = [header.get_mut(addresses), payload.get_mut(..self.payload.len())];
        for (from, to) in from.into_iter().zip(to) {
            if let (Some(from), Some(to)) = (from, to) {
                to.copy_from_slice(from);
            }
        }
        ipv4::renew_checksum(ip);
    }
}
