//! TCP options.

use std::fmt;

const EOL: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const SCALE: u8 = 3;
const SACK_OK: u8 = 4;
const SACK: u8 = 5;
const STAMP: u8 = 8;

/// One option, written as `mss:1460`, `ws:7`, `sackok`, `sack:1-2`, `ts:1-0`, `nop` or, for any
/// other, `KIND:HEX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    /// No operation.
    Nop,
    /// Largest segment.
    Mss(u16),
    /// Shift of the window.
    Scale(u8),
    /// Selective acknowledgments may be used.
    SackOk,
    /// What was received beyond the acknowledgment: first sequence number and the one after the
    /// last.
    Sack(Vec<(u32, u32)>),
    /// Time of sending and the time echoed.
    Stamp(u32, u32),
    /// Anything else: kind and content.
    Other(u8, Vec<u8>),
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nop => f.write_str("nop"),
            Self::Mss(mss) => write!(f, "mss:{mss}"),
            Self::Scale(shift) => write!(f, "ws:{shift}"),
            Self::SackOk => f.write_str("sackok"),
            Self::Sack(blocks) => {
                f.write_str("sack")?;
                blocks.iter().try_for_each(|(from, to)| write!(f, ":{from}-{to}"))
            }
            Self::Stamp(value, echo) => write!(f, "ts:{value}-{echo}"),
            Self::Other(kind, content) => write!(f, "{kind}:{}", super::fields::hex(content)),
        }
    }
}

impl TcpOption {
    /// The option that `text` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let pair = |text: &str| {
            let (a, b) = text.split_once('-')?;
            Some((a.parse::<u32>().ok()?, b.parse::<u32>().ok()?))
        };
        Some(match name {
            "nop" => Self::Nop,
            "sackok" => Self::SackOk,
            "mss" => Self::Mss(value.parse().ok()?),
            "ws" => Self::Scale(value.parse().ok()?),
            "sack" => Self::Sack(value.split(':').map(pair).collect::<Option<_>>()?),
            "ts" => {
                let (value, echo) = pair(value)?;
                Self::Stamp(value, echo)
            }
            kind => Self::Other(kind.parse().ok()?, super::fields::from_hex(value)?),
        })
    }
}

/// The options as they are on the wire, padded to a multiple of four bytes.
pub(super) fn bytes(options: &[TcpOption]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for option in options {
        let (kind, content) = match option {
            TcpOption::Nop => {
                bytes.push(NOP);
                continue;
            }
            TcpOption::Mss(mss) => (MSS, mss.to_be_bytes().to_vec()),
            TcpOption::Scale(shift) => (SCALE, vec![*shift]),
            TcpOption::SackOk => (SACK_OK, Vec::new()),
            TcpOption::Sack(blocks) => {
                let each = |(from, to): &(u32, u32)| [from.to_be_bytes(), to.to_be_bytes()];
                (SACK, blocks.iter().flat_map(each).flatten().collect())
            }
            TcpOption::Stamp(value, echo) => {
                (STAMP, [value.to_be_bytes(), echo.to_be_bytes()].concat())
            }
            TcpOption::Other(kind, content) => (*kind, content.clone()),
        };
        bytes.push(kind);
        bytes.push(u8::try_from(content.len() + 2).unwrap_or(u8::MAX));
        bytes.extend(content);
    }
    bytes.resize(bytes.len().next_multiple_of(4), EOL);
    bytes
}

/// The options in the bytes behind a TCP header; `None` where [`bytes`] would not give the same
/// bytes again.
pub(super) fn read(wire: &[u8]) -> Option<Vec<TcpOption>> {
    let mut options = Vec::new();
    let mut rest = wire;
    while let Some((kind, after)) = rest.split_first() {
        match *kind {
            EOL => break,
            NOP => {
                options.push(TcpOption::Nop);
                rest = after;
                continue;
            }
            _ => {}
        }
        let len = usize::from(*after.first()?);
        let content = rest.get(2..len)?;
        options.push(option(*kind, content)?);
        rest = rest.get(len..)?;
    }
    (bytes(&options) == wire).then_some(options)
}

fn option(kind: u8, content: &[u8]) -> Option<TcpOption> {
    let word = |at: usize| Some(u32::from_be_bytes(*content.get(at..)?.first_chunk()?));
    Some(match (kind, content.len()) {
        (MSS, 2) => TcpOption::Mss(u16::from_be_bytes(*content.first_chunk()?)),
        (SCALE, 1) => TcpOption::Scale(*content.first()?),
        (SACK_OK, 0) => TcpOption::SackOk,
        (STAMP, 8) => TcpOption::Stamp(word(0)?, word(4)?),
        (SACK, len) if len > 0 && len % 8 == 0 => {
            let block = |at| Some((word(at)?, word(at + 4)?));
            TcpOption::Sack((0..len).step_by(8).map(block).collect::<Option<_>>()?)
        }
        _ => TcpOption::Other(kind, content.to_vec()),
    })
}
