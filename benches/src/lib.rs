//! What the benches measure, made ready: a node with many flows through it, ways through one element,
//! the whole link, tables; and the yardstick that the node is held against.
//!
//! `cargo bench -p benches` measures times. Times depend on the machine and on the minute, so what
//! guards a change is the number of instructions: see `src/bin/instructions.rs`.

pub mod calib;
pub mod fused;
pub mod profile;
pub mod scenario8;
pub mod statistics;
pub mod tables;
pub mod way;

use std::time::{Duration, Instant};

use datapath::port::{Buffer, Heap};

/// Frames handled at once, as a poll of an AF_XDP queue does.
pub const BATCH: usize = 64;

/// Something that handles batches of frames, and the frames it is given.
pub trait Work {
    /// One frame of each flow.
    fn frames(&self) -> &[Vec<u8>];

    /// Frames of a batch.
    fn batch(&self) -> usize {
        BATCH
    }

    /// What is done before each batch and is not measured.
    fn before(&mut self) {}

    /// Handles every frame of `batch`, which holds the same number of buffers afterwards.
    fn handle(&mut self, batch: &mut Vec<Heap>);
}

/// Handles `batches` batches, going round the flows, and returns the time that took.
pub fn time(work: &mut impl Work, batches: u64, next: &mut usize) -> Duration {
    time_each(work, batches, next).iter().sum()
}

/// Handles `batches` batches, going round the flows, and returns the time each took. Frames are
/// put into the buffers outside of that time and are then in the cache, as those are that a network
/// card has just delivered.
pub fn time_each(work: &mut impl Work, batches: u64, next: &mut usize) -> Vec<Duration> {
    let mut times = Vec::new();
    each(work, batches, next, |handle| {
        let start = Instant::now();
        handle();
        times.push(start.elapsed());
    });
    times
}

/// Has `around` call what handles one batch, for `batches` batches, going round the flows. What it
/// measures around that call leaves out that the buffers are filled.
pub fn each(
    work: &mut impl Work,
    batches: u64,
    next: &mut usize,
    mut around: impl FnMut(&mut dyn FnMut()),
) {
    let size = work.batch();
    let mut batch: Vec<Heap> = (0..size).map(|_| Heap::default()).collect();
    for _ in 0..batches {
        work.before();
        for buffer in &mut batch {
            let frames = work.frames();
            refill(buffer, &frames[*next % frames.len()]);
            *next = (*next + 1) % frames.len();
        }
        around(&mut || work.handle(&mut batch));
        assert_eq!(batch.len(), size, "every frame comes out");
    }
}

/// Copies a frame into a buffer that has been used before.
fn refill(buffer: &mut Heap, frame: &[u8]) {
    buffer.reset();
    assert!(buffer.set_len(frame.len()), "a datagram fits into a buffer");
    buffer.bytes_mut().copy_from_slice(frame);
}
