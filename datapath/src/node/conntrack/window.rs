//! The windows of a TCP flow, as somebody between the two sides can know them (kernel:
//! net/netfilter/nf_conntrack_proto_tcp.c; spec CT-10, CT-23 to CT-25).
//!
//! Each side is known by the highest sequence number it has sent, how far the other side's window
//! lets it send, and the largest window it has offered itself. A segment belongs to the flow if it
//! touches what its sender may send and acknowledges nothing that has not been seen.

use bitflags::bitflags;

use super::segment::{Offer, Segment, Syn, after, before};
use super::tcp::TcpState;
use crate::table::Direction;
use crate::wire::tcp::Flags;

/// An acknowledgment may lag by the largest window of its sender, but at least by this.
const SMALLEST_LAG: u32 = 66_000;

bitflags! {
    /// What is known of one side.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(super) struct Traits: u8 {
        /// Its SYN offered window scaling.
        const WINDOW_SCALE = 1;
        /// It understands selective acknowledgments.
        const SACK_PERMITTED = 2;
        /// It was the first to close.
        const CLOSED_FIRST = 4;
        /// The flow's beginning was not seen: windows are learned, not enforced.
        const LIBERAL = 8;
        /// It has sent data that is not acknowledged.
        const UNACKNOWLEDGED = 16;
        /// It has acknowledged something.
        const HAS_ACKED = 32;
    }
}

/// One side of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Side {
    /// Behind the last byte it has sent.
    pub(super) end: u32,
    /// How far the other side's window lets it send.
    pub(super) max_end: u32,
    /// The largest window it has offered; 0 while it has sent nothing.
    pub(super) max_window: u32,
    /// The highest acknowledgment it has sent.
    pub(super) max_ack: u32,
    pub(super) traits: Traits,
    /// How far its windows are to be shifted.
    pub(super) scale: u8,
}

impl Side {
    /// The side that has just sent a SYN, or a first segment of a flow picked up, which ends at `end`.
    #[inline]
    fn sends_first(&mut self, end: u32, window: u16) {
        self.end = end;
        self.max_end = end;
        self.max_window = u32::from(window).max(1);
    }

    /// Takes over what the options of a SYN offer. Without options what is known stays.
    #[inline]
    fn take_offer(&mut self, offer: Option<Offer>) {
        let Some(offer) = offer else { return };
        self.scale = offer.window_scale.unwrap_or(0);
        self.traits &= Traits::LIBERAL;
        self.traits.set(Traits::WINDOW_SCALE, offer.window_scale.is_some());
        self.traits.set(Traits::SACK_PERMITTED, offer.sack_permitted);
    }

    /// Forgets everything but that it is not to be held to its window.
    pub(super) fn reset(&mut self) {
        *self = Self { traits: self.traits & Traits::LIBERAL, ..Self::default() };
    }

    /// Where its acknowledgments may begin, given what the `other` side has sent.
    fn lowest_ack(&self, other: &Self) -> u32 {
        other.end.wrapping_sub(self.max_window.max(SMALLEST_LAG)).wrapping_sub(1)
    }

    /// Whether a segment of this side that ends at `end` reaches into the `other` side's window.
    fn reaches(&self, end: u32, other: &Self) -> bool {
        after(end, self.end.wrapping_sub(other.max_window).wrapping_sub(1))
    }
}

/// How a segment lies to the windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Inside; the windows have moved with it.
    Inside,
    /// Outside, and part of the flow all the same, because the flow is not held to its windows.
    Tolerated,
    /// Outside in a harmless way: it passes and changes nothing.
    Ignored,
    /// Not part of the flow.
    Outside,
}

/// Both sides of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Windows {
    pub(super) original: Side,
    pub(super) reply: Side,
}

/// A segment's numbers, corrected where it does not mean them.
struct Numbers {
    seq: u32,
    end: u32,
    ack: u32,
    /// The highest number acknowledged, selectively or not.
    sack: u32,
}

impl Windows {
    /// The windows after a SYN that begins the flow. It lies within them by definition.
    #[inline(always)]
    pub(super) fn of_syn(syn: &Syn) -> Self {
        let mut windows = Self::default();
        windows.original.sends_first(syn.end, syn.window);
        windows.original.take_offer(syn.offer);
        windows.reply.max_end = windows.original.max_window;
        windows
    }

    /// The windows to hold the segment against that picks the flow up.
    pub(super) fn picked_up(segment: &Segment<'_>) -> Self {
        let mut windows = Self::default();
        let side = &mut windows.original;
        side.sends_first(segment.end, segment.window);
        side.max_end = side.end.wrapping_add(side.max_window);
        side.traits = Traits::SACK_PERMITTED | Traits::LIBERAL;
        windows.reply.traits = side.traits;
        windows
    }

    /// The side that sends in a direction, and the one that receives.
    pub(super) const fn sides(&mut self, from: Direction) -> (&mut Side, &mut Side) {
        match from {
            Direction::Original => (&mut self.original, &mut self.reply),
            Direction::Reply => (&mut self.reply, &mut self.original),
        }
    }

    /// Whether one of the sides has this trait.
    pub(super) fn any(&self, traits: Traits) -> bool {
        (self.original.traits | self.reply.traits).intersects(traits)
    }

    /// Holds a segment against the windows and moves them. With `liberal` none is outside.
    pub(super) fn admit(
        &mut self,
        segment: &Segment<'_>,
        from: Direction,
        state: TcpState,
        liberal: bool,
    ) -> Fit {
        if self.meet(segment, from, state) {
            return Fit::Inside;
        }
        let (sender, receiver) = self.sides(from);
        let numbers = Numbers::of(segment, state, sender, receiver);
        let fit = judge(&numbers, sender, receiver);
        if fit != Fit::Inside {
            let tolerated = liberal || sender.traits.contains(Traits::LIBERAL);
            return if tolerated { Fit::Tolerated } else { fit };
        }
        advance(&numbers, segment, sender, receiver);
        Fit::Inside
    }

    /// Begins the sender's side where the segment is its first or begins it anew. Whether that is
    /// all there is to say about it: a SYN without an acknowledgment.
    fn meet(&mut self, segment: &Segment<'_>, from: Direction, state: TcpState) -> bool {
        let (sender, receiver) = self.sides(from);
        let syn = segment.flags.contains(Flags::SYN);
        let first = sender.max_window == 0;
        let opening = matches!(state, TcpState::SynSent | TcpState::SynRecv);
        let again = syn && opening && after(segment.end, sender.end);
        if syn && (first || again) {
            sender.sends_first(segment.end, segment.window);
            sender.take_offer(segment.offer());
            let both = sender.traits & receiver.traits;
            if from == Direction::Reply && !both.contains(Traits::WINDOW_SCALE) {
                sender.scale = 0;
                receiver.scale = 0;
            }
            let alone = !segment.flags.contains(Flags::ACK);
            return alone && (first || from == Direction::Reply);
        }
        if first {
            // The other side's first segment was picked up: what it missed is learned from this.
            sender.end = segment.end;
            sender.max_window = (u32::from(segment.window) << sender.scale).max(1);
            sender.max_end = segment.end.wrapping_add(sender.max_window);
            let sack = segment.sack_if(receiver.traits.contains(Traits::SACK_PERMITTED));
            if receiver.max_window == 0 {
                receiver.end = sack;
                receiver.max_end = sack;
            } else if sack == receiver.end.wrapping_add(1) {
                // The answer to a keepalive, most likely.
                receiver.end = sack;
            }
        }
        false
    }
}

impl Numbers {
    fn of(segment: &Segment<'_>, state: TcpState, sender: &Side, receiver: &Side) -> Self {
        let Segment { mut seq, mut end, mut ack, flags, .. } = *segment;
        let mut sack = segment.sack_if(receiver.traits.contains(Traits::SACK_PERMITTED));
        let reset = flags.contains(Flags::RST);
        if !flags.contains(Flags::ACK) || (reset && ack == 0) {
            // No acknowledgment, or a reset with one that means nothing: taken as right.
            ack = receiver.end;
            sack = receiver.end;
        }
        if reset && seq == 0 && state == TcpState::SynSent {
            // The answer to a SYN.
            seq = sender.end;
            end = sender.end;
        }
        Self { seq, end, ack, sack }
    }
}

impl Segment<'_> {
    fn sack_if(&self, permitted: bool) -> u32 {
        if permitted { self.highest_ack() } else { self.ack }
    }
}

/// Where a segment lies; one that only sends too much is noted down all the same, since its
/// receiver may take it and acknowledge it.
fn judge(numbers: &Numbers, sender: &mut Side, receiver: &Side) -> Fit {
    let Numbers { seq, end, sack, .. } = *numbers;
    let acks_seen = before(sack, receiver.end.wrapping_add(1));
    let acks_late = !after(sack, sender.lowest_ack(receiver));
    if !before(seq, sender.max_end.wrapping_add(1)) {
        let overshot = end.wrapping_sub(sender.max_end).wrapping_add(1);
        let near = receiver.max_window != 0 && sender.reaches(end, receiver);
        if near && !acks_late && acks_seen && overshot <= receiver.max_window {
            sender.end = end;
            sender.traits |= Traits::UNACKNOWLEDGED;
            return Fit::Ignored;
        }
        return Fit::Outside;
    }
    if !acks_seen {
        return Fit::Outside;
    }
    let retransmits = receiver.max_window != 0 && !sender.reaches(end, receiver);
    if retransmits || acks_late { Fit::Ignored } else { Fit::Inside }
}

/// Moves the windows with a segment that lies inside.
fn advance(numbers: &Numbers, segment: &Segment<'_>, sender: &mut Side, receiver: &mut Side) {
    let Numbers { end, ack, sack, .. } = *numbers;
    // A SYN's own window is never scaled.
    let scale = if segment.flags.contains(Flags::SYN) { 0 } else { sender.scale };
    let window = u32::from(segment.window) << scale;
    sender.max_window = sender.max_window.max(window.wrapping_add(sack.wrapping_sub(ack)));
    if after(end, sender.end) {
        sender.end = end;
        sender.traits |= Traits::UNACKNOWLEDGED;
    }
    if segment.flags.contains(Flags::ACK) {
        let first = !sender.traits.contains(Traits::HAS_ACKED);
        if first || after(ack, sender.max_ack) {
            sender.max_ack = ack;
        }
        sender.traits |= Traits::HAS_ACKED;
    }
    if receiver.max_window != 0 && after(end, sender.max_end) {
        let beyond = end.wrapping_sub(sender.max_end);
        receiver.max_window = receiver.max_window.wrapping_add(beyond);
    }
    let edge = sack.wrapping_add(window);
    if after(edge, receiver.max_end.wrapping_sub(1)) {
        receiver.max_end = edge.wrapping_add(u32::from(window == 0));
    }
    if ack == receiver.end {
        receiver.traits -= Traits::UNACKNOWLEDGED;
    }
}
