//! Tracked flows, as `conntrack -L` prints them.

use std::fmt;
use std::net::Ipv4Addr;

use datapath::lab::Lab;
use datapath::node::Node;
use datapath::node::conntrack::{Entry, Status};
use datapath::port::Buffer;
use datapath::time::Time;
use datapath::wire::{Protocol, Tuple};
use schemars::JsonSchema;
use serde::Serialize;

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ConntrackTuple {
    /// Of TCP and UDP.
    Ports {
        /// Source address.
        src: Ipv4Addr,
        /// Destination address.
        dst: Ipv4Addr,
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// Of an ICMP query.
    Icmp {
        /// Source address.
        src: Ipv4Addr,
        /// Destination address.
        dst: Ipv4Addr,
        /// Type.
        #[serde(rename = "type")]
        kind: u8,
        /// Code.
        code: u8,
        /// Identifier.
        id: u16,
    },
    /// Of anything else.
    Addresses {
        /// Source address.
        src: Ipv4Addr,
        /// Destination address.
        dst: Ipv4Addr,
    },
}

/// A flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConntrackEntry {
    /// The protocol's name as conntrack prints it.
    pub protocol: &'static str,
    /// The protocol's number.
    pub number: u8,
    /// Seconds it lives without a packet.
    pub timeout: u64,
    /// State of a TCP flow.
    pub state: Option<&'static str>,
    /// The first packet as it came.
    pub original: ConntrackTuple,
    /// The answer as it comes.
    pub reply: ConntrackTuple,
    /// No answer has passed.
    pub unreplied: bool,
    /// Not to be given up early.
    pub assured: bool,
}

/// The flows of a node, in the order of their records.
pub fn entries<B: Buffer>(_: &Lab, node: &Node<B>, now: Time) -> Vec<ConntrackEntry> {
    let of = |(original, reply, entry): (&Tuple<Ipv4Addr>, &Tuple<Ipv4Addr>, &Entry)| {
        let Protocol(number) = original.proto;
        ConntrackEntry {
            protocol: original.proto.name().unwrap_or("unknown"),
            number,
            timeout: entry.deadline.left(now).as_secs(),
            state: entry.state_name(),
            original: original.into(),
            reply: reply.into(),
            unreplied: !entry.status.contains(Status::SEEN_REPLY),
            assured: entry.status.contains(Status::ASSURED),
        }
    };
    node.conntrack().iter(now).map(of).collect()
}

impl From<&Tuple<Ipv4Addr>> for ConntrackTuple {
    fn from(tuple: &Tuple<Ipv4Addr>) -> Self {
        let Tuple { src, dst, src_port, dst_port, proto } = *tuple;
        match proto {
            Protocol::TCP | Protocol::UDP => {
                Self::Ports { src, dst, sport: src_port, dport: dst_port }
            }
            Protocol::ICMP => {
                let [kind, code] = dst_port.to_be_bytes();
                Self::Icmp { src, dst, kind, code, id: src_port }
            }
            _ => Self::Addresses { src, dst },
        }
    }
}

impl fmt::Display for ConntrackTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ports { src, dst, sport, dport } => {
                write!(f, "src={src} dst={dst} sport={sport} dport={dport}")
            }
            Self::Icmp { src, dst, kind, code, id } => {
                write!(f, "src={src} dst={dst} type={kind} code={code} id={id}")
            }
            Self::Addresses { src, dst } => write!(f, "src={src} dst={dst}"),
        }
    }
}

impl fmt::Display for ConntrackEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {} {} ", self.protocol, self.number, self.timeout)?;
        if let Some(state) = self.state {
            write!(f, "{state} ")?;
        }
        write!(f, "{} ", self.original)?;
        if self.unreplied {
            f.write_str("[UNREPLIED] ")?;
        }
        write!(f, "{} ", self.reply)?;
        if self.assured {
            f.write_str("[ASSURED] ")?;
        }
        f.write_str("mark=0 use=1")
    }
}
