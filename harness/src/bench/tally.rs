//! Every count on the way from the generator to the sink, in frames, and what they say together.

use std::collections::BTreeMap;

use super::forwarder::Books;

/// The counts at one moment, or between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Handed to the pods' wires.
    pub offered: u64,
    /// Lost there for want of room.
    pub pod_wire: u64,
    /// What the forwarder says; `None` of one that does not tell.
    pub books: Option<Books>,
    /// Lost on the wire by which requests leave, for want of room.
    pub exit_wire: u64,
    /// Arrived as expected.
    pub right: u64,
    /// Arrived otherwise.
    pub wrong: u64,
}

impl Tally {
    /// What has been counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let none = Books::default();
        let then = before.books.as_ref().unwrap_or(&none);
        Self {
            offered: self.offered - before.offered,
            pod_wire: self.pod_wire - before.pod_wire,
            books: self.books.as_ref().map(|now| books_since(now, then)),
            exit_wire: self.exit_wire - before.exit_wire,
            right: self.right - before.right,
            wrong: self.wrong - before.wrong,
        }
    }

    /// Frames lost, by place; places without a loss are left out.
    #[must_use]
    pub fn losses(&self) -> BTreeMap<String, u64> {
        let mut places = vec![("podWire", self.pod_wire), ("exitWire", self.exit_wire)];
        match &self.books {
            Some(books) => {
                places.extend([("rxRingFull", books.ring_full), ("rxDropped", books.rx_dropped)]);
                places.push(("rxNoMemory", books.no_memory));
                places.extend(books.dropped.iter().map(|(why, count)| (why.as_str(), *count)));
            }
            // What is nowhere else was lost inside (spec BENCH-14).
            None => places.push(("forwarder", self.offered.saturating_sub(self.accounted()))),
        }
        let places = places.into_iter().filter(|(_, count)| *count > 0);
        places.map(|(place, count)| (place.to_owned(), count)).collect()
    }

    /// What does not add up: what was offered has to be somewhere (spec BENCH-4).
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let (offered, wrong) = (self.offered, self.wrong);
        let mut faults = Vec::new();
        match &self.books {
            Some(books) => self.hold_against(books, &mut faults),
            None if self.accounted() > offered => {
                let accounted = self.accounted();
                faults.push(format!("{offered} offered, {accounted} arrived or were lost"));
            }
            None => {}
        }
        if wrong > 0 {
            faults.push(format!("{wrong} frames arrived wrong"));
        }
        faults
    }

    fn hold_against(&self, books: &Books, faults: &mut Vec<String>) {
        let Self { offered, pod_wire, .. } = self;
        faults.extend(books.imbalances.iter().cloned());
        let lost = books.ring_full + books.rx_dropped + books.no_memory + pod_wire;
        let arrived = books.received + lost;
        if *offered != arrived {
            faults.push(format!("pods' wires: {offered} offered, {arrived} arrived or were lost"));
        }
        let through = books.sent + books.dropped.values().sum::<u64>();
        if books.received != through {
            let received = books.received;
            faults.push(format!("forwarder: {received} received, {through} sent or dropped"));
        }
        let left = self.right + self.wrong + self.exit_wire;
        if books.sent != left {
            faults.push(format!("exit's wire: {} sent, {left} arrived or were lost", books.sent));
        }
    }

    /// Frames that arrived or were lost on the wires.
    fn accounted(&self) -> u64 {
        self.pod_wire + self.exit_wire + self.right + self.wrong
    }
}

fn books_since(now: &Books, then: &Books) -> Books {
    let dropped = now.dropped.iter().map(|(reason, count)| {
        (reason.clone(), count - then.dropped.get(reason).copied().unwrap_or(0))
    });
    Books {
        received: now.received - then.received,
        sent: now.sent - then.sent,
        ring_full: now.ring_full - then.ring_full,
        rx_dropped: now.rx_dropped - then.rx_dropped,
        no_memory: now.no_memory - then.no_memory,
        dropped: dropped.filter(|(_, count)| *count > 0).collect(),
        imbalances: now.imbalances.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Tally {
        Tally {
            offered: 110,
            pod_wire: 3,
            books: Some(Books { received: 100, sent: 100, ring_full: 7, ..Books::default() }),
            exit_wire: 2,
            right: 98,
            wrong: 0,
        }
    }

    fn books(tally: &mut Tally) -> &mut Books {
        tally.books.as_mut().expect("books")
    }

    fn faults(change: impl FnOnce(&mut Tally)) -> usize {
        let mut tally = sound();
        change(&mut tally);
        tally.faults().len()
    }

    #[test]
    fn books_that_add_up_are_sound_and_losses_have_places() {
        assert_eq!(sound().faults(), Vec::<String>::new());
        let losses = sound().losses();
        let losses: Vec<_> = losses.iter().map(|(at, n)| (at.as_str(), *n)).collect();
        assert_eq!(losses, [("exitWire", 2), ("podWire", 3), ("rxRingFull", 7)]);
    }

    #[test]
    fn a_frame_that_is_nowhere_or_wrong_is_a_fault() {
        assert_eq!(faults(|_| {}), 0);
        assert_eq!(faults(|tally| tally.offered += 1), 1);
        assert_eq!(faults(|tally| books(tally).received -= 1), 2);
        assert_eq!(faults(|tally| books(tally).sent += 1), 2);
        assert_eq!(faults(|tally| (tally.offered, books(tally).no_memory) = (111, 1)), 0);
        assert_eq!(faults(|tally| (tally.right, tally.wrong) = (97, 1)), 1);
        assert_eq!(faults(|tally| tally.right -= 1), 1);
        assert_eq!(faults(|tally| books(tally).imbalances.push("node".to_owned())), 1);
    }

    #[test]
    fn what_a_silent_forwarder_has_lost_is_the_rest() {
        let silent = Tally { books: None, ..sound() };
        let losses = silent.losses();
        let losses: Vec<_> = losses.iter().map(|(at, n)| (at.as_str(), *n)).collect();
        assert_eq!(losses, [("exitWire", 2), ("forwarder", 7), ("podWire", 3)]);
        assert_eq!(silent.faults(), Vec::<String>::new());
        assert_eq!(Tally { offered: 102, ..silent }.faults().len(), 1);
    }

    #[test]
    fn what_was_counted_before_does_not_count() {
        let mut later = sound();
        books(&mut later).dropped.insert("ttl".to_owned(), 4);
        books(&mut later).received += 4;
        later.offered += 4;
        let since = later.since(&sound());
        assert_eq!((since.offered, since.right, since.faults()), (4, 0, Vec::new()));
        assert_eq!(since.losses(), BTreeMap::from([("ttl".to_owned(), 4)]));
    }
}
