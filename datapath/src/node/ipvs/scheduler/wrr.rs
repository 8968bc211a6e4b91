//! Weighted round robin (kernel: net/netfilter/ipvs/ip_vs_wrr.c; spec IPVS-11).
//!
//! In each round those destinations take part that weigh at least so much: all but the heaviest
//! are left out at first, and the bar sinks by the weights' common divisor from round to round.

use super::{Pool, pool};
use crate::table::Handle;

/// Where in which round it stands.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::node::ipvs) struct WeightedRoundRobin {
    /// The place of the destination picked last; `None` before the first of the list.
    last: Option<usize>,
    /// What a destination has to weigh in this round.
    bar: i64,
    /// The bar of the first round; 0 where nothing has a weight.
    highest: i64,
    /// By how much the bar sinks.
    step: i64,
}

impl WeightedRoundRobin {
    /// The list begins again, at about the same bar.
    pub(super) fn changed(&mut self, pool: Pool<'_>) {
        let weights = pool.iter().map(|(_, server)| server.destination.weight);
        let (step, largest) = pool::step_and_largest(weights);
        self.last = None;
        self.step = i64::from(step.max(1));
        // So the last bar is 1.
        self.highest = i64::from(largest) - (self.step - 1);
        if self.bar > self.highest || self.bar == 0 {
            self.bar = self.highest;
        } else if self.step > 1 {
            self.bar = self.bar / self.step * self.step + 1;
        }
    }

    pub(super) fn pick(&mut self, pool: Pool<'_>) -> Option<Handle> {
        if self.highest == 0 {
            return None;
        }
        let begun = self.last;
        let mut place = begun.map_or(0, |last| last + 1);
        let (mut is_last_round, mut has_restarted, mut until) = (false, false, None);
        loop {
            while let Some((handle, server)) = pool.at(place) {
                if !server.overloaded && i64::from(server.destination.weight) >= self.bar {
                    self.last = Some(place);
                    return Some(handle);
                }
                if until == Some(place) {
                    self.last = until;
                    return None;
                }
                place += 1;
            }
            place = 0;
            self.bar -= self.step;
            if self.bar <= 0 {
                self.bar = self.highest;
                if is_last_round || begun.is_none() {
                    self.last = None;
                    return None;
                }
                has_restarted = true;
            }
            is_last_round = self.bar <= self.step;
            if is_last_round && has_restarted {
                // Those after the place it began at have all been asked for a weight of 1.
                until = begun;
            }
        }
    }
}
