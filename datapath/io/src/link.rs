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

/// What a device does to frames on their way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// Whether it promises to complete checksums, see [`tx_checksum_off`].
    pub tx_checksum: bool,
    /// Whether it carries VLAN tags beside the frame, see [`tx_vlan_off`].
    pub tx_vlan: bool,
}

/// The index of an interface.
///
/// # Errors
/// [`LinkError::Unknown`] where this namespace has no such interface.
pub fn index(name: &str) -> Result<u32, LinkError> {
    if_nametoindex(name)
        .map_err(|source| LinkError::Unknown { name: name.to_owned(), source: source.into() })
}

/// Has the kernel compute checksums itself before a frame leaves through this interface. Without
/// it, frames of the local stack reach an AF_XDP peer with unfinished checksums, and TCP never
/// connects.
///
/// # Errors
/// [`LinkError::Ethtool`].
pub fn tx_checksum_off(name: &str) -> Result<(), LinkError> {
    ethtool(name, Request::SetTxChecksum, &0_u32.to_ne_bytes())
        .map_err(failed("turn off transmit checksums", name))?;
    Ok(())
}

/// Has the kernel write VLAN tags into the frame before it leaves through this interface. Without
/// it the tag travels beside the frame, and an AF_XDP peer sees none.
///
/// # Errors
/// [`LinkError::Ethtool`].
pub fn tx_vlan_off(name: &str) -> Result<(), LinkError> {
    let answer =
        ethtool(name, Request::GetFlags, &[]).map_err(failed("read the features", name))?;
    let flags = number(&answer, 4) & !TX_VLAN;
    ethtool(name, Request::SetFlags, &flags.to_ne_bytes())
        .map_err(failed("turn off VLAN tag insertion", name))?;
    Ok(())
}

/// Whether a device has the two properties that an AF_XDP peer cannot live with.
///
/// # Errors
/// [`LinkError::Ethtool`].
pub fn offloads(name: &str) -> Result<Offloads, LinkError> {
    let [checksum, flags] = [Request::GetTxChecksum, Request::GetFlags]
        .map(|request| ethtool(name, request, &[]).map(|answer| number(&answer, 4)));
    let what = "read the features";
    Ok(Offloads {
        tx_checksum: checksum.map_err(failed(what, name))? != 0,
        tx_vlan: flags.map_err(failed(what, name))? & TX_VLAN != 0,
    })
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
