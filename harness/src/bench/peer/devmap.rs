//! XDP redirect inside the kernel: the fastest that forwards, and the least it can do.

use crate::bench::bed::{Bed, PRIMARY, cali};
use crate::bench::clock::Clock;
use crate::bench::forwarder::{Peer, Spread};
use crate::bench::frames::Frames;
use crate::bench::machine::Cores;
use crate::net::namespace;

use super::napi::Placement;

/// The attached program. The devices' settings are put back before it is taken off.
#[derive(Debug)]
pub struct Devmap {
    placement: Placement,
    _program: xdp_progs::Devmap,
}

impl Devmap {
    /// Attaches it to the pod's veth.
    ///
    /// # Errors
    /// What the kernel refuses; nothing is left then.
    pub fn start(bed: &Bed, frames: &Frames, spread: Spread, cores: Cores) -> anyhow::Result<Self> {
        let (pod, eth0) = (bed.near(cali(0))?, bed.near(PRIMARY)?);
        let next_hop = frames.next_hop().map(|mac| mac.0);
        let program = namespace::run_in(&pod.namespace, || -> anyhow::Result<_> {
            let index = datapath_io::link::index;
            let load = match bed.jumbo {
                true => xdp_progs::Devmap::load_multi_buffer,
                false => xdp_progs::Devmap::load,
            };
            let mut program = load(index(&eth0.ifname)?, next_hop)?;
            program.attach(index(&pod.ifname)?.cast_signed())?;
            Ok(program)
        })??;
        let placement = Placement::new(pod, spread, cores.forwarder)?;
        Ok(Self { placement, _program: program })
    }
}

impl Peer for Devmap {
    fn clock(&self) -> Option<Clock> {
        self.placement.clock()
    }
}
