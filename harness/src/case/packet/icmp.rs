//! Kinds of ICMP messages and their names.

use datapath::wire::icmpv4;

/// Type and code of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
}

/// Messages with a name.
pub const MESSAGES: &[(&str, Kind)] = &[
    ("echo", Kind { kind: 8, code: 0 }),
    ("echo-reply", Kind { kind: 0, code: 0 }),
    ("net-unreachable", Kind { kind: 3, code: 0 }),
    ("host-unreachable", Kind { kind: 3, code: 1 }),
    ("protocol-unreachable", Kind { kind: 3, code: 2 }),
    ("port-unreachable", Kind { kind: 3, code: 3 }),
    ("frag-needed", Kind { kind: 3, code: 4 }),
    ("admin-prohibited", Kind { kind: 3, code: 13 }),
    ("source-quench", Kind { kind: 4, code: 0 }),
    ("redirect", Kind { kind: 5, code: 1 }),
    ("ttl-exceeded", Kind { kind: 11, code: 0 }),
    ("reassembly-exceeded", Kind { kind: 11, code: 1 }),
    ("parameter-problem", Kind { kind: 12, code: 0 }),
    ("timestamp", Kind { kind: 13, code: 0 }),
    ("timestamp-reply", Kind { kind: 14, code: 0 }),
];

impl Kind {
    /// Fragmentation needed, which tells an MTU.
    pub const FRAG_NEEDED: Self = Self { kind: 3, code: 4 };

    /// The message of that name, or `icmp-TYPE-CODE`.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        if let Some((_, kind)) = MESSAGES.iter().find(|(name, _)| *name == text) {
            return Some(*kind);
        }
        let (kind, code) = text.strip_prefix("icmp-")?.split_once('-')?;
        Some(Self { kind: kind.parse().ok()?, code: code.parse().ok()? })
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> String {
        let known = MESSAGES.iter().find(|(_, kind)| *kind == self);
        known.map_or_else(
            || format!("icmp-{}-{}", self.kind, self.code),
            |(name, _)| (*name).to_owned(),
        )
    }

    /// Whether it quotes the packet it is about.
    #[must_use]
    pub const fn is_error(self) -> bool {
        icmpv4::is_error(self.kind)
    }

    /// Whether it carries an identifier and a sequence number.
    #[must_use]
    pub const fn is_query(self) -> bool {
        icmpv4::Header { kind: self.kind, code: self.code, id: 0 }.inverse_kind().is_some()
    }
}
