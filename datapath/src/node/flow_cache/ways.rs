//! The ways that learned paths lead.

use crate::element::Place;
use crate::journey::PortId;
use crate::random::Random;
use crate::table::{Direction, Index};
use crate::wire::Mac;
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

/// Never a way's number.
const SPENT: u32 = u32::MAX;

/// A place for a way.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// The number of its way, or of the next one to be here: a multiple of [`WAYS`] above the place.
    number: u32,
    way: Way,
}

/// The ways that learned paths lead: a few for each pod, whatever the number of flows. All are
/// forgotten together, and every path with them, when a neighbour has got another MAC. One more than
/// there is room for takes the place of any other, whose paths alone hold no more: whichever order
/// packets come in, most of them find their way.
#[derive(Debug)]
pub(in crate::node) struct Ways {
    ways: Vec<Kept>,
    index: Index,
    /// The place taken first of those in use; the others are behind it, all in a round.
    first: u32,
    used: u32,
    random: Random,
    /// The neighbours' epoch in which they hold.
    epoch: u32,
}

impl Ways {
    /// No ways yet; `seed` keys their hashes, and decides which one goes.
    pub(in crate::node) fn new(seed: u64) -> Self {
        let nowhere = Place { port: PortId(0), queue: 0 };
        let link = Link::new(Mac::default(), Mac::default(), None);
        let way = Way { came: nowhere, mtu: 0, link, exit: nowhere, within: None };
        // Number 0 is that of no way.
        let ways = (WAYS..2 * WAYS).map(|number| Kept { number, way }).collect();
        let index = Index::with_capacity(WAYS as usize, seed);
        Self { ways, index, first: 0, used: 0, random: Random::new(seed), epoch: 0 }
    }

    #[inline]
    pub(super) fn get(&self, number: u32, epoch: u32) -> Option<&Way> {
        let kept = self.ways.get((number % WAYS) as usize)?;
        (kept.number == number && self.epoch == epoch).then_some(&kept.way)
    }

    /// The number of a way, from 1 on; `None` where the numbers of a place have all been given.
    pub(super) fn number_of(&mut self, way: Way, epoch: u32) -> Option<u32> {
        if self.epoch != epoch {
            self.forget();
            self.epoch = epoch;
        }
        let hash = self.index.hash_of(&way);
        let is = |place: u32| self.ways.get(place as usize).is_some_and(|kept| kept.way == way);
        if let Some(place) = self.index.find(hash, is) {
            return self.ways.get(place as usize).map(|kept| kept.number);
        }
        let place = if self.used < WAYS {
            self.used += 1;
            (self.first + self.used - 1) % WAYS
        } else {
            let place = self.random.below(WAYS);
            self.vacate(place);
            place
        };
        let kept = self.ways.get_mut(place as usize).filter(|kept| kept.number != SPENT)?;
        kept.way = way;
        // There is room: as many as are in the index have places.
        self.index.insert(hash, place).ok()?;
        Some(kept.number)
    }

    /// Forgets all ways; their numbers mean nothing from now on. The places that follow are next, so
    /// that numbers last.
    fn forget(&mut self) {
        for at in 0..self.used {
            self.vacate((self.first + at) % WAYS);
        }
        self.first = (self.first + self.used) % WAYS;
        self.used = 0;
    }

    /// Forgets the way in a place.
    fn vacate(&mut self, place: u32) {
        let Some(kept) = self.ways.get_mut(place as usize) else { return };
        self.index.remove(self.index.hash_of(&kept.way), place);
        kept.number = kept.number.checked_add(WAYS).unwrap_or(SPENT);
    }
}
