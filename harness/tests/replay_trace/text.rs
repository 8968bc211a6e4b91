//! Traces as text: each packet once with what no hop changes, then its hops.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use datapath::lab::{EniKind, Lab};
use datapath::wire::Mac;
use harness::pcap::Direction;
use harness::replay::InputPort;

use super::message::Message;
use super::{Seen, Trace};

/// Initial sequence numbers of the two sides; the server's runs over in the course of a trace.
const INITIAL: [(&str, u32); 2] = [("a", 1_000_000), ("b", u32::MAX - 3)];
/// Initial timestamps (RFC 7323) of the two sides.
const CLOCKS: [u32; 2] = [70_000, 4_000_000];

#[derive(Debug, Default)]
pub(super) struct Names<'t> {
    ips: BTreeMap<&'t str, Ipv4Addr>,
    macs: BTreeMap<&'t str, Mac>,
}

impl Names<'_> {
    /// Address and port of `NAME:PORT`; port 0 of `NAME`.
    pub(super) fn end(&self, text: &str) -> ([u8; 4], [u8; 2]) {
        let (name, port) = text.split_once(':').unwrap_or((text, "0"));
        (self.ips[name].octets(), port.parse::<u16>().expect("a port").to_be_bytes())
    }
}

/// A packet's part that no hop changes.
#[derive(Debug)]
enum Constant {
    Segment(Segment),
    Message(Message),
}

/// A TCP segment's part that no hop changes.
#[derive(Debug, Default)]
struct Segment {
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    id: u16,
    options: Vec<u8>,
    data: Vec<u8>,
}

/// Reads the text of a trace of the nodes of `lab`.
pub(crate) fn read(lab: &Lab, text: &str) -> Trace {
    let mut trace = Trace::default();
    let mut names = Names::default();
    let (mut when, mut packet) = (0, Constant::Segment(Segment::default()));
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["ip", name, ip] => drop(names.ips.insert(name, ip.parse().expect("an address"))),
            ["mac", name, mac] => drop(names.macs.insert(name, mac.parse().expect("a MAC"))),
            [at, "us", proto, ..] => {
                when = at.parse::<u64>().expect("microseconds") * 1_000;
                packet = match proto {
                    "tcp" => Constant::Segment(read_segment(line)),
                    _ => Constant::Message(Message::read(line)),
                };
            }
            [hop, way @ ("in" | "out"), macs, vid, ref ends @ ..] => {
                let packet = match &packet {
                    Constant::Segment(segment) => segment_packet(&names, segment, ends),
                    Constant::Message(message) => message.packet(&names, ends),
                };
                let frame = frame(&names, macs, vid, &packet);
                let direction = if way == "out" { Direction::Outbound } else { Direction::Inbound };
                let is_host = hop.starts_with("pod:") || hop.starts_with("outside:");
                if is_host && way == "out" {
                    let port = InputPort::find(lab, hop).expect("a port of the lab");
                    trace.input.push((Some(when), port, frame.clone()));
                }
                trace.hops.push(Seen { interface: interface(lab, hop), direction, frame });
            }
            _ => panic!("cannot read: {line}"),
        }
    }
    trace
}

/// The interface's name: an ENI is told in the text by its kind and owner.
fn interface(lab: &Lab, hop: &str) -> String {
    let Some((kind, owner)) = hop.strip_prefix("vpc/").and_then(|eni| eni.split_once('@')) else {
        return hop.to_owned();
    };
    let eni = lab.enis.iter().find(|eni| match eni.kind {
        EniKind::Primary => kind == "primary" && lab.nodes[eni.node].name == owner,
        EniKind::Trunk => kind == "trunk" && lab.nodes[eni.node].name == owner,
        EniKind::Member { pod, .. } => kind == "member" && lab.pods[pod].name == owner,
    });
    format!("vpc/{}", eni.expect("an ENI of the lab").id)
}

fn read_segment(line: &str) -> Segment {
    let (fields, data) = line.split_once(" data=").expect("data");
    let mut words = fields.split_whitespace().skip(3);
    let flags = words.next().expect("flags");
    let fields: BTreeMap<_, _> = words.filter_map(|word| word.split_once('=')).collect();
    let number = |name: &str| fields[name].parse().expect("a number");
    Segment {
        seq: relative(fields["seq"]),
        ack: relative(fields["ack"]),
        flags: flags.chars().map(flag).sum(),
        window: number("win"),
        id: number("id"),
        options: options(fields["opts"], side(fields["seq"])),
        data: data.trim_matches('"').replace("\\n", "\n").into_bytes(),
    }
}

fn flag(letter: char) -> u8 {
    1 << "FSRPAU".find(letter).expect("a flag")
}

/// Which side a sequence number belongs to.
fn side(seq: &str) -> usize {
    INITIAL.iter().position(|(side, _)| seq.starts_with(side)).expect("a or b")
}

/// `a+5`: five behind the side's initial sequence number.
fn relative(seq: &str) -> u32 {
    seq.split_once('+')
        .map_or(0, |(_, n)| INITIAL[side(seq)].1.wrapping_add(n.parse().expect("a number")))
}

/// TCP options of a segment sent by `side`.
fn options(text: &str, side: usize) -> Vec<u8> {
    let clock = |side: usize, ticks: &str| match ticks.parse().expect("a number") {
        0 => [0; 4],
        ticks => u32::to_be_bytes(CLOCKS[side] + ticks),
    };
    let mut bytes = Vec::new();
    for option in text.split(',') {
        match option.split(':').collect::<Vec<_>>()[..] {
            ["nop"] => bytes.push(1),
            ["mss", size] => {
                let size: u16 = size.parse().expect("a size");
                bytes.extend([&[2, 4][..], &size.to_be_bytes()].concat());
            }
            ["ws", shift] => bytes.extend([3, 3, shift.parse().expect("a shift")]),
            ["sackOK"] => bytes.extend([4, 2]),
            ["ts", own, echo] => {
                bytes.extend([&[8, 10][..], &clock(side, own), &clock(1 - side, echo)].concat());
            }
            _ => panic!("unknown option {option}"),
        }
    }
    bytes
}

/// The frame of a packet at one hop.
fn frame(names: &Names<'_>, macs: &str, vid: &str, packet: &[u8]) -> Vec<u8> {
    let (from, to) = macs.split_once('>').expect("two MACs");
    let mut frame = [names.macs[to].0, names.macs[from].0].concat();
    if vid != "-" {
        let vid: u16 = vid.parse().expect("a VID");
        frame.extend([&[0x81, 0][..], &vid.to_be_bytes()].concat());
    }
    [&frame[..], &[8, 0], packet].concat()
}

/// A segment between these ends: `A:1 > B:2 ttl=64`.
fn segment_packet(names: &Names<'_>, segment: &Segment, ends: &[&str]) -> Vec<u8> {
    let [src, ">", dst, lives] = *ends else { panic!("cannot read: {ends:?}") };
    let ((src, sport), (dst, dport)) = (names.end(src), names.end(dst));
    let tcp = tcp(segment, &[&src[..], &dst].concat(), &[&sport[..], &dport].concat());
    let ip = Ip { tos: 0, id: segment.id, dont_fragment: true, ttl: ttl(lives), proto: 6 };
    ip.packet(src, dst, &tcp)
}

/// The number in `ttl=64`.
pub(super) fn ttl(text: &str) -> u8 {
    text.strip_prefix("ttl=").and_then(|ttl| ttl.parse().ok()).expect("a TTL")
}

/// What an IP header says besides its addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ip {
    pub(super) tos: u8,
    pub(super) id: u16,
    pub(super) dont_fragment: bool,
    pub(super) ttl: u8,
    pub(super) proto: u8,
}

impl Ip {
    pub(super) fn packet(self, src: [u8; 4], dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(20 + payload.len()).expect("a short packet").to_be_bytes();
        let flags = [if self.dont_fragment { 0x40 } else { 0 }, 0];
        let rest = [self.ttl, self.proto, 0, 0];
        let id = self.id.to_be_bytes();
        let mut ip = [&[0x45, self.tos][..], &len, &id, &flags, &rest, &src, &dst].concat();
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum);
        [&ip, payload].concat()
    }
}

fn tcp(segment: &Segment, addresses: &[u8], ports: &[u8]) -> Vec<u8> {
    let offset = u8::try_from((20 + segment.options.len()) / 4).expect("few options") << 4;
    let mut tcp = [
        ports,
        &segment.seq.to_be_bytes(),
        &segment.ack.to_be_bytes(),
        &[offset, segment.flags],
        &segment.window.to_be_bytes(),
        &[0; 4],
        &segment.options,
        &segment.data,
    ]
    .concat();
    let len = u16::try_from(tcp.len()).expect("a short segment").to_be_bytes();
    let sum = checksum(&[addresses, &[0, 6], &len, &tcp].concat());
    tcp[16..18].copy_from_slice(&sum);
    tcp
}

/// The Internet checksum (RFC 1071).
pub(super) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| [pair[0], pair.get(1).copied().unwrap_or(0)]);
    let mut sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes(pair))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
