//! Labs that a command makes for itself and takes down again.

use std::sync::atomic::{AtomicU32, Ordering};

use datapath::lab::Lab;

use super::state::State;
use super::topology::{Places, places};
use crate::net;
use crate::net::process::ProcessId;

/// A name for a private lab of this process.
#[must_use]
pub fn name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("run{}x{number}", std::process::id())
}

/// Removes what is left of private labs whose process was killed before it or a daemon of the lab
/// could do so.
///
/// # Errors
/// Where something could not be removed.
pub fn sweep() -> anyhow::Result<()> {
    for state in State::all()? {
        let runner = state.name().strip_prefix("run").and_then(|rest| rest.split_once('x'));
        let runner = runner.and_then(|(pid, _)| pid.parse().ok()).map(ProcessId::of);
        if runner == Some(None) && state.daemon().is_none() {
            state.clean()?;
        }
    }
    Ok(())
}

/// What is at the hosts' ends of a private lab's wires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// A network stack with its addresses.
    Stacks,
    /// Nobody who would say something by himself.
    Silent,
}

/// The namespaces and veths of a private lab without a daemon, taken down when dropped. Sockets
/// of this process in them are to be closed before, or they go when the process ends.
#[derive(Debug)]
pub struct Ground {
    state: State,
    /// Where everything of the lab is.
    pub places: Places,
}

impl Ground {
    /// Makes the namespaces and veths of a lab whose file reads `text`; `anchors` is the number of
    /// packet memories. On failure nothing is left.
    ///
    /// # Errors
    /// A missing right, or what the kernel refuses.
    pub fn make(lab: &Lab, text: &str, anchors: u16, hosts: Hosts) -> anyhow::Result<Self> {
        sweep()?;
        let name = name();
        let mut places = places(lab, &name, anchors)?;
        if hosts == Hosts::Silent {
            places.silence_hosts();
        }
        let ground = Self { state: State::create(&name, text)?, places };
        net::apply(&ground.places.topology)?;
        Ok(ground)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Err(error) = self.state.clean() {
            tracing::error!(lab = self.state.name(), %error, "something is left of a lab");
        }
    }
}
