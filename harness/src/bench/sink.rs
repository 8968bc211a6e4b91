//! Where the load arrives: a program that holds every frame against the expected one, counts it
//! and drops it.

use xdp_progs::{Counter, Counts, Times};

use super::bed::Bed;
use super::forwarder::Kind;
use super::frames::{Act, Frames, Leg};
use crate::net::namespace;

/// The far end of the wire by which requests leave, counting.
#[derive(Debug)]
pub struct Sink(Counter);

impl Sink {
    /// Counts the requests that a forwarder passes on, from now on; `stamped` ones carry the time
    /// at which they were sent.
    ///
    /// # Errors
    /// Where the program cannot be loaded or attached.
    pub fn open(bed: &Bed, kind: Kind, frames: &Frames, stamped: bool) -> anyhow::Result<Self> {
        let device = bed.far(kind.exit())?;
        let expected = frames.templates(Act::Data, Leg::Arrived(kind));
        let load = if bed.jumbo { Counter::load_multi_buffer } else { Counter::load };
        let mut counter = load(&expected, stamped)?;
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

    /// How long frames were on their way so far, where they are stamped.
    ///
    /// # Errors
    /// As [`Self::counts`].
    pub fn times(&self) -> anyhow::Result<Times> {
        Ok(self.0.times()?)
    }
}
