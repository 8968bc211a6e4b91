//! The packet memory: one UMEM cut into frames, anchored on an interface of our own.
#![allow(unsafe_code, reason = "finds the packet memory and sets the length of descriptors")]

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::libc;
use xsk_rs::config::{FrameSize, Interface, QueueSize, UmemConfig};
use xsk_rs::{FrameDesc, Umem};

use crate::budget::Rings;
use crate::error::{ArenaError, os_error};
use crate::frame::UmemFrame;
use crate::pool::{Census, Faults, Pool, RUN};
use crate::rings::{self, Bound};

/// Bytes of a frame, headroom included.
pub(crate) const FRAME_SIZE: usize = 2_048;
/// Headroom of our own in front of what the kernel keeps for XDP programs.
const HEADROOM: u32 = 64;
/// Where in its frame the kernel puts a received packet: behind its own 256 bytes and ours.
pub(crate) const PACKET_START: usize = 256 + HEADROOM as usize;
/// Bytes of a packet that fit from there into a frame; the kernel fills a frame up to here before
/// it goes on in the next.
pub(crate) const ROOM: usize = FRAME_SIZE - PACKET_START;
/// Length of a VLAN tag, by which the two further sets of descriptors are shifted.
pub(crate) const TAG: usize = 4;
/// Most frames of an arena: a GiB of packet memory.
const MOST_FRAMES: u32 = 1 << 19;
/// Largest ring the kernel is asked for.
const MOST_RING: u32 = 1 << 15;

/// How to make an arena.
#[derive(Clone, Debug)]
pub struct ArenaConfig {
    /// Name of the anchor: an interface of the calling thread's network namespace that nothing
    /// else uses and that stays until the arena is dropped, such as one end of a private veth. It
    /// has to be up; several arenas may share it, each with a queue of its own.
    pub anchor: String,
    /// Queue of the anchor to bind.
    pub anchor_queue: u32,
    /// Ring sizes of all queues bound to this arena.
    pub rings: Rings,
    /// Number of 2 KiB frames, as planned by [`budget::plan`](crate::budget::plan).
    pub frames: u32,
    /// Frames of these that elements may keep for themselves.
    pub held: u32,
    /// Runs of five frames behind them, for packets longer than 1,728 bytes. With any, the arena's
    /// ports receive and send such packets in several frames, which takes Linux 6.6.
    pub runs: u32,
}

impl ArenaConfig {
    /// Frames of the packet memory, those of the runs included.
    pub(crate) fn memory(&self) -> u32 {
        self.frames.saturating_add(self.runs.saturating_mul(RUN))
    }
}

/// One packet memory, shared by the ports bound to it.
///
/// Frames move between its ports without being copied. Everything that comes out of an arena
/// borrows from it, so it outlives its ports and frames by construction; a daemon that keeps its
/// lab until it exits may [`leak`](Arena::leak) it instead and use `'static`.
///
/// The kernel ties a UMEM to the first interface it is bound to: when that goes, nothing can be
/// bound any more. The arena therefore spends its first socket on the anchor, which never gets a
/// frame, and ports can come and go. All memory is faulted in when the arena is made.
///
/// An arena may be shared between threads; frames may be dropped on any of them.
pub struct Arena {
    umem: Umem,
    /// Address of the packet memory in this process, its provenance exposed.
    base: usize,
    rings: Rings,
    jumbo: bool,
    /// Number of the first run; of no frame where there is none.
    first_run: u32,
    /// Descriptors of every frame where packets are received.
    received: Vec<FrameDesc>,
    /// Descriptors at -4 and +4 bytes from there, of as many frames or more.
    shifted: Arc<[Vec<FrameDesc>; 2]>,
    pool: Mutex<Pool>,
    /// Held for as long as the UMEM lives; never used.
    _anchor: Mutex<Bound>,
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("frames", &self.frames())
            .field("rings", &self.rings)
            .finish_non_exhaustive()
    }
}

impl Arena {
    /// Makes an arena in the calling thread's network namespace, where its anchor has to be.
    /// Ports may be opened in any namespace afterwards.
    ///
    /// # Errors
    /// [`ArenaError`], with what to do about it. Binding an anchor that was released a moment ago
    /// is tried again for up to two seconds.
    pub fn new(config: &ArenaConfig) -> Result<Self, ArenaError> {
        check(config)?;
        let shifted = shifted(config)?;
        let (umem, received) = umem(config, HEADROOM)?;
        verify(&received, PACKET_START)?;
        let anchor = anchor(config, &umem)?;
        // SAFETY: the descriptor belongs to this UMEM and has length 0, so nothing is read.
        let first = unsafe { umem.data(&received[0]) }.contents().as_ptr();
        Ok(Self {
            base: first.expose_provenance() - PACKET_START,
            umem,
            rings: config.rings,
            jumbo: config.runs > 0,
            first_run: config.frames,
            received,
            shifted,
            pool: Mutex::new(Pool::new(config.frames, config.runs, config.held as usize)),
            _anchor: Mutex::new(anchor),
        })
    }

    /// Gives up ever dropping the arena, for a process that needs it until it exits. Its anchor
    /// stays bound, and the anchor's network namespace alive, until then.
    #[must_use]
    pub fn leak(self) -> &'static Self {
        Box::leak(Box::new(self))
    }

    /// An empty frame for a packet of our own, or None where all frames are in use or promised to
    /// ports to receive into.
    #[must_use]
    pub fn take(&self) -> Option<UmemFrame<'_>> {
        let number = self.pool().take()?;
        // SAFETY: the pool has just moved this number into hand, and an empty packet fits.
        Some(unsafe { UmemFrame::new(self, number, PACKET_START, 0) })
    }

    /// Where all frames are at this moment. Reads the whole owner table: for control and tests.
    #[must_use]
    pub fn census(&self) -> Census {
        self.pool().census()
    }

    /// Mistakes in the handling of frames so far; all zero unless there is a bug.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.pool().faults()
    }

    /// Number of frames; of those that longer packets move into, a run of them counts as one.
    #[must_use]
    pub fn frames(&self) -> usize {
        let behind = self.received.len() - self.first_run as usize;
        self.first_run as usize + behind / RUN as usize
    }

    /// Whether packets may take several frames.
    #[must_use]
    pub fn is_jumbo(&self) -> bool {
        self.jumbo
    }

    /// Number of the first run. What is below it is a frame.
    pub(crate) fn first_run(&self) -> u32 {
        self.first_run
    }

    /// Ring sizes of all queues bound to this arena.
    #[must_use]
    pub fn rings(&self) -> Rings {
        self.rings
    }

    pub(crate) fn umem(&self) -> &Umem {
        &self.umem
    }

    /// Where the packet memory starts. See `frame.rs` for what makes it usable.
    pub(crate) fn base(&self) -> usize {
        self.base
    }

    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        // Nothing panics half-way through a change of the table, so it is right even if poisoned.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor with which a frame is lent to the kernel to receive into.
    pub(crate) fn empty(&self, number: u32) -> FrameDesc {
        self.received[number as usize]
    }

    /// The descriptor with which a frame is sent. None where it is a run, is not of this arena, or
    /// starts where no descriptor points.
    pub(crate) fn describe(&self, frame: &mut UmemFrame<'_>) -> Option<FrameDesc> {
        if frame.is_run() || !std::ptr::eq(frame.arena(), self) {
            return None;
        }
        let [pushed, popped] = &*self.shifted;
        let table = match (frame.start() + TAG).checked_sub(PACKET_START)? {
            0 => pushed,
            TAG => &self.received,
            shift if shift == 2 * TAG => popped,
            _ => return None,
        };
        let mut descriptor = *table.get(frame.number() as usize)?;
        // SAFETY: the descriptor is of a frame of this UMEM, and the exclusive borrow of the only
        // `UmemFrame` of that number means that nobody, kernel included, accesses it meanwhile.
        let mut data = unsafe { self.umem.data_mut(&mut descriptor) };
        data.cursor().set_pos(frame.len());
        Some(descriptor)
    }
}

/// Refuses sizes that the kernel or this crate cannot work with.
fn check(config: &ArenaConfig) -> Result<(), ArenaError> {
    if config.frames == 0 || config.memory() > MOST_FRAMES {
        return Err(ArenaError::Size { frames: config.memory(), most: MOST_FRAMES });
    }
    let Rings { rx, fill, tx } = config.rings;
    let fits = rx.is_power_of_two() && fill > rx && tx > 0 && fill <= MOST_RING && tx <= MOST_RING;
    if fits { Ok(()) } else { Err(ArenaError::Rings { rx, fill, tx }) }
}

/// Allocates and registers a packet memory. The library maps it populated, so that no page is
/// faulted in later by a packet.
fn umem(config: &ArenaConfig, headroom: u32) -> Result<(Umem, Vec<FrameDesc>), ArenaError> {
    let frames = config.memory();
    let mib = (u64::from(frames) * FRAME_SIZE as u64).div_ceil(1 << 20);
    let refused = |source| ArenaError::Umem { mib, source };
    let odd = |error: &dyn std::error::Error| refused(std::io::Error::other(error.to_string()));
    let size = |ring: u32| QueueSize::new(ring.next_power_of_two());
    let shape = UmemConfig::builder()
        .frame_size(FrameSize::new(FRAME_SIZE as u32).map_err(|e| odd(&e))?)
        .frame_headroom(headroom)
        .fill_queue_size(size(config.rings.fill).map_err(|e| odd(&e))?)
        .comp_queue_size(size(config.rings.tx).map_err(|e| odd(&e))?)
        .build()
        .map_err(|e| odd(&e))?;
    let frames = NonZeroU32::new(frames).ok_or(ArenaError::Size { frames, most: MOST_FRAMES })?;
    Umem::new(shape, frames, false).map_err(|e| refused(os_error(&e)))
}

/// Descriptors of as many frames as an arena has, or more, at -4 and +4 bytes from where packets
/// are received.
///
/// The library has no way to change where a descriptor points. A memory of the same shape but with
/// another headroom describes the same frames some bytes earlier or later; only its descriptors are
/// kept. They say nothing of the memory itself, so that all arenas share them.
fn shifted(config: &ArenaConfig) -> Result<Arc<[Vec<FrameDesc>; 2]>, ArenaError> {
    static KNOWN: Mutex<Option<Arc<[Vec<FrameDesc>; 2]>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.as_ref().filter(|known| known[0].len() >= config.memory() as usize) {
        return Ok(Arc::clone(known));
    }
    let (_, pushed) = umem(config, HEADROOM - TAG as u32)?;
    let (_, popped) = umem(config, HEADROOM + TAG as u32)?;
    verify(&pushed, PACKET_START - TAG)?;
    verify(&popped, PACKET_START + TAG)?;
    Ok(Arc::clone(known.insert(Arc::new([pushed, popped]))))
}

/// Makes sure that descriptors point where the rest of the crate computes.
fn verify(descriptors: &[FrameDesc], start: usize) -> Result<(), ArenaError> {
    let wrong =
        |(frame, descriptor): &(usize, &FrameDesc)| descriptor.addr() != frame * FRAME_SIZE + start;
    match descriptors.iter().enumerate().find(wrong) {
        Some((frame, _)) => Err(ArenaError::Layout { frame }),
        None => Ok(()),
    }
}

/// Binds the memory's first socket to the anchor. All others take packets of several frames if and
/// only if this one does.
fn anchor(config: &ArenaConfig, umem: &Umem) -> Result<Bound, ArenaError> {
    let refused = |source| ArenaError::Anchor {
        name: config.anchor.clone(),
        queue: config.anchor_queue,
        source,
    };
    let name: Interface =
        config.anchor.parse().map_err(|_| refused(std::io::ErrorKind::InvalidInput.into()))?;
    let jumbo = config.runs > 0;
    rings::bind(umem, &name, config.anchor_queue, config.rings, jumbo).map_err(|source| {
        // An older kernel does not know the flag, and says so no clearer.
        if jumbo && source.raw_os_error() == Some(libc::EINVAL) {
            return ArenaError::MultiBuffer;
        }
        refused(source)
    })
}
