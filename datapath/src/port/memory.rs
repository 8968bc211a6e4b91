//! Ports in memory: heap buffers and the bounded queues between two elements.

use std::collections::VecDeque;

use super::Buffer;

/// Bytes kept free in front of a frame, enough for any tag this datapath pushes.
const HEADROOM: usize = 64;
/// Largest frame a heap buffer holds, in bytes: a jumbo frame (MTU 8500) with two tags.
const CAPACITY: usize = 8_522;

/// A frame on the heap.
#[derive(Clone, PartialEq, Eq)]
pub struct Heap {
    store: Vec<u8>,
    start: usize,
}

impl Heap {
    /// A buffer holding a copy of `frame`, cut at the buffer's capacity of 8,522 bytes.
    #[must_use]
    pub fn new(frame: &[u8]) -> Self {
        let frame = frame.get(..CAPACITY).unwrap_or(frame);
        let mut store = Vec::with_capacity(HEADROOM + frame.len());
        store.resize(HEADROOM, 0);
        store.extend_from_slice(frame);
        Self { store, start: HEADROOM }
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl std::fmt::Debug for Heap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Heap({} bytes)", self.store.len() - self.start)
    }
}

impl Buffer for Heap {
    fn bytes(&self) -> &[u8] {
        self.store.get(self.start..).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.store.get_mut(self.start..).unwrap_or_default()
    }

    fn grow_front(&mut self, n: usize) -> bool {
        let fits = n <= self.start;
        if fits {
            self.start -= n;
        }
        fits
    }

    fn shrink_front(&mut self, n: usize) {
        self.start = (self.start + n).min(self.store.len());
    }

    fn set_len(&mut self, len: usize) -> bool {
        let fits = len <= CAPACITY;
        if fits {
            self.store.resize(self.start + len, 0);
        }
        fits
    }

    fn reset(&mut self) {
        self.store.truncate(HEADROOM);
        self.start = HEADROOM;
    }
}

/// The queues of one direction of a memory link, each bounded like a veth ring (256 frames).
#[derive(Debug)]
pub struct MemoryQueues<B> {
    queues: Vec<VecDeque<B>>,
    limit: usize,
    lost: u64,
}

impl<B> MemoryQueues<B> {
    /// `queues` queues (at least one) of `limit` frames each.
    #[must_use]
    pub fn new(queues: usize, limit: usize) -> Self {
        Self { queues: (0..queues.max(1)).map(|_| VecDeque::new()).collect(), limit, lost: 0 }
    }

    /// Puts a frame into a queue (an unknown queue number means queue 0); gives the frame back
    /// and counts it as lost where the queue is full.
    ///
    /// # Errors
    /// The frame itself, when there is no room.
    pub fn push(&mut self, queue: u16, frame: B) -> Result<(), B> {
        let at = usize::from(queue);
        let at = if at < self.queues.len() { at } else { 0 };
        match self.queues.get_mut(at) {
            Some(q) if q.len() < self.limit => {
                q.push_back(frame);
                Ok(())
            }
            _ => {
                self.lost += 1;
                Err(frame)
            }
        }
    }

    /// Takes up to `max` frames of one queue, oldest first.
    pub fn take(&mut self, queue: u16, max: usize, into: &mut Vec<B>) {
        if let Some(q) = self.queues.get_mut(usize::from(queue)) {
            let n = q.len().min(max);
            into.extend(q.drain(..n));
        }
    }

    /// Number of queues.
    #[must_use]
    pub fn count(&self) -> u16 {
        u16::try_from(self.queues.len()).unwrap_or(u16::MAX)
    }

    /// Frames waiting in all queues.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// Whether no frame waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// Frames refused because their queue was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}
