//! A packet in words.

use std::fmt::Write as _;

use datapath::wire::Protocol;
use sha1::{Digest as _, Sha1};

use super::{Body, Packet, Sum, Tcp, filler};

/// The letters of TCP's control bits, in the order in which they are written.
const LETTERS: [(char, u8); 8] = [
    ('S', 0x02),
    ('F', 0x01),
    ('R', 0x04),
    ('P', 0x08),
    ('A', 0x10),
    ('U', 0x20),
    ('E', 0x40),
    ('W', 0x80),
];
/// Longest data that is written out.
const WRITTEN_OUT: usize = 24;

/// One field of a packet: what it is, and its words. A packet has each at most once.
pub type Field = (&'static str, String);

/// The control bits that `letters` name, as `SA`; `.` stands for none.
#[must_use]
pub fn flags_of(letters: &str) -> Option<u8> {
    if letters == "." {
        return Some(0);
    }
    let bit = |letter| LETTERS.iter().find(|(known, _)| *known == letter).map(|(_, bit)| *bit);
    (!letters.is_empty()).then_some(())?;
    letters.chars().try_fold(0, |flags, letter| Some(flags | bit(letter)?))
}

/// The letters of control bits.
fn letters(flags: u8) -> String {
    let set: String = LETTERS.iter().filter(|(_, bit)| flags & bit != 0).map(|(l, _)| l).collect();
    if set.is_empty() { ".".to_owned() } else { set }
}

impl Packet {
    /// The fields worth saying, in the order in which they are written: all but a TTL of 64, a
    /// type of service of 0, what is as it has to be, and the identification.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        let mut fields = Vec::new();
        let ends = match self.ports() {
            Some((from, to)) => format!("{}:{from} > {}:{to}", self.src, self.dst),
            None => format!("{} > {}", self.src, self.dst),
        };
        fields.push(("addresses", ends));
        self.body_fields(&mut fields);
        self.data_fields(&mut fields);
        let mut say = |name, said: Option<String>| fields.extend(said.map(|text| (name, text)));
        say("ttl", (self.ttl != 64).then(|| format!("ttl={}", self.ttl)));
        say("tos", (self.tos != 0).then(|| format!("tos={:#04x}", self.tos)));
        say("df", self.df.then(|| "df".to_owned()));
        say("frag", self.fragment());
        say("ipopt", (!self.options.is_empty()).then(|| format!("ipopt={}", hex(&self.options))));
        say("total", self.total.map(|total| format!("total={total}")));
        say("ipsum", (self.header_sum == Sum::Wrong).then(|| "badipsum".to_owned()));
        let sum = match self.sum {
            Sum::Right => None,
            Sum::Unknown(sum) => Some(format!("sum={sum:#06x}")),
            Sum::Wrong => Some("badsum".to_owned()),
            Sum::Absent => Some("nosum".to_owned()),
        };
        say("sum", sum);
        fields
    }

    /// All its fields on one line.
    #[must_use]
    pub fn line(&self) -> String {
        let fields: Vec<_> = self.fields().into_iter().map(|(_, text)| text).collect();
        fields.join(" ")
    }

    fn fragment(&self) -> Option<String> {
        let more = if self.more { "+" } else { "" };
        (self.more || self.offset > 0).then(|| format!("frag={}{more}", self.offset))
    }

    fn body_fields(&self, fields: &mut Vec<Field>) {
        let mut say = |name, text| fields.push((name, text));
        match &self.body {
            Body::Tcp(tcp) => {
                say("what", letters(tcp.flags));
                tcp_fields(tcp, fields);
            }
            Body::Udp { len, .. } => {
                say("what", "udp".to_owned());
                fields.extend(len.map(|len| ("udplen", format!("udplen={len}"))));
            }
            Body::Icmp { kind, word } => {
                say("what", kind.name());
                let [a, b, c, d] = *word;
                if kind.is_query() {
                    say("ident", format!("ident={}", u16::from_be_bytes([a, b])));
                    say("number", format!("number={}", u16::from_be_bytes([c, d])));
                } else if *kind == super::Kind::FRAG_NEEDED && [a, b] == [0, 0] {
                    say("mtu", format!("mtu={}", u16::from_be_bytes([c, d])));
                } else if *word != [0; 4] {
                    say("word", format!("word={}", hex(word)));
                }
            }
            Body::Bare(protocol) => say("what", Protocol(*protocol).to_string()),
        }
    }

    fn data_fields(&self, fields: &mut Vec<Field>) {
        match &self.body {
            Body::Icmp { kind, .. } if kind.is_error() => {
                let quoted = Self::read(&self.data);
                let text = quoted.map_or_else(|| hex(&self.data), |packet| packet.line());
                fields.push(("quoting", format!("quoting [{text}]")));
            }
            _ => fields.extend(said_data(&self.data).map(|text| ("data", text))),
        }
    }
}

fn tcp_fields(tcp: &Tcp, fields: &mut Vec<Field>) {
    let mut say = |name: &'static str, text| fields.push((name, text));
    say("seq", format!("seq={}", tcp.seq));
    if tcp.ack != 0 {
        say("ack", format!("ack={}", tcp.ack));
    }
    say("win", format!("win={}", tcp.window));
    if tcp.urgent != 0 {
        say("urg", format!("urg={}", tcp.urgent));
    }
    if !tcp.options.is_empty() {
        let options: Vec<_> = tcp.options.iter().map(ToString::to_string).collect();
        say("opt", format!("opt={}", options.join(",")));
    }
}

/// Data in words: its length where it is what a case sends by default, itself where it is short
/// and readable, its length and fingerprint otherwise.
fn said_data(data: &[u8]) -> Option<String> {
    let plain = data.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"');
    match data.len() {
        0 => None,
        len if data == filler(len) => Some(format!("len={len}")),
        len if len <= WRITTEN_OUT && plain => {
            Some(format!("data=\"{}\"", String::from_utf8_lossy(data)))
        }
        len if len <= WRITTEN_OUT => Some(format!("data={}", hex(data))),
        len => {
            let digest = Sha1::digest(data);
            Some(format!("len={len} sha1={}", hex(digest.get(..8).unwrap_or_default())))
        }
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that hexadecimal digits write.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(byte).collect())?
}
