//! The system calls that no safe library offers: ethtool requests, socket options, and what
//! AF_PACKET sockets are bound to and receive.
#![allow(unsafe_code, reason = "ioctl, socket options, bind and recvmsg take pointers")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `XDP_MAX_TX_SKB_BUDGET`: frames one `sendto` on a copy-mode socket may send.
pub(crate) const TX_BUDGET_OPTION: libc::c_int = 9;
/// What it is without the option, and the least it takes.
const TX_BUDGET_DEFAULT: u32 = 32;
/// For how long a blocking call would poll; ours never block, but zero would turn it off.
const BUSY_POLL_MICROS: u32 = 20;
/// `SIOCETHTOOL`.
const ETHTOOL_IOCTL: libc::c_ulong = 0x8946;
/// Most counters of a device that can be read: twelve each for the 4,096 queues of the largest
/// veth are far below it.
pub(crate) const MOST_STATS: usize = 1 << 17;
/// Bytes of the name of a counter.
pub(crate) const NAME_LEN: usize = 32;

/// Lets one `sendto` send a whole ring. Older kernels do not know the option; then more calls are
/// made.
pub(crate) fn raise_tx_budget(socket: BorrowedFd<'_>, frames: u32) {
    if frames <= TX_BUDGET_DEFAULT {
        return;
    }
    if let Err(error) = set_xdp_option(socket, TX_BUDGET_OPTION, &frames) {
        tracing::debug!(%error, "the kernel's send budget stays at 32");
    }
}

/// What may be handed to the kernel as the value of a socket option.
///
/// # Safety
/// It is plain data without padding.
pub(crate) unsafe trait OptionValue {}
// SAFETY: a number.
unsafe impl OptionValue for u32 {}
// SAFETY: two u64 and four u32, in this order.
unsafe impl OptionValue for libc::xdp_umem_reg {}

/// Sets an option of an AF_XDP socket.
pub(crate) fn set_xdp_option(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    value: &impl OptionValue,
) -> io::Result<()> {
    set_option(socket, libc::SOL_XDP, option, value)
}

fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &impl OptionValue,
) -> io::Result<()> {
    let length = mem::size_of_val(value) as libc::socklen_t;
    // SAFETY: the pointer and the length are those of one live value without padding.
    let refused = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, ptr::from_ref(value).cast(), length)
    };
    if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel receive for a socket when that is asked, and not when frames arrive; at most
/// `budget` frames at a time.
pub(crate) fn prefer_busy_poll(socket: BorrowedFd<'_>, budget: u32) -> io::Result<()> {
    let options = [
        (libc::SO_PREFER_BUSY_POLL, 1),
        (libc::SO_BUSY_POLL, BUSY_POLL_MICROS),
        (libc::SO_BUSY_POLL_BUDGET, budget),
    ];
    let set = |(option, value)| set_option(socket, libc::SOL_SOCKET, option, &value);
    options.into_iter().try_for_each(set)
}

/// Whether the kernel knows where it would receive for a socket, and so can be asked to. Some learn it
/// from the first frame.
pub(crate) fn is_received_for(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut napi = 0_u32;
    let mut length = mem::size_of_val(&napi) as libc::socklen_t;
    // SAFETY: both pointers are those of live values, and the length is that of the first.
    let refused = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_INCOMING_NAPI_ID,
            ptr::from_mut(&mut napi).cast(),
            ptr::from_mut(&mut length),
        )
    };
    if refused == 0 { Ok(napi != 0) } else { Err(io::Error::last_os_error()) }
}

/// The ethtool requests this crate makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Reads whether transmit checksums are on.
    GetTxChecksum,
    /// Sets transmit checksums on or off.
    SetTxChecksum,
    /// Reads the feature flags.
    GetFlags,
    /// Sets the feature flags.
    SetFlags,
    /// Reads whether TCP segments are left to the device to cut.
    GetSegmentation,
    /// Sets it.
    SetSegmentation,
    /// Reads whether received frames are joined.
    GetJoining,
    /// Sets it.
    SetJoining,
    /// Reads the number of queues.
    GetChannels,
    /// Reads the number of counters.
    CountStats,
    /// Reads the names of the counters.
    StatNames,
    /// Reads the counters.
    Stats,
}

impl Request {
    fn number(self) -> u32 {
        match self {
            Self::GetTxChecksum => 0x16,
            Self::SetTxChecksum => 0x17,
            Self::GetFlags => 0x25,
            Self::SetFlags => 0x26,
            Self::GetSegmentation => 0x1e,
            Self::SetSegmentation => 0x1f,
            Self::GetJoining => 0x2b,
            Self::SetJoining => 0x2c,
            Self::GetChannels => 0x3c,
            Self::CountStats => 0x37,
            Self::StatNames => 0x1b,
            Self::Stats => 0x1d,
        }
    }

    /// Bytes the kernel may write at most. The kernel writes all counters a device has at that
    /// moment, whatever number it is given, so these two are sized for any device.
    fn size(self) -> usize {
        match self {
            Self::GetChannels => 36,
            Self::CountStats => 16 + 64 * 4,
            Self::StatNames => 12 + MOST_STATS * NAME_LEN,
            Self::Stats => 8 + MOST_STATS * 8,
            // The others carry one number.
            _ => 8,
        }
    }
}

/// Makes a request about an interface of the calling thread's network namespace. `rest` goes
/// behind the request's number; the answer starts with that number.
pub(crate) fn ethtool(name: &str, request: Request, rest: &[u8]) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; request.size()];
    let (number, behind) = buffer.split_at_mut(4);
    number.copy_from_slice(&request.number().to_ne_bytes());
    behind.get_mut(..rest.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(rest);

    let mut ifr_name = [0; libc::IFNAMSIZ];
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_data: buffer.as_mut_ptr().cast() };
    let mut ifreq = libc::ifreq { ifr_name, ifr_ifru };
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: the request points to a live buffer with room for the longest answer to it.
    if unsafe { libc::ioctl(any.as_raw_fd(), ETHTOOL_IOCTL, &raw mut ifreq) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(buffer)
}

/// Binds an AF_PACKET socket to an interface for frames of every protocol that arrive there, and
/// has it told what the kernel took out of a frame.
pub(crate) fn bind_packet(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    set_option(socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_u32)?;
    set_option(socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_u32)?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer and the length are those of one live address of this socket's family.
    let refused = unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), length) };
    if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives a frame from an AF_PACKET socket: the bytes written to `buffer`, and TPID and TCI of
/// the tag that the kernel took out of it.
pub(crate) fn receive_packet(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<(u16, u16)>)> {
    let mut data = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // Room for the one message asked for, aligned as its header has to be.
    let mut control = [0_u64; 16];
    // SAFETY: a message header is plain data, of which all zero is "nothing".
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control);
    // SAFETY: the message points to live buffers of the lengths it names.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let mut tag = None;
    // SAFETY: the kernel has filled in the header and the control buffer it points to, which both
    // still live; a message of this level and type holds a `tpacket_auxdata`, read unaligned.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(header) = at.as_ref() {
            if (header.cmsg_level, header.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
                let told: libc::tpacket_auxdata = ptr::read_unaligned(libc::CMSG_DATA(at).cast());
                if told.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                    tag = Some((told.tp_vlan_tpid, told.tp_vlan_tci));
                }
            }
            at = libc::CMSG_NXTHDR(&raw const message, at);
        }
    }
    Ok((length, tag))
}
