//! One IP packet, parsed once: its tuple, what its transport says, and where to write.

use std::net::Ipv4Addr;

use super::checksum::{self, Delta};
use super::{Address, Deltas, Protocol, Translation, Tuple, icmpv4, ipv4, tcp, udp};

/// What a packet's transport header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp {
        /// Control bits.
        flags: tcp::Flags,
        /// Sequence number.
        seq: u32,
        /// Acknowledgment number.
        ack: u32,
        /// Window as written, unscaled.
        window: u16,
        /// Header with options, in bytes.
        header_len: u8,
        /// Bytes of data.
        payload_len: u16,
    },
    /// A UDP datagram.
    Udp {
        /// Bytes of data.
        payload_len: u16,
    },
    /// An ICMP message.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// Anything else; only its addresses are known.
    Other,
}

/// A packet's parsed headers. The bytes stay in the frame; every method that writes takes them.
#[derive(Clone, Copy, Debug)]
pub struct Packet<A: Address> {
    /// Addresses, protocol and ports as they are now.
    pub tuple: Tuple<A>,
    /// What the transport header says.
    pub transport: Transport,
    /// Time to live as it is now.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// IP header and payload, in bytes.
    pub total_len: u16,
    /// The don't-fragment flag.
    pub dont_fragment: bool,
    /// IP header, in bytes.
    pub header_len: u8,
}

/// Why a packet cannot be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparsed {
    /// The IP header is cut short or contradicts itself.
    Header,
    /// The IP header's checksum is wrong.
    Checksum,
    /// The IP header has options.
    Options,
    /// The packet is a fragment, sound so far, with this header.
    Fragment(ipv4::Header),
    /// The transport header is cut short.
    Transport,
}

/// What a rewrite does to a UDP datagram that came without a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroChecksum {
    /// Leaves it without one (conntrack's NAT).
    Keep,
    /// Computes one (ipvs's NAT).
    Compute,
}

impl Packet<Ipv4Addr> {
    /// The IPv4 packet at the start of `ip`; bytes behind its total length are padding.
    ///
    /// # Errors
    /// Why it cannot be handled.
    #[inline(always)]
    pub fn parse(ip: &[u8]) -> Result<Self, Unparsed> {
        let header = ipv4::Header::parse(ip).map_err(|e| match e {
            ipv4::Malformed::Header => Unparsed::Header,
            ipv4::Malformed::Checksum => Unparsed::Checksum,
        })?;
        if usize::from(header.header_len) > ipv4::HEADER_LEN {
            return Err(Unparsed::Options);
        }
        if header.fragment {
            return Err(Unparsed::Fragment(header));
        }
        let transport = parse_transport(header.protocol, payload(ip, &header));
        Ok(Self::of(&header, transport.ok_or(Unparsed::Transport)?))
    }

    /// The fragment at the start of `ip`, as far as it can be told without the others: a transport
    /// header that is cut short, or says more than is there, counts as none.
    #[must_use]
    pub fn of_fragment(ip: &[u8]) -> Option<Self> {
        let header = ipv4::Header::parse(ip).ok()?;
        let first = ipv4::Fragment::of(ip).offset == 0;
        let transport = parse_transport(header.protocol, payload(ip, &header));
        Some(Self::of(&header, transport.filter(|_| first).unwrap_or((Transport::Other, 0, 0))))
    }

    #[inline(always)]
    fn of(header: &ipv4::Header, transport: (Transport, u16, u16)) -> Self {
        let (transport, src_port, dst_port) = transport;
        let ipv4::Header { src, dst, protocol: proto, .. } = *header;
        Self {
            tuple: Tuple { src, dst, src_port, dst_port, proto },
            transport,
            ttl: header.ttl,
            tos: header.tos,
            total_len: header.total_len,
            dont_fragment: header.dont_fragment,
            header_len: header.header_len,
        }
    }
}

/// What follows a header that was parsed from `ip`.
fn payload<'a>(ip: &'a [u8], header: &ipv4::Header) -> &'a [u8] {
    let range = usize::from(header.header_len)..usize::from(header.total_len);
    ip.get(range).unwrap_or_default()
}

/// The transport header and its two ports; `None` where it is cut short.
#[inline(always)]
fn parse_transport(proto: Protocol, payload: &[u8]) -> Option<(Transport, u16, u16)> {
    // A packet has at most 65,535 bytes, so its payload's length fits.
    let len = u16::try_from(payload.len()).ok()?;
    Some(match proto {
        Protocol::TCP => {
            let h = tcp::Header::parse(payload)?;
            let tcp::Header { flags, seq, ack, window, header_len, .. } = h;
            let payload_len = len - u16::from(header_len);
            let transport = Transport::Tcp { flags, seq, ack, window, header_len, payload_len };
            (transport, h.src_port, h.dst_port)
        }
        Protocol::UDP => {
            let h = udp::Header::parse(payload)?;
            (Transport::Udp { payload_len: h.len - 8 }, h.src_port, h.dst_port)
        }
        Protocol::ICMP => {
            let h = icmpv4::Header::parse(payload)?;
            let port = u16::from_be_bytes([h.kind, h.code]);
            (Transport::Icmp { kind: h.kind, code: h.code }, h.id, port)
        }
        _ => (Transport::Other, 0, 0),
    })
}

impl<A: Address> Packet<A> {
    /// Control bits of a TCP segment; none for anything else.
    #[must_use]
    pub fn tcp_flags(&self) -> tcp::Flags {
        match self.transport {
            Transport::Tcp { flags, .. } => flags,
            _ => tcp::Flags::empty(),
        }
    }

    /// The options of a TCP segment; none for anything else.
    #[must_use]
    pub fn tcp_options<'a>(&self, ip: &'a [u8]) -> tcp::Options<'a> {
        let Transport::Tcp { header_len, .. } = self.transport else { return tcp::Options::NONE };
        let tcp = usize::from(self.header_len);
        let range = tcp + tcp::HEADER_LEN..tcp + usize::from(header_len);
        tcp::Options::of(ip.get(range).unwrap_or_default())
    }

    /// Bytes of data behind the transport header.
    #[must_use]
    pub fn payload_len(&self) -> u16 {
        match self.transport {
            Transport::Tcp { payload_len, .. } | Transport::Udp { payload_len } => payload_len,
            Transport::Icmp { .. } | Transport::Other => 0,
        }
    }

    /// Whether the transport checksum of the packet in `ip` is right. UDP without one and
    /// protocols whose checksum is not known are taken as right.
    #[must_use]
    #[inline(always)]
    pub fn checksum_holds(&self, ip: &[u8]) -> bool {
        let l4 = usize::from(self.header_len);
        let Some(payload) = ip.get(l4..self.transport_end()) else { return false };
        let pseudo = match self.tuple.proto {
            Protocol::UDP if word(payload, 6) == Some(0) => return true,
            Protocol::ICMP => 0,
            Protocol(proto @ (6 | 17)) => {
                let addresses = ip.get(A::SRC_AT..A::DST_AT + size_of::<A>()).unwrap_or_default();
                let len = u16::try_from(payload.len()).unwrap_or(u16::MAX);
                let [l0, l1] = len.to_be_bytes();
                checksum::words(addresses) + checksum::words(&[0, proto, l0, l1])
            }
            _ => return true,
        };
        checksum::holds(pseudo + checksum::words(payload))
    }

    /// Gives the packet in `ip` the addresses and ports of `to` and keeps every checksum right
    /// (spec EGR, RFC 1624). The protocol of `to` is the packet's own. Of an ICMP query only the
    /// addresses and the identifier change.
    #[inline(never)]
    pub fn rewrite(&mut self, ip: &mut [u8], to: Tuple<A>, zero: ZeroChecksum) {
        self.translate(ip, &Translation::new(&self.tuple, &to), zero);
    }

    /// Does a rewrite that was worked out from the packet's own tuple.
    pub fn translate(&mut self, ip: &mut [u8], by: &Translation<A>, zero: ZeroChecksum) {
        self.write_translated(ip, by, zero);
        self.tuple = by.to;
    }

    /// Does a rewrite in the bytes.
    #[inline]
    fn write_translated(&self, ip: &mut [u8], by: &Translation<A>, zero: ZeroChecksum) {
        let Translation { to, deltas: Deltas { header, transport } } = by;
        if self.tuple == *to {
            return;
        }
        put(ip, A::SRC_AT, to.src.octets().as_ref());
        put(ip, A::DST_AT, to.dst.octets().as_ref());
        if let Some(at) = A::CHECKSUM_AT {
            update(ip, at, *header);
        }
        let l4 = usize::from(self.header_len);
        match to.proto {
            Protocol::TCP => {
                put_ports(ip, l4, to);
                update(ip, l4 + 16, *transport);
            }
            Protocol::UDP => {
                put_ports(ip, l4, to);
                self.update_udp(ip, l4, *transport, to, zero);
            }
            Protocol::ICMP => {
                put(ip, l4 + 4, &to.src_port.to_be_bytes());
                update(ip, l4 + 2, *transport);
            }
            _ => {}
        }
    }

    /// Whether the sender made a transport checksum; only UDP may go without.
    #[must_use]
    pub fn has_checksum(&self, ip: &[u8]) -> bool {
        self.tuple.proto != Protocol::UDP || word(ip, usize::from(self.header_len) + 6) != Some(0)
    }

    /// Where the transport's part ends: a UDP datagram may be shorter than what is left of the
    /// packet.
    fn transport_end(&self) -> usize {
        match self.transport {
            Transport::Udp { payload_len } => {
                usize::from(self.header_len) + udp::HEADER_LEN + usize::from(payload_len)
            }
            _ => usize::from(self.total_len),
        }
    }

    /// Corrects a UDP checksum: zero means none was made, and a computed zero is written as all
    /// ones (RFC 768).
    #[inline(always)]
    fn update_udp(
        &self,
        ip: &mut [u8],
        l4: usize,
        delta: Delta,
        to: &Tuple<A>,
        zero: ZeroChecksum,
    ) {
        let Some(field) = word(ip, l4 + 6) else { return };
        let new = match (field, zero) {
            (0, ZeroChecksum::Keep) => return,
            (0, ZeroChecksum::Compute) => {
                let Some(datagram) = ip.get(l4..self.transport_end()) else { return };
                let len = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
                let pseudo = checksum::pseudo_header(
                    to.src.octets().as_ref(),
                    to.dst.octets().as_ref(),
                    Protocol::UDP.0,
                    len,
                );
                !checksum::fold(checksum::sum(datagram, pseudo))
            }
            _ => delta.apply(field),
        };
        let new = if new == 0 { 0xffff } else { new };
        set_word(ip, l4 + 6, new);
    }
}

/// The 16-bit word at `at`.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|w| u16::from_be_bytes(*w))
}

/// Writes the 16-bit word at `at`.
pub(super) fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(w) = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut()) {
        *w = value.to_be_bytes();
    }
}

/// Writes `new` at `at`.
pub(super) fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(field) = bytes.get_mut(at..at + new.len()) {
        field.copy_from_slice(new);
    }
}

/// Writes both ports.
#[inline]
fn put_ports<A>(ip: &mut [u8], l4: usize, to: &Tuple<A>) {
    let ([s0, s1], [d0, d1]) = (to.src_port.to_be_bytes(), to.dst_port.to_be_bytes());
    put(ip, l4, &[s0, s1, d0, d1]);
}

/// Corrects the checksum field at `at`.
#[inline]
fn update(ip: &mut [u8], at: usize, delta: Delta) {
    if let Some(field) = word(ip, at) {
        set_word(ip, at, delta.apply(field));
    }
}
