//! One flow's entry: what a packet does to it (kernel: net/netfilter/nf_conntrack_core.c,
//! nf_conntrack_proto_udp.c, nf_conntrack_proto_icmp.c; spec CT-11 to CT-17).

use std::net::Ipv4Addr;
use std::time::Duration;

use bitflags::bitflags;

use super::segment::{First, Segment};
use super::tcp::TcpState;
use super::track::{TcpTrack, TcpUpdate};
use crate::lab::ConntrackSwitches;
use crate::table::Direction;
use crate::time::{Deadline, Time};
use crate::wire::{Packet, Plain, Protocol, Transport};

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
        Some(Self { status: Status::empty(), deadline: Deadline::after_secs(now, timeout), kind })
    }

    /// The entry of the flow that an ordinary packet begins.
    #[inline(always)]
    pub(super) fn of_first(first: &First, rules: &ConntrackSwitches, now: Time) -> Self {
        let (kind, timeout) = match first {
            First::Datagram => {
                (Kind::Udp { stream_after: Deadline::after(now, UDP_STREAM_AFTER) }, rules.udp)
            }
            First::Segment(syn) => {
                let (tcp, timeout) = TcpTrack::of_syn(syn, rules);
                (Kind::Tcp(tcp), timeout)
            }
        };
        Self { status: Status::empty(), deadline: Deadline::after_secs(now, timeout), kind }
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
        match &self.kind {
            Kind::Tcp(_) => match Segment::of(packet, ip) {
                Some(segment) => self.update_tcp(from, &segment, rules, now),
                None => Update::Invalid,
            },
            Kind::Udp { .. } => self.update_udp(from, rules, now),
            Kind::Other => {
                let icmp = matches!(packet.transport, Transport::Icmp { .. });
                self.accept(from, Some(if icmp { rules.icmp } else { rules.generic }), now)
            }
        }
    }

    /// Moves a TCP flow's entry on by a segment.
    fn update_tcp(
        &mut self,
        from: Direction,
        segment: &Segment<'_>,
        rules: &ConntrackSwitches,
        now: Time,
    ) -> Update {
        let Kind::Tcp(tcp) = &mut self.kind else { return Update::Invalid };
        let left = self.deadline.left(now);
        let timeout = match tcp.update(segment, from, &mut self.status, left, rules) {
            TcpUpdate::Renew(timeout) => Some(timeout),
            TcpUpdate::Keep => None,
            TcpUpdate::End => {
                self.status |= Status::DYING;
                None
            }
            TcpUpdate::Invalid(shorter) => {
                let shorter = shorter.map(|secs| Deadline::after_secs(now, secs));
                self.deadline = shorter.unwrap_or(self.deadline);
                return Update::Invalid;
            }
            TcpUpdate::Reopen => return Update::Reopen,
        };
        self.accept(from, timeout, now)
    }

    /// Moves a UDP flow's entry on by a datagram.
    #[inline(always)]
    fn update_udp(&mut self, from: Direction, rules: &ConntrackSwitches, now: Time) -> Update {
        let Kind::Udp { stream_after } = &self.kind else { return Update::Invalid };
        // Once a stream, always one: a moment long past cannot be told from one to come.
        let old = self.status.contains(Status::ASSURED) || stream_after.is_past(now);
        let stream = self.status.contains(Status::SEEN_REPLY) && old;
        if stream {
            self.status |= Status::ASSURED;
        }
        self.accept(from, Some(if stream { rules.udp_stream } else { rules.udp }), now)
    }

    /// The packet belongs to the flow, which lives so many seconds more, or as long as before.
    #[inline(always)]
    fn accept(&mut self, from: Direction, timeout: Option<u32>, now: Time) -> Update {
        if let Some(secs) = timeout {
            self.deadline = Deadline::after_secs(now, secs);
        }
        if from == Direction::Reply {
            self.status |= Status::SEEN_REPLY;
        }
        Update::Accept { renewed: timeout.is_some() }
    }

    /// Moves the entry on by an ordinary packet, in `ip`, that belongs to its flow and renews it.
    /// Another leaves it as it is, and is told by `false`.
    #[inline(always)]
    pub(super) fn renew(
        &mut self,
        from: Direction,
        packet: &Plain,
        ip: &[u8],
        rules: &ConntrackSwitches,
        now: Time,
    ) -> bool {
        if packet.tuple.proto == Protocol::UDP {
            return self.update_udp(from, rules, now) == Update::Accept { renewed: true };
        }
        let Some(segment) = Segment::of_plain(packet, ip) else { return false };
        let before = *self;
        let renewed =
            self.update_tcp(from, &segment, rules, now) == Update::Accept { renewed: true };
        if !renewed {
            // Until it was refused it may have moved the windows.
            *self = before;
        }
        renewed
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
