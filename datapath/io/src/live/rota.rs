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

#[cfg(test)]
mod tests {
    use datapath::journey::PortId;

    use super::*;

    fn rota(count: u16) -> Rota {
        let visit = |queue| Visit { station: 0, place: Place { port: PortId(0), queue } };
        Rota::new((0..count).map(visit))
    }

    /// A turn in which some queues have frames; what was looked at.
    fn turn(rota: &mut Rota, full: &[u16]) -> Vec<u16> {
        let mut turn = rota.turn();
        let mut seen = Vec::new();
        while let Some(visit) = rota.next(&mut turn) {
            seen.push(visit.place.queue);
            rota.note(&mut turn, full.contains(&visit.place.queue));
        }
        seen
    }

    #[test]
    fn a_queue_in_use_is_looked_at_in_every_turn_and_no_idle_one_is_forgotten() {
        let mut rota = rota(100);
        assert_eq!(turn(&mut rota, &[]).len(), 100, "the first turn looks at all");
        let mut in_use = vec![];
        for busy in [7, 93, 50] {
            in_use.push(busy);
            let mut seen = vec![0; 100];
            // Two rounds of the idle ones: one that makes room for a queue in use goes further back.
            for _ in 0..2 * 100_usize.div_ceil(IDLE) {
                for queue in turn(&mut rota, &in_use) {
                    seen[usize::from(queue)] += 1;
                }
            }
            assert!(seen.iter().all(|times| *times > 0), "{busy}: {seen:?}");
            let again = turn(&mut rota, &in_use);
            assert!(in_use.iter().all(|queue| again.contains(queue)));
            assert_eq!(again.len(), in_use.len() + IDLE);
        }
    }

    #[test]
    fn a_queue_that_falls_silent_becomes_idle() {
        let mut rota = rota(40);
        turn(&mut rota, &[3, 4]);
        assert_eq!(rota.in_use, 2);
        for _ in 0..usize::from(PATIENCE) {
            turn(&mut rota, &[4]);
        }
        assert_eq!(rota.in_use, 1);
        rota.look_at_all();
        assert_eq!(turn(&mut rota, &[]).len(), 40);
    }

    #[test]
    fn fewer_queues_than_a_turn_has_time_for_are_each_looked_at_once() {
        let mut rota = rota(3);
        for full in [&[][..], &[1], &[0, 1, 2], &[]] {
            let mut seen = turn(&mut rota, full);
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2]);
        }
        assert!(turn(&mut Rota::default(), &[]).is_empty());
    }
}
