//! The packets that are being gathered, within one limit.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::Gathering;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::Protocol;
use crate::wire::ipv4::{Fragment, Header};

/// How long after its first fragment a packet must be whole (ipfrag_time).
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the fragments of one packet have in common (spec FRAG-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    user: u32,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    proto: Protocol,
    id: u16,
}

#[derive(Debug)]
struct Entry<P> {
    key: Key,
    deadline: Time,
    gathering: Gathering<P>,
}

/// What became of a fragment.
#[derive(Debug)]
pub(crate) enum Taken<P> {
    /// It waits for the others.
    Held,
    /// These go no further: the fragment itself, or with it all that it spoils.
    Lost(Vec<P>, DropReason),
    /// It was the one that was missing.
    Complete(Gathering<P>),
}

/// Fragments that wait, bounded; `P` is a fragment as its owner keeps it.
#[derive(Debug)]
pub(crate) struct Fragments<P> {
    /// In the order in which their first fragments came, so in that of their deadlines. They are
    /// few, and fragments rare: looking through them all is fast enough.
    entries: VecDeque<Entry<P>>,
    held: usize,
    limit: usize,
}

impl<P> Fragments<P> {
    /// Room for `limit` fragments.
    pub(crate) const fn new(limit: u32) -> Self {
        Self { entries: VecDeque::new(), held: 0, limit: limit as usize }
    }

    /// Fragments that wait.
    pub(crate) const fn held(&self) -> u64 {
        self.held as u64
    }

    /// Takes a fragment that came to `user`; fragments of different users never meet.
    pub(crate) fn take(
        &mut self,
        user: u32,
        header: &Header,
        fragment: Fragment,
        item: P,
        now: Time,
    ) -> Taken<P> {
        if self.held >= self.limit {
            return Taken::Lost(vec![item], DropReason::FragmentTableFull);
        }
        let Header { src, dst, protocol: proto, id, .. } = *header;
        let key = Key { user, src, dst, proto, id };
        let known = self.entries.iter().position(|e| e.key == key && e.deadline > now);
        let at = known.unwrap_or(self.entries.len());
        if known.is_none() {
            let (deadline, gathering) = (now + TIMEOUT, Gathering::default());
            self.entries.push_back(Entry { key, deadline, gathering });
        }
        let Some(entry) = self.entries.get_mut(at) else { return Taken::Held };
        match entry.gathering.add(header, fragment, item) {
            Ok(()) if !entry.gathering.is_complete() => {
                self.held += 1;
                Taken::Held
            }
            Ok(()) => {
                self.held += 1;
                Taken::Complete(self.remove(at))
            }
            Err((item, reason @ DropReason::FragmentDuplicate)) => Taken::Lost(vec![item], reason),
            Err((item, reason)) => {
                let spoiled = self.remove(at).into_items();
                Taken::Lost(spoiled.chain([item]).collect(), reason)
            }
        }
    }

    fn remove(&mut self, at: usize) -> Gathering<P> {
        let gathering = self.entries.remove(at).map(|e| e.gathering).unwrap_or_default();
        self.held -= gathering.len();
        gathering
    }

    /// When the next packet's time is up.
    pub(crate) fn poll_at(&self) -> Option<Time> {
        self.entries.front().map(|entry| entry.deadline)
    }

    /// The next packet whose time is up.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Gathering<P>> {
        self.poll_at().filter(|deadline| *deadline <= now).map(|_| self.remove(0))
    }
}
