//! One flow's entry: what a packet does to it (kernel: net/netfilter/nf_conntrack_core.c,
//! nf_conntrack_proto_udp.c, nf_conntrack_proto_icmp.c; spec CT-11 to CT-17).

use std::net::Ipv4Addr;
use std::time::Duration;

use bitflags::bitflags;

use super::segment::Segment;
use super::tcp::TcpState;
use super::track::{TcpTrack, TcpUpdate};
use crate::lab::ConntrackSwitches;
use crate::table::Direction;
use crate::time::{Deadline, Time};
use crate::wire::{Packet, Transport};

/// A UDP flow younger than this stays unreplied in its timeout.
const UDP_STREAM_AFTER: Duration = Duration::from_secs(2);

bitflags! {
    /// What an entry has been through.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Status: u8 {
        /// A packet of the reply direction has passed.
        const SEEN_REPLY = 1;
        /// Not to be given up early.
        const ASSURED = 2;
        /// The source is translated: masquerade, or a moved port.
        const SRC_NAT = 4;
        /// A reset has ended it; it is found no more.
        const DYING = 8;
    }
}

/// One flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it has been through.
    pub status: Status,
    /// When it ends unless a packet comes.
    pub deadline: Deadline,
    kind: Kind,
}

/// What is kept of a flow beside that, by its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp(TcpTrack),
    Udp {
        /// From when on packets both ways make it a stream.
        stream_after: Deadline,
    },
    Other,
}

/// What a packet does to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// It belongs to the flow; whether that lives longer for it.
    Accept { renewed: bool },
    /// It does not.
    Invalid,
    /// It is a SYN that ends the closed flow and begins another.
    Reopen,
}

impl Entry {
    /// The entry of the flow that a packet begins; `None` where it can begin none.
    pub(super) fn begin(
        packet: &Packet<Ipv4Addr>,
        ip: &[u8],
        rules: &ConntrackSwitches,
        now: Time,
    ) -> Option<Self> {
        let (kind, timeout) = match packet.transport {
            Transport::Tcp { .. } => {
                let (tcp, timeout) = TcpTrack::begin(&Segment::of(packet, ip)?, rules)?;
                (Kind::Tcp(tcp), timeout)
            }
            Transport::Udp { .. } => {
                (Kind::Udp { stream_after: Deadline::after(now, UDP_STREAM_AFTER) }, rules.udp)
            }
            // An error belongs to the flow of the packet it quotes, or to none.
            Transport::Icmp { kind: 8 | 13 | 15 | 17, .. } => (Kind::Other, rules.icmp),
            Transport::Icmp { .. } => return None,
            Transport::Other => (Kind::Other, rules.generic),
        };
        Some(Self { status: Status::empty(), deadline: after(now, timeout), kind })
    }

    /// Moves the entry on by a packet of its flow.
    pub(super) fn update(
        &mut self,
        from: Direction,
        packet: &Packet<Ipv4Addr>,
        ip: &[u8],
        rules: &ConntrackSwitches,
        now: Time,
    ) -> Update {
        let timeout = match &mut self.kind {
            Kind::Tcp(tcp) => {
                let Some(segment) = Segment::of(packet, ip) else { return Update::Invalid };
                let left = self.deadline.left(now);
                match tcp.update(&segment, from, &mut self.status, left, rules) {
                    TcpUpdate::Renew(timeout) => Some(timeout),
                    TcpUpdate::Keep => None,
                    TcpUpdate::End => {
                        self.status |= Status::DYING;
                        None
                    }
                    TcpUpdate::Invalid(shorter) => {
                        self.deadline = shorter.map_or(self.deadline, |secs| after(now, secs));
                        return Update::Invalid;
                    }
                    TcpUpdate::Reopen => return Update::Reopen,
                }
            }
            Kind::Udp { stream_after } => {
                // Once a stream, always one: a moment long past cannot be told from one to come.
                let old = self.status.contains(Status::ASSURED) || stream_after.at(now) < now;
                let stream = self.status.contains(Status::SEEN_REPLY) && old;
                if stream {
                    self.status |= Status::ASSURED;
                }
                Some(if stream { rules.udp_stream } else { rules.udp })
            }
            Kind::Other if matches!(packet.transport, Transport::Icmp { .. }) => Some(rules.icmp),
            Kind::Other => Some(rules.generic),
        };
        self.deadline = timeout.map_or(self.deadline, |secs| after(now, secs));
        if from == Direction::Reply {
            self.status |= Status::SEEN_REPLY;
        }
        Update::Accept { renewed: timeout.is_some() }
    }

    /// State of a TCP flow; `None` for what is not TCP.
    #[must_use]
    pub const fn tcp_state(&self) -> Option<TcpState> {
        match &self.kind {
            Kind::Tcp(tcp) => Some(tcp.state),
            Kind::Udp { .. } | Kind::Other => None,
        }
    }

    /// The state's name as `conntrack -L` prints it; `None` for what is not TCP.
    #[must_use]
    pub fn state_name(&self) -> Option<&'static str> {
        self.tcp_state().map(TcpState::name)
    }

    /// Whether it is still found.
    pub(super) fn lives(&self, now: Time) -> bool {
        !self.deadline.is_over(now) && !self.status.contains(Status::DYING)
    }

    /// Whether both sides have used the flow and, of TCP, neither has begun to close it.
    pub(super) fn is_established(&self) -> bool {
        self.status.contains(Status::SEEN_REPLY)
            && matches!(self.tcp_state(), None | Some(TcpState::Established))
    }
}

/// The moment `secs` seconds from now.
fn after(now: Time, secs: u32) -> Deadline {
    Deadline::after(now, Duration::from_secs(u64::from(secs)))
}
