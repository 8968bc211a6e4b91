//! The TCP states of a conntrack entry (kernel: net/netfilter/nf_conntrack_proto_tcp.c; spec
//! CT-9, CT-11, CT-13).

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
    /// Seconds the entry lives without a packet.
    #[must_use]
    pub const fn timeout(self) -> u64 {
        match self {
            Self::SynSent | Self::SynSent2 | Self::FinWait | Self::TimeWait => 120,
            Self::SynRecv | Self::CloseWait => 60,
            Self::Established => 432_000,
            Self::LastAck => 30,
            Self::Close => 10,
        }
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

    /// The state a first segment begins a flow in; `None` where it cannot begin one. An ACK picks
    /// up a flow that began before (nf_conntrack_tcp_loose=1).
    #[must_use]
    pub(super) fn first(flags: Flags) -> Option<Self> {
        match Kind::of(flags) {
            Kind::Syn => Some(Self::SynSent),
            Kind::Ack => Some(Self::Established),
            Kind::SynAck | Kind::Fin | Kind::Rst | Kind::Nonsense => None,
        }
    }

    /// Where a segment of the given direction leads.
    pub(super) fn after(self, flags: Flags, direction: Direction) -> Next {
        let original = direction == Direction::Original;
        match Kind::of(flags) {
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
enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    /// Its flags contradict each other, or there is none that counts.
    Nonsense,
}

impl Kind {
    fn of(flags: Flags) -> Self {
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
