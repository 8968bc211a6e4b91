//! Memory for tables of many flows.
#![allow(unsafe_code, reason = "an allocator deals in raw memory")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::ptr::{NonNull, null_mut};

use nix::libc::c_void;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// The size of a large page, in bytes.
const PAGE: usize = 2 << 20;
/// From this size on a block is worth pages of its own, in bytes.
const LARGE: usize = 2 * PAGE;

/// An allocator that takes large blocks from the kernel on pages of 2 MiB, where the machine has them
/// to give (`madvise`, Linux: Documentation/admin-guide/mm/transhuge.rst), and leaves everything else
/// to the system's.
///
/// A look-up in a table of a million flows reads a few lines from anywhere in hundreds of megabytes.
/// On pages of 4 KiB the processor has to find each of these pages first, in a virtual machine through
/// two page tables, and can not even fetch a line ahead before it has.
///
/// ```
/// #[global_allocator]
/// static MEMORY: datapath_io::LargePages = datapath_io::LargePages;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LargePages;

impl LargePages {
    /// Whether a block gets pages of its own: the same for its allocation and its end.
    fn serves(layout: Layout) -> bool {
        layout.size() >= LARGE && layout.align() <= PAGE
    }
}

// SAFETY: a block that `serves` names is a mapping of its own that begins at a multiple of `PAGE`, which
// is one of its alignment, and is as long as its size rounded up to pages; all others are the system
// allocator's. `serves` depends on the layout alone, so that a block ends where it came from.
unsafe impl GlobalAlloc for LargePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if Self::serves(layout) {
            return map(layout.size()).map_or(null_mut(), |block| block.as_ptr().cast());
        }
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if Self::serves(layout) {
            // A new mapping is zero.
            return map(layout.size()).map_or(null_mut(), |block| block.as_ptr().cast());
        }
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !Self::serves(layout) {
            // SAFETY: a block with this layout came from the system's allocator.
            return unsafe { System.dealloc(block, layout) };
        }
        if let Some(block) = NonNull::new(block.cast()) {
            unmap(block, layout.size().next_multiple_of(PAGE));
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size, rounded up to the alignment, is a valid one.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if !Self::serves(layout) && !Self::serves(new) {
            // SAFETY: the block is the system allocator's, and stays it.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the new layout is valid; both blocks are as long as what is copied, and do not
        // overlap, since both live.
        unsafe {
            let to = self.alloc(new);
            if !to.is_null() {
                to.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            to
        }
    }
}

/// A new mapping for so many bytes, on large pages as far as there are any.
fn map(size: usize) -> Option<NonNull<c_void>> {
    let len = size.checked_next_multiple_of(PAGE)?;
    let whole = NonZeroUsize::new(len.checked_add(PAGE)?)?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: without an address of our own the kernel takes memory that nobody has.
    let start = unsafe { mmap_anonymous(None, whole, protection, MapFlags::MAP_PRIVATE) }.ok()?;
    // The mapping is a page longer than needed: what lies before its first whole page and behind the
    // last goes back.
    let before = start.addr().get().next_multiple_of(PAGE) - start.addr().get();
    // SAFETY: both lie in the mapping, which is `len + PAGE` long, and `before` is below `PAGE`.
    let (block, behind) = unsafe { (start.byte_add(before), start.byte_add(before + len)) };
    if before > 0 {
        unmap(start, before);
    }
    unmap(behind, PAGE - before);
    // SAFETY: the advice changes no byte; where it is refused the pages are small.
    let _ = unsafe { madvise(block, len, MmapAdvise::MADV_HUGEPAGE) };
    Some(block)
}

/// Gives back memory that [`map`] has taken.
fn unmap(start: NonNull<c_void>, len: usize) {
    // SAFETY: it is ours and nobody uses it any more. There is nothing to be done where the kernel
    // refuses, which it does only to somebody who has too many mappings.
    let _ = unsafe { munmap(start, len) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks on both sides of the border, grown and shrunk across it, keep what is in them.
    #[test]
    fn blocks_keep_their_bytes_on_both_sides_of_the_border() {
        let sizes = [64, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE, 100, LARGE + 7, LARGE + 9, 1];
        let layout = |size| Layout::from_size_align(size, 64).unwrap();
        // SAFETY: every layout is valid and not empty, blocks are used within their sizes and ended once.
        unsafe {
            let mut block = LargePages.alloc_zeroed(layout(sizes[0]));
            assert!((0..sizes[0]).all(|at| *block.add(at) == 0));
            for pair in sizes.windows(2) {
                let (old, new) = (pair[0], pair[1]);
                for (at, byte) in [(0, 7), (old - 1, 9)] {
                    *block.add(at) = byte;
                }
                block = LargePages.realloc(block, layout(old), new);
                assert!(!block.is_null() && block.addr() % 64 == 0);
                let kept = if old > 1 { 7 } else { 9 };
                assert_eq!(*block, kept, "{old} to {new}");
                if new >= old {
                    assert_eq!(*block.add(old - 1), 9, "{old} to {new}");
                }
            }
            LargePages.dealloc(block, layout(1));
            let zeros = LargePages.alloc_zeroed(layout(LARGE));
            assert!((0..LARGE).step_by(511).all(|at| *zeros.add(at) == 0));
            assert_eq!(zeros.addr() % PAGE, 0);
            LargePages.dealloc(zeros, layout(LARGE));
        }
    }
}
