//! Who offers the load: as many requests as one core can send, each of the next flow.

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xdp_progs::Offer;

use super::bed::{Bed, CALI};
use super::far_end::{BATCH, FarEnd};
use super::forwarder::Kind;
use super::frames::{Frames, Requests};
use crate::net::namespace;

/// Datagrams sent by one system call of the live generator: half a second or more. The call ends
/// with a wait for all processors that costs tens of milliseconds.
const LIVE_FRAMES: u32 = 1 << 22;

/// How the load comes into the node's wire.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    ValueEnum,
)]
#[serde(rename_all = "camelCase")]
pub enum Input {
    /// As socket buffers, as a pod's stack sends: the generator's core is the limit.
    Skb,
    /// As XDP frames that never were socket buffers: the forwarder's core is the limit.
    Live,
}

impl Input {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skb => "skb",
            Self::Live => "live",
        }
    }
}

/// A generator at the pod's end.
#[derive(Debug)]
pub enum Generator<'a> {
    /// Sends on an AF_XDP socket.
    Skb {
        /// Where.
        pod: &'a mut FarEnd,
        /// What is sent.
        requests: Requests,
    },
    /// Has the kernel run a program that sends.
    Live {
        /// The program.
        program: Offer,
        /// A request, of which the program makes every flow's.
        request: Vec<u8>,
    },
}

impl<'a> Generator<'a> {
    /// Makes it ready to send the requests of all flows from the pod's end, as a forwarder of
    /// that kind takes them.
    ///
    /// # Errors
    /// Where its program cannot be loaded.
    pub fn new(
        input: Input,
        kind: Kind,
        bed: &Bed,
        frames: &Frames,
        pod: &'a mut FarEnd,
    ) -> anyhow::Result<Self> {
        let request = kind.request(frames, 0);
        Ok(match input {
            Input::Skb => Self::Skb { pod, requests: Requests::new(request, frames.flows)? },
            Input::Live => {
                let device = bed.far(CALI)?;
                let index = || datapath_io::link::index(&device.ifname);
                let index = namespace::run_in(&device.namespace, index)??;
                let program = Offer::load(index, &frames.flows.clients(), &frames.services().1)?;
                Self::Live { program, request }
            }
        })
    }

    /// Sends for about a second at most. The calling thread has to be in the
    /// pod's namespace.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn offer(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Skb { pod, requests } => {
                for _ in 0..BATCH {
                    // Where the wire is full, this flow has the next turn again.
                    if !pod.send(0, requests.current()) {
                        break;
                    }
                    requests.advance();
                }
                pod.flush();
            }
            Self::Live { program, request } => program.send(request, LIVE_FRAMES)?,
        }
        Ok(())
    }

    /// Frames sent past the pod's port, which counts what goes through it itself.
    ///
    /// # Errors
    /// Where the program's counter cannot be read.
    pub fn sent_past_port(&self) -> anyhow::Result<u64> {
        match self {
            Self::Skb { .. } => Ok(0),
            Self::Live { program, .. } => Ok(program.offered()?),
        }
    }
}
