//! Maglev hashing: mh (kernel: net/netfilter/ipvs/ip_vs_mh.c; Eisenbud and others, "Maglev", NSDI
//! 2016; spec IPVS-75).

use super::{Pool, Request, pool};
use crate::table::Handle;

/// Entries of the table, a prime, as Debian builds the kernel (`IP_VS_MH_TAB_INDEX` 12).
const ENTRIES: u32 = 4_093;
/// Turns that a destination can get at most, in bits; greater weights are shifted down to it.
const TURN_BITS: u32 = 6;
/// Both halves of the key for a destination's first entry, and for clients.
const FIRST_KEY: u64 = 2_654_435_761;
/// Both halves of the key for the distance between a destination's entries.
const STRIDE_KEY: u64 = 2_654_446_892;

/// Which destination each hash belongs to; empty where none has ever had a weight.
#[derive(Clone, Debug, Default)]
pub(in crate::node::ipvs) struct Maglev(Vec<Handle>);

/// A destination that chooses entries.
struct Chooser {
    handle: Handle,
    /// The entry it wants next.
    wants: u32,
    /// How far its wishes are apart.
    stride: u32,
    /// How many it chooses in a row.
    turns: u32,
}

impl Maglev {
    /// The destinations choose their entries anew, in turns. A weight of 0 counts as what it was
    /// before, so a destination that drains keeps its entries.
    pub(super) fn fill(&mut self, pool: Pool<'_>) {
        if pool.len() > ENTRIES as usize {
            return;
        }
        let (step, largest) = pool::step_and_largest(pool.iter().map(|(_, s)| s.last_weight));
        self.0.clear();
        if step == 0 {
            return;
        }
        let shift = (u32::BITS - (largest / step).leading_zeros()).saturating_sub(TURN_BITS);
        let weighty = pool.iter().filter(|(_, server)| server.last_weight > 0);
        let choosers = weighty.map(|(handle, server)| {
            let (ip, port) = server.destination.address();
            let number = u32::from(ip).wrapping_add(port.into());
            Chooser {
                handle,
                wants: hash(FIRST_KEY, number) % ENTRIES,
                stride: hash(STRIDE_KEY, number) % (ENTRIES - 1) + 1,
                turns: ((server.last_weight / step) >> shift).max(1),
            }
        });
        self.0 = choose(choosers.collect());
    }

    pub(super) fn pick(&self, pool: Pool<'_>, request: Request<'_>) -> Option<Handle> {
        let Request { packet, flags, .. } = request;
        let port = if flags.port { u32::from(packet.src_port) } else { 0 };
        let number = u32::from(packet.src).wrapping_add(port);
        let first = hash(FIRST_KEY, number) % ENTRIES;
        let tries = if flags.fallback { ENTRIES } else { 0 };
        let others = (0..tries).map(|further| {
            let offset = (further + first) % ENTRIES;
            hash(FIRST_KEY, number.wrapping_add(offset)) % ENTRIES
        });
        let mut entries = std::iter::once(first).chain(others);
        entries.find_map(|entry| {
            let handle = *self.0.get(entry as usize)?;
            pool.server(handle)?.is_open().then_some(handle)
        })
    }
}

/// Lets them choose until no entry is left.
fn choose(mut choosers: Vec<Chooser>) -> Vec<Handle> {
    let mut taken: Vec<Option<Handle>> = vec![None; ENTRIES as usize];
    let mut left = ENTRIES;
    'all: loop {
        for chooser in &mut choosers {
            for _ in 0..chooser.turns {
                if left == 0 {
                    break 'all;
                }
                // Its wishes visit every entry, since their number is a prime.
                while let Some(entry) = taken.get_mut(chooser.wants as usize) {
                    if entry.is_none() {
                        *entry = Some(chooser.handle);
                        break;
                    }
                    chooser.wants = (chooser.wants + chooser.stride) % ENTRIES;
                }
                left -= 1;
            }
        }
    }
    taken.into_iter().flatten().collect()
}

/// SipHash-1-3 (Aumasson and Bernstein) of one little-endian number, its low half; both halves of
/// the key are the same. It is the kernel's `hsiphash` on 64-bit machines.
fn hash(key: u64, number: u32) -> u32 {
    let mut v = [
        key ^ 0x736f_6d65_7073_6575,
        key ^ 0x646f_7261_6e64_6f6d,
        key ^ 0x6c79_6765_6e65_7261,
        key ^ 0x7465_6462_7974_6573,
    ];
    let message = (4 << 56) | u64::from(number);
    v[3] ^= message;
    v = sip_round(v);
    v[0] ^= message;
    v[2] ^= 0xff;
    for _ in 0..3 {
        v = sip_round(v);
    }
    (v[0] ^ v[1] ^ v[2] ^ v[3]) as u32
}

const fn sip_round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    c = c.wrapping_add(d);
    b = b.rotate_left(13) ^ a;
    d = d.rotate_left(16) ^ c;
    a = a.rotate_left(32).wrapping_add(d);
    c = c.wrapping_add(b);
    d = d.rotate_left(21) ^ a;
    b = b.rotate_left(17) ^ c;
    [a, b, c.rotate_left(32), d]
}
