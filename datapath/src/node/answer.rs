//! What the node says itself: echo replies and resets for virtual addresses, and ICMP errors
//! (kernel: net/ipv4/icmp.c, tcp_ipv4.c; spec IPVS-7, IPVS-27 to IPVS-30, EGR-4 to EGR-6).

use std::net::Ipv4Addr;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use super::Node;
use super::config::HOST0;
use super::conntrack::Tracked;
use super::passage::{Assembled, Passage, Refusal, Stop};
use super::pipeline::Local;
use crate::element::Output;
use crate::fragment::Whole;
use crate::port::Buffer;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Packet, Protocol, Transport, checksum, ethernet, icmpv4, ipv4, tcp};

/// An ICMP error, IP header included, has at most this many bytes (RFC 1812).
const ERROR_MAX: usize = 576;
/// Packets up to this size any frame holds.
const IN_FRAME: usize = 1500;
/// Precedence of ICMP errors: internetwork control.
const ERROR_PRECEDENCE: u8 = 0xc0;
/// What an ICMP error takes of the type of service of the packet it is about (RFC 1349).
const TOS_MASK: u8 = 0x1e;
/// TTL of what the node sends.
const TTL: u8 = 64;
/// Senders whose ICMP errors are metered at once.
const METERED: usize = 256;
/// Errors a sender may be sent at once after a silence (XRLIM_BURST_FACTOR).
const BURST: u32 = 6;

impl<B: Buffer> Node<B> {
    /// How the node's own stack meets a packet for a virtual address that ipvs did not take; its
    /// flow is confirmed (spec CT-4, IPVS-27, IPVS-29).
    pub(super) fn answer_for_vip(&mut self, p: &mut Passage<B>, now: Time) -> Stop {
        let tuple = p.packet.tuple;
        let served = self.config.services.find(tuple.proto, tuple.dst, tuple.dst_port).is_some();
        if let Tracked::New(flow) = p.tracked
            && let Break(stop) = self.confirm(p, &flow, now)
        {
            return stop;
        }
        if !p.packet.checksum_holds(p.ip()) {
            return Stop::Drop(DropReason::BadChecksum);
        }
        match p.packet.transport {
            Transport::Icmp { kind: icmpv4::ECHO_REQUEST, .. } => Stop::Echo,
            Transport::Tcp { flags, .. } if flags.contains(tcp::Flags::RST) => {
                Stop::Drop(DropReason::NoConnection)
            }
            Transport::Tcp { .. } if served => {
                Stop::Refuse(DropReason::NoConnection, Refusal::Reset)
            }
            Transport::Tcp { .. } => Stop::Refuse(DropReason::NoService, Refusal::Reset),
            Transport::Udp { .. } => Stop::Refuse(DropReason::NoService, Refusal::PortUnreachable),
            Transport::Icmp { .. } => Stop::Drop(DropReason::NoService),
            Transport::Other => Stop::Refuse(DropReason::NoService, Refusal::ProtocolUnreachable),
        }
    }

    /// Tells the sender of a refused packet why, where that is allowed.
    pub(super) fn refuse(
        &mut self,
        p: &Passage<B>,
        refusal: Refusal,
        now: Time,
        out: &mut Output<B>,
    ) {
        let sender = p.packet.tuple.src;
        let asked = p.packet.tuple.dst;
        let from = if self.config.is_local(asked) { asked } else { self.config.ip };
        // The node itself is told by a virtual address, but not by itself. An error about what
        // ipvs has sent finds its way back by its connection. Any other packet with one of our
        // addresses as its source is nobody's to answer.
        let translated = p.ipvs && refusal != Refusal::Reset;
        let own = self.config.is_local(sender) && (p.iif != Some(HOST0) || from == sender);
        if own && !translated {
            return;
        }
        let answer = match refusal {
            Refusal::Reset => reset(&p.packet),
            _ if matches!(p.packet.transport, Transport::Icmp { kind, .. } if icmpv4::is_error(kind)) => {
                None
            }
            _ if ipv4::Fragment::of(p.ip()).offset > 0 => None,
            _ if !self.meter.allows(sender, self.config.switches.icmp_ratelimit_ms, now) => None,
            _ => {
                self.ip_id = self.ip_id.wrapping_add(1);
                error(refusal, from, sender, p.ip(), self.ip_id)
            }
        };
        if let Some(answer) = answer {
            self.send_answer(&answer, now, out);
        }
    }

    /// Answers an echo request in the name of the address it asked.
    pub(super) fn echo(&mut self, p: &Passage<B>, now: Time, out: &mut Output<B>) {
        let Some(message) = p.ip().get(usize::from(p.packet.header_len)..) else { return };
        self.ip_id = self.ip_id.wrapping_add(1);
        let header = ipv4::Header {
            src: p.packet.tuple.dst,
            dst: p.packet.tuple.src,
            protocol: Protocol::ICMP,
            ttl: TTL,
            tos: p.packet.tos,
            id: self.ip_id,
            total_len: p.packet.total_len,
            header_len: 20,
            dont_fragment: false,
            fragment: false,
        };
        let mut message = message.to_vec();
        if let Some([kind, _, c0, c1]) = message.first_chunk_mut() {
            *kind = icmpv4::ECHO_REPLY;
            [*c0, *c1] = [0, 0];
        }
        let sum = checksum::of(&message).to_be_bytes();
        if let Some([_, _, c0, c1]) = message.first_chunk_mut() {
            [*c0, *c1] = sum;
        }
        self.send_answer(&with_header(&header, &message), now, out);
    }

    /// Sends a packet of the node's own: LOCAL_OUT, POSTROUTING, egress. One that a frame need not
    /// hold is kept beside it, and cut on leaving.
    fn send_answer(&mut self, packet: &[u8], now: Time, out: &mut Output<B>) {
        let whole = (packet.len() > IN_FRAME)
            .then(|| Box::new(Assembled { whole: Whole::new(packet.to_vec()), spare: Vec::new() }));
        let mut frame = vec![0; ethernet::HEADER_LEN];
        if whole.is_none() {
            frame.extend_from_slice(packet);
        }
        let ethertype = ethernet::IPV4;
        ethernet::Header { dst: Default::default(), src: Default::default(), ethertype }
            .emit(&mut frame);
        let Ok(parsed) = Packet::parse(packet) else { return };
        let Some(framed) = self.make(&frame, now, out) else { return };
        let mut p = Passage::new(framed, parsed, None);
        p.whole = whole;
        self.originate(p, now, out);
    }

    /// The hooks of a packet of the node's own: of ipvs only what it does to errors.
    fn walk_answer(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop> {
        self.route_output(p)?;
        self.local_out(p, now)?;
        if self.ipvs_own_error(p, now)? == Local::SentByIpvs {
            self.local_out(p, now)?;
        }
        if p.exit.is_none() { self.deliver(p, now) } else { self.postrouting(p, now) }
    }

    /// Routes a packet of the node's own; one for the node itself goes to its stack.
    fn originate(&mut self, mut p: Passage<B>, now: Time, out: &mut Output<B>) {
        // Our own answer is never a request to ourselves.
        p.ipvs = true;
        match self.walk_answer(&mut p, now) {
            Continue(()) => self.output(p, now, out),
            // An answer that cannot go is not answered in turn.
            Break(Stop::Drop(reason) | Stop::Refuse(reason, _)) => {
                self.lose(p.framed, reason, out);
            }
            Break(Stop::Echo) => self.lose(p.framed, DropReason::NoRoute, out),
        }
    }
}

/// An IP packet of a header and what follows it.
fn with_header(header: &ipv4::Header, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; ipv4::HEADER_LEN];
    packet.extend_from_slice(payload);
    header.emit(&mut packet);
    packet
}

/// The reset that answers a segment (RFC 9293, 3.10.7.1); `None` for what is not TCP.
fn reset(packet: &Packet<Ipv4Addr>) -> Option<Vec<u8>> {
    let Transport::Tcp { flags, seq, ack, payload_len, .. } = packet.transport else {
        return None;
    };
    let tuple = packet.tuple.inverse()?;
    let acked = flags.contains(tcp::Flags::ACK);
    let control =
        u32::from(flags.contains(tcp::Flags::SYN)) + u32::from(flags.contains(tcp::Flags::FIN));
    let end = seq.wrapping_add(u32::from(payload_len)).wrapping_add(control);
    let segment = tcp::Header {
        src_port: tuple.src_port,
        dst_port: tuple.dst_port,
        seq: if acked { ack } else { 0 },
        ack: if acked { 0 } else { end },
        header_len: 20,
        flags: if acked { tcp::Flags::RST } else { tcp::Flags::RST | tcp::Flags::ACK },
        window: 0,
    };
    let mut bytes = [0; tcp::HEADER_LEN];
    segment.emit(&mut bytes);
    let pseudo =
        checksum::pseudo_header(&tuple.src.octets(), &tuple.dst.octets(), Protocol::TCP.0, 20);
    let sum = !checksum::fold(checksum::sum(&bytes, pseudo));
    let [.., c0, c1, _, _] = &mut bytes;
    [*c0, *c1] = sum.to_be_bytes();
    let header = ipv4::Header {
        src: tuple.src,
        dst: tuple.dst,
        protocol: Protocol::TCP,
        ttl: TTL,
        tos: packet.tos,
        id: 0,
        total_len: 40,
        header_len: 20,
        dont_fragment: true,
        fragment: false,
    };
    Some(with_header(&header, &bytes))
}

/// An ICMP error that quotes a packet.
fn error(
    refusal: Refusal,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    quoted: &[u8],
    id: u16,
) -> Option<Vec<u8>> {
    let (kind, code, mtu) = match refusal {
        Refusal::Reset => return None,
        Refusal::NetUnreachable => (icmpv4::UNREACHABLE, 0, 0),
        Refusal::HostUnreachable => (icmpv4::UNREACHABLE, 1, 0),
        Refusal::ProtocolUnreachable => (icmpv4::UNREACHABLE, icmpv4::PROTOCOL_UNREACHABLE, 0),
        Refusal::PortUnreachable => (icmpv4::UNREACHABLE, icmpv4::PORT_UNREACHABLE, 0),
        Refusal::FragmentationNeeded(mtu) => (icmpv4::UNREACHABLE, 4, mtu),
        Refusal::TimeExceeded => (icmpv4::TIME_EXCEEDED, 0, 0),
        Refusal::ReassemblyTimeExceeded => (icmpv4::TIME_EXCEEDED, 1, 0),
    };
    let tos = quoted.get(1).copied().unwrap_or(0);
    let room = ERROR_MAX - ipv4::HEADER_LEN - icmpv4::HEADER_LEN;
    let quoted = quoted.get(..room).unwrap_or(quoted);
    let [m0, m1] = u16::to_be_bytes(mtu);
    let mut message = vec![kind, code, 0, 0, 0, 0, m0, m1];
    message.extend_from_slice(quoted);
    let sum = checksum::of(&message).to_be_bytes();
    if let Some([_, _, c0, c1]) = message.first_chunk_mut() {
        [*c0, *c1] = sum;
    }
    let header = ipv4::Header {
        src,
        dst,
        protocol: Protocol::ICMP,
        ttl: TTL,
        tos: ERROR_PRECEDENCE | (tos & TOS_MASK),
        id,
        total_len: u16::try_from(ipv4::HEADER_LEN + message.len()).ok()?,
        header_len: 20,
        dont_fragment: false,
        fragment: false,
    };
    Some(with_header(&header, &message))
}

/// Meters ICMP errors for each receiver by a bucket of tokens (kernel: inet_peer_xrlim_allow).
#[derive(Debug, Default)]
pub(super) struct ErrorMeter {
    /// Receiver, tokens in nanoseconds, last use; the one unused longest makes room.
    buckets: Vec<(Ipv4Addr, Duration, Time)>,
}

impl ErrorMeter {
    fn allows(&mut self, to: Ipv4Addr, ratelimit_ms: u32, now: Time) -> bool {
        let cost = Duration::from_millis(u64::from(ratelimit_ms));
        if cost.is_zero() {
            return true;
        }
        let at = match self.buckets.iter().position(|(ip, ..)| *ip == to) {
            Some(at) => at,
            None => {
                if self.buckets.len() >= METERED {
                    let oldest = self.buckets.iter().enumerate().min_by_key(|(_, b)| b.2);
                    let oldest = oldest.map_or(0, |(at, _)| at);
                    self.buckets.swap_remove(oldest);
                }
                self.buckets.push((to, cost * BURST, now));
                self.buckets.len() - 1
            }
        };
        let Some((_, tokens, last)) = self.buckets.get_mut(at) else { return false };
        *tokens = (*tokens + now.since(*last)).min(cost * BURST);
        *last = now;
        let enough = *tokens >= cost;
        if enough {
            *tokens -= cost;
        }
        enough
    }
}
