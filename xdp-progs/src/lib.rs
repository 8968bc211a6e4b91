//! The XDP programs of the datapath, loaded through typed, safe calls.
//!
//! There is one so far: [`Redirect`] hands every frame of a port to the AF_XDP socket bound to
//! the queue the frame came in on. It takes `CAP_BPF` and `CAP_NET_ADMIN` to load and attach.
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

mod redirect;

pub use redirect::{ProgError, Redirect, Verdict};
