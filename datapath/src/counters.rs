//! What an element counts, and the law its counts obey (spec LAW-2).

use serde::Serialize;

use crate::verdict::DropReason;

/// Frames dropped, by reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl Drops {
    /// Counts one frame.
    pub fn add(&mut self, reason: DropReason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// Frames dropped for one reason.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// Frames dropped for any reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason with a count above zero, in the order of the way of a packet.
    pub fn nonzero(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|r| (*r, self.of(*r))).filter(|(_, n)| *n > 0)
    }
}

/// The terms of the conservation law of one element, in frames:
/// received + made = sent + delivered + dropped + absorbed + held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Frames that came in.
    pub received: u64,
    /// Frames the element made: ARP, ICMP, RST, fragments.
    pub made: u64,
    /// Frames that went out.
    pub sent: u64,
    /// Frames the element itself consumed: ARP for it, echo requests it answered.
    pub delivered: u64,
    /// Frames dropped, by reason.
    pub dropped: Drops,
    /// Frames that became part of another frame (reassembly).
    pub absorbed: u64,
}

impl Ledger {
    /// Whether the law holds with `held` frames waiting inside the element.
    #[must_use]
    pub fn balances(&self, held: u64) -> bool {
        self.received + self.made
            == self.sent + self.delivered + self.dropped.total() + self.absorbed + held
    }
}

/// A [`Ledger`] as reports show it; field order and names are a committed schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerReport {
    /// Frames that came in.
    pub received: u64,
    /// Frames the element made.
    pub made: u64,
    /// Frames that went out.
    pub sent: u64,
    /// Frames the element consumed.
    pub delivered: u64,
    /// Frames dropped, all reasons together.
    pub dropped: u64,
    /// Frames that became part of another.
    pub absorbed: u64,
    /// Frames waiting inside the element.
    pub held: u64,
    /// Frames dropped by reason; reasons that did not occur are left out.
    pub drops: std::collections::BTreeMap<String, u64>,
    /// Whether received + made = sent + delivered + dropped + absorbed + held.
    pub balanced: bool,
}

impl LedgerReport {
    /// The report of a ledger with `held` frames waiting.
    #[must_use]
    pub fn new(ledger: &Ledger, held: u64) -> Self {
        Self {
            received: ledger.received,
            made: ledger.made,
            sent: ledger.sent,
            delivered: ledger.delivered,
            dropped: ledger.dropped.total(),
            absorbed: ledger.absorbed,
            held,
            drops: ledger.dropped.nonzero().map(|(r, n)| (r.name().to_owned(), n)).collect(),
            balanced: ledger.balances(held),
        }
    }
}
