//! Which queues are looked at in a turn: those in use every time, the idle ones by turns, so that
//! hundreds of idle ports cost a busy one little (spec LINK-6).

use datapath::element::Place;

/// Turns without a frame after which a queue counts as idle.
const PATIENCE: u8 = 64;
/// Idle queues looked at in a turn.
const IDLE: usize = 16;

/// A queue of a port of an element, counted as the elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Visit {
    pub(super) station: usize,
    pub(super) place: Place,
}

/// The queues of all sockets.
#[derive(Debug, Default)]
pub(super) struct Rota {
    /// Those in use first; each with the turns that it was empty.
    queues: Vec<(Visit, u8)>,
    in_use: usize,
    /// How many of the idle ones have been looked at since the first was.
    next: usize,
    /// Whether the next turn looks at all.
    all: bool,
}

impl Rota {
    pub(super) fn new(queues: impl Iterator<Item = Visit>) -> Self {
        Self { queues: queues.map(|visit| (visit, 0)).collect(), in_use: 0, next: 0, all: true }
    }

    /// Has the next turn look at every queue.
    pub(super) fn look_at_all(&mut self) {
        self.all = true;
    }

    /// Begins a turn.
    pub(super) fn turn(&mut self) -> Turn {
        let idle = self.queues.len() - self.in_use;
        Turn { at: 0, idle: if std::mem::take(&mut self.all) { idle } else { idle.min(IDLE) } }
    }

    /// The queue to look at next.
    #[inline]
    pub(super) fn next(&mut self, turn: &mut Turn) -> Option<Visit> {
        if turn.at < self.in_use {
            return self.queues.get(turn.at).map(|(visit, _)| *visit);
        }
        turn.idle = turn.idle.checked_sub(1)?;
        let idle = self.queues.len() - self.in_use;
        if self.next >= idle {
            self.next = 0;
        }
        self.queues.get(self.in_use + self.next).map(|(visit, _)| *visit)
    }

    /// Notes whether the queue that was given last had a frame.
    #[inline]
    pub(super) fn note(&mut self, turn: &mut Turn, had: bool) {
        if turn.at < self.in_use {
            let Some((_, empty)) = self.queues.get_mut(turn.at) else { return };
            *empty = if had { 0 } else { *empty + 1 };
            if *empty < PATIENCE {
                turn.at += 1;
            } else {
                // The last of those in use takes its place, and is looked at next.
                self.in_use -= 1;
                self.queues.swap(turn.at, self.in_use);
            }
        } else if had {
            let at = self.in_use + self.next;
            self.queues.swap(at, self.in_use);
            if let Some((_, empty)) = self.queues.get_mut(self.in_use) {
                *empty = 0;
            }
            self.in_use += 1;
            // It has been looked at; the next is now where this was, or behind it.
            turn.at = self.in_use;
        } else {
            self.next += 1;
        }
    }
}

/// How far a turn has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Queues in use that were looked at.
    at: usize,
    /// Idle queues still to be looked at.
    idle: usize,
}
