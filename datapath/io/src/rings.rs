//! The rings of a port's sockets, and the moves of frames through them.
#![allow(unsafe_code, reason = "the ring operations of the AF_XDP library are unsafe functions")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use datapath::port::Buffer;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::socket::XdpStatistics;
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use crate::arena::{Arena, FRAME_SIZE, PACKET_START};
use crate::budget::Rings;
use crate::error::{PortError, os_error};
use crate::frame::UmemFrame;
use crate::pool::{BATCH, Pool, PortId};
use crate::sys;

/// How long a queue may stay busy: the kernel releases it some time after its last user has gone.
const RELEASE: Duration = Duration::from_secs(2);

/// The rings of a bound socket: transmit, receive, and unless the pair was bound before, fill and
/// completion.
pub(crate) type Bound = (TxQueue, RxQueue, Option<(FillQueue, CompQueue)>);

/// Of a descriptor: the packet goes on in the next one.
const CONTINUES: u32 = 1;

/// Binds a socket to one queue of a device in the calling thread's network namespace. The first
/// of a memory says for all of it whether it is `jumbo`: takes packets of several frames.
pub(crate) fn bind(
    umem: &Umem,
    name: &Interface,
    queue: u32,
    rings: Rings,
    jumbo: bool,
) -> io::Result<Bound> {
    let mut flags = BindFlags::XDP_COPY | BindFlags::XDP_USE_NEED_WAKEUP;
    flags.set(BindFlags::XDP_USE_SG, jumbo);
    let size = |ring: u32| QueueSize::new(ring.next_power_of_two()).map_err(io::Error::other);
    let config = SocketConfig::builder()
        .rx_queue_size(size(rings.rx)?)
        .tx_queue_size(size(rings.tx)?)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(flags)
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

/// A packet of several frames, as far as it has come.
#[derive(Debug, Default)]
enum Partial<'a> {
    /// The next frame begins a packet.
    #[default]
    None,
    /// What has come of one.
    Some(UmemFrame<'a>),
    /// There is no room for it, and the rest of it goes the same way.
    Lost,
}

/// One bound queue.
#[derive(Debug)]
struct Queue<'a> {
    tx: TxQueue,
    rx: RxQueue,
    fill: FillQueue,
    done: CompQueue,
    /// Frames that are with the fill or receive ring.
    in_fill: usize,
    partial: Partial<'a>,
    /// Packets lost because there was no memory to put their frames together in.
    scattered: u64,
    /// Frames in hand that are to be handed over next, each described once.
    pending: Vec<FrameDesc>,
    /// Frames handed over to be sent and not reported back.
    outstanding: usize,
}

impl<'a> Queue<'a> {
    /// Puts a frame behind what has come of its packet, which is given back once it is whole. A
    /// `part` that cannot be right is none.
    fn gather(
        &mut self,
        arena: &'a Arena,
        pool: &mut Pool,
        part: Option<UmemFrame<'a>>,
        continues: bool,
    ) -> Option<UmemFrame<'a>> {
        let mut whole = match mem::take(&mut self.partial) {
            Partial::Some(run) => Some(run),
            Partial::Lost => None,
            Partial::None => pool.take_run().map(|run| {
                // SAFETY: the pool has just moved this run into hand, and it is empty.
                unsafe { UmemFrame::new(arena, run, PACKET_START, 0) }
            }),
        };
        let fits = match (&mut whole, &part) {
            (Some(whole), Some(part)) => whole.append(part.bytes()),
            _ => false,
        };
        // The pool is locked here, so nothing may free itself.
        if let Some(part) = part {
            pool.release(part.into_number());
        }
        if !fits && let Some(whole) = whole.take() {
            pool.release(whole.into_number());
        }
        if continues {
            self.partial = whole.map_or(Partial::Lost, Partial::Some);
            return None;
        }
        self.scattered += u64::from(whole.is_none());
        whole
    }
}

/// All queues of one port, and the frames with them.
#[derive(Debug)]
pub(crate) struct PortRings<'a> {
    arena: &'a Arena,
    id: PortId,
    queues: Vec<Queue<'a>>,
    // Reused by every call, so that moving frames allocates nothing.
    descriptors: Vec<FrameDesc>,
    numbers: Vec<u32>,
}

impl Drop for PortRings<'_> {
    fn drop(&mut self) {
        // Closing a socket waits until the kernel has stopped using it. Only then are the frames
        // that were with it free again.
        for queue in 0..self.queues.len() {
            self.discard(queue as u16);
        }
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
        let (tx, rx, own) = bind(self.arena.umem(), &interface, u32::from(number), rings, false)?;
        // A pair that this arena has bound before shares its rings with the earlier socket.
        let (fill, done) = own.ok_or(io::Error::from_raw_os_error(libc::EBUSY))?;
        self.queues.push(Queue {
            tx,
            rx,
            fill,
            done,
            in_fill: 0,
            partial: Partial::None,
            scattered: 0,
            pending: Vec::with_capacity(rings.tx as usize),
            outstanding: 0,
        });
        if let Some(socket) = self.fd(number) {
            sys::raise_tx_budget(socket, rings.tx);
        }
        while self.refill(number) > 0 {}
        Ok(())
    }

    /// Takes up to `max` received frames (64 at most), moves the packets that they make whole into
    /// hand, and replaces them in the fill ring. Returns how many descriptors the ring had.
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
            let first_run = self.arena.first_run() as usize;
            let mut pool = self.arena.pool();
            for descriptor in &room[..taken] {
                let (number, start) =
                    (descriptor.addr() / FRAME_SIZE, descriptor.addr() % FRAME_SIZE);
                let len = descriptor.lengths().data();
                let continues = descriptor.has_more_frames();
                // The kernel is not supposed to break either rule; the safety of the bytes must
                // not hang on it.
                let frame = if start + len > FRAME_SIZE || number >= first_run {
                    pool.fault();
                    None
                } else {
                    // SAFETY: the pool has just moved this number from this port into hand, which
                    // it does once, and the packet's end was checked above.
                    pool.claim(self.id, number as u32)
                        .then(|| unsafe { UmemFrame::new(self.arena, number as u32, start, len) })
                };
                if continues || !matches!(q.partial, Partial::None) {
                    into.extend(q.gather(self.arena, &mut pool, frame, continues));
                } else {
                    into.extend(frame);
                }
            }
        }
        if taken > 0 || q.in_fill < self.arena.rings().fill as usize {
            self.refill(queue);
        }
        taken
    }

    /// Has the kernel receive for all queues when they are asked, and not when frames arrive.
    pub(crate) fn prefer_busy_poll(&self) -> io::Result<()> {
        let mut fds = (0..self.queues.len()).filter_map(|queue| self.fd(queue as u16));
        fds.try_for_each(|fd| sys::prefer_busy_poll(fd, BATCH as u32))
    }

    /// Whether the kernel can be asked to receive for each queue.
    pub(crate) fn can_be_asked(&self) -> io::Result<bool> {
        let mut fds = (0..self.queues.len()).filter_map(|queue| self.fd(queue as u16));
        fds.try_fold(true, |all, fd| Ok(all && sys::is_received_for(fd)?))
    }

    /// Asks the kernel to receive for a queue now.
    pub(crate) fn ask(&self, queue: u16) {
        if let Some(fd) = self.fd(queue) {
            // An AF_XDP socket has no data to give, and an error is no reason not to look.
            let _ = recv(fd.as_raw_fd(), &mut [], MsgFlags::MSG_DONTWAIT);
        }
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

    /// Takes a frame to be sent with the next [`PortRings::transmit`]; its packet `continues` in the
    /// next one. Gives it back where no descriptor describes it.
    pub(crate) fn accept(
        &mut self,
        queue: u16,
        mut frame: UmemFrame<'a>,
        continues: bool,
    ) -> Result<(), UmemFrame<'a>> {
        let Some(q) = self.queues.get_mut(usize::from(queue)) else { return Err(frame) };
        let Some(mut descriptor) = self.arena.describe(&mut frame) else { return Err(frame) };
        if continues {
            descriptor.set_options(CONTINUES);
        }
        frame.into_number();
        q.pending.push(descriptor);
        Ok(())
    }

    /// Puts what a queue has accepted into its transmit ring and returns how many frames that are:
    /// all, or none where the ring has no room for all.
    pub(crate) fn transmit(&mut self, queue: u16) -> usize {
        let Some(q) = self.queues.get_mut(usize::from(queue)) else { return 0 };
        // SAFETY: the descriptors are of this arena's frames, which are in hand and of which
        // nothing else is left than these, each described once.
        let produced = unsafe { q.tx.produce(&q.pending) };
        if produced > 0 {
            let mut pool = self.arena.pool();
            for descriptor in q.pending.drain(..) {
                pool.sent(self.id, (descriptor.addr() / FRAME_SIZE) as u32);
            }
            q.outstanding += produced;
        }
        produced
    }

    /// Frees what a queue has accepted and not put into its ring; returns how many frames that
    /// were.
    pub(crate) fn discard(&mut self, queue: u16) -> usize {
        let Some(q) = self.queues.get_mut(usize::from(queue)) else { return 0 };
        let (count, mut pool) = (q.pending.len(), self.arena.pool());
        for descriptor in q.pending.drain(..) {
            pool.release((descriptor.addr() / FRAME_SIZE) as u32);
        }
        count
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

    /// Frames of a queue that are on their way out: accepted, and not reported back by the kernel.
    pub(crate) fn in_flight(&self, queue: u16) -> usize {
        self.queues.get(usize::from(queue)).map_or(0, |q| q.pending.len() + q.outstanding)
    }

    /// Packets of a queue lost because there was no memory to put their frames together in.
    pub(crate) fn scattered(&self, queue: u16) -> u64 {
        self.queues.get(usize::from(queue)).map_or(0, |q| q.scattered)
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
