//! One policy rule and what it selects.

use super::Query;
use crate::journey::PortId;
use crate::table::PrefixKey;
use crate::wire::Address;

/// Where a packet came from, as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Iif {
    /// The node itself sends it (spec ROUTE-7).
    Lo,
    /// It came in by this port.
    Port(PortId),
}

/// What a rule selects; every field that is `None` selects everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector<A> {
    /// Source prefix.
    pub from: Option<(A, u8)>,
    /// Destination prefix.
    pub to: Option<(A, u8)>,
    /// Where the packet came from.
    pub iif: Option<Iif>,
    /// The interface it is bound to leave by.
    pub oif: Option<PortId>,
    /// Value and mask of its mark.
    pub fwmark: Option<(u32, u32)>,
}

impl<A> Default for Selector<A> {
    fn default() -> Self {
        Self { from: None, to: None, iif: None, oif: None, fwmark: None }
    }
}

impl<A: Address + PrefixKey> Selector<A> {
    /// Whether a look-up is selected.
    #[must_use]
    pub fn matches(&self, query: &Query<A>) -> bool {
        self.from.is_none_or(|(prefix, len)| contains(prefix, len, query.src))
            && self.to.is_none_or(|(prefix, len)| contains(prefix, len, query.dst))
            && self.iif.is_none_or(|iif| iif == query.iif)
            && self.oif.is_none_or(|oif| Some(oif) == query.oif)
            && self.fwmark.is_none_or(|(value, mask)| query.mark & mask == value)
    }
}

/// Whether `prefix/len` contains `addr`.
fn contains<A: PrefixKey>(prefix: A, len: u8, addr: A) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
    (prefix.bits() ^ addr.bits()) & mask == 0
}

/// A policy rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<A> {
    /// The smaller is tried first.
    pub priority: u32,
    /// What it selects.
    pub selector: Selector<A>,
    /// The table it names.
    pub table: u32,
}
