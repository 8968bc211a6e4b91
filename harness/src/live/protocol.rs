//! What the commands and a lab's daemon say to each other: one JSON object a line, each way.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use datapath::counters::LedgerReport;
use datapath::journey::Hop;
use datapath::link::{ElementId, Socket};
use datapath::node::ipvs::LocalPorts;
use datapath::node::{CacheCounters, ToaCounters};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::report::PortReport;
use crate::show::Query;

/// Version of the protocol. A daemon refuses any other.
pub const VERSION: u32 = 1;
/// Longest request a daemon reads, in bytes.
pub const REQUEST_MAX: u64 = 1 << 20;

/// A request with its version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Version of the protocol.
    pub version: u32,
    /// What is asked.
    pub request: Request,
}

/// Why a daemon does not take a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// The stream's read timeout has passed before the end of the line.
    #[error("the request did not come: its peer is silent")]
    Silent,
    /// The stream cannot be read.
    #[error("the request cannot be read: {0}")]
    Read(io::Error),
    /// The line does not end within [`REQUEST_MAX`] bytes.
    #[error("the request is longer than {REQUEST_MAX} bytes")]
    TooLong,
    /// The peer has closed before the end of the line.
    #[error("the request ends after {0} bytes, before the end of its line")]
    CutShort(usize),
    /// The line is no request; says why and where in it, on one line.
    #[error("not a request: {0}")]
    Malformed(String),
    /// The request is of another version of the protocol.
    #[error("protocol version {0} asked, {VERSION} spoken")]
    Version(u32),
}

impl From<serde_json::Error> for BadRequest {
    fn from(error: serde_json::Error) -> Self {
        // It quotes the request, which may hold anything.
        Self::Malformed(error.to_string().replace(char::is_control, " "))
    }
}

impl Request {
    /// Reads a request: one line of JSON, of which no more than [`REQUEST_MAX`] bytes are held.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(from: impl Read) -> Result<Self, BadRequest> {
        /// The version alone, so that a request of a later one is not called malformed.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let mut line = Vec::new();
        let read = BufReader::new(from).take(REQUEST_MAX).read_until(b'\n', &mut line);
        read.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => BadRequest::Silent,
            _ => BadRequest::Read(error),
        })?;
        match line.last() {
            Some(b'\n') => {}
            _ if line.len() as u64 == REQUEST_MAX => return Err(BadRequest::TooLong),
            _ => return Err(BadRequest::CutShort(line.len())),
        }
        let Versioned { version } = serde_json::from_slice(&line)?;
        if version != VERSION {
            return Err(BadRequest::Version(version));
        }
        Ok(serde_json::from_slice::<Envelope>(&line)?.request)
    }
}

/// What can be asked of a daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Who are you?
    Status,
    /// The books of every element and port.
    Ledger,
    /// A table of the running elements.
    Show {
        /// Which.
        query: Query,
    },
    /// Take over another version of the lab file (spec LAB-29).
    Apply {
        /// The file.
        text: String,
    },
    /// Begin to record journeys, up to this many hops an element.
    JournalOpen {
        /// Hops an element.
        limit: usize,
    },
    /// End recording and hand over the hops.
    JournalClose,
    /// Test switch: stop or begin to serve one queue of a node's trunk.
    ServeTrunkQueue {
        /// The node, by its place in the lab.
        node: usize,
        /// The queue.
        queue: u16,
        /// Whether it is served.
        served: bool,
    },
    /// Put the XDP program of a port on its device again (spec LAB-26); or, a test switch, take it
    /// off.
    SetProgram {
        /// The port.
        socket: Socket,
        /// Whether it is to be there.
        attached: bool,
    },
    /// Test switch: send copies of a frame from a port, as if its element had made them.
    Inject {
        /// The port.
        socket: Socket,
        /// The queue.
        queue: u16,
        /// The frame.
        frame: Vec<u8>,
        /// How often.
        count: u64,
    },
    /// How many injected frames are not sent yet.
    InjectionsLeft,
    /// Close every port, leave nothing behind, end.
    Stop,
}

/// A daemon's answer with its version.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Version of the protocol.
    pub version: u32,
    /// The answer, or why there is none.
    pub result: Result<Answer, String>,
}

/// What a daemon answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Answer {
    /// Done.
    Done,
    /// Who it is.
    Status(Status),
    /// Its books.
    Ledger(Ledger),
    /// A table.
    Table {
        /// As the tool of a real node prints it.
        text: String,
        /// For machines.
        json: serde_json::Value,
    },
    /// What the journals held.
    Journals {
        /// Hops of each element.
        hops: Vec<(ElementId, Vec<Hop>)>,
    },
    /// A number.
    Count {
        /// The number.
        count: u64,
    },
}

/// Who a daemon is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The lab's name.
    pub lab: String,
    /// The daemon's process.
    pub pid: u32,
    /// Seconds since it was ready.
    pub up_seconds: u64,
    /// Nodes of the lab.
    pub nodes: usize,
    /// Pods of the lab.
    pub pods: usize,
}

/// What mode fnat has counted on a node.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FnatReport {
    /// The ports of every local address.
    pub local_addresses: Vec<LocalPorts>,
    /// Segments that were to tell endpoints who their client is.
    pub toa: ToaCounters,
}

/// The books of a lab: what came in is what went out and what was lost, with a name for each loss.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Every element.
    pub elements: BTreeMap<String, LedgerReport>,
    /// What the learned paths of each element have done.
    pub flow_caches: BTreeMap<String, CacheCounters>,
    /// Local ports and TOA of each node that has local addresses.
    pub fnat: BTreeMap<String, FnatReport>,
    /// Every port, and both ends of its wire.
    pub ports: Vec<PortReport>,
    /// Whatever the check of the books has found.
    pub imbalances: Vec<String>,
}
