//! Whether the kernel has what nothing here depends on. Each is tried, never told by a version:
//! distributions bring features to older kernels and leave others out of newer ones.
#![allow(unsafe_code, reason = "bind takes a pointer")]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::libc;

use crate::arena::FRAME_SIZE;
use crate::sys::{TX_BUDGET_OPTION, set_xdp_option};

/// Frames of a memory that is made only to be refused or taken, and of its rings.
const FRAMES: usize = 64;
/// Bytes of `struct xsk_tx_metadata`.
const TX_METADATA: u32 = 24;

/// A packet memory, at the start of a page as the kernel wants it.
#[repr(C, align(4096))]
struct Memory([u8; FRAMES * FRAME_SIZE]);

/// Whether one `sendto` can be allowed more than 32 frames (`XDP_MAX_TX_SKB_BUDGET`).
///
/// # Errors
/// Where there are no AF_XDP sockets, or they are not permitted.
pub fn tx_budget() -> io::Result<bool> {
    let socket = socket()?;
    // At most as many as the ring holds.
    let ring = FRAMES as u32;
    set_xdp_option(socket.as_fd(), libc::XDP_TX_RING, &ring)?;
    known(set_xdp_option(socket.as_fd(), TX_BUDGET_OPTION, &ring))
}

/// Whether a frame to be sent can ask for its checksum to be completed (`XDP_TX_METADATA`).
///
/// # Errors
/// As [`tx_budget`].
pub fn tx_metadata() -> io::Result<bool> {
    let socket = socket()?;
    let memory = memory();
    let shape = libc::xdp_umem_reg {
        flags: libc::XDP_UMEM_TX_METADATA_LEN,
        tx_metadata_len: TX_METADATA,
        ..shape(&memory)
    };
    known(set_xdp_option(socket.as_fd(), libc::XDP_UMEM_REG, &shape))
}

/// Whether a frame may lie in several buffers (`XDP_USE_SG`), tried on queue 0 of an interface of
/// the calling thread's network namespace, which has to be up and bound to nothing.
///
/// # Errors
/// As [`tx_budget`], or where the packet memory, its rings or the interface are refused.
pub fn multi_buffer(interface: u32) -> io::Result<bool> {
    let socket = socket()?;
    let memory = memory();
    set_xdp_option(socket.as_fd(), libc::XDP_UMEM_REG, &shape(&memory))?;
    for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING] {
        set_xdp_option(socket.as_fd(), ring, &(FRAMES as u32))?;
    }
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_COPY | libc::XDP_USE_SG,
        sxdp_ifindex: interface,
        sxdp_queue_id: 0,
        sxdp_shared_umem_fd: 0,
    };
    let length = mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer and the length are those of one live address.
    let refused = unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), length) };
    known(if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) })
}

/// Whether the kernel knows what it was asked for. What it does not know is invalid to it.
fn known(answer: io::Result<()>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOPROTOOPT)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let made = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

fn memory() -> Box<Memory> {
    Box::new(Memory([0; FRAMES * FRAME_SIZE]))
}

fn shape(memory: &Memory) -> libc::xdp_umem_reg {
    libc::xdp_umem_reg {
        addr: memory.0.as_ptr().addr() as u64,
        len: memory.0.len() as u64,
        chunk_size: FRAME_SIZE as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    }
}
