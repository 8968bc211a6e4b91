//! Policy routing: rules in order of priority, each naming a table with longest-prefix match
//! (kernel: net/core/fib_rules.c, net/ipv4/fib_trie.c; spec ROUTE).

mod order;
mod rule;
mod validate;
pub(super) use validate::{judge_source, martian, reverse};

use std::collections::BTreeMap;

pub use rule::{Iif, Rule, Selector};

use order::Order;

use crate::journey::PortId;
use crate::table::{PrefixKey, PrefixTable};
use crate::wire::Address;

/// Number of table local.
pub const LOCAL: u32 = 255;
/// Number of table main.
pub const MAIN: u32 = 254;
/// Number of table default.
pub const DEFAULT: u32 = 253;

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// An address of the node's own.
    Local,
    /// A broadcast address of a network the node is on.
    Broadcast,
    /// Out by a port.
    Port(PortId),
}

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<A> {
    /// Where it leads.
    pub kind: RouteKind,
    /// The gateway; `None` where the destination itself is the next hop. Gateways are onlink:
    /// they need no route of their own (spec ROUTE-3).
    pub via: Option<A>,
}

/// What is asked of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Query<A> {
    /// Destination.
    pub dst: A,
    /// Source; unspecified where none is chosen yet.
    pub src: A,
    /// Where the packet came in; lo for what the node sends.
    pub iif: Iif,
    /// The interface it must leave by, if that is already decided.
    pub oif: Option<PortId>,
    /// The packet's mark.
    pub mark: u32,
}

/// What the rules answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<A> {
    /// The rule that named the table, by its place.
    pub rule: u16,
    /// That rule's priority.
    pub priority: u32,
    /// The table.
    pub table: u32,
    /// The prefix that matched and its length.
    pub prefix: (A, u8),
    /// The route.
    pub route: Route<A>,
}

/// Rules and tables of one node.
#[derive(Debug)]
pub struct Tables<A> {
    rules: Vec<Rule<A>>,
    order: Order,
    tables: BTreeMap<u32, PrefixTable<A, (A, Route<A>)>>,
}

impl<A: Address + PrefixKey> Default for Tables<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Address + PrefixKey> Tables<A> {
    /// No rules, no tables.
    #[must_use]
    pub fn new() -> Self {
        Self { rules: Vec::new(), order: Order::default(), tables: BTreeMap::new() }
    }

    /// Adds a rule behind all rules of the same or a smaller priority, as the kernel does.
    pub fn add_rule(&mut self, rule: Rule<A>) {
        let at = self.rules.partition_point(|r| r.priority <= rule.priority);
        self.rules.insert(at, rule);
        self.order = Order::of(&self.rules);
    }

    /// Adds a route to a table, or replaces the one with the same prefix.
    pub fn add_route(&mut self, table: u32, prefix: A, len: u8, route: Route<A>) {
        self.tables.entry(table).or_default().insert(prefix, len, (prefix, route));
    }

    /// The rules in the order in which they are tried.
    #[must_use]
    pub fn rules(&self) -> &[Rule<A>] {
        &self.rules
    }

    /// The numbers of the tables that have routes, in order.
    pub fn tables(&self) -> impl Iterator<Item = u32> + '_ {
        self.tables.keys().copied()
    }

    /// The routes of a table, by prefix.
    pub fn table(&self, number: u32) -> impl Iterator<Item = (A, u8, Route<A>)> + '_ {
        let routes = self.tables.get(&number).into_iter().flat_map(PrefixTable::iter);
        routes.map(|(prefix, len, (_, route))| (prefix, len, *route))
    }

    /// The first route that a matching rule's table has; `None` where no rule leads anywhere.
    #[must_use]
    pub fn lookup(&self, query: &Query<A>) -> Option<Found<A>> {
        for number in self.order.candidates(query) {
            let Some(rule) = self.rules.get(number) else { continue };
            if !rule.selector.matches(query) {
                continue;
            }
            let Some(table) = self.tables.get(&rule.table) else { continue };
            let Some(((prefix, route), len)) = table.lookup(query.dst) else { continue };
            if query.oif.is_some_and(|oif| route.kind != RouteKind::Port(oif)) {
                continue;
            }
            return Some(Found {
                rule: u16::try_from(number).unwrap_or(u16::MAX),
                priority: rule.priority,
                table: rule.table,
                prefix: (*prefix, len),
                route: *route,
            });
        }
        None
    }
}
