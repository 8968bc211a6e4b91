//! Loading, filling and attaching `devmap.bpf.c`.

use std::fmt;

use libbpf_rs::{MapCore, MapFlags};

use crate::error::{ProgError, at};
use crate::object::{Loaded, MULTI_BUFFER, object};

/// Forwards every frame of one interface to another with new MAC addresses, in the kernel.
///
/// It is detached when this value is dropped, and by the kernel when the process ends.
pub struct Devmap {
    loaded: Loaded,
}

impl fmt::Debug for Devmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Devmap").field("attached", &self.loaded.is_attached()).finish()
    }
}

impl Devmap {
    /// Loads a program that sends what comes out of the interface with this index, looked up in
    /// the calling thread's network namespace. `next_hop` are the MAC addresses it leaves with:
    /// destination, source. A veth takes such frames only while its peer has an XDP program too.
    ///
    /// # Errors
    /// [`ProgError::Kernel`] where there is no such interface or the rights are missing.
    pub fn load(out: u32, next_hop: [[u8; 6]; 2]) -> Result<Self, ProgError> {
        Self::load_with(out, next_hop, 0)
    }

    /// The same for interfaces whose MTU is beyond what one buffer of the driver holds, as
    /// [`Redirect::load_multi_buffer`](crate::Redirect::load_multi_buffer) is.
    ///
    /// # Errors
    /// As [`Devmap::load`].
    pub fn load_multi_buffer(out: u32, next_hop: [[u8; 6]; 2]) -> Result<Self, ProgError> {
        Self::load_with(out, next_hop, MULTI_BUFFER)
    }

    fn load_with(out: u32, next_hop: [[u8; 6]; 2], flags: u32) -> Result<Self, ProgError> {
        let macs = next_hop.concat();
        let loaded = Loaded::load(object!("devmap"), flags, |map| {
            let named = map.name().to_str().is_some_and(|name| name.ends_with(".rodata"));
            if named { map.set_initial_value(&macs) } else { Ok(()) }
        })?;
        loaded
            .map("devices")?
            .update(&[0; 4], &out.to_ne_bytes(), MapFlags::ANY)
            .map_err(at("put a device into"))?;
        Ok(Self { loaded })
    }

    /// Attaches the program, as [`Redirect::attach`](crate::Redirect::attach) does.
    ///
    /// # Errors
    /// As there.
    pub fn attach(&mut self, ifindex: i32) -> Result<(), ProgError> {
        self.loaded.attach(ifindex)
    }
}
