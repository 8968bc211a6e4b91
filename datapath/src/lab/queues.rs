//! How the queues of a trunk are numbered (spec TRUNK-1).

use crate::wire::Vid;

use super::model::{EniKind, Lab};

impl Lab {
    /// The members of `node`'s trunk as VID and index into [`Lab::enis`], in order of VID: the
    /// one at place `i` has queue `i + 1` (spec TRUNK-1).
    #[must_use]
    pub fn trunk_members(&self, node: usize) -> Vec<(Vid, usize)> {
        let mut members: Vec<_> = self.members_of(node).collect();
        members.sort_unstable();
        members
    }

    /// The queue of frames with `vid` on `node`'s trunk; 0 for a VID that no member has (spec
    /// TRUNK-1, TRUNK-3). Counts members: for each frame keep the numbers instead.
    #[must_use]
    pub fn trunk_queue(&self, node: usize, vid: Vid) -> u16 {
        if !self.members_of(node).any(|(v, _)| v == vid) {
            return 0;
        }
        let below = self.members_of(node).filter(|(v, _)| *v < vid).count();
        u16::try_from(below).unwrap_or(u16::MAX).saturating_add(1)
    }

    /// How many queues `node`'s trunk has: one per member and queue 0.
    #[must_use]
    pub fn trunk_queue_count(&self, node: usize) -> u16 {
        u16::try_from(self.members_of(node).count()).unwrap_or(u16::MAX).saturating_add(1)
    }

    /// VID and index of every member ENI of `node`, in lab order.
    fn members_of(&self, node: usize) -> impl Iterator<Item = (Vid, usize)> {
        self.enis.iter().enumerate().filter_map(move |(index, eni)| match eni.kind {
            EniKind::Member { vid, .. } if eni.node == node => Some((vid, index)),
            _ => None,
        })
    }
}
