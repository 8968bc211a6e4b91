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
    /// What the forwarder says.
    pub books: Books,
    /// Lost on eth0's wire for want of room.
    pub eth0_wire: u64,
    /// Arrived as expected.
    pub right: u64,
    /// Arrived otherwise.
    pub wrong: u64,
}

impl Tally {
    /// What has been counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let (now, then) = (&self.books, &before.books);
        let dropped = now.dropped.iter().map(|(reason, count)| {
            (reason.clone(), count - then.dropped.get(reason).copied().unwrap_or(0))
        });
        Self {
            offered: self.offered - before.offered,
            pod_wire: self.pod_wire - before.pod_wire,
            books: Books {
                received: now.received - then.received,
                sent: now.sent - then.sent,
                ring_full: now.ring_full - then.ring_full,
                rx_dropped: now.rx_dropped - then.rx_dropped,
                dropped: dropped.filter(|(_, count)| *count > 0).collect(),
                imbalances: now.imbalances.clone(),
            },
            eth0_wire: self.eth0_wire - before.eth0_wire,
            right: self.right - before.right,
            wrong: self.wrong - before.wrong,
        }
    }

    /// Frames lost, by place; places without a loss are left out.
    #[must_use]
    pub fn losses(&self) -> BTreeMap<String, u64> {
        let wires = [
            ("podWire", self.pod_wire),
            ("rxRingFull", self.books.ring_full),
            ("rxDropped", self.books.rx_dropped),
            ("eth0Wire", self.eth0_wire),
        ];
        let wires = wires.into_iter().filter(|(_, count)| *count > 0);
        let wires = wires.map(|(place, count)| (place.to_owned(), count));
        wires.chain(self.books.dropped.clone()).collect()
    }

    /// What does not add up: what was offered has to be somewhere (spec BENCH-4).
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let Self { offered, pod_wire, books, eth0_wire, right, wrong } = self;
        let mut faults = books.imbalances.clone();
        let arrived = books.received + books.ring_full + books.rx_dropped + pod_wire;
        if *offered != arrived {
            faults.push(format!("pods' wires: {offered} offered, {arrived} arrived or were lost"));
        }
        let through = books.sent + books.dropped.values().sum::<u64>();
        if books.received != through {
            let received = books.received;
            faults.push(format!("forwarder: {received} received, {through} sent or dropped"));
        }
        let left = right + wrong + eth0_wire;
        if books.sent != left {
            faults.push(format!("eth0's wire: {} sent, {left} arrived or were lost", books.sent));
        }
        if *wrong > 0 {
            faults.push(format!("{wrong} frames arrived wrong"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Tally {
        Tally {
            offered: 110,
            pod_wire: 3,
            books: Books { received: 100, sent: 100, ring_full: 7, ..Books::default() },
            eth0_wire: 2,
            right: 98,
            wrong: 0,
        }
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
        assert_eq!(losses, [("eth0Wire", 2), ("podWire", 3), ("rxRingFull", 7)]);
    }

    #[test]
    fn a_frame_that_is_nowhere_or_wrong_is_a_fault() {
        assert_eq!(faults(|_| {}), 0);
        assert_eq!(faults(|tally| tally.offered += 1), 1);
        assert_eq!(faults(|tally| tally.books.received -= 1), 2);
        assert_eq!(faults(|tally| tally.books.sent += 1), 2);
        assert_eq!(faults(|tally| (tally.right, tally.wrong) = (97, 1)), 1);
        assert_eq!(faults(|tally| tally.right -= 1), 1);
        assert_eq!(faults(|tally| tally.books.imbalances.push("node".to_owned())), 1);
    }

    #[test]
    fn what_was_counted_before_does_not_count() {
        let mut later = sound();
        later.books.dropped.insert("ttl".to_owned(), 4);
        later.books.received += 4;
        later.offered += 4;
        let since = later.since(&sound());
        assert_eq!((since.offered, since.right, since.faults()), (4, 0, Vec::new()));
        assert_eq!(since.losses(), BTreeMap::from([("ttl".to_owned(), 4)]));
    }
}
