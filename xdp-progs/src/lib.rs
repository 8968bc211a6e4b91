//! The XDP programs of the datapath, loaded through typed, safe calls.
//!
//! [`Redirect`] hands every frame of a port to the AF_XDP socket bound to the queue the frame came
//! in on. The others are for measuring: [`Offer`] sends datagrams, [`Counter`] counts them where
//! they arrive, [`Devmap`] forwards them inside the kernel. It takes `CAP_BPF` and
//! `CAP_NET_ADMIN` to load and attach, and for those three `CAP_PERFMON`, since they look into
//! frames.
//!
//! ```no_run
//! # fn attach(sockets: &[std::os::fd::OwnedFd; 4]) -> Result<(), xdp_progs::ProgError> {
//! use std::os::fd::AsFd;
//! use xdp_progs::Redirect;
//!
//! let mut program = Redirect::load(4)?; // the port has four queues
//! for (queue, socket) in (0..).zip(sockets) {
//!     program.set_socket(queue, socket.as_fd())?;
//! }
//! program.attach(7)?; // by interface index, looked up in the calling thread's namespace
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod count;
mod devmap;
mod error;
mod object;
mod offer;
mod redirect;

pub use count::{Counter, Counts, Times};
pub use devmap::Devmap;
pub use error::ProgError;
pub use offer::Offer;
pub use redirect::{Redirect, Verdict};

/// Bytes of the headers of an untagged datagram: Ethernet, IPv4 without options, UDP.
const DATAGRAM: usize = 42;
/// Where the program that counts finds what a frame carries: behind a datagram's headers, or a
/// segment's, and how many bytes that are with the time at which it was sent.
const PAYLOAD: usize = 10;

/// The headers of a datagram.
fn datagram(frame: &[u8]) -> Result<&[u8], ProgError> {
    frame.get(..DATAGRAM).ok_or(ProgError::ShortFrame)
}
