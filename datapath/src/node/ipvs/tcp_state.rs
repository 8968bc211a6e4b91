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
}

impl State {
    /// How long the connection lives without a packet.
    #[must_use]
    pub const fn timeout(self) -> Duration {
        Duration::from_secs(match self {
            Self::None => 2,
            Self::Established => 900,
            Self::SynRecv | Self::CloseWait => 60,
            Self::SynSent | Self::FinWait | Self::TimeWait => 120,
            Self::Close => 10,
            Self::Udp => 300,
        })
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
        }
    }

    /// The state after a segment, as in the kernel's table `tcp_states`. Of several flags the
    /// first of RST, SYN, FIN, ACK counts.
    #[must_use]
    pub const fn after(self, flags: Flags, direction: Direction) -> Self {
        let client = matches!(direction, Direction::Original);
        if flags.contains(Flags::RST) {
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
            self
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
