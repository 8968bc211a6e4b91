//! Loading and running `offer.bpf.c`.

use std::fmt;

use libbpf_rs::{MapCore, MapFlags, ProgramInput};

use crate::datagram;
use crate::error::{ProgError, at, missing};
use crate::object::{LIVE_FRAMES, Loaded, object};

/// Sends datagrams out of an interface as frames that never were a socket buffer, the cheapest
/// way the kernel has.
pub struct Offer {
    loaded: Loaded,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").finish_non_exhaustive()
    }
}

impl Offer {
    /// Loads a program that sends out of the interface with this index, from `flows` source
    /// ports in turn, the first of them `first_port`.
    ///
    /// # Errors
    /// [`ProgError::NoSuchPorts`] where there are not so many ports;
    /// [`ProgError::Kernel`] where the rights are missing.
    pub fn load(ifindex: u32, first_port: u16, flows: u16) -> Result<Self, ProgError> {
        if flows == 0 || first_port.checked_add(flows - 1).is_none() {
            return Err(ProgError::NoSuchPorts { first_port, flows });
        }
        let order = [ifindex, first_port.into(), flows.into()].map(u32::to_ne_bytes).concat();
        let loaded = Loaded::load(object!("offer"), 0, |map| {
            let named = map.name().to_str().is_some_and(|name| name.ends_with(".rodata"));
            if named { map.set_initial_value(&order) } else { Ok(()) }
        })?;
        Ok(Self { loaded })
    }

    /// Sends `count` copies of `frame`, an untagged datagram with a right checksum, each with the
    /// source port of the next flow. The interface is looked up in the calling thread's network
    /// namespace. A signal ends it early.
    ///
    /// # Errors
    /// [`ProgError::ShortFrame`], or [`ProgError::Kernel`] where the rights are missing.
    pub fn send(&self, frame: &[u8], count: u32) -> Result<(), ProgError> {
        datagram(frame)?;
        let input = ProgramInput {
            data_in: Some(frame),
            flags: LIVE_FRAMES,
            repeat: count,
            ..Default::default()
        };
        match self.loaded.program()?.test_run(input) {
            Err(error) if error.kind() != libbpf_rs::ErrorKind::Interrupted => {
                Err(at("send frames with")(error))
            }
            _ => Ok(()),
        }
    }

    /// Datagrams handed to the interface so far; those it had no room for are in its own
    /// `tx_dropped`.
    ///
    /// # Errors
    /// What the kernel says; it has no reason to refuse.
    pub fn offered(&self) -> Result<u64, ProgError> {
        let found = self.loaded.map(".bss")?.lookup(&[0; 4], MapFlags::ANY);
        let variables = found.map_err(at("read the variables of"))?.ok_or_else(missing)?;
        let offered = variables.get(..8).and_then(|bytes| bytes.try_into().ok());
        offered.map(u64::from_ne_bytes).ok_or_else(missing)
    }
}
