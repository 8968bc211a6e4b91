//! What a case says about a packet to be sent, before it is known what has arrived.
//!
//! ```text
//! HOST[@SOURCE][:PORT] > DESTINATION[:PORT] WHAT SETTING...
//! ```
//!
//! An answer leaves the addresses out. `WHAT` is TCP's control bits (`S`, `SA`, `.` for none),
//! `udp`, an ICMP message (`echo`, `port-unreachable`, `icmp-TYPE-CODE`) or `proto-N`.

use std::net::Ipv4Addr;
use std::str::FromStr;

use datapath::lab::Lab;
use datapath::link::HostId;
use datapath::wire::Mac;

use super::names::Names;
use super::packet::{Kind, MESSAGES, TcpOption, filler, flags_of, from_hex};

/// A packet as a case says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Who sends it.
    pub from: HostId,
    /// Source address; `None` for the host's own.
    pub src: Option<Ipv4Addr>,
    /// Where it goes; `None` for an answer.
    pub to: Option<Ipv4Addr>,
    /// Source and destination port; 0 where none is said.
    pub ports: (u16, u16),
    /// What it is.
    pub what: What,
    /// What the case sets.
    pub settings: Vec<Setting>,
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A TCP segment with these control bits.
    Tcp(u8),
    /// A UDP datagram.
    Udp,
    /// An ICMP message.
    Icmp(Kind),
    /// Any other protocol.
    Other(u8),
}

/// A sequence or acknowledgment number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// This one.
    Set(u32),
    /// That many beyond the one it would be; wraps, so that less is more.
    Add(u32),
}

/// One thing a case sets in a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `seq=N`, `seq+=N`, `seq-=N`.
    Seq(Number),
    /// `ack=N`, `ack+=N`, `ack-=N`.
    Ack(Number),
    /// `win=N`.
    Window(u16),
    /// `urg=N`.
    Urgent(u16),
    /// `opt=mss:1460,ws:7`.
    Options(Vec<TcpOption>),
    /// `ident=N` of an ICMP query.
    Ident(u16),
    /// `number=N` of an ICMP query.
    Sequence(u16),
    /// `mtu=N` of fragmentation needed.
    Mtu(u16),
    /// `len=N`, `data="TEXT"`, `data=HEX`.
    Data(Vec<u8>),
    /// `ttl=N`.
    Ttl(u8),
    /// `tos=N`.
    Tos(u8),
    /// `id=N`.
    Id(u16),
    /// `df`.
    DontFragment,
    /// `frag=OFFSET` or `frag=OFFSET+`.
    Fragment(u16, bool),
    /// `ipopt=HEX`.
    IpOptions(Vec<u8>),
    /// `badsum`.
    BadSum,
    /// `nosum`, of UDP.
    NoSum,
    /// `badipsum`.
    BadHeaderSum,
    /// `cut=MTU`: in fragments for that MTU.
    Cut(u16),
    /// `order=2,1`: the fragments that are sent, in this order, counted from 1.
    Order(Vec<usize>),
    /// `quoting=HOST`: the packet that last reached that host.
    Quoting(HostId),
    /// `quote=N`: how many bytes of the packet are quoted at most.
    Quote(usize),
    /// `vlan=VID`: with this tag.
    Vlan(u16),
    /// `to-mac=MAC`.
    ToMac(Mac),
    /// `from-mac=MAC`.
    FromMac(Mac),
}

impl Setting {
    /// Whether a packet of this kind has the field.
    const fn fits(&self, what: What) -> bool {
        match self {
            Self::Seq(_) | Self::Ack(_) | Self::Window(_) | Self::Urgent(_) | Self::Options(_) => {
                matches!(what, What::Tcp(_))
            }
            Self::Ident(_) | Self::Sequence(_) => {
                matches!(what, What::Icmp(kind) if kind.is_query())
            }
            Self::Quoting(_) | Self::Quote(_) => {
                matches!(what, What::Icmp(kind) if kind.is_error())
            }
            Self::Mtu(_) => matches!(what, What::Icmp(Kind { kind: 3, code: 4 })),
            Self::NoSum => matches!(what, What::Udp),
            Self::BadSum => !matches!(what, What::Other(_)),
            _ => true,
        }
    }
}

/// A word that a case's packet cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found `{word}`")]
pub struct BadWord {
    /// The word.
    pub word: String,
    /// What should be there.
    pub expected: String,
}

impl BadWord {
    fn new(word: &str, expected: impl Into<String>) -> Self {
        Self { word: word.to_owned(), expected: expected.into() }
    }
}

/// What the settings are called, for messages.
const SETTINGS: &str = "seq= ack= win= urg= opt= ident= number= mtu= len= data= ttl= tos= id= df \
                        frag= ipopt= badsum nosum badipsum cut= order= quoting= quote= vlan= \
                        to-mac= from-mac=";

impl Spec {
    /// A packet that goes where it says.
    ///
    /// # Errors
    /// The first word that is wrong.
    pub fn send(text: &str, lab: &Lab, names: &Names) -> Result<Self, BadWord> {
        let mut words = text.split_whitespace();
        let sender = words.next().unwrap_or_default();
        let (host, src, port) = sender_of(sender, lab, names)?;
        let arrow = words.next().unwrap_or_default();
        if arrow != ">" {
            return Err(BadWord::new(arrow, "`>` behind the sender"));
        }
        let target = words.next().unwrap_or_default();
        let (to, to_port) = target.split_once(':').unwrap_or((target, ""));
        let to = names.address(lab, to).ok_or_else(|| {
            BadWord::new(target, format!("an address, or one of {}", names.all_names(lab)))
        })?;
        let ports = (port, port_of(to_port, target)?);
        Self { from: host, src, to: Some(to), ports, what: What::Udp, settings: Vec::new() }
            .rest(words, lab, names)
    }

    /// An answer to what last reached its sender.
    ///
    /// # Errors
    /// The first word that is wrong.
    pub fn answer(text: &str, lab: &Lab, names: &Names) -> Result<Self, BadWord> {
        let mut words = text.split_whitespace();
        let (from, src, _) = sender_of(words.next().unwrap_or_default(), lab, names)?;
        Self { from, src, to: None, ports: (0, 0), what: What::Udp, settings: Vec::new() }
            .rest(words, lab, names)
    }

    fn rest<'a>(
        mut self,
        mut words: impl Iterator<Item = &'a str>,
        lab: &Lab,
        names: &Names,
    ) -> Result<Self, BadWord> {
        let what = words.next().unwrap_or_default();
        self.what = what_of(what).ok_or_else(|| {
            let messages: Vec<_> = MESSAGES.iter().map(|(name, _)| *name).collect();
            let messages = messages.join(" ");
            BadWord::new(
                what,
                format!("TCP's control bits as `SA`, `udp`, `proto-N` or {messages}"),
            )
        })?;
        for word in words {
            let setting = setting(word, lab, names)?;
            if !setting.fits(self.what) {
                return Err(BadWord::new(word, format!("a setting that goes with `{what}`")));
            }
            self.settings.push(setting);
        }
        Ok(self)
    }
}

fn sender_of(
    text: &str,
    lab: &Lab,
    names: &Names,
) -> Result<(HostId, Option<Ipv4Addr>, u16), BadWord> {
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    let (name, src) = name.split_once('@').unwrap_or((name, ""));
    let host = names.host(name).ok_or_else(|| {
        BadWord::new(text, format!("a host to begin with: one of {}", names.hosts(lab)))
    })?;
    let src = match src {
        "" => None,
        src => Some(src.parse().map_err(|_| BadWord::new(text, "HOST@ADDRESS"))?),
    };
    Ok((host, src, port_of(port, text)?))
}

fn port_of(port: &str, word: &str) -> Result<u16, BadWord> {
    match port {
        "" => Ok(0),
        port => port.parse().map_err(|_| BadWord::new(word, "a port from 0 to 65535 behind `:`")),
    }
}

fn what_of(word: &str) -> Option<What> {
    if word == "udp" {
        return Some(What::Udp);
    }
    let other = || word.strip_prefix("proto-")?.parse().ok().map(What::Other);
    let message = || Kind::named(word).map(What::Icmp);
    flags_of(word).map(What::Tcp).or_else(message).or_else(other)
}

/// A setting of its word.
fn setting(word: &str, lab: &Lab, names: &Names) -> Result<Setting, BadWord> {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let (key, sign) = match key.split_at_checked(key.len().saturating_sub(1)) {
        Some((key, sign @ ("+" | "-"))) => (key, sign),
        _ => (key, ""),
    };
    let number = || {
        let n: u32 = integer(word, value)?;
        Ok(match sign {
            "+" => Number::Add(n),
            "-" => Number::Add(n.wrapping_neg()),
            _ => Number::Set(n),
        })
    };
    let mac = || value.parse::<Mac>().map_err(|bad| BadWord::new(word, bad.to_string()));
    let bytes = || from_hex(value).ok_or_else(|| BadWord::new(word, "pairs of hexadecimal digits"));
    Ok(match key {
        "seq" => Setting::Seq(number()?),
        "ack" => Setting::Ack(number()?),
        "win" => Setting::Window(integer(word, value)?),
        "urg" => Setting::Urgent(integer(word, value)?),
        "opt" => {
            let options = value.split(',').map(TcpOption::parse).collect::<Option<_>>();
            let expected = "options as `mss:1460,nop,ws:7,sackok,ts:1-0,sack:1-2`";
            Setting::Options(options.ok_or_else(|| BadWord::new(word, expected))?)
        }
        "ident" => Setting::Ident(integer(word, value)?),
        "number" => Setting::Sequence(integer(word, value)?),
        "mtu" => Setting::Mtu(integer(word, value)?),
        "len" => Setting::Data(filler(usize::from(integer::<u16>(word, value)?))),
        "data" => match value.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(text) => Setting::Data(text.as_bytes().to_vec()),
            None => Setting::Data(bytes()?),
        },
        "ttl" => Setting::Ttl(integer(word, value)?),
        "tos" => Setting::Tos(hexadecimal(word, value)?),
        "id" => Setting::Id(integer(word, value)?),
        "df" => Setting::DontFragment,
        "frag" => {
            let offset = value.strip_suffix('+').unwrap_or(value);
            Setting::Fragment(integer(word, offset)?, value.ends_with('+'))
        }
        "ipopt" => Setting::IpOptions(bytes()?),
        "badsum" => Setting::BadSum,
        "nosum" => Setting::NoSum,
        "badipsum" => Setting::BadHeaderSum,
        "cut" => Setting::Cut(integer(word, value)?),
        "order" => {
            let order = value.split(',').map(|n| integer(word, n)).collect::<Result<_, _>>();
            Setting::Order(order?)
        }
        "quoting" => {
            Setting::Quoting(names.host(value).ok_or_else(|| {
                BadWord::new(word, format!("a host: one of {}", names.hosts(lab)))
            })?)
        }
        "quote" => Setting::Quote(integer(word, value)?),
        "vlan" => Setting::Vlan(integer(word, value)?),
        "to-mac" => Setting::ToMac(mac()?),
        "from-mac" => Setting::FromMac(mac()?),
        _ => return Err(BadWord::new(word, format!("one of {SETTINGS}"))),
    })
}

fn integer<T: FromStr>(word: &str, text: &str) -> Result<T, BadWord> {
    text.parse().map_err(|_| BadWord::new(word, "a number that fits into the field"))
}

fn hexadecimal(word: &str, text: &str) -> Result<u8, BadWord> {
    match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16)
            .map_err(|_| BadWord::new(word, "two hexadecimal digits behind `0x`")),
        None => integer(word, text),
    }
}
