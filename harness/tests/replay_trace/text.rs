//! Traces as text: each packet once with what no hop changes, then its hops.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use datapath::lab::{EniKind, Lab};
use datapath::wire::Mac;
use harness::pcap::Direction;
use harness::replay::InputPort;

use super::{Seen, Trace};

/// Initial sequence numbers of the two sides; the server's runs over in the course of a trace.
const INITIAL: [(&str, u32); 2] = [("a", 1_000_000), ("b", u32::MAX - 3)];
/// Initial timestamps (RFC 7323) of the two sides.
const CLOCKS: [u32; 2] = [70_000, 4_000_000];

#[derive(Debug, Default)]
struct Names<'t> {
    ips: BTreeMap<&'t str, Ipv4Addr>,
    macs: BTreeMap<&'t str, Mac>,
}

/// A packet's part that no hop changes.
#[derive(Debug, Default)]
struct Segment {
    at: u64,
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
    let mut segment = Segment::default();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["ip", name, ip] => drop(names.ips.insert(name, ip.parse().expect("an address"))),
            ["mac", name, mac] => drop(names.macs.insert(name, mac.parse().expect("a MAC"))),
            [at, "us", "tcp", ..] => segment = read_segment(at, line),
            [hop, way, macs, vid, src, ">", dst, ttl] => {
                let frame = frame(&names, &segment, [macs, vid, src, dst, ttl]);
                let direction = if way == "out" { Direction::Outbound } else { Direction::Inbound };
                let is_host = hop.starts_with("pod:") || hop.starts_with("outside:");
                if is_host && way == "out" {
                    let port = InputPort::find(lab, hop).expect("a port of the lab");
                    trace.input.push((Some(segment.at), port, frame.clone()));
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

fn read_segment(at: &str, line: &str) -> Segment {
    let (fields, data) = line.split_once(" data=").expect("data");
    let mut words = fields.split_whitespace().skip(3);
    let flags = words.next().expect("flags");
    let fields: BTreeMap<_, _> = words.filter_map(|word| word.split_once('=')).collect();
    let number = |name: &str| fields[name].parse().expect("a number");
    Segment {
        at: at.parse::<u64>().expect("microseconds") * 1_000,
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

/// The frame of a segment at one hop.
fn frame(names: &Names<'_>, segment: &Segment, [macs, vid, src, dst, ttl]: [&str; 5]) -> Vec<u8> {
    let (from, to) = macs.split_once('>').expect("two MACs");
    let mut frame = [names.macs[to].0, names.macs[from].0].concat();
    if vid != "-" {
        let vid: u16 = vid.parse().expect("a VID");
        frame.extend([&[0x81, 0][..], &vid.to_be_bytes()].concat());
    }
    let end = |text: &str| {
        let (name, port) = text.split_once(':').expect("address and port");
        (names.ips[name].octets(), port.parse::<u16>().expect("a port").to_be_bytes())
    };
    let ((src, sport), (dst, dport)) = (end(src), end(dst));
    let tcp = tcp(segment, &[&src[..], &dst].concat(), &[&sport[..], &dport].concat());
    let ttl: u8 = ttl.strip_prefix("ttl=").and_then(|ttl| ttl.parse().ok()).expect("a TTL");
    let len = u16::try_from(20 + tcp.len()).expect("a short packet").to_be_bytes();
    let dont_fragment = [0x40, 0];
    let id = segment.id.to_be_bytes();
    let mut ip = [&[0x45, 0][..], &len, &id, &dont_fragment, &[ttl, 6, 0, 0], &src, &dst].concat();
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    [&frame[..], &[8, 0], &ip, &tcp].concat()
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
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| [pair[0], pair.get(1).copied().unwrap_or(0)]);
    let mut sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes(pair))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
