//! What can play a case: a lab whose hosts send the case's frames and nothing else, and of which
//! every frame on every port is seen. Everything else about cases is the same on each datapath
//! (spec LAW-10).

use std::time::Duration;

use datapath::lab::Lab;
use datapath::link::{Direction, ElementId, HostId, Socket};
use serde::{Deserialize, Serialize};

use crate::journey::Recording;

/// A datapath on which cases can be played.
pub trait CaseDatapath {
    /// Its name in reports: `memory`, `afxdp`, `kernel`.
    fn name(&self) -> &'static str;

    /// Starts the lab with all its tables empty. Its hosts are silent: none has a stack. `text` is
    /// the lab file that `lab` was loaded from, for a datapath that lives in another process.
    ///
    /// # Errors
    /// What kept the lab from starting; nothing of it is left then.
    fn start(&self, lab: &Lab, text: &str) -> anyhow::Result<Box<dyn Bed>>;
}

/// A lab that runs for a case. Dropping it leaves nothing behind.
pub trait Bed {
    /// Has a host send a frame: a pod and an outside host from their end of the wire, a node's own
    /// stack by its LOCAL_OUT. What came of it is in what [`settle`](Self::settle) returns.
    ///
    /// # Errors
    /// What kept the frame from being sent at all.
    fn send(&mut self, from: HostId, frame: &[u8]) -> anyhow::Result<()>;

    /// Waits until nothing moves any more and gives what has crossed a port since the last call,
    /// in order.
    ///
    /// # Errors
    /// What kept the datapath from being watched.
    fn settle(&mut self) -> anyhow::Result<Vec<Crossing>>;

    /// Lets that much time pass. Timers that come due do their work.
    ///
    /// # Errors
    /// What kept the clock from being moved.
    fn advance(&mut self, by: Duration) -> anyhow::Result<()>;

    /// Time since the lab began, where it passes by itself.
    fn clock(&self) -> Option<Duration> {
        None
    }

    /// Puts another version of the lab in place: services and switches change, flows live on.
    ///
    /// # Errors
    /// What kept the change from being made.
    fn apply(&mut self, lab: &Lab, text: &str) -> anyhow::Result<()>;

    /// The state tables of a node.
    ///
    /// # Errors
    /// What kept them from being read.
    fn tables(&mut self, node: usize) -> anyhow::Result<Tables>;

    /// What an element has dropped, `REASON COUNT` each, in the order of the way of a packet.
    ///
    /// # Errors
    /// [`CannotJudge`] where drops have no names.
    fn drops(&mut self, element: ElementId) -> anyhow::Result<Vec<String>> {
        let _ = element;
        Err(CannotJudge::new("drops have no names here").into())
    }

    /// Ends the record of the ways packets took and gives it, where one is kept.
    fn recording(&mut self) -> Option<Recording> {
        None
    }
}

/// Something a datapath has no means to tell; a case that asks for it is not judged there. An
/// error of this type is no failure of the datapath.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct CannotJudge {
    /// Why not.
    pub why: String,
}

impl CannotJudge {
    /// It cannot, because of this.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

/// A frame that crossed a port of an element, or that a host sent or got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crossing {
    /// The port. What a node's own stack gets or sends crosses its port `host0`.
    pub socket: Socket,
    /// Into the element or out of it.
    pub direction: Direction,
    /// The frame from its Ethernet header, its tag included, without padding or FCS.
    pub frame: Vec<u8>,
}

/// The state tables of a node in the lines of the tools of a real one, sorted, so that those of
/// two datapaths can be held against each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// Virtual servers as `ipvsadm -Ln` prints them, each on one line with its real servers and
    /// single spaces: `TCP 172.16.0.10:80 rr -> 10.0.2.103:8080 Masq 1 0 0`.
    pub services: Vec<String>,
    /// ipvs connections.
    pub connections: Vec<Timed>,
    /// conntrack entries, as `conntrack -L` prints them, from protocol and state to the status.
    pub conntrack: Vec<Timed>,
}

/// An entry and its remaining time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timed {
    /// The entry without its time: for ipvs `TCP ESTABLISHED 10.0.2.101:40001 172.16.0.10:80
    /// 10.0.2.103:8080`, for conntrack `tcp ESTABLISHED src=... dst=... sport=... dport=... src=...
    /// [ASSURED]`.
    pub entry: String,
    /// Seconds until it ends unless a packet comes.
    pub seconds: u64,
}
