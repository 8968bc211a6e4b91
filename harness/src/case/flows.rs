//! What hosts know of their flows: enough to answer what arrives as a stack would.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use datapath::lab::Lab;
use datapath::link::HostId;

use super::frame::{frame, host_macs};
use super::names::address_of;
use super::packet::{Body, Packet, Sum, Tcp};
use super::spec::{Number, Setting, Spec, What};

/// First sequence number of who opens a connection.
const CLIENT_ISN: u32 = 1_000;
/// First sequence number of who answers.
const SERVER_ISN: u32 = 5_000;
/// Window of a segment.
const WINDOW: u16 = 64_240;
/// Bytes of a packet that an ICMP error quotes at most (RFC 1812).
const QUOTED: usize = 548;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A host's end of a flow: the host, its address and port, the other side's.
type End = (HostId, (Ipv4Addr, u16), (Ipv4Addr, u16));

/// What a host sends next in a flow, and what it expects next.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    next: Option<u32>,
    expected: Option<u32>,
}

/// The hosts of a case.
#[derive(Debug, Default)]
pub(super) struct Flows {
    numbers: HashMap<End, Numbers>,
    arrived: HashMap<HostId, Packet>,
}

/// A packet that a case sends.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    /// The packet.
    pub(super) packet: Packet,
    /// Its frames as they go on the wire: several for one in fragments.
    pub(super) frames: Vec<Vec<u8>>,
}

impl Flows {
    /// A packet has reached a host.
    pub(super) fn arrive(&mut self, host: HostId, packet: &Packet) {
        if packet.offset > 0 {
            return;
        }
        self.arrived.insert(host, packet.clone());
        let Body::Tcp(tcp) = &packet.body else { return };
        let end = (host, (packet.dst, tcp.ports.1), (packet.src, tcp.ports.0));
        let numbers = self.numbers.entry(end).or_default();
        let next = tcp.seq.wrapping_add(packet.sequence_len());
        let ahead = |known: u32| next.wrapping_sub(known) < 1 << 31;
        if tcp.flags & SYN != 0 || numbers.expected.is_none_or(ahead) {
            numbers.expected = Some(next);
        }
        if tcp.flags & ACK != 0 && numbers.next.is_none() {
            numbers.next = Some(tcp.ack);
        }
    }

    /// The packet that `spec` stands for now; `None` for an answer where nothing has arrived.
    pub(super) fn make(&mut self, lab: &Lab, spec: &Spec, id: u16) -> Option<Outgoing> {
        let mut packet = match spec.to {
            Some(to) => {
                let src = spec.src.or_else(|| address_of(lab, spec.from))?;
                Packet::new(src, to, body(spec.what, spec.ports))
            }
            None => self.answer(spec)?,
        };
        packet.id = id;
        let end = self.continue_flow(spec, &mut packet);
        for setting in &spec.settings {
            self.set(&mut packet, setting);
        }
        if let (Some(end), Body::Tcp(tcp)) = (end, &packet.body) {
            let explicit = spec.settings.iter().any(|s| matches!(s, Setting::Seq(_)));
            // A segment off the sequence does not move the flow, except by a SYN.
            if tcp.flags & SYN != 0 || !explicit {
                let next = tcp.seq.wrapping_add(packet.sequence_len());
                self.numbers.entry(end).or_default().next = Some(next);
            }
        }
        Some(Outgoing { frames: frames(lab, spec, &packet)?, packet })
    }

    /// The turned-round packet of an answer.
    fn answer(&self, spec: &Spec) -> Option<Packet> {
        let arrived = self.arrived.get(&spec.from)?;
        let (to, from) = arrived.ports().unwrap_or_default();
        let src = spec.src.unwrap_or(arrived.dst);
        let mut packet = Packet::new(src, arrived.src, body(spec.what, (from, to)));
        match (spec.what, &arrived.body) {
            (What::Icmp(kind), _) if kind.is_error() => packet.data = quotation(arrived),
            (What::Icmp(kind), Body::Icmp { word, .. }) => {
                packet.body = Body::Icmp { kind, word: *word };
                packet.data.clone_from(&arrived.data);
            }
            _ => {}
        }
        Some(packet)
    }

    /// Gives a segment the numbers that come next in its flow.
    fn continue_flow(&self, spec: &Spec, packet: &mut Packet) -> Option<End> {
        let (src, dst) = (packet.src, packet.dst);
        let Body::Tcp(tcp) = &mut packet.body else { return None };
        let end = (spec.from, (src, tcp.ports.0), (dst, tcp.ports.1));
        let numbers = self.numbers.get(&end).copied().unwrap_or_default();
        let first =
            if tcp.flags & ACK != 0 && tcp.flags & SYN != 0 { SERVER_ISN } else { CLIENT_ISN };
        tcp.seq = if tcp.flags & SYN != 0 { first } else { numbers.next.unwrap_or(first) };
        tcp.ack = if tcp.flags & ACK != 0 { numbers.expected.unwrap_or(0) } else { 0 };
        Some(end)
    }

    fn set(&self, packet: &mut Packet, setting: &Setting) {
        match (setting, &mut packet.body) {
            (Setting::Seq(number), Body::Tcp(tcp)) => tcp.seq = of(*number, tcp.seq),
            (Setting::Ack(number), Body::Tcp(tcp)) => tcp.ack = of(*number, tcp.ack),
            (Setting::Window(window), Body::Tcp(tcp)) => tcp.window = *window,
            (Setting::Urgent(urgent), Body::Tcp(tcp)) => tcp.urgent = *urgent,
            (Setting::Options(options), Body::Tcp(tcp)) => tcp.options.clone_from(options),
            (Setting::Ident(ident), Body::Icmp { word, .. }) => {
                word[..2].copy_from_slice(&ident.to_be_bytes());
            }
            (Setting::Sequence(n) | Setting::Mtu(n), Body::Icmp { word, .. }) => {
                word[2..].copy_from_slice(&n.to_be_bytes());
            }
            (Setting::Data(data), _) => packet.data.clone_from(data),
            (Setting::Ttl(ttl), _) => packet.ttl = *ttl,
            (Setting::Tos(tos), _) => packet.tos = *tos,
            (Setting::Id(id), _) => packet.id = *id,
            (Setting::DontFragment, _) => packet.df = true,
            (Setting::Fragment(offset, more), _) => (packet.offset, packet.more) = (*offset, *more),
            (Setting::IpOptions(options), _) => {
                packet.options.clone_from(options);
                packet.options.resize(options.len().next_multiple_of(4), 0);
            }
            (Setting::BadSum, _) => packet.sum = Sum::Wrong,
            (Setting::NoSum, _) => packet.sum = Sum::Absent,
            (Setting::BadHeaderSum, _) => packet.header_sum = Sum::Wrong,
            (Setting::Quoting(host), _) => {
                packet.data = self.arrived.get(host).map(quotation).unwrap_or_default();
            }
            (Setting::Quote(len), _) => packet.data.truncate(*len),
            _ => {}
        }
    }
}

fn body(what: What, ports: (u16, u16)) -> Body {
    match what {
        What::Tcp(flags) => Body::Tcp(Tcp { ports, flags, window: WINDOW, ..Tcp::default() }),
        What::Udp => Body::Udp { ports, len: None },
        What::Icmp(kind) => Body::Icmp { kind, word: [0; 4] },
        What::Other(protocol) => Body::Bare(protocol),
    }
}

const fn of(number: Number, base: u32) -> u32 {
    match number {
        Number::Set(number) => number,
        Number::Add(more) => base.wrapping_add(more),
    }
}

/// What an ICMP error says of a packet.
fn quotation(packet: &Packet) -> Vec<u8> {
    let mut bytes = packet.bytes();
    bytes.truncate(QUOTED);
    bytes
}

/// The frames of a packet as its sender puts them on the wire.
fn frames(lab: &Lab, spec: &Spec, packet: &Packet) -> Option<Vec<Vec<u8>>> {
    let (mut src, mut dst) = host_macs(lab, spec.from)?;
    let (mut vlan, mut mtu, mut order) = (None, None, None);
    for setting in &spec.settings {
        match setting {
            Setting::Vlan(vid) => vlan = Some(*vid),
            Setting::FromMac(mac) => src = *mac,
            Setting::ToMac(mac) => dst = *mac,
            Setting::Cut(size) => mtu = Some(*size),
            Setting::Order(numbers) => order = Some(numbers),
            _ => {}
        }
    }
    let pieces = mtu.map_or_else(|| vec![packet.bytes()], |mtu| packet.cut(mtu));
    let sent: Vec<_> = match order {
        None => pieces,
        Some(order) => {
            order.iter().filter_map(|number| pieces.get(number.checked_sub(1)?)).cloned().collect()
        }
    };
    Some(sent.iter().map(|piece| frame(src, dst, vlan, piece)).collect())
}
