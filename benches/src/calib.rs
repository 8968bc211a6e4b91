//! The yardstick: the least that any translating forwarder does to a packet, written plainly.
//! Parse, hash the five values, look them up in a map, write new addresses and ports, correct two
//! checksums. Figures of the node are ratios to it, taken in the same minute.

use std::collections::HashMap;

use datapath::port::{Buffer, Heap};
use foldhash::fast::FixedState;

use crate::Work;

/// Source, destination, ports, protocol.
type Key = (u32, u32, u16, u16, u8);

/// What a flow's packets get: addresses and ports, and the change of both checksums.
#[derive(Clone, Copy, Debug)]
struct Nat {
    addresses: [u8; 8],
    ports: [u8; 4],
    header: u32,
    transport: u32,
}

/// The yardstick with its flows.
#[derive(Debug)]
pub struct Calibration {
    flows: HashMap<Key, Nat, FixedState>,
    frames: Vec<Vec<u8>>,
}

impl Calibration {
    /// The yardstick for these frames, each the datagram of a flow of its own.
    ///
    /// # Panics
    /// Where a frame is not a UDP datagram in IPv4 without options.
    #[must_use]
    pub fn new(frames: Vec<Vec<u8>>) -> Self {
        let mut flows = HashMap::with_capacity_and_hasher(frames.len(), FixedState::with_seed(1));
        for (number, frame) in frames.iter().enumerate() {
            let key = parse(frame).expect("a UDP datagram");
            let port = u16::try_from(1024 + number % 60_000).expect("a port").to_be_bytes();
            let ports = [port[0], port[1], 0x14, 0xe9];
            let nat = Nat::new(frame, [10, 0, 4, 20, 10, 0, 5, 35], ports);
            flows.insert(key, nat);
        }
        Self { flows, frames }
    }

    fn translate(&self, frame: &mut [u8]) {
        let Some(nat) = parse(frame).and_then(|key| self.flows.get(&key)) else { return };
        let Some(packet) = frame.get_mut(14..14 + 28) else { return };
        packet[12..20].copy_from_slice(&nat.addresses);
        packet[20..24].copy_from_slice(&nat.ports);
        for (at, delta) in [(10, nat.header), (26, nat.transport)] {
            let field = u16::from_be_bytes([packet[at], packet[at + 1]]);
            packet[at..at + 2].copy_from_slice(&corrected(field, delta).to_be_bytes());
        }
    }
}

impl Nat {
    fn new(frame: &[u8], addresses: [u8; 8], ports: [u8; 4]) -> Self {
        let delta = |old: &[u8], new: &[u8]| -> u32 {
            let words = |bytes: &[u8]| -> Vec<u32> {
                bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).collect()
            };
            words(old).iter().zip(words(new)).map(|(old, new)| (!old & 0xffff) + new).sum()
        };
        let header = delta(&frame[26..34], &addresses);
        Self { addresses, ports, header, transport: header + delta(&frame[34..38], &ports) }
    }
}

/// A checksum field after words that differ by `delta` have been replaced (RFC 1624).
fn corrected(field: u16, delta: u32) -> u16 {
    let sum = u32::from(!field) + delta;
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// The five values of a UDP datagram in IPv4 without options.
fn parse(frame: &[u8]) -> Option<Key> {
    let header = frame.get(..14 + 28)?;
    if header[12..14] != [0x08, 0x00] || header[14] != 0x45 || header[23] != 17 {
        return None;
    }
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let long = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
    let whole = usize::from(word(16)) + 14 <= frame.len();
    whole.then(|| (long(26), long(30), word(34), word(36), header[23]))
}

impl Work for Calibration {
    fn frames(&self) -> &[Vec<u8>] {
        &self.frames
    }

    fn handle(&mut self, batch: &mut Vec<Heap>) {
        for frame in batch {
            self.translate(frame.bytes_mut());
        }
    }
}
