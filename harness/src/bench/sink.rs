//! Where the load arrives: a program that holds every frame against the expected one, counts it
//! and drops it.

use xdp_progs::{Counter, Counts};

use super::bed::{Bed, PRIMARY};
use crate::net::namespace;

/// The far end of the node's eth0, counting.
#[derive(Debug)]
pub struct Sink(Counter);

impl Sink {
    /// Counts frames like this one, to any of so many ports, from now on.
    ///
    /// # Errors
    /// Where the program cannot be loaded or attached.
    pub fn open(bed: &Bed, expected: &[u8], ports: u16) -> anyhow::Result<Self> {
        let device = bed.far(PRIMARY)?;
        let mut counter = Counter::load(expected, ports)?;
        namespace::run_in(&device.namespace, || -> anyhow::Result<()> {
            let index = datapath_io::link::index(&device.ifname)?;
            Ok(counter.attach(index.cast_signed())?)
        })??;
        Ok(Self(counter))
    }

    /// What has arrived so far.
    ///
    /// # Errors
    /// What the kernel says; it has no reason to refuse.
    pub fn counts(&self) -> anyhow::Result<Counts> {
        Ok(self.0.counts()?)
    }
}
