//! The rings of a port's sockets, and the moves of frames through them.
#![allow(unsafe_code, reason = "the ring operations of the AF_XDP library are unsafe functions")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::socket::XdpStatistics;
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use crate::arena::{Arena, FRAME_SIZE};
use crate::budget::Rings;
use crate::error::{PortError, os_error};
use crate::frame::UmemFrame;
use crate::pool::{BATCH, PortId};
use crate::sys;

/// How long a queue may stay busy: the kernel releases it some time after its last user has gone.
const RELEASE: Duration = Duration::from_secs(2);

/// The rings of a bound socket: transmit, receive, and unless the pair was bound before, fill and
/// completion.
pub(crate) type Bound = (TxQueue, RxQueue, Option<(FillQueue, CompQueue)>);

/// Binds a socket to one queue of a device in the calling thread's network namespace.
pub(crate) fn bind(umem: &Umem, name: &Interface, queue: u32, rings: Rings) -> io::Result<Bound> {
    let size = |ring: u32| QueueSize::new(ring.next_power_of_two()).map_err(io::Error::other);
    let config = SocketConfig::builder()
        .rx_queue_size(size(rings.rx)?)
        .tx_queue_size(size(rings.tx)?)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP)
        .build();
    let deadline = Instant::now() + RELEASE;
    let mut pause = Duration::from_millis(4);
    loop {
        // SAFETY: with the program load inhibited, the library allows even a pair to be bound
        // twice; this crate binds every pair once.
        match unsafe { Socket::new(config, umem, name, queue) }.map_err(|e| os_error(&e)) {
            Err(busy)
                if busy.raw_os_error() == Some(libc::EBUSY)
                    && Instant::now() + pause < deadline =>
            {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(100));
            }
            answer => return answer,
        }
    }
}

/// One bound queue.
#[derive(Debug)]
struct Queue {
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    done: CompQueue,
    /// Frames that are with the fill or receive ring.
    in_fill: usize,
    /// Frames handed over to be sent and not reported back.
    outstanding: usize,
}

/// All queues of one port, and the frames with them.
#[derive(Debug)]
pub(crate) struct PortRings<'a> {
    arena: &'a Arena,
    id: PortId,
    queues: Vec<Queue>,
    // Reused by every call, so that moving frames allocates nothing.
    descriptors: Vec<FrameDesc>,
    numbers: Vec<u32>,
}

impl Drop for PortRings<'_> {
    fn drop(&mut self) {
        // Closing a socket waits until the kernel has stopped using it. Only then are the frames
        // that were with it free again.
        self.queues.clear();
        self.arena.pool().unregister(self.id);
    }
}

impl<'a> PortRings<'a> {
    /// Binds all queues of a device and fills their fill rings.
    pub(crate) fn open(arena: &'a Arena, name: &str, queues: u16) -> Result<Self, PortError> {
        let Rings { fill, tx, .. } = arena.rings();
        let all = |ring: u32| ring as usize * usize::from(queues);
        let id = arena.pool().register(all(fill), all(tx)).map_err(|short| {
            PortError::NoFrames { name: name.to_owned(), need: short.need, left: short.left }
        })?;
        let mut rings = Self {
            arena,
            id,
            queues: Vec::with_capacity(usize::from(queues)),
            descriptors: vec![FrameDesc::default(); BATCH],
            numbers: Vec::with_capacity(BATCH),
        };
        for queue in 0..queues {
            rings.add(name, queue).map_err(|source| PortError::Bind {
                name: name.to_owned(),
                queue,
                source,
            })?;
        }
        Ok(rings)
    }

    fn add(&mut self, name: &str, number: u16) -> io::Result<()> {
        let interface: Interface = name.parse().map_err(io::Error::other)?;
        let rings = self.arena.rings();
        let (tx, rx, own) = bind(self.arena.umem(), &interface, u32::from(number), rings)?;
        // A pair that this arena has bound before shares its rings with the earlier socket.
        let (fill, done) = own.ok_or(io::Error::from_raw_os_error(libc::EBUSY))?;
        self.queues.push(Queue { tx, rx, fill, done, in_fill: 0, outstanding: 0 });
        if let Some(socket) = self.fd(number) {
            sys::raise_tx_budget(socket, rings.tx);
        }
        while self.refill(number) > 0 {}
        Ok(())
    }

    /// Moves up to `max` received frames (64 at most) into hand and replaces them in the fill
    /// ring. Returns how many descriptors the ring had.
    pub(crate) fn receive(
        &mut self,
        queue: u16,
        max: usize,
        into: &mut Vec<UmemFrame<'a>>,
    ) -> usize {
        let Some(q) = self.queues.get_mut(usize::from(queue)) else { return 0 };
        let room = &mut self.descriptors[..max.min(BATCH)];
        // SAFETY: the descriptors are only written to. Frames of this ring are of this arena.
        let taken = unsafe { q.rx.consume(room) };
        if taken > 0 {
            q.in_fill = q.in_fill.saturating_sub(taken);
            let mut pool = self.arena.pool();
            for descriptor in &room[..taken] {
                let (number, start) =
                    (descriptor.addr() / FRAME_SIZE, descriptor.addr() % FRAME_SIZE);
                let len = descriptor.lengths().data();
                // The kernel is not supposed to break either rule; the safety of the bytes must
                // not hang on it.
                if start + len > FRAME_SIZE || number >= self.arena.frames() {
                    pool.fault();
                } else if pool.claim(self.id, number as u32) {
                    // SAFETY: the pool has just moved this number from this port into hand, which
                    // it does once, and the packet's end was checked above.
                    into.push(unsafe { UmemFrame::new(self.arena, number as u32, start, len) });
                }
            }
        }
        if taken > 0 || q.in_fill < self.arena.rings().fill as usize {
            self.refill(queue);
        }
        taken
    }

    /// Gives a queue's fill ring back what it is short of, up to 64 frames; returns how many.
    fn refill(&mut self, queue: u16) -> usize {
        let Some(q) = self.queues.get_mut(usize::from(queue)) else { return 0 };
        let want = (self.arena.rings().fill as usize).saturating_sub(q.in_fill).min(BATCH);
        self.numbers.clear();
        self.arena.pool().lend(self.id, want, &mut self.numbers);
        let lent = self.numbers.len();
        for (descriptor, number) in self.descriptors.iter_mut().zip(&self.numbers) {
            *descriptor = self.arena.empty(*number);
        }
        // SAFETY: the frames are of this arena, and the pool has just moved them from free to this
        // port, so that nobody else has them.
        let produced = unsafe { q.fill.produce(&self.descriptors[..lent]) };
        if produced < lent {
            // The kernel shows a received frame before it shows the slot it took from the fill
            // ring, so a ring without spare slots can look full for a moment.
            self.arena.pool().take_back(self.id, &self.numbers[produced..]);
        }
        q.in_fill += produced;
        produced
    }

    /// Puts up to 64 frames from the front of `frames` into a queue's transmit ring and returns
    /// how many left. Frames that no descriptor describes are freed and counted in `refused`.
    pub(crate) fn transmit(
        &mut self,
        queue: u16,
        frames: &mut Vec<UmemFrame<'a>>,
        refused: &mut u64,
    ) -> usize {
        let Some(q) = self.queues.get_mut(usize::from(queue)) else { return 0 };
        if frames.is_empty() {
            return 0;
        }
        let room = (self.arena.rings().tx as usize).saturating_sub(q.outstanding).min(BATCH);
        let mut ready = 0;
        while let Some(frame) = frames.get_mut(ready).filter(|_| ready < room) {
            if let Some(descriptor) = self.arena.describe(frame) {
                self.descriptors[ready] = descriptor;
                ready += 1;
            } else {
                frames.remove(ready);
                *refused += 1;
            }
        }
        // SAFETY: the descriptors are of this arena's frames and those are in hand, each described
        // once. Directly below they cease to be, before anyone could touch them.
        let produced = unsafe { q.tx.produce(&self.descriptors[..ready]) };
        let mut pool = self.arena.pool();
        for frame in frames.drain(..produced) {
            pool.sent(self.id, frame.into_number());
        }
        q.outstanding += produced;
        produced
    }

    /// Frees the frames of a queue that have been sent.
    pub(crate) fn reap(&mut self, queue: u16) {
        let Some(q) = self.queues.get_mut(usize::from(queue)) else { return };
        while q.outstanding > 0 {
            // SAFETY: the descriptors are only written to. Frames of this ring are of this arena.
            let done = unsafe { q.done.consume(&mut self.descriptors) };
            if done == 0 {
                return;
            }
            let mut pool = self.arena.pool();
            for descriptor in &self.descriptors[..done] {
                // An address beyond the arena stays beyond it: no frame number is above u32.
                let number = u32::try_from(descriptor.addr() / FRAME_SIZE).unwrap_or(u32::MAX);
                pool.completed(self.id, number);
            }
            q.outstanding = q.outstanding.saturating_sub(done);
        }
    }

    /// Has the kernel send what is in a queue's transmit ring. It takes 32 frames at a time unless
    /// told otherwise, and says nothing when it stops early; so this goes on for as long as the
    /// ring gets emptier. What is left stays for the next call.
    pub(crate) fn kick(&mut self, queue: u16) -> io::Result<()> {
        let Some(q) = self.queues.get_mut(usize::from(queue)) else { return Ok(()) };
        let size = self.arena.rings().tx.next_power_of_two();
        let mut waiting = size - q.tx.nb_free_exact().min(size);
        while waiting > 0 && q.tx.needs_wakeup() {
            q.tx.wakeup()?;
            let left = size - q.tx.nb_free_exact().min(size);
            if left >= waiting {
                break;
            }
            waiting = left;
        }
        Ok(())
    }

    /// Frames of a queue handed to the kernel to send and not reported back.
    pub(crate) fn outstanding(&self, queue: u16) -> usize {
        self.queues.get(usize::from(queue)).map_or(0, |q| q.outstanding)
    }

    /// The socket of a queue.
    pub(crate) fn fd(&self, queue: u16) -> Option<BorrowedFd<'_>> {
        let q = self.queues.get(usize::from(queue))?;
        // SAFETY: the descriptor is open for as long as any ring of the socket lives, and the
        // result borrows from them.
        Some(unsafe { BorrowedFd::borrow_raw(q.rx.fd().as_raw_fd()) })
    }

    /// What the kernel has counted for a queue.
    pub(crate) fn statistics(&self, queue: u16) -> io::Result<XdpStatistics> {
        let q = self.queues.get(usize::from(queue)).ok_or(io::ErrorKind::NotFound)?;
        q.rx.fd().xdp_statistics()
    }
}
