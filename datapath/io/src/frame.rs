//! A frame in hand: exclusive access to one piece of an arena.
#![allow(unsafe_code, reason = "turns an owned frame number into the bytes of that frame")]

use std::fmt;
use std::mem;
use std::ptr;
use std::slice;

use datapath::port::Buffer;

use crate::arena::{Arena, FRAME_SIZE, PACKET_START, ROOM, TAG};
use crate::pool::RUN;

/// How far to the front a frame may grow.
const FIRST_START: usize = PACKET_START - 64;

/// Bytes of a run of frames.
const RUN_SIZE: usize = RUN as usize * FRAME_SIZE;

/// One frame of an [`Arena`], owned: 16 bytes that stand for 2 KiB of packet memory.
///
/// Dropping it frees it, on whatever thread, so a datapath discards a packet by dropping its
/// buffer. It holds up to 1,728 bytes from where packets are received, enough for an MTU of 1,500
/// with two tags. Where the arena was made for larger packets, one that becomes longer moves into
/// a run of frames, which is one piece of memory as well.
pub struct UmemFrame<'a> {
    arena: &'a Arena,
    number: u32,
    // Always `start + len <= size()`.
    start: u16,
    len: u16,
}

impl fmt::Debug for UmemFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UmemFrame({}: {} bytes)", self.number, self.len)
    }
}

impl Drop for UmemFrame<'_> {
    fn drop(&mut self) {
        self.arena.pool().release(self.number);
    }
}

impl<'a> UmemFrame<'a> {
    /// Makes the buffer of a frame that the pool has just put into hand.
    ///
    /// # Safety
    /// The number is one of the arena's frames or runs, the pool has moved it into hand for this
    /// call and no other, and `start + len` is at most the bytes of that.
    pub(crate) unsafe fn new(arena: &'a Arena, number: u32, start: usize, len: usize) -> Self {
        let frame = Self { arena, number, start: start as u16, len: len as u16 };
        debug_assert!(start + len <= frame.size());
        frame
    }

    /// Whether it is a run of frames, which no descriptor describes.
    pub(crate) fn is_run(&self) -> bool {
        self.number >= self.arena.first_run()
    }

    /// Bytes of its memory.
    fn size(&self) -> usize {
        if self.is_run() { RUN_SIZE } else { FRAME_SIZE }
    }

    /// How many descriptors it takes to send it.
    pub(crate) fn pieces(&self) -> usize {
        if self.is_run() { self.len().div_ceil(ROOM).max(1) } else { 1 }
    }

    /// Puts bytes behind the packet; false where there is no room for them.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> bool {
        let before = self.len();
        if !self.set_len(before + bytes.len()) {
            return false;
        }
        if let Some(behind) = self.bytes_mut().get_mut(before..) {
            behind.copy_from_slice(bytes);
        }
        true
    }

    /// Moves the packet into a run, where the arena has one.
    #[cold]
    fn move_into_run(&mut self) -> bool {
        if self.is_run() {
            return false;
        }
        let Some(number) = self.arena.pool().take_run() else { return false };
        // SAFETY: the pool has just moved this run into hand, and it is longer than a frame.
        let mut run = unsafe { Self::new(self.arena, number, self.start(), self.len()) };
        run.bytes_mut().copy_from_slice(self.bytes());
        *self = run;
        true
    }

    /// Ends the buffer without freeing the frame, which now belongs to a ring.
    pub(crate) fn into_number(self) -> u32 {
        let number = self.number;
        mem::forget(self);
        number
    }

    pub(crate) fn arena(&self) -> &'a Arena {
        self.arena
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn start(&self) -> usize {
        usize::from(self.start)
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Moves the packet to where a descriptor points, if it is not there. One tag pushed or
    /// popped needs no move; everything else is rare. False where the packet is too long.
    pub(crate) fn settle(&mut self) -> bool {
        let sendable = [PACKET_START, PACKET_START - TAG, PACKET_START + TAG];
        if sendable.contains(&self.start()) {
            return true;
        }
        let place = sendable.into_iter().find(|to| to + self.len() <= FRAME_SIZE);
        let Some(to) = place else { return false };
        let (from, len) = (self.start(), self.len());
        let whole = self.whole();
        whole.copy_within(from..from + len, to);
        self.start = to as u16;
        true
    }

    /// All bytes of the frame or run.
    fn whole(&mut self) -> &mut [u8] {
        let at = self.arena.base() + self.number as usize * FRAME_SIZE;
        // SAFETY: the arena's memory is mapped at `base` for as long as the arena is borrowed, was
        // allocated outside Rust with its address exposed, and holds this one completely. The
        // frame or run is ours alone: one `UmemFrame` exists per number in hand, the kernel does
        // not know the number meanwhile, and the borrow of self is exclusive.
        unsafe { slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(at), self.size()) }
    }
}

impl Buffer for UmemFrame<'_> {
    fn bytes(&self) -> &[u8] {
        let at = self.arena.base() + self.number as usize * FRAME_SIZE + self.start();
        // SAFETY: as in `whole`, and the packet is inside the frame. Shared borrows of self only
        // ever read.
        unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(at), self.len()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let packet = self.start()..self.start() + self.len();
        self.whole().get_mut(packet).unwrap_or_default()
    }

    fn grow_front(&mut self, n: usize) -> bool {
        let fits = n <= self.start().saturating_sub(FIRST_START);
        if fits {
            self.start -= n as u16;
            self.len += n as u16;
        }
        fits
    }

    fn shrink_front(&mut self, n: usize) {
        let n = n.min(self.len()) as u16;
        self.start += n;
        self.len -= n;
    }

    fn set_len(&mut self, len: usize) -> bool {
        let fits = len <= self.size() - self.start()
            || (len <= RUN_SIZE - self.start() && self.move_into_run());
        if fits {
            self.len = len as u16;
        }
        fits
    }

    fn reset(&mut self) {
        self.start = PACKET_START as u16;
        self.len = 0;
    }
}
