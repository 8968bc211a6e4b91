//! The TCP states of an ipvs connection in NAT mode and their timeouts (kernel:
//! net/netfilter/ipvs/ip_vs_proto_tcp.c; spec IPVS-14 to IPVS-18).

use std::time::Duration;

use crate::table::Direction;
use crate::wire::tcp::Flags;

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No packet seen yet.
    None,
    /// Both ways open.
    Established,
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
}

impl State {
    /// How long the connection lives without a packet.
    #[must_use]
    pub const fn timeout(self) -> Duration {
        Duration::from_secs(match self {
            Self::None => 2,
            Self::Established => 900,
            Self::SynRecv | Self::CloseWait => 60,
            Self::FinWait | Self::TimeWait => 120,
            Self::Close => 10,
            Self::Udp => 300,
        })
    }

    /// Whether `ipvsadm -Ln` counts the connection as active.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::SynRecv | Self::Established | Self::Udp)
    }

    /// The state's name as `ipvsadm -Lnc` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Established => "ESTABLISHED",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::Udp => "UDP",
        }
    }

    /// The state after a segment. Of several flags the first of RST, SYN, FIN, ACK counts.
    #[must_use]
    pub const fn after(self, flags: Flags, direction: Direction) -> Self {
        let client = matches!(direction, Direction::Original);
        if flags.contains(Flags::RST) {
            return match (self, client) {
                (Self::SynRecv, true) => Self::SynRecv,
                (Self::TimeWait, false) => Self::TimeWait,
                _ => Self::Close,
            };
        }
        if flags.contains(Flags::SYN) {
            return match (self, client) {
                (Self::None | Self::TimeWait | Self::Close, true) => Self::SynRecv,
                (state, _) => state,
            };
        }
        if flags.contains(Flags::FIN) {
            return match (self, client) {
                (Self::Established | Self::SynRecv, true) => Self::CloseWait,
                (Self::Established | Self::SynRecv, false) => Self::FinWait,
                (Self::FinWait, true) | (Self::CloseWait, false) => Self::TimeWait,
                (state, _) => state,
            };
        }
        if flags.contains(Flags::ACK) {
            return match (self, client) {
                (Self::SynRecv | Self::None, true) => Self::Established,
                (state, _) => state,
            };
        }
        self
    }
}
