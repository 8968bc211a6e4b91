//! Loading and reading `count.bpf.c`.

use std::fmt;

use libbpf_rs::{MapCore, MapFlags};

use crate::error::{ProgError, at, missing};
use crate::object::{Loaded, object};
use crate::{DATAGRAM, datagram};

/// Bytes of what the program expects: a datagram's headers, the number of its destination ports,
/// each rounded up to eight.
const EXPECTED: usize = 56;

/// What a [`Counter`] has counted, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that are what is expected.
    pub right: u64,
    /// Any other frame.
    pub wrong: u64,
}

/// Counts and drops every frame of an interface: the end of a measured way.
///
/// It is detached when this value is dropped, and by the kernel when the process ends.
pub struct Counter {
    loaded: Loaded,
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("attached", &self.loaded.is_attached()).finish()
    }
}

impl Counter {
    /// Loads a program that expects datagrams with the headers of `expected` (untagged, without
    /// IP options), but for the source port, the destination port, which may be any of `ports`
    /// from that of `expected` on, and the UDP checksum, which changes with both. The payload is
    /// held against the checksum only.
    ///
    /// # Errors
    /// [`ProgError::ShortFrame`], or [`ProgError::Kernel`] where the rights are missing.
    pub fn load(expected: &[u8], ports: u16) -> Result<Self, ProgError> {
        let mut value = [0; EXPECTED];
        value[..DATAGRAM].copy_from_slice(datagram(expected)?);
        value[EXPECTED - 8..EXPECTED - 4].copy_from_slice(&u32::from(ports).to_ne_bytes());
        let loaded = Loaded::load(object!("count"), 0, |map| {
            let named = map.name().to_str().is_some_and(|name| name.ends_with(".rodata"));
            if named { map.set_initial_value(&value) } else { Ok(()) }
        })?;
        Ok(Self { loaded })
    }

    /// Attaches the program, as [`Redirect::attach`](crate::Redirect::attach) does.
    ///
    /// # Errors
    /// As there.
    pub fn attach(&mut self, ifindex: i32) -> Result<(), ProgError> {
        self.loaded.attach(ifindex)
    }

    /// What has been counted so far, on all processors.
    ///
    /// # Errors
    /// What the kernel says; it has no reason to refuse.
    pub fn counts(&self) -> Result<Counts, ProgError> {
        let found = self.loaded.map("counts")?.lookup_percpu(&[0; 4], MapFlags::ANY);
        let each = found.map_err(at("read the counts of"))?.ok_or_else(missing)?;
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
        Ok(each.iter().fold(Counts::default(), |sum, one| {
            let (right, wrong) = one.split_at(one.len().min(8));
            Counts { right: sum.right + word(right), wrong: sum.wrong + word(wrong) }
        }))
    }
}
