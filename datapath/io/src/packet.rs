//! Whole frames of an interface by an AF_PACKET socket, for the ends of wires where somebody
//! watches or plays a host and speed does not count.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};

use crate::error::LinkError;
use crate::sys;

/// Longest frame that is received whole: a jumbo frame of 9,000 bytes with its header and tags.
const LONGEST: usize = 9_216;
/// Bytes of the two MAC addresses, behind which a tag stands.
const MACS: usize = 12;

/// Sends and receives frames at one interface of the namespace it was opened in; it can be used
/// from any. A frame that the interface's own stack sends, or that this socket sent, is not
/// received.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl PacketSocket {
    /// Opens a socket on the interface of that name in the calling thread's namespace.
    ///
    /// # Errors
    /// Where there is no such interface, or without `CAP_NET_RAW`.
    pub fn open(name: &str) -> Result<Self, LinkError> {
        let failed =
            |source: Errno| LinkError::Watch { name: name.to_owned(), source: source.into() };
        let index = if_nametoindex(name)
            .map_err(|errno| LinkError::Unknown { name: name.to_owned(), source: errno.into() })?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Without a protocol nothing arrives before the socket is bound to its interface.
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None).map_err(failed)?;
        sys::bind_packet(fd.as_fd(), index)
            .map_err(|source| LinkError::Watch { name: name.to_owned(), source })?;
        Ok(Self { fd, buffer: vec![0; LONGEST] })
    }

    /// Sends a frame from its Ethernet header on.
    ///
    /// # Errors
    /// The kernel's: the interface is down, the frame is longer than its MTU allows.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        send(self.fd.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }

    /// The next frame that has arrived, its outer tag where it was on the wire; `None` where none
    /// waits. A frame above 9,216 bytes is cut there.
    ///
    /// # Errors
    /// The kernel's: the interface went down or is gone.
    pub fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (length, tag) = match sys::receive_packet(self.fd.as_fd(), &mut self.buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut frame = self.buffer.get(..length).unwrap_or(&self.buffer).to_vec();
        if let Some((tpid, tci)) = tag
            && frame.len() >= MACS
        {
            let tag = tpid.to_be_bytes().into_iter().chain(tci.to_be_bytes());
            frame.splice(MACS..MACS, tag);
        }
        Ok(Some(frame))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
