//! A device as a port of the datapath: one AF_XDP socket per queue.

use std::io;
use std::os::fd::BorrowedFd;

use datapath::port::{Buffer, Port};
use xdp_progs::Redirect;

use crate::arena::{Arena, TAG};
use crate::error::PortError;
use crate::frame::UmemFrame;
use crate::link;
use crate::pool::BATCH;
use crate::rings::PortRings;

/// Shortest frame that is sent: an Ethernet header.
const SHORTEST: usize = 14;

/// What one queue of a port has counted itself, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Received.
    pub rx: u64,
    /// Handed to the kernel to send.
    pub tx: u64,
    /// Refused because as many frames as allowed were already on their way out.
    pub tx_full: u64,
    /// Refused because no descriptor can describe them: shorter than an Ethernet header, or too
    /// long for the room behind the place they would have to be moved to.
    pub tx_invalid: u64,
    /// Refused because the device no longer exists.
    pub tx_gone: u64,
    /// Refused because they came from another arena and this one had no free frame to copy to.
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

/// The sending half of one queue, as far as it is ours.
#[derive(Debug)]
struct Outgoing<'a> {
    /// Accepted and not yet in the transmit ring.
    pending: Vec<UmemFrame<'a>>,
    counters: QueueCounters,
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
    out: Vec<Outgoing<'a>>,
    busy: Vec<u16>,
    name: String,
    arena: &'a Arena,
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
        let mut program = Redirect::load(queues).map_err(refused)?;
        let rings = PortRings::open(arena, name, queues)?;
        for queue in 0..queues {
            if let Some(socket) = rings.fd(queue) {
                program.set_socket(queue, socket).map_err(refused)?;
            }
        }
        program.attach(index.cast_signed()).map_err(refused)?;
        let limit = arena.rings().tx as usize;
        let out = (0..queues)
            .map(|_| Outgoing {
                pending: Vec::with_capacity(limit),
                counters: QueueCounters::default(),
                busy: false,
            })
            .collect();
        let busy = Vec::with_capacity(usize::from(queues));
        Ok(Self { program, rings, out, busy, name: name.to_owned(), arena, gone: false })
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
        self.out.iter().map(|out| out.counters)
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

    /// Whether one more frame may be on its way out of a queue.
    fn has_room(&self, queue: u16) -> bool {
        self.out.get(usize::from(queue)).is_some_and(|out| {
            let in_flight = out.pending.len() + self.rings.outstanding(queue);
            in_flight < self.arena.rings().tx as usize
        })
    }

    /// Sends what a queue has pending and takes back what has been sent.
    fn push(&mut self, queue: u16) {
        let Some(out) = self.out.get_mut(usize::from(queue)) else { return };
        self.rings.reap(queue);
        loop {
            let handed = self.rings.transmit(queue, &mut out.pending, &mut out.counters.tx_invalid);
            out.counters.tx += handed as u64;
            if self.rings.outstanding(queue) > 0
                && let Err(error) = self.rings.kick(queue)
            {
                // Every other reason is temporary and swallowed by the library.
                if !self.gone {
                    tracing::warn!(port = %self.name, %error, "the port's device is gone");
                }
                self.gone = true;
                out.counters.tx_gone += out.pending.len() as u64;
                out.pending.clear();
            }
            self.rings.reap(queue);
            if handed == 0 || out.pending.is_empty() {
                return;
            }
        }
    }
}

/// Makes a frame ready to be sent from an arena.
fn adopt<'a>(
    arena: &'a Arena,
    mut frame: UmemFrame<'a>,
    counters: &mut QueueCounters,
) -> Result<UmemFrame<'a>, UmemFrame<'a>> {
    if frame.bytes().len() < SHORTEST || !frame.settle() {
        counters.tx_invalid += 1;
        return Err(frame);
    }
    if std::ptr::eq(frame.arena(), arena) {
        return Ok(frame);
    }
    // Settled, it has the length of one that fits.
    let Some(own) = copied(arena, &frame) else {
        counters.tx_no_frame += 1;
        return Err(frame);
    };
    counters.copied += 1;
    Ok(own)
}

/// A copy of a frame in an arena. None where the arena has no frame to spare, or none that a frame
/// of this length fits into.
pub(crate) fn copied<'a>(arena: &'a Arena, frame: &UmemFrame<'_>) -> Option<UmemFrame<'a>> {
    let mut own = arena.take()?;
    let len = frame.bytes().len();
    // A frame that was pushed to its limit may be a tag longer than an empty one takes.
    if !(own.set_len(len) || (own.grow_front(TAG) && own.set_len(len))) {
        return None;
    }
    own.bytes_mut().copy_from_slice(frame.bytes());
    Some(own)
}

impl<'a> Port<UmemFrame<'a>> for XskPort<'a> {
    fn queues(&self) -> u16 {
        // Made from a u16.
        self.out.len() as u16
    }

    fn receive(&mut self, queue: u16, max: usize, into: &mut Vec<UmemFrame<'a>>) {
        let mut left = max;
        while left > 0 {
            let before = into.len();
            let taken = self.rings.receive(queue, left, into);
            if let Some(out) = self.out.get_mut(usize::from(queue)) {
                out.counters.rx += (into.len() - before) as u64;
            }
            if taken < BATCH {
                return;
            }
            left -= taken;
        }
    }

    fn send(&mut self, queue: u16, frame: UmemFrame<'a>) -> Result<(), UmemFrame<'a>> {
        let at = usize::from(queue);
        // A full queue is emptied at once rather than at the end of the round, so that the limit
        // is one of frames in flight and not one of frames a round.
        if !self.gone && !self.has_room(queue) {
            self.push(queue);
        }
        let has_room = self.has_room(queue);
        let Some(out) = self.out.get_mut(at) else { return Err(frame) };
        if self.gone {
            out.counters.tx_gone += 1;
            return Err(frame);
        }
        if !has_room {
            out.counters.tx_full += 1;
            return Err(frame);
        }
        out.pending.push(adopt(self.arena, frame, &mut out.counters)?);
        if !out.busy {
            out.busy = true;
            self.busy.push(queue);
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
            let idle = self.rings.outstanding(queue) == 0;
            match self.out.get_mut(usize::from(queue)) {
                Some(out) if idle && out.pending.is_empty() => {
                    out.busy = false;
                    self.busy.swap_remove(at);
                }
                _ => at += 1,
            }
        }
    }
}
