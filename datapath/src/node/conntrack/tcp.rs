//! The TCP states of a conntrack entry (kernel: net/netfilter/nf_conntrack_proto_tcp.c; spec
//! CT-9, CT-11, CT-13).

use crate::lab::TcpTimeouts;
use crate::table::Direction;
use crate::wire::tcp::Flags;

/// State of a TCP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpState {
    /// SYN seen.
    SynSent,
    /// SYN and SYN+ACK seen.
    SynRecv,
    /// Handshake complete.
    Established,
    /// One side has sent FIN.
    FinWait,
    /// That FIN is acknowledged.
    CloseWait,
    /// Both sides have sent FIN.
    LastAck,
    /// The last FIN is acknowledged.
    TimeWait,
    /// Reset.
    Close,
    /// SYN seen from both sides.
    SynSent2,
}

/// Where a segment leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To this state.
    State(TcpState),
    /// Nowhere; the segment passes.
    Ignore,
    /// Nowhere; the segment is not part of the flow.
    Invalid,
}

impl TcpState {
    /// Seconds a flow lives without a segment.
    pub(super) const fn timeout(self, timeouts: &TcpTimeouts) -> u32 {
        match self {
            Self::SynSent => timeouts.syn_sent,
            Self::SynRecv => timeouts.syn_recv,
            Self::Established => timeouts.established,
            Self::FinWait => timeouts.fin_wait,
            Self::CloseWait => timeouts.close_wait,
            Self::LastAck => timeouts.last_ack,
            Self::TimeWait => timeouts.time_wait,
            Self::Close => timeouts.close,
            // The kernel has no setting for it.
            Self::SynSent2 => 120,
        }
    }

    /// Whether the flow is being closed, or is.
    pub(super) const fn is_closing(self) -> bool {
        matches!(
            self,
            Self::FinWait | Self::CloseWait | Self::LastAck | Self::TimeWait | Self::Close
        )
    }

    /// The state's name as `conntrack -L` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
        }
    }

    /// The state a first segment begins a flow in; `None` where it cannot begin one. With `loose`
    /// an ACK picks up a flow that began before.
    pub(super) const fn first(kind: Kind, loose: bool) -> Option<Self> {
        match kind {
            Kind::Syn => Some(Self::SynSent),
            Kind::Ack if loose => Some(Self::Established),
            Kind::Ack | Kind::SynAck | Kind::Fin | Kind::Rst | Kind::Nonsense => None,
        }
    }

    /// Where a segment of the given direction leads.
    pub(super) fn after(self, kind: Kind, from: Direction) -> Next {
        let original = from == Direction::Original;
        match kind {
            Kind::Syn if original => self.after_syn(),
            Kind::Syn => match self {
                Self::SynSent | Self::SynSent2 => Next::State(Self::SynSent2),
                Self::TimeWait => Next::State(Self::SynSent),
                _ => Next::Invalid,
            },
            Kind::SynAck if original => match self {
                Self::SynRecv | Self::SynSent2 => Next::State(Self::SynRecv),
                _ => Next::Invalid,
            },
            Kind::SynAck => match self {
                Self::SynSent | Self::SynSent2 => Next::State(Self::SynRecv),
                _ => Next::Ignore,
            },
            Kind::Fin => self.after_fin(),
            Kind::Ack => self.after_ack(original),
            Kind::Rst => Next::State(Self::Close),
            Kind::Nonsense => Next::Invalid,
        }
    }

    const fn after_syn(self) -> Next {
        match self {
            Self::SynSent | Self::TimeWait | Self::Close => Next::State(Self::SynSent),
            Self::SynSent2 => Next::State(Self::SynSent2),
            _ => Next::Ignore,
        }
    }

    const fn after_fin(self) -> Next {
        match self {
            Self::SynSent | Self::SynSent2 => Next::Invalid,
            Self::SynRecv | Self::Established => Next::State(Self::FinWait),
            Self::FinWait | Self::CloseWait | Self::LastAck => Next::State(Self::LastAck),
            Self::TimeWait | Self::Close => Next::State(self),
        }
    }

    const fn after_ack(self, original: bool) -> Next {
        match (self, original) {
            (Self::SynSent | Self::SynSent2, true) => Next::Invalid,
            (Self::SynSent | Self::SynSent2, false) => Next::Ignore,
            (Self::SynRecv, false) => Next::State(Self::SynRecv),
            (Self::SynRecv, true) | (Self::Established, _) => Next::State(Self::Established),
            (Self::FinWait | Self::CloseWait, _) => Next::State(Self::CloseWait),
            (Self::LastAck | Self::TimeWait, _) => Next::State(Self::TimeWait),
            (Self::Close, _) => Next::State(Self::Close),
        }
    }
}

/// A segment by the first of its flags that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    /// Its flags contradict each other, or there is none that counts.
    Nonsense,
}

impl Kind {
    pub(super) fn of(flags: Flags) -> Self {
        let counting = flags & (Flags::SYN | Flags::FIN | Flags::RST | Flags::ACK | Flags::URG);
        let urgent = counting.contains(Flags::URG);
        // The combinations of the kernel's `tcp_valid_flags`.
        match (counting - Flags::URG, urgent) {
            (f, _) if f == Flags::SYN => Self::Syn,
            (f, false) if f == Flags::SYN | Flags::ACK => Self::SynAck,
            (f, _) if f == Flags::FIN | Flags::ACK => Self::Fin,
            (f, _) if f == Flags::ACK => Self::Ack,
            (f, false) if f - Flags::ACK == Flags::RST => Self::Rst,
            _ => Self::Nonsense,
        }
    }
}
