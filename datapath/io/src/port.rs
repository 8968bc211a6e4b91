//! A device as a port of the datapath: one AF_XDP socket per queue.

use std::io;
use std::os::fd::BorrowedFd;

use datapath::port::{Buffer, Port};
use smallvec::SmallVec;
use xdp_progs::Redirect;

use crate::arena::{Arena, ROOM, TAG};
use crate::error::PortError;
use crate::frame::UmemFrame;
use crate::link;
use crate::pool::{BATCH, RUN};
use crate::rings::PortRings;

/// Shortest frame that is sent: an Ethernet header.
const SHORTEST: usize = 14;

/// What one queue of a port has counted itself, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Received, those that are lost for want of memory left out.
    pub rx: u64,
    /// Lost because they came in several frames and there was no memory to put them together in.
    pub rx_no_memory: u64,
    /// Handed to the kernel to send.
    pub tx: u64,
    /// Refused because as many frames as allowed were already on their way out.
    pub tx_full: u64,
    /// Refused because no descriptor can describe them: shorter than an Ethernet header, or too
    /// long for the room behind the place they would have to be moved to.
    pub tx_invalid: u64,
    /// Refused because the device no longer exists.
    pub tx_gone: u64,
    /// Refused because they had to be copied, to another arena or into several frames, and there
    /// was no free frame to copy to.
    pub tx_no_frame: u64,
    /// Sent after being copied from another arena.
    pub copied: u64,
}

/// What the kernel has counted for one queue's socket, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// Lost for other reasons than the next two: too long for a frame, or no buffer to receive
    /// into.
    pub rx_dropped: u64,
    /// Lost because the datapath was too slow to take them.
    pub rx_ring_full: u64,
    /// Times the kernel found no buffer to receive into. Anything but zero is a bug in the
    /// recycling of frames.
    pub fill_empty: u64,
    /// Descriptors to receive into that the kernel refused. Anything but zero is a bug.
    pub rx_invalid: u64,
    /// Descriptors to send that the kernel refused. Anything but zero is a bug.
    pub tx_invalid: u64,
}

/// What a port knows of one queue.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    counters: QueueCounters,
    /// Packets accepted and not yet in the transmit ring.
    pending: u64,
    /// Whether the queue is in the list of those to look after in `flush`.
    busy: bool,
}

/// A network device whose every queue is bound to an AF_XDP socket.
///
/// A frame sent on queue `k` of one end of a veth is received on queue `k` of the other end, and
/// nothing is shared between queues: a queue that nobody reads loses its own frames only, counted
/// as `rx_ring_full`.
///
/// Dropping the port detaches its program, closes its sockets (12 ms each) and returns all its
/// frames to the arena. An open port keeps its network namespace alive, so drop it before deleting
/// that. When the device disappears, the port goes silent and refuses frames.
#[derive(Debug)]
pub struct XskPort<'a> {
    // The order matters: the program is detached before the sockets it feeds are closed.
    program: Redirect,
    rings: PortRings<'a>,
    queues: Vec<Queue>,
    busy: Vec<u16>,
    name: String,
    arena: &'a Arena,
    /// Whether the kernel is to be asked to receive.
    asks: bool,
    gone: bool,
}

impl<'a> XskPort<'a> {
    /// Opens an interface of the calling thread's network namespace with all its `queues` queues.
    /// The interface has to be up, and the far end of a veth must not have more queues. Once this
    /// returns, the thread may be in any namespace.
    ///
    /// # Errors
    /// [`PortError`], with what to do about it. A queue released a moment ago is tried again for
    /// up to two seconds.
    pub fn open(arena: &'a Arena, name: &str, queues: u16) -> Result<Self, PortError> {
        let index = link::index(name)?;
        if let Some(found) = link::channels(name)?
            && (found.rx, found.tx) != (u32::from(queues), u32::from(queues))
        {
            let (rx, tx) = (found.rx, found.tx);
            return Err(PortError::Queues { name: name.to_owned(), asked: queues, rx, tx });
        }
        let refused = |source| PortError::Program { name: name.to_owned(), source };
        let load = if arena.is_jumbo() { Redirect::load_multi_buffer } else { Redirect::load };
        let mut program = load(queues).map_err(refused)?;
        let rings = PortRings::open(arena, name, queues)?;
        for queue in 0..queues {
            if let Some(socket) = rings.fd(queue) {
                program.set_socket(queue, socket).map_err(refused)?;
            }
        }
        program.attach(index.cast_signed()).map_err(refused)?;
        let busy = Vec::with_capacity(usize::from(queues));
        let queues = vec![Queue::default(); usize::from(queues)];
        let name = name.to_owned();
        Ok(Self { program, rings, queues, busy, name, arena, asks: false, gone: false })
    }

    /// Has the kernel receive when [`Port::receive`] finds nothing, and not when frames arrive
    /// (`SO_PREFER_BUSY_POLL`). That works out where the device defers its interrupts
    /// (`napi_defer_hard_irqs` and `gro_flush_timeout` in its `/sys/class/net`), and costs a system
    /// call for each queue that has nothing.
    ///
    /// # Errors
    /// What the kernel says; it takes Linux 5.11 and `CAP_NET_ADMIN`.
    pub fn prefer_busy_poll(&mut self) -> io::Result<()> {
        self.rings.prefer_busy_poll()?;
        self.asks = true;
        Ok(())
    }

    /// Whether [`prefer_busy_poll`](Self::prefer_busy_poll) can do anything here: whether the kernel knows
    /// what receives for each queue, at the latest once a frame has come in. Linux 6.14 and later do
    /// not know it of sockets in copy mode, and asking them is in vain.
    ///
    /// # Errors
    /// What the kernel says; it has no reason to refuse.
    pub fn can_be_asked(&self) -> io::Result<bool> {
        self.rings.can_be_asked()
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The arena this port's frames are in.
    #[must_use]
    pub fn arena(&self) -> &'a Arena {
        self.arena
    }

    /// The sockets of all queues, in order, to wait for.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        (0..self.queues()).filter_map(|queue| self.rings.fd(queue))
    }

    /// Whether frames are on their way out. A loop that sleeps while this holds should wake up
    /// after a millisecond and flush: the kernel reports nothing when it could go on.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        !self.gone && !self.busy.is_empty()
    }

    /// Whether the device was found to be gone when sending.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// What each queue has counted itself.
    pub fn counters(&self) -> impl Iterator<Item = QueueCounters> {
        let lost = (0..self.queues()).map(|queue| self.rings.scattered(queue));
        self.queues
            .iter()
            .zip(lost)
            .map(|(queue, rx_no_memory)| QueueCounters { rx_no_memory, ..queue.counters })
    }

    /// What the kernel has counted for each queue: one system call a queue.
    ///
    /// # Errors
    /// What the kernel says; it has no reason to refuse.
    pub fn kernel_counters(&self) -> io::Result<Vec<KernelCounters>> {
        (0..self.queues())
            .map(|queue| {
                let counted = self.rings.statistics(queue)?;
                Ok(KernelCounters {
                    rx_dropped: counted.rx_dropped(),
                    rx_ring_full: counted.rx_ring_full(),
                    fill_empty: counted.rx_fill_ring_empty_descs(),
                    rx_invalid: counted.rx_invalid_descs(),
                    tx_invalid: counted.tx_invalid_descs(),
                })
            })
            .collect()
    }

    /// The port's XDP program.
    #[must_use]
    pub fn program(&self) -> &Redirect {
        &self.program
    }

    /// Takes the XDP program off the device, so that it hands frames to the kernel's stack, or
    /// puts it on again. The calling thread has to be in the device's network namespace.
    ///
    /// # Errors
    /// [`PortError`], where the program cannot be attached.
    pub fn set_attached(&mut self, attached: bool) -> Result<(), PortError> {
        // What was attached may have been taken off by somebody else, so it is let go first.
        self.program.detach();
        if !attached {
            return Ok(());
        }
        let index = link::index(&self.name)?;
        self.program
            .attach(index.cast_signed())
            .map_err(|source| PortError::Program { name: self.name.clone(), source })
    }

    /// Detaches the program, closes the sockets and returns all frames to the arena; the same as
    /// dropping the port.
    pub fn close(self) {}

    /// Whether so many more frames may be on their way out of a queue.
    fn has_room(&self, queue: u16, frames: usize) -> bool {
        self.rings.in_flight(queue) + frames <= self.arena.rings().tx as usize
    }

    /// Sends what a queue has pending and takes back what has been sent.
    fn push(&mut self, queue: u16) {
        let Some(out) = self.queues.get_mut(usize::from(queue)) else { return };
        if self.rings.transmit(queue) > 0 {
            out.counters.tx += std::mem::take(&mut out.pending);
        }
        if let Err(error) = self.rings.kick(queue) {
            // Every other reason is temporary and swallowed by the library.
            if !self.gone {
                tracing::warn!(port = %self.name, %error, "the port's device is gone");
            }
            self.gone = true;
            self.rings.discard(queue);
            out.counters.tx_gone += std::mem::take(&mut out.pending);
        }
        self.rings.reap(queue);
    }

    /// Takes a frame to be sent, in as many frames as it needs. Gives it back where that cannot be,
    /// and has counted why.
    fn accept(&mut self, queue: u16, mut frame: UmemFrame<'a>) -> Result<(), UmemFrame<'a>> {
        let Some(out) = self.queues.get_mut(usize::from(queue)) else { return Err(frame) };
        if frame.bytes().len() < SHORTEST || !(frame.is_run() || frame.settle()) {
            out.counters.tx_invalid += 1;
            return Err(frame);
        }
        let foreign = !std::ptr::eq(frame.arena(), self.arena);
        if frame.pieces() == 1 && (foreign || frame.is_run()) {
            let Some(copy) = copied(self.arena, frame.bytes()) else {
                out.counters.tx_no_frame += 1;
                return Err(frame);
            };
            out.counters.copied += u64::from(foreign);
            frame = copy;
        }
        if !frame.is_run() {
            return self.rings.accept(queue, frame, false).inspect_err(|_| {
                out.counters.tx_invalid += 1;
            });
        }
        let Some(copies) = copies(self.arena, frame.bytes()) else {
            out.counters.tx_no_frame += 1;
            return Err(frame);
        };
        out.counters.copied += u64::from(foreign);
        let last = copies.len().saturating_sub(1);
        for (at, copy) in copies.into_iter().enumerate() {
            // A new frame of this arena is described in any case.
            drop(self.rings.accept(queue, copy, at < last));
        }
        Ok(())
    }
}

/// The bytes of a packet that is longer than a frame in new frames of an arena. None where it has too few
/// left.
fn copies<'a>(arena: &'a Arena, packet: &[u8]) -> Option<SmallVec<[UmemFrame<'a>; RUN as usize]>> {
    packet.chunks(ROOM).map(|bytes| copied(arena, bytes)).collect()
}

/// A copy of a packet in an arena, in a frame or, where it is longer, in a run. None where the arena
/// has none left.
pub(crate) fn copied<'a>(arena: &'a Arena, bytes: &[u8]) -> Option<UmemFrame<'a>> {
    let mut frame = arena.take()?;
    // A packet that was pushed to its limit is a tag longer than an empty frame takes.
    let fits = (bytes.len() <= ROOM || frame.grow_front(TAG)) && frame.set_len(bytes.len());
    frame.bytes_mut().get_mut(..bytes.len())?.copy_from_slice(bytes);
    fits.then_some(frame)
}

impl<'a> Port<UmemFrame<'a>> for XskPort<'a> {
    fn queues(&self) -> u16 {
        // Made from a u16.
        self.queues.len() as u16
    }

    fn receive(&mut self, queue: u16, max: usize, into: &mut Vec<UmemFrame<'a>>) {
        let before = into.len();
        let mut left = max;
        while left > 0 {
            let asked = left.min(BATCH);
            let mut taken = self.rings.receive(queue, asked, into);
            if taken == 0 && self.asks {
                self.rings.ask(queue);
                taken = self.rings.receive(queue, asked, into);
            }
            left = max.saturating_sub(into.len() - before);
            if taken < asked {
                break;
            }
        }
        if let Some(queue) = self.queues.get_mut(usize::from(queue)) {
            queue.counters.rx += (into.len() - before) as u64;
        }
    }

    fn send(&mut self, queue: u16, frame: UmemFrame<'a>) -> Result<(), UmemFrame<'a>> {
        let pieces = frame.pieces();
        // A full queue is emptied at once rather than at the end of the round, so that the limit
        // is one of frames in flight and not one of frames a round.
        if !self.gone && !self.has_room(queue, pieces) {
            self.push(queue);
        }
        let has_room = self.has_room(queue, pieces);
        let Some(out) = self.queues.get_mut(usize::from(queue)) else { return Err(frame) };
        if self.gone {
            out.counters.tx_gone += 1;
            return Err(frame);
        }
        if !has_room {
            out.counters.tx_full += 1;
            return Err(frame);
        }
        self.accept(queue, frame)?;
        if let Some(out) = self.queues.get_mut(usize::from(queue)) {
            out.pending += 1;
            if !out.busy {
                out.busy = true;
                self.busy.push(queue);
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        // What a vanished device still has comes back when the port is dropped.
        if self.gone {
            return;
        }
        let mut at = 0;
        while let Some(&queue) = self.busy.get(at) {
            self.push(queue);
            match self.queues.get_mut(usize::from(queue)) {
                Some(out) if self.rings.in_flight(queue) == 0 => {
                    out.busy = false;
                    self.busy.swap_remove(at);
                }
                _ => at += 1,
            }
        }
    }
}
