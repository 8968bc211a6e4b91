//! The trunk ENI's demultiplexer: one bounded queue a member ENI, served in turn (spec TRUNK).
//!
//! The tag's VID names the queue, whatever queue of the device the frame came by. It never names
//! the pod: that is the destination address's business.

use std::collections::VecDeque;

use crate::wire::Vid;

/// Frames one queue may have served before the next one's turn (spec TRUNK-7).
const CREDIT: usize = 16;

/// What one queue has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Frames put into the queue.
    pub queued: u64,
    /// Frames refused because it was full.
    pub lost: u64,
    /// Frames that arrived on another queue of the device than their VID's.
    pub strayed: u64,
    /// Frames delivered to a pod whose member ENI has another VID.
    pub mismatched: u64,
}

#[derive(Debug)]
struct MemberQueue<F> {
    vid: Option<Vid>,
    frames: VecDeque<F>,
    counters: QueueCounters,
    /// Test switch: a queue that is not served fills up.
    served: bool,
}

/// The queues of one trunk; queue 0 takes untagged frames and unknown VIDs.
#[derive(Debug)]
pub(super) struct Trunk<F> {
    queues: Vec<MemberQueue<F>>,
    /// The queue of each VID; 0 where nobody has it.
    by_vid: Vec<u16>,
    /// Frames in queues that are served.
    waiting: usize,
    limit: usize,
    turn: usize,
    credit: usize,
}

impl<F> Trunk<F> {
    /// A queue for each of `vids`, in order; `limit` frames each.
    pub(super) fn new(vids: &[Option<Vid>], limit: u32) -> Self {
        let limit = limit as usize;
        let queue = |vid: &Option<Vid>| MemberQueue {
            vid: *vid,
            frames: VecDeque::with_capacity(limit),
            counters: QueueCounters::default(),
            served: true,
        };
        let mut by_vid = vec![0; 1 << 12];
        for (queue, vid) in (0..).zip(vids) {
            if let Some(place) = vid.and_then(|vid| by_vid.get_mut(usize::from(vid.get()))) {
                *place = queue;
            }
        }
        let queues = vids.iter().map(queue).collect();
        Self { queues, by_vid, waiting: 0, limit, turn: 0, credit: CREDIT }
    }

    /// The queue that a tag names; 0 where there is none or nobody has its VID.
    pub(super) fn queue_of(&self, vid: Option<Vid>) -> u16 {
        let queue = vid.and_then(|vid| self.by_vid.get(usize::from(vid.get())));
        queue.copied().unwrap_or(0)
    }

    /// Puts a frame into its queue; gives it back, counted, where the queue is full.
    pub(super) fn push(&mut self, queue: u16, arrived_on: u16, frame: F) -> Result<(), F> {
        let Some(q) = self.queues.get_mut(usize::from(queue)) else { return Err(frame) };
        q.counters.strayed += u64::from(queue != arrived_on);
        if q.frames.len() >= self.limit {
            q.counters.lost += 1;
            return Err(frame);
        }
        q.counters.queued += 1;
        q.frames.push_back(frame);
        self.waiting += usize::from(q.served);
        Ok(())
    }

    /// The next frame to serve and its queue; `None` when every served queue is empty. A queue
    /// gives up its turn when it is empty or has used its credit.
    pub(super) fn pop(&mut self) -> Option<(u16, F)> {
        if self.waiting == 0 {
            return None;
        }
        for _ in 0..self.queues.len() {
            let queue = self.queues.get_mut(self.turn)?;
            let at = u16::try_from(self.turn).unwrap_or(0);
            let popped = if queue.served { queue.frames.pop_front() } else { None };
            self.waiting -= usize::from(popped.is_some());
            self.credit -= usize::from(popped.is_some());
            if self.credit == 0 || queue.frames.is_empty() || !queue.served {
                self.turn_after(at);
            }
            if let Some(frame) = popped {
                return Some((at, frame));
            }
        }
        None
    }

    /// Makes it the turn of the queue that follows `queue`.
    fn turn_after(&mut self, queue: u16) {
        self.turn = (usize::from(queue) + 1) % self.queues.len();
        self.credit = CREDIT;
    }

    /// Counts frames that go through a queue and are served at once. Where others wait, or it would not
    /// hold so many, it returns false and changes nothing.
    pub(super) fn pass(&mut self, queue: u16, arrived_on: u16, frames: usize) -> bool {
        let Some(q) = self.queues.get_mut(usize::from(queue)) else { return false };
        if self.waiting > 0 || !q.served || frames > self.limit {
            return false;
        }
        q.counters.queued += frames as u64;
        q.counters.strayed += if queue == arrived_on { 0 } else { frames as u64 };
        self.turn_after(queue);
        true
    }

    /// Whether a served queue has a frame.
    pub(super) fn has_work(&self) -> bool {
        self.waiting > 0
    }

    /// Frames waiting in all queues.
    pub(super) fn held(&self) -> u64 {
        self.queues.iter().map(|q| q.frames.len() as u64).sum()
    }

    /// Serves a queue, or stops serving it.
    pub(super) fn serve(&mut self, queue: u16, served: bool) {
        if let Some(q) = self.queues.get_mut(usize::from(queue)) {
            q.served = served;
        }
        let served = self.queues.iter().filter(|q| q.served);
        self.waiting = served.map(|q| q.frames.len()).sum();
    }

    /// Counts a frame of `queue` that went to a pod with another VID.
    pub(super) fn count_mismatch(&mut self, queue: u16) {
        if let Some(q) = self.queues.get_mut(usize::from(queue)) {
            q.counters.mismatched += 1;
        }
    }

    /// What each queue has counted, with its VID.
    pub(super) fn counters(&self) -> impl Iterator<Item = (Option<Vid>, QueueCounters)> + '_ {
        self.queues.iter().map(|q| (q.vid, q.counters))
    }
}
