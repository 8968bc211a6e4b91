//! Which rules a look-up need try: of those about a single address, as every pod has two, only
//! its own.

use std::collections::BTreeMap;

use super::{Query, Rule};
use crate::table::PrefixKey;

/// Rules by what they are about, each by its place among all.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// By the one source they select.
    from: BTreeMap<u128, Vec<usize>>,
    /// Of the others by the one destination they select.
    to: BTreeMap<u128, Vec<usize>>,
    /// All others.
    others: Vec<usize>,
}

impl Order {
    /// The order of these rules.
    pub(super) fn of<A: PrefixKey>(rules: &[Rule<A>]) -> Self {
        let mut order = Self::default();
        let single = |prefix: Option<(A, u8)>| {
            prefix.filter(|(_, len)| *len == A::BITS).map(|(address, _)| address.bits())
        };
        for (place, rule) in rules.iter().enumerate() {
            let list = match (single(rule.selector.from), single(rule.selector.to)) {
                (Some(from), _) => order.from.entry(from).or_default(),
                (None, Some(to)) => order.to.entry(to).or_default(),
                (None, None) => &mut order.others,
            };
            list.push(place);
        }
        order
    }

    /// The places of the rules that may match, in their order.
    pub(super) fn candidates<A: PrefixKey>(
        &self,
        query: &Query<A>,
    ) -> impl Iterator<Item = usize> + use<'_, A> {
        let mut lists = [
            self.from.get(&query.src.bits()).map_or(&[][..], Vec::as_slice),
            self.to.get(&query.dst.bits()).map_or(&[][..], Vec::as_slice),
            &self.others,
        ];
        std::iter::from_fn(move || {
            let heads = lists.iter_mut().filter(|list| !list.is_empty());
            let list = heads.min_by_key(|list| list.first().copied())?;
            let (first, rest) = list.split_first()?;
            *list = rest;
            Some(*first)
        })
    }
}
