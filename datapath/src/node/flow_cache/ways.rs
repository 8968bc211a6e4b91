//! The ways that learned paths lead.

use crate::element::Place;
use crate::table::{Direction, Index};
use crate::wire::ethernet::Link;

/// Where packets come in and where they leave, and as what their connection has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Way {
    /// Where the packets come in; on the trunk, the queue of their VID.
    pub(super) came: Place,
    /// The largest packet that fits every exit the walk looked at, in bytes.
    pub(super) mtu: u16,
    /// What they leave with in front of their EtherType.
    pub(super) link: Link,
    /// Where they leave.
    pub(super) exit: Place,
    /// The direction they have in their connection, if they have one.
    pub(super) within: Option<Direction>,
}

/// How many ways are known at once (spec FLOW-7).
const WAYS: u32 = 4_096;

/// The ways that learned paths lead: a few for each pod, whatever the number of flows. All are
/// forgotten together, and every path with them, when a neighbour has got another MAC or when one
/// more would be too many.
#[derive(Debug)]
pub(in crate::node) struct Ways {
    ways: Vec<Way>,
    index: Index,
    /// The number of the first; that of each other is one more.
    first: u32,
    /// The neighbours' epoch in which they hold.
    epoch: u32,
}

impl Ways {
    /// No ways yet; `seed` keys their hashes.
    pub(in crate::node) fn new(seed: u64) -> Self {
        let index = Index::with_capacity(WAYS as usize, seed);
        Self { ways: Vec::with_capacity(WAYS as usize), index, first: 1, epoch: 0 }
    }

    #[inline]
    pub(super) fn get(&self, number: u32, epoch: u32) -> Option<&Way> {
        let place = number.checked_sub(self.first)? as usize;
        self.ways.get(place).filter(|_| self.epoch == epoch)
    }

    /// The number of a way, from 1 on; `None` once all numbers have been given.
    pub(super) fn number_of(&mut self, way: Way, epoch: u32) -> Option<u32> {
        let hash = self.index.hash_of(&way);
        let is = |place: u32| self.ways.get(place as usize) == Some(&way);
        if self.epoch == epoch
            && let Some(known) = self.index.find(hash, is)
        {
            return self.first.checked_add(known);
        }
        if self.epoch != epoch || self.ways.len() == WAYS as usize {
            self.forget();
            self.epoch = epoch;
        }
        let place = u32::try_from(self.ways.len()).ok()?;
        let number = self.first.checked_add(place).filter(|number| *number < u32::MAX)?;
        // There is room: what was too much has just been forgotten.
        self.index.insert(hash, place).ok()?;
        self.ways.push(way);
        Some(number)
    }

    /// Forgets all ways; their numbers mean nothing from now on.
    fn forget(&mut self) {
        for (place, way) in (0..).zip(&self.ways) {
            self.index.remove(self.index.hash_of(way), place);
        }
        self.first = self.first.saturating_add(self.ways.len() as u32);
        self.ways.clear();
    }
}
