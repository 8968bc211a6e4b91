//! Where frames enter and leave an element: the buffer a frame lives in and the port it comes by.

mod memory;

pub use memory::{Heap, MemoryQueues};

/// One frame in a buffer, with room in front of it for a pushed VLAN tag.
///
/// The datapath is generic over it: the memory lab uses [`Heap`], the AF_XDP loop a UMEM frame
/// whose descriptor moves instead of the bytes. A buffer is owned by exactly one place at any
/// time; an element gives every buffer back, sent or freed (spec LAW-2).
pub trait Buffer {
    /// The frame, from its Ethernet header to its last byte.
    fn bytes(&self) -> &[u8];

    /// The frame, writable.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Makes the frame `n` bytes longer in front; the new bytes hold anything. Returns false and
    /// changes nothing where the headroom is smaller than `n`.
    #[must_use]
    fn grow_front(&mut self, n: usize) -> bool;

    /// Makes the frame `n` bytes shorter in front (at most its length).
    fn shrink_front(&mut self, n: usize);

    /// Sets the frame's length, keeping its start; new bytes hold anything. Returns false and
    /// changes nothing where the buffer is too small.
    #[must_use]
    fn set_len(&mut self, len: usize) -> bool;

    /// Empties the buffer and gives it back its full headroom, ready for a frame of our own.
    fn reset(&mut self);
}

/// A place where frames come in and go out, with one or more queues.
///
/// The memory lab implements it on [`MemoryQueues`], `datapath-io` on AF_XDP sockets. A trunk
/// port has one queue per member ENI and queue 0 for the rest (spec TRUNK-1).
pub trait Port<B> {
    /// Number of queues, at least 1.
    fn queues(&self) -> u16;

    /// Takes up to `max` frames that have arrived on `queue`, oldest first.
    fn receive(&mut self, queue: u16, max: usize, into: &mut Vec<B>);

    /// Sends a frame on `queue`. It is on its way at the latest after [`Port::flush`].
    ///
    /// # Errors
    /// The frame itself, where the queue has no room; the port has counted the loss.
    fn send(&mut self, queue: u16, frame: B) -> Result<(), B>;

    /// Pushes out what was sent and takes back finished buffers.
    fn flush(&mut self);
}
