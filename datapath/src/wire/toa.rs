//! TOA: the client's address and port in a TCP option, for servers that a load balancer hides it
//! from (DPVS: src/ipvs/ip_vs_proto_tcp.c; spec FNAT-20 to FNAT-26). The option has kind 254, then
//! its length, 8, then the port and the IPv4 address.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::checksum::Delta;
use super::packet::{put, set_word, word};
use super::{Packet, Protocol, ethernet, tcp, tcp_option};
use crate::port::Buffer;

/// The option's kind.
pub const KIND: u8 = 254;
/// The option's length in bytes.
pub const LEN: u16 = 8;

/// Longest TCP header, in bytes.
const LONGEST_HEADER: u16 = 60;
/// Where an IP header has its checksum, in bytes.
const IP_CHECKSUM_AT: usize = 10;
/// Kind and length of the option with the maximum segment size.
const MSS: (u8, usize) = (2, 4);
/// Kind and length of the timestamps option.
const TIMESTAMPS: (u8, usize) = (8, 10);

/// Why a segment does not carry the option though it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoToa {
    /// It would be larger than the MTU, or came in fragments.
    TooLarge,
    /// Its other options leave no room.
    OptionsFull,
    /// The buffer has no headroom.
    NoHeadroom,
}

impl NoToa {
    /// One sentence that says what it means.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::TooLarge => "the segment would be larger than the MTU",
            Self::OptionsFull => "the segment's other options leave no room",
            Self::NoHeadroom => "the buffer has no headroom",
        }
    }
}

/// The client that the TCP segment in `ip` tells of.
#[must_use]
pub fn find(ip: &[u8], packet: &Packet<Ipv4Addr>) -> Option<(Ipv4Addr, u16)> {
    if packet.tuple.proto != Protocol::TCP {
        return None;
    }
    let at = tcp_option::find(ip, usize::from(packet.header_len), KIND, usize::from(LEN))?;
    let [p0, p1, a, b, c, d] = *ip.get(at + 2..)?.first_chunk()?;
    Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p0, p1])))
}

/// Puts `client` behind the fixed part of the TCP header of the packet in an untagged frame, which
/// may become `mtu` bytes long.
///
/// # Errors
/// Why it does not; the frame is as it was then.
pub fn insert<B: Buffer>(
    frame: &mut B,
    packet: &mut Packet<Ipv4Addr>,
    (ip, port): (Ipv4Addr, u16),
    mtu: u16,
) -> Result<(), NoToa> {
    let l4 = ethernet::HEADER_LEN + usize::from(packet.header_len);
    let offset = word(frame.bytes(), l4 + 12).ok_or(NoToa::OptionsFull)?;
    if packet.total_len.saturating_add(LEN) > mtu {
        return Err(NoToa::TooLarge);
    }
    if (offset >> 12) * 4 + LEN > LONGEST_HEADER {
        return Err(NoToa::OptionsFull);
    }
    if !frame.grow_front(usize::from(LEN)) {
        return Err(NoToa::NoHeadroom);
    }
    let bytes = frame.bytes_mut();
    let fixed = l4 + tcp::HEADER_LEN;
    bytes.copy_within(usize::from(LEN)..usize::from(LEN) + fixed, 0);
    let ([p0, p1], [a, b, c, d]) = (port.to_be_bytes(), ip.octets());
    let option = [KIND, LEN as u8, p0, p1, a, b, c, d];
    put(bytes, fixed, &option);
    let longer = offset + ((LEN / 4) << 12);
    set_word(bytes, l4 + 12, longer);
    let segment = packet.total_len - u16::from(packet.header_len);
    let delta = Delta::default()
        .word(offset, longer)
        .word(segment, segment + LEN)
        .bytes(&[0; LEN as usize], &option);
    correct(bytes, l4 + 16, delta);
    let total_len = packet.total_len + LEN;
    set_word(bytes, ethernet::HEADER_LEN + 2, total_len);
    let delta = Delta::default().word(packet.total_len, total_len);
    correct(bytes, ethernet::HEADER_LEN + IP_CHECKSUM_AT, delta);
    packet.total_len = total_len;
    Ok(())
}

/// Takes from the maximum segment size that the SYN in `ip` offers what the option needs.
pub fn lower_mss(ip: &mut [u8], packet: &Packet<Ipv4Addr>) {
    let l4 = usize::from(packet.header_len);
    let Some(at) = tcp_option::find(ip, l4, MSS.0, MSS.1) else { return };
    if let Some(mss) = word(ip, at + 2) {
        tcp_option::replace(ip, l4, at + 2, &mss.saturating_sub(LEN).to_be_bytes());
    }
}

/// Blanks the timestamps of the SYN in `ip`: a destination sees the clocks of many clients behind
/// one local address, and would take one that is behind another for an old duplicate.
pub fn blank_timestamps(ip: &mut [u8], packet: &Packet<Ipv4Addr>) {
    let l4 = usize::from(packet.header_len);
    if let Some(at) = tcp_option::find(ip, l4, TIMESTAMPS.0, TIMESTAMPS.1) {
        tcp_option::replace(ip, l4, at, &[tcp_option::NOP; TIMESTAMPS.1]);
    }
}

fn correct(bytes: &mut [u8], at: usize, delta: Delta) {
    if let Some(sum) = word(bytes, at) {
        set_word(bytes, at, delta.apply(sum));
    }
}
