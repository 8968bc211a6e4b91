//! One packet into a fresh lab in memory, whose hosts answer: what `explain` shows.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context as _;
use datapath::lab::Lab;
use datapath::link::HostId;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv4Repr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket,
    TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::http::client_port;
use super::session::MemorySession;
use super::small_host::Services;
use crate::journey::Recording;
use crate::scenario::Session as _;

/// How long answers, and neighbours that do not answer, are waited for.
const PATIENCE: Duration = Duration::from_secs(4);
/// TTL of the packet.
const TTL: u8 = 64;
/// Largest segment a host with an MTU of 1500 takes.
const MSS: u16 = 1460;

/// The packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A SYN to this port.
    Tcp(u16),
    /// A datagram to this port.
    Udp(u16),
    /// An echo request.
    Echo,
}

/// Starts the lab in memory, has `from` send one packet to `to`, and gives the record of that and
/// of every answer. The hosts answer echo requests, TCP and UDP on any port.
///
/// # Errors
/// The lab has no such host.
pub fn probe(lab: &Lab, from: HostId, to: Ipv4Addr, probe: Probe) -> anyhow::Result<Recording> {
    let mut session = MemorySession::new(lab.clone(), &Services::echo());
    let hosted = session.hosted();
    hosted.send(from, |source| packet(source, to, probe)).context("the lab has no such host")?;
    hosted.wait(PATIENCE);
    Box::new(session).finish()
}

/// The IP packet of a probe.
fn packet(src: Ipv4Addr, dst: Ipv4Addr, probe: Probe) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let (src_ip, dst_ip) = (IpAddress::Ipv4(src), IpAddress::Ipv4(dst));
    let port = client_port(0);
    let (next_header, message) = match probe {
        Probe::Tcp(to) => {
            let syn = syn(port, to);
            let mut bytes = vec![0; syn.buffer_len()];
            syn.emit(&mut TcpPacket::new_unchecked(&mut bytes), &src_ip, &dst_ip, &checksums);
            (IpProtocol::Tcp, bytes)
        }
        Probe::Udp(to) => {
            let data = b"trunkline";
            let repr = UdpRepr { src_port: port, dst_port: to };
            let mut bytes = vec![0; repr.header_len() + data.len()];
            let mut datagram = UdpPacket::new_unchecked(&mut bytes);
            let fill = |room: &mut [u8]| room.copy_from_slice(data);
            repr.emit(&mut datagram, &src_ip, &dst_ip, data.len(), fill, &checksums);
            (IpProtocol::Udp, bytes)
        }
        Probe::Echo => {
            let repr = Icmpv4Repr::EchoRequest { ident: port, seq_no: 1, data: b"trunkline" };
            let mut bytes = vec![0; repr.buffer_len()];
            repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &checksums);
            (IpProtocol::Icmp, bytes)
        }
    };
    let header = Ipv4Repr {
        src_addr: src,
        dst_addr: dst,
        next_header,
        payload_len: message.len(),
        hop_limit: TTL,
    };
    let mut packet = vec![0; header.buffer_len()];
    packet.extend_from_slice(&message);
    header.emit(&mut Ipv4Packet::new_unchecked(&mut packet), &checksums);
    packet
}

/// A SYN as a host's stack sends it.
fn syn(src_port: u16, dst_port: u16) -> TcpRepr<'static> {
    TcpRepr {
        src_port,
        dst_port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1),
        ack_number: None,
        window_len: u16::MAX,
        window_scale: Some(7),
        max_seg_size: Some(MSS),
        sack_permitted: true,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}
