//! Settings and counters of an interface in the calling thread's network namespace.

use std::io;

use nix::net::if_::if_nametoindex;

use crate::error::LinkError;
use crate::sys::{MOST_STATS, NAME_LEN, Request, ethtool};

/// `ETH_FLAG_TXVLAN`.
const TX_VLAN: u32 = 1 << 7;
/// `ETH_SS_STATS`.
const STATS_SET: u32 = 1;

/// Receive and transmit queues of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Receive queues in use.
    pub rx: u32,
    /// Transmit queues in use.
    pub tx: u32,
}

/// Work that the stack behind a device leaves to it, and that an AF_XDP peer does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Completing checksums. With it, frames of the local stack reach an AF_XDP peer with
    /// unfinished ones, and TCP never connects.
    TxChecksum,
    /// Writing VLAN tags into the frame. With it, the tag travels beside the frame, and an AF_XDP
    /// peer sees none.
    TxVlan,
    /// Cutting a long TCP segment into frames. With it, frames longer than the MTU reach an
    /// AF_XDP peer, which has no room for them.
    Segmentation,
    /// Joining received frames. With it, frames pass through a ring of 256 that a burst of an
    /// AF_XDP peer overruns, and what `tcpdump` shows is not what was on the wire.
    Joining,
}

impl Offload {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::TxChecksum, Self::TxVlan, Self::Segmentation, Self::Joining];

    /// The requests that read and set it; where it is one flag of several, that flag.
    const fn requests(self) -> (Request, Request, Option<u32>) {
        match self {
            Self::TxChecksum => (Request::GetTxChecksum, Request::SetTxChecksum, None),
            Self::TxVlan => (Request::GetFlags, Request::SetFlags, Some(TX_VLAN)),
            Self::Segmentation => (Request::GetSegmentation, Request::SetSegmentation, None),
            Self::Joining => (Request::GetJoining, Request::SetJoining, None),
        }
    }
}

/// The index of an interface.
///
/// # Errors
/// [`LinkError::Unknown`] where this namespace has no such interface.
pub fn index(name: &str) -> Result<u32, LinkError> {
    if_nametoindex(name)
        .map_err(|source| LinkError::Unknown { name: name.to_owned(), source: source.into() })
}

/// The offloads that are on at an interface.
///
/// # Errors
/// [`LinkError::Ethtool`].
pub fn offloads(name: &str) -> Result<Vec<Offload>, LinkError> {
    let mut on = Vec::new();
    for offload in Offload::ALL {
        let (get, _, flag) = offload.requests();
        let answer = ethtool(name, get, &[]).map_err(failed("read the offloads", name))?;
        if number(&answer, 4) & flag.unwrap_or(u32::MAX) != 0 {
            on.push(offload);
        }
    }
    Ok(on)
}

/// Has the kernel do the work itself before a frame leaves through this interface, or after it
/// came in by it.
///
/// # Errors
/// [`LinkError::Ethtool`].
pub fn turn_off(name: &str, offload: Offload) -> Result<(), LinkError> {
    let (get, set, flag) = offload.requests();
    let kept = match flag {
        Some(flag) => {
            let answer = ethtool(name, get, &[]).map_err(failed("read the offloads", name))?;
            number(&answer, 4) & !flag
        }
        None => 0,
    };
    ethtool(name, set, &kept.to_ne_bytes()).map_err(failed("turn off an offload", name))?;
    Ok(())
}

/// How many queues a device uses. None where its driver does not say.
///
/// # Errors
/// [`LinkError::Ethtool`], [`LinkError::Unknown`].
pub fn channels(name: &str) -> Result<Option<Channels>, LinkError> {
    index(name)?;
    match ethtool(name, Request::GetChannels, &[]) {
        Ok(answer) => {
            let [rx, tx, combined] = [20, 24, 32].map(|at| number(&answer, at));
            Ok(Some(Channels { rx: rx + combined, tx: tx + combined }))
        }
        Err(silent) if silent.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => Ok(None),
        Err(source) => Err(failed("read the queues", name)(source)),
    }
}

/// The driver's own counters, as `ethtool -S` shows them. On a veth these hold, for every queue
/// N, `rx_queue_N_drops` (frames no socket took) and `rx_queue_N_xdp_drops` (frames for a queue
/// without socket).
///
/// # Errors
/// [`LinkError::Ethtool`].
pub fn stats(name: &str) -> Result<Vec<(String, u64)>, LinkError> {
    let mut ask = vec![0; 4];
    ask.extend_from_slice(&(1_u64 << STATS_SET).to_ne_bytes());
    let answer =
        ethtool(name, Request::CountStats, &ask).map_err(failed("count the counters", name))?;
    let count = number(&answer, 16);
    if count as usize > MOST_STATS {
        return Err(failed("read the counters", name)(io::ErrorKind::FileTooLarge.into()));
    }
    let ask = [STATS_SET.to_ne_bytes(), count.to_ne_bytes()].concat();
    let names = ethtool(name, Request::StatNames, &ask)
        .map_err(failed("read the counters' names", name))?;
    let values = ethtool(name, Request::Stats, &count.to_ne_bytes())
        .map_err(failed("read the counters", name))?;
    // The two answers can differ where the device has just got more or fewer queues.
    let count = count.min(number(&names, 8)).min(number(&values, 4)) as usize;
    let names = names.get(12..).unwrap_or_default().chunks_exact(NAME_LEN);
    let values = values.get(8..).unwrap_or_default().chunks_exact(8);
    Ok(names.zip(values).take(count).map(|(name, value)| (text(name), word(value))).collect())
}

fn failed<'n>(what: &'static str, name: &'n str) -> impl Fn(io::Error) -> LinkError + use<'n> {
    move |source| LinkError::Ethtool { what, name: name.to_owned(), source }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
    field.map_or(0, u32::from_ne_bytes)
}

fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
