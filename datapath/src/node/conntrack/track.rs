//! One TCP flow: what a segment does to its state, windows and timeout (kernel:
//! net/netfilter/nf_conntrack_proto_tcp.c, nf_conntrack_tcp_packet; spec CT-9 to CT-13, CT-23 to
//! CT-27).

use std::time::Duration;

use bitflags::bitflags;

use super::Status;
use super::segment::{Segment, Syn, before};
use super::tcp::{Kind, Next, TcpState};
use super::window::{Fit, Traits, Windows};
use crate::lab::ConntrackSwitches;
use crate::table::Direction;

/// A reset or FIN outside the window shortens only a flow that would live at least this long.
const WORTH_SHORTENING: Duration = Duration::from_secs(120);

bitflags! {
    /// What is remembered beside the last segment.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Notes: u8 {
        /// The SYN that was let through offered window scaling.
        const WINDOW_SCALE = 1;
        /// It offered selective acknowledgments.
        const SACK_PERMITTED = 2;
        /// It may be answered by a challenge (RFC 5961), which acknowledges no FIN.
        const CHALLENGE_AHEAD = 4;
        /// Both sides have sent a SYN.
        const SIMULTANEOUS = 8;
    }
}

/// The segment that passed last, as far as later ones are judged by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    seq: u32,
    ack: u32,
    end: u32,
    window: u16,
    kind: Kind,
    from: Direction,
    /// Window scale of a SYN that was let through.
    scale: u8,
    notes: Notes,
    /// How often it has come again since.
    retransmissions: u8,
}

/// A TCP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpTrack {
    windows: Windows,
    last: Last,
    pub(super) state: TcpState,
}

/// What a segment does to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TcpUpdate {
    /// It is part of the flow, which lives this many seconds more.
    Renew(u32),
    /// It passes; the flow ends when it would have.
    Keep,
    /// It passes and ends the flow.
    End,
    /// It is not part of the flow, which now has at most these seconds left.
    Invalid(Option<u32>),
    /// It ends the closed flow and begins another.
    Reopen,
}

/// Where the state table and its special cases lead.
enum Path {
    /// To a new state from an old one, if the segment lies in the window.
    Judge(TcpState, TcpState),
    /// To a new state from an old one, wherever the segment lies.
    Trust(TcpState, TcpState),
    /// Nowhere else.
    Done(TcpUpdate),
}

impl Last {
    /// What is remembered of a flow's first segment before its numbers are.
    #[inline]
    const fn of_first(kind: Kind) -> Self {
        Self {
            seq: 0,
            ack: 0,
            end: 0,
            window: 0,
            kind,
            from: Direction::Original,
            scale: 0,
            notes: Notes::empty(),
            retransmissions: 0,
        }
    }
}

impl TcpTrack {
    /// The flow that `segment` begins, with its timeout in seconds; `None` where it can begin none.
    pub(super) fn begin(segment: &Segment<'_>, rules: &ConntrackSwitches) -> Option<(Self, u32)> {
        let state = TcpState::first(segment.kind, rules.loose)?;
        if segment.kind == Kind::Syn {
            return Some(Self::of_syn(&Syn::of(segment), rules));
        }
        let (windows, last) = (Windows::picked_up(segment), Last::of_first(segment.kind));
        let mut flow = Self { windows, last, state };
        let fit = flow.admit(segment, Direction::Original, rules);
        (fit != Fit::Outside).then(|| (flow, flow.timeout_unreplied(segment.kind, rules)))
    }

    /// The flow that a SYN begins, with its timeout in seconds.
    #[inline(always)]
    pub(super) fn of_syn(syn: &Syn, rules: &ConntrackSwitches) -> (Self, u32) {
        let (windows, last) = (Windows::of_syn(syn), Last::of_first(Kind::Syn));
        let flow = Self { windows, last, state: TcpState::SynSent };
        (flow, flow.timeout_unreplied(Kind::Syn, rules))
    }

    /// Moves the flow on by a segment; the flow has `status`, and `left` to live.
    pub(super) fn update(
        &mut self,
        segment: &Segment<'_>,
        from: Direction,
        status: &mut Status,
        left: Duration,
        rules: &ConntrackSwitches,
    ) -> TcpUpdate {
        let (old, new) = match self.path(segment, from, *status, rules) {
            Path::Done(update) => return update,
            Path::Trust(old, new) => (old, new),
            Path::Judge(old, new) => match self.admit(segment, from, rules) {
                Fit::Inside | Fit::Tolerated => (old, new),
                Fit::Ignored => return TcpUpdate::Keep,
                Fit::Outside => {
                    return TcpUpdate::Invalid(self.shorten(segment, from, *status, left, rules));
                }
            },
        };
        (self.last.kind, self.last.from, self.state) = (segment.kind, from, new);
        if old != new && new == TcpState::FinWait {
            self.windows.sides(from).0.traits |= Traits::CLOSED_FIRST;
        }
        if !status.contains(Status::SEEN_REPLY) {
            return match segment.kind {
                // The other side refused: the flow never was.
                Kind::Rst => TcpUpdate::End,
                // Or a client that uses its port again and again would keep the entry alive.
                Kind::Syn if old == TcpState::SynSent => TcpUpdate::Keep,
                kind => TcpUpdate::Renew(self.timeout_unreplied(kind, rules)),
            };
        }
        let opened = matches!(old, TcpState::SynRecv | TcpState::Established);
        if opened && new == TcpState::Established {
            *status |= Status::ASSURED;
        }
        TcpUpdate::Renew(self.timeout(segment.kind, rules))
    }

    /// What the state table has for the segment, and what it does not know.
    fn path(
        &mut self,
        segment: &Segment<'_>,
        from: Direction,
        status: Status,
        rules: &ConntrackSwitches,
    ) -> Path {
        let (old, last) = (self.state, self.last);
        let reply_ack = from == Direction::Reply && segment.kind == Kind::Ack;
        let new = match old.after(segment.kind, from) {
            Next::Invalid => return Path::Done(TcpUpdate::Invalid(None)),
            Next::Ignore => return self.let_through(segment, from),
            Next::State(new) => new,
        };
        match new {
            TcpState::SynSent if matches!(old, TcpState::TimeWait | TcpState::Close) => {
                let reset = last.from == from && last.kind == Kind::Rst;
                if reset || self.windows.any(Traits::CLOSED_FIRST) {
                    return Path::Done(TcpUpdate::Reopen);
                }
                return self.let_through(segment, from);
            }
            TcpState::TimeWait if self.is_challenge(segment.kind, from) => {
                self.last.notes -= Notes::CHALLENGE_AHEAD;
                return Path::Done(TcpUpdate::Keep);
            }
            TcpState::SynSent2 => self.last.notes |= Notes::SIMULTANEOUS,
            TcpState::SynRecv if reply_ack && last.notes.contains(Notes::SIMULTANEOUS) => {
                return Path::Judge(old, TcpState::Established);
            }
            TcpState::Close if segment.kind == Kind::Rst => {
                return self.after_reset(segment, from, status, rules);
            }
            _ => {}
        }
        Path::Judge(old, new)
    }

    /// Whether an ACK in LAST_ACK answers a SYN that was let through (RFC 5961), not the FIN.
    fn is_challenge(&self, kind: Kind, from: Direction) -> bool {
        self.state == TcpState::LastAck
            && kind == Kind::Ack
            && self.last.from != from
            && self.last.kind == Kind::Syn
            && self.last.notes.contains(Notes::CHALLENGE_AHEAD)
    }

    /// Lets a segment pass that may be right where the entry is not: a SYN of the client, which its
    /// answer confirms, a SYN+ACK of the server, an ACK of a half-open flow. It is remembered.
    fn let_through(&mut self, segment: &Segment<'_>, from: Direction) -> Path {
        let last = self.last;
        let confirmed = segment.kind == Kind::SynAck
            && last.kind == Kind::Syn
            && last.from != from
            && segment.ack == last.end;
        if confirmed {
            self.follow_the_syn(from);
            return Path::Judge(TcpState::SynSent, TcpState::SynRecv);
        }
        let old = self.state;
        self.last.kind = segment.kind;
        self.last.from = from;
        self.last.seq = segment.seq;
        self.last.end = segment.end;
        self.last.window = segment.window;
        if segment.kind == Kind::Syn && from == Direction::Original {
            let offer = segment.offer().unwrap_or_default();
            let mut notes = Notes::empty();
            notes.set(Notes::WINDOW_SCALE, offer.window_scale.is_some());
            notes.set(Notes::SACK_PERMITTED, offer.sack_permitted);
            notes.set(Notes::CHALLENGE_AHEAD, old == TcpState::LastAck);
            self.last.notes = notes;
            self.last.scale = offer.window_scale.unwrap_or(0);
        }
        let half_open = old == TcpState::SynSent && from == Direction::Reply;
        if half_open && segment.kind == Kind::Ack {
            self.last.ack = segment.ack;
        }
        Path::Done(TcpUpdate::Keep)
    }

    /// Takes the SYN that was let through for the flow's own, now that the other side has answered.
    fn follow_the_syn(&mut self, from: Direction) {
        let last = &mut self.last;
        last.notes -= Notes::CHALLENGE_AHEAD;
        let mut traits = Traits::empty();
        traits.set(Traits::WINDOW_SCALE, last.notes.contains(Notes::WINDOW_SCALE));
        traits.set(Traits::SACK_PERMITTED, last.notes.contains(Notes::SACK_PERMITTED));
        let (answering, opening) = self.windows.sides(from);
        opening.end = last.end;
        opening.max_end = last.end;
        opening.max_window = u32::from(last.window).max(1);
        opening.scale = last.scale;
        opening.traits = traits;
        answering.reset();
    }

    /// Where a reset leads (RFC 5961): it counts if its sequence number is the one its receiver
    /// expects next.
    fn after_reset(
        &mut self,
        segment: &Segment<'_>,
        from: Direction,
        status: Status,
        rules: &ConntrackSwitches,
    ) -> Path {
        let (old, last, seq) = (self.state, self.last, segment.seq);
        if old.is_closing() {
            // The ports may be in use again already: what is remembered says nothing.
            return Path::Trust(old, TcpState::Close);
        }
        let mut new = TcpState::Close;
        let receiver = *self.windows.sides(from).1;
        // An older acknowledgment says nothing of a SYN that was let through.
        if receiver.traits.contains(Traits::HAS_ACKED) && last.kind != Kind::Syn {
            let assured = status.contains(Status::ASSURED);
            let open = old == TcpState::Established && assured;
            if seq == 0 && !open {
                return Path::Judge(old, new);
            }
            if before(seq, receiver.max_ack) && !rules.ignore_invalid_rst {
                return Path::Done(TcpUpdate::Invalid(None));
            }
            let follows = last.kind == Kind::Ack && last.from == from && seq == last.end;
            if !open || seq == receiver.max_ack || follows {
                return Path::Judge(old, new);
            }
            // Its receiver will challenge it; the flow goes on until then.
            new = old;
        }
        let replied = status.contains(Status::SEEN_REPLY);
        let to_syn = replied && last.kind == Kind::Syn && last.from != from;
        let to_ack = !status.contains(Status::ASSURED) && last.kind == Kind::Ack;
        let answers_let_through = (to_syn || to_ack) && segment.ack == last.end;
        let answers_challenge = old == TcpState::SynSent
            && last.kind == Kind::Ack
            && last.from == Direction::Reply
            && seq == last.ack;
        if answers_let_through || answers_challenge {
            return Path::Trust(old, new);
        }
        Path::Judge(old, new)
    }

    /// Holds a segment against the windows and counts how often it has come.
    fn admit(&mut self, segment: &Segment<'_>, from: Direction, rules: &ConntrackSwitches) -> Fit {
        let fit = self.windows.admit(segment, from, self.state, rules.be_liberal);
        if fit == Fit::Inside && segment.kind == Kind::Ack {
            let last = &mut self.last;
            let Segment { seq, ack, end, window, .. } = *segment;
            if (last.from, last.seq, last.ack, last.end, last.window)
                == (from, seq, ack, end, window)
            {
                last.retransmissions = last.retransmissions.wrapping_add(1);
            } else {
                *last = Last { from, seq, ack, end, window, retransmissions: 0, ..*last };
            }
        }
        fit
    }

    /// A FIN or reset outside the window, answered by another from the other side, shows that the
    /// flow has ended unseen: the seconds it may live on, where that is less than it would.
    fn shorten(
        &mut self,
        segment: &Segment<'_>,
        from: Direction,
        status: Status,
        left: Duration,
        rules: &ConntrackSwitches,
    ) -> Option<u32> {
        let ends = |kind| matches!(kind, Kind::Fin | Kind::Rst);
        if !status.contains(Status::ASSURED) || !ends(segment.kind) {
            return None;
        }
        if self.last.from == from || !ends(self.last.kind) {
            (self.last.kind, self.last.from) = (segment.kind, from);
            return None;
        }
        let timeout = rules.tcp.unacknowledged;
        let shorter = left > Duration::from_secs(u64::from(timeout));
        (left >= WORTH_SHORTENING && shorter).then_some(timeout)
    }

    /// Seconds the flow lives after a segment of this kind.
    #[inline(always)]
    fn timeout(&self, kind: Kind, rules: &ConntrackSwitches) -> u32 {
        let timeouts = &rules.tcp;
        let whole = self.state.timeout(timeouts);
        if self.last.retransmissions >= rules.max_retrans && whole > timeouts.max_retrans {
            return timeouts.max_retrans;
        }
        if kind == Kind::Rst {
            return timeouts.close;
        }
        if self.windows.any(Traits::UNACKNOWLEDGED) && whole > timeouts.unacknowledged {
            return timeouts.unacknowledged;
        }
        if self.last.window == 0 { whole.min(timeouts.max_retrans) } else { whole }
    }

    /// The same while the other side has not been seen: a flow that was picked up is not believed
    /// for as long as an open one.
    #[inline(always)]
    fn timeout_unreplied(&self, kind: Kind, rules: &ConntrackSwitches) -> u32 {
        let timeout = self.timeout(kind, rules);
        if self.state == TcpState::Established {
            return timeout.min(rules.tcp.unacknowledged);
        }
        timeout
    }
}
