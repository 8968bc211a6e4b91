//! The states of an ipvs connection in NAT mode and their timeouts (kernel:
//! net/netfilter/ipvs/ip_vs_proto_tcp.c, ip_vs_proto_udp.c; spec IPVS-14 to IPVS-18).
//!
//! The kernel's table knows LAST_ACK, LISTEN and SYNACK too. No segment leads from the state of a
//! new connection to any of them while secure_tcp is off, so they are not here.

use crate::lab::IpvsTimeouts;
use crate::table::Direction;
use crate::wire::{Protocol, tcp::Flags};

/// State of a connection, or of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No packet seen yet.
    None,
    /// Both ways open.
    Established,
    /// The server has sent a SYN of its own after the connection closed.
    SynSent,
    /// The client's SYN has passed.
    SynRecv,
    /// The server has closed its side first.
    FinWait,
    /// Both sides have closed.
    TimeWait,
    /// Reset.
    Close,
    /// The client has closed its side first.
    CloseWait,
    /// A UDP flow.
    Udp,
    /// A template one of whose connections has been answered.
    Assured,
}

impl State {
    /// Seconds that a connection in this state lives without a packet. A template has a time of its
    /// own.
    #[must_use]
    pub const fn timeout(self, of: &IpvsTimeouts) -> u32 {
        match self {
            Self::None | Self::Assured => 2,
            Self::Established => of.tcp,
            Self::SynSent => of.syn_sent,
            Self::SynRecv => of.syn_recv,
            Self::FinWait => of.tcp_fin,
            Self::TimeWait => of.time_wait,
            Self::Close => of.close,
            Self::CloseWait => of.close_wait,
            Self::Udp => of.udp,
        }
    }

    /// Whether `ipvsadm -Ln` counts the connection as active.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::SynSent | Self::SynRecv | Self::Established)
    }

    /// The state's name as `ipvsadm -Lnc` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::Udp => "UDP",
            Self::Assured => "ASSURED",
        }
    }

    /// The state of a connection that no packet has passed yet.
    #[must_use]
    #[inline]
    pub fn of(proto: Protocol) -> Self {
        if proto == Protocol::UDP { Self::Udp } else { Self::None }
    }

    /// The state after a packet: of a datagram the same, of a segment as in the kernel's table
    /// `tcp_states`. Of several flags the first of RST, SYN, FIN, ACK counts; one with none of them
    /// closes.
    #[must_use]
    #[inline]
    pub const fn after(self, flags: Flags, direction: Direction) -> Self {
        let client = matches!(direction, Direction::Original);
        if matches!(self, Self::Udp) {
            self
        } else if flags.contains(Flags::RST) {
            self.after_rst(client)
        } else if flags.contains(Flags::SYN) {
            self.after_syn(client)
        } else if flags.contains(Flags::FIN) {
            self.after_fin(client)
        } else if flags.contains(Flags::ACK) {
            match (self, client) {
                (Self::SynRecv | Self::None, _) => Self::Established,
                (state, _) => state,
            }
        } else {
            Self::Close
        }
    }

    const fn after_rst(self, client: bool) -> Self {
        match (self, client) {
            (Self::SynRecv, true) => Self::SynRecv,
            (Self::TimeWait, false) => Self::TimeWait,
            (Self::SynSent, false) => Self::SynSent,
            _ => Self::Close,
        }
    }

    const fn after_syn(self, client: bool) -> Self {
        match (self, client) {
            (Self::Established | Self::Udp, _) | (Self::SynRecv, false) => self,
            (Self::SynSent, true) => Self::Established,
            (_, true) => Self::SynRecv,
            (_, false) => Self::SynSent,
        }
    }

    const fn after_fin(self, client: bool) -> Self {
        match (self, client) {
            (Self::None, true) => Self::Close,
            (Self::Established, true) => Self::CloseWait,
            (Self::Established, false) => Self::FinWait,
            (Self::SynRecv, _) | (Self::FinWait, true) => Self::TimeWait,
            (Self::None | Self::CloseWait, false) => Self::TimeWait,
            (state, _) => state,
        }
    }
}
