//! Datagrams, and ICMP errors that quote one, in the text of a trace.

use std::collections::BTreeMap;

use super::text::{Ip, Names, checksum, ttl};

/// Of a quoted packet an error has at most this much.
const QUOTED: usize = 548;

/// A packet's part that no hop changes.
#[derive(Debug)]
pub(super) enum Message {
    Datagram(Datagram),
    Error { kind: [u8; 2], mtu: u16, tos: u8, id: u16, quoted_ttl: String, quoted: Datagram },
}

/// A UDP datagram.
#[derive(Debug)]
pub(super) struct Datagram {
    id: u16,
    dont_fragment: bool,
    data: Vec<u8>,
}

impl Message {
    /// Reads `udp id=1 df data=D`, or an error as `icmp 3/3 mtu=0 tos=192 id=2 quotes` and the
    /// datagram with its `ttl=62`.
    pub(super) fn read(line: &str) -> Self {
        let (head, data) = line.split_once(" data=").expect("data");
        let Some((head, quoted)) = head.split_once(" quotes ") else {
            return Self::Datagram(Datagram::read(head, data));
        };
        let words: Vec<_> = head.split_whitespace().collect();
        let (kind, code) = words[3].split_once('/').expect("type and code");
        let fields = fields(head);
        Self::Error {
            kind: [kind, code].map(|number| number.parse().expect("a number")),
            mtu: fields["mtu"].parse().expect("an MTU"),
            tos: fields["tos"].parse().expect("a type of service"),
            id: fields["id"].parse().expect("an id"),
            quoted_ttl: format!("ttl={}", self::fields(quoted)["ttl"]),
            quoted: Datagram::read(quoted, data),
        }
    }

    /// The packet between these ends: `A:1 > B:2 ttl=64 sum=0000` for a datagram, its checksum
    /// right where none is given; `A > B ttl=64 quoted B:2 > A:1 sum=1234` for an error.
    pub(super) fn packet(&self, names: &Names<'_>, ends: &[&str]) -> Vec<u8> {
        let Self::Error { kind, mtu, tos, id, quoted_ttl, quoted } = self else {
            let Self::Datagram(datagram) = self else { unreachable!() };
            return datagram.packet(names, ends);
        };
        let [src, ">", dst, lives, "quoted", quoted_src, ">", quoted_dst, sum] = *ends else {
            panic!("cannot read: {ends:?}");
        };
        let mut quote = quoted.packet(names, &[quoted_src, ">", quoted_dst, quoted_ttl, sum]);
        quote.truncate(QUOTED);
        let mut icmp = [&kind[..], &[0; 4], &mtu.to_be_bytes(), &quote].concat();
        let sum = checksum(&icmp);
        icmp[2..4].copy_from_slice(&sum);
        let ip = Ip { tos: *tos, id: *id, dont_fragment: false, ttl: ttl(lives), proto: 1 };
        ip.packet(names.end(src).0, names.end(dst).0, &icmp)
    }
}

impl Datagram {
    fn read(head: &str, data: &str) -> Self {
        let id = fields(head)["id"].parse().expect("an id");
        let dont_fragment = head.split_whitespace().any(|word| word == "df");
        Self { id, dont_fragment, data: bytes(data) }
    }

    fn packet(&self, names: &Names<'_>, ends: &[&str]) -> Vec<u8> {
        let [src, ">", dst, lives, ref sum @ ..] = *ends else { panic!("cannot read: {ends:?}") };
        let ((src, sport), (dst, dport)) = (names.end(src), names.end(dst));
        let len = u16::try_from(8 + self.data.len()).expect("a short datagram").to_be_bytes();
        let mut udp = [&sport[..], &dport, &len, &[0; 2], &self.data].concat();
        let sum = match sum.first().and_then(|sum| sum.strip_prefix("sum=")) {
            Some(sum) => u16::from_str_radix(sum, 16).expect("a checksum").to_be_bytes(),
            None => checksum(&[&src[..], &dst, &[0, 17], &len, &udp].concat()),
        };
        udp[6..8].copy_from_slice(&sum);
        let (id, dont_fragment) = (self.id, self.dont_fragment);
        let ip = Ip { tos: 0, id, dont_fragment, ttl: ttl(lives), proto: 17 };
        ip.packet(src, dst, &udp)
    }
}

fn fields(head: &str) -> BTreeMap<&str, &str> {
    head.split_whitespace().filter_map(|word| word.split_once('=')).collect()
}

/// `hex:0001`, `"text"`, or `"text"*3`.
fn bytes(data: &str) -> Vec<u8> {
    if let Some(hex) = data.strip_prefix("hex:") {
        let digits: Vec<_> = hex.chars().map(|c| c.to_digit(16).expect("a digit")).collect();
        return digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect();
    }
    let (text, times) = data.rsplit_once('*').unwrap_or((data, "1"));
    text.trim_matches('"').repeat(times.parse().expect("a number")).into_bytes()
}
