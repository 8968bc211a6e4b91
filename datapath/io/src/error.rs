//! What can go wrong while building, by phase, each with what to do about it.

use std::error::Error;
use std::io;

use nix::libc;
use xdp_progs::ProgError;

/// An arena could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// The number of frames is zero or beyond what an arena can hold.
    #[error("an arena of {frames} frames is not possible (1 to {most})")]
    Size {
        /// The number asked for.
        frames: u32,
        /// The largest possible number.
        most: u32,
    },
    /// The ring sizes do not fit each other.
    #[error(
        "rings of rx {rx}, fill {fill}, tx {tx} frames do not work: rx has to be a power of two, \
         fill larger than rx, and none of them zero or above 32768"
    )]
    Rings {
        /// Receive ring.
        rx: u32,
        /// Fill ring.
        fill: u32,
        /// Frames on their way out.
        tx: u32,
    },
    /// The kernel refused the packet memory.
    #[error("cannot register {mib} MiB of packet memory with the kernel: {source}{}", hint(source))]
    Umem {
        /// Size of the memory, rounded up.
        mib: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The anchor interface could not be bound.
    #[error(
        "cannot bind the packet memory to its anchor {name}, queue {queue}: {source}{}",
        hint(source)
    )]
    Anchor {
        /// The interface.
        name: String,
        /// The queue.
        queue: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel takes no packets of several frames.
    #[error(
        "the kernel takes no packets of several frames (XDP_USE_SG), which an MTU above 1710 needs: \
         Linux 6.6 and newer do"
    )]
    MultiBuffer,
    /// The library laid the frames out in another way than this crate relies on.
    #[error("frame {frame} of the packet memory is not where it has to be")]
    Layout {
        /// Number of the first such frame.
        frame: usize,
    },
}

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The interface is unknown in this namespace, or would not answer.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A port must bind every queue its device has, or frames on the others are lost.
    #[error(
        "{name} has {rx} receive and {tx} transmit queues, not {asked}: create both ends of the \
         veth with `numrxqueues {asked} numtxqueues {asked}`"
    )]
    Queues {
        /// The interface.
        name: String,
        /// Queues asked for.
        asked: u16,
        /// Receive queues of the device.
        rx: u32,
        /// Transmit queues of the device.
        tx: u32,
    },
    /// The arena has not enough frames for the port's rings.
    #[error(
        "{name} needs {need} frames for its rings and the arena has {left} left: plan the arena \
         with `budget::plan` for all its ports"
    )]
    NoFrames {
        /// The interface.
        name: String,
        /// Frames needed.
        need: usize,
        /// Frames not promised to anyone.
        left: usize,
    },
    /// A queue could not be bound.
    #[error("cannot bind an AF_XDP socket to {name}, queue {queue}: {source}{}", hint(source))]
    Bind {
        /// The interface.
        name: String,
        /// The queue.
        queue: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The port's XDP program could not be loaded, filled or attached.
    #[error("port {name}: {source}")]
    Program {
        /// The interface.
        name: String,
        /// What went wrong.
        source: ProgError,
    },
}

/// An interface could not be read or set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No interface has this name in the calling thread's network namespace.
    #[error("no interface {name} in this network namespace: {source}")]
    Unknown {
        /// The name.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The driver or the kernel refused an ethtool request.
    #[error("cannot {what} of {name}: {source}{}", hint(source))]
    Ethtool {
        /// What was asked for.
        what: &'static str,
        /// The interface.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No AF_PACKET socket could be opened there.
    #[error("cannot watch {name}: {source}{}", hint(source))]
    Watch {
        /// The interface.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The system's error inside an error of the AF_XDP library.
pub(crate) fn os_error(error: &(dyn Error + 'static)) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}

/// What usually helps, to be put behind the system's message.
fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "; run as root, or with CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF and CAP_IPC_LOCK"
        }
        Some(libc::ENOBUFS) => {
            "; the locked-memory limit is too low: raise it (`ulimit -l unlimited`, systemd: \
             LimitMEMLOCK=infinity) or run with CAP_IPC_LOCK"
        }
        Some(libc::ENOMEM) => "; the kernel is out of memory: make the lab or its rings smaller",
        Some(libc::EBUSY) => {
            "; another AF_XDP socket is bound to this queue: stop the other process and try again"
        }
        Some(libc::ENODEV) => "; there is no such interface in this network namespace",
        Some(libc::EBADF) => "; the arena's anchor interface is gone: it has to stay until the end",
        Some(libc::ENETDOWN) => "; set the interface up first",
        Some(libc::EINVAL) => {
            "; does the interface have this queue, and was it left alone since the last bind?"
        }
        Some(libc::EAFNOSUPPORT) => "; the kernel was built without CONFIG_XDP_SOCKETS",
        Some(libc::EOPNOTSUPP) => "; the driver does not offer this",
        _ => "",
    }
}
