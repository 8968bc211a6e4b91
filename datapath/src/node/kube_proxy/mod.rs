//! What kube-proxy programs beside ipvs: ipsets, and the rules of nat and filter that look into
//! them (kube-proxy: pkg/proxy/ipvs/proxier.go; spec MARK). The rules are data, so that what a
//! packet meets here and what a kernel is given are the same.

mod graceful;
mod program;
mod rules;
mod sets;

use std::net::Ipv4Addr;

use super::conntrack::Tracked;
use super::ipvs::VirtualServices;
use crate::journey::{MarkRule, MasqueradeRule};
use crate::lab::Lab;
use crate::wire::Tuple;
pub use graceful::GracefulTermination;
pub use rules::{Chain, Match, Rule, Table, Target};
use rules::{Chains, Facts, Walk};
pub use sets::{Dimensions, Entry, Set, Sets};

/// The mark of what is to be masqueraded.
pub const MASQUERADE_MARK: u32 = 0x4000;
/// The mark of what is to be dropped.
pub const DROP_MARK: u32 = 0x8000;

/// kube-proxy's sets and rules of one node.
#[derive(Debug)]
pub struct KubeProxy {
    node_ip: Ipv4Addr,
    sets: Sets,
    rules: Vec<Rule>,
    chains: Chains,
}

/// What the filter table says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It does not.
    Drop,
    /// It does not, and its sender is told.
    Reject,
}

impl KubeProxy {
    /// What node `node` of a lab, whose address is `node_ip`, has for these virtual services.
    pub(super) fn new(
        lab: &Lab,
        node: usize,
        node_ip: Ipv4Addr,
        services: &VirtualServices,
    ) -> Self {
        let sets = Sets::new(lab, node, services);
        let rules = program::rules(&lab.switches, &sets);
        let chains = Chains::of(&rules);
        Self { node_ip, sets, rules, chains }
    }

    /// The sets.
    #[must_use]
    pub const fn sets(&self) -> &Sets {
        &self.sets
    }

    /// The rules of both tables, those of a chain in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules of a table as `iptables-restore` reads them, with the chains that are not built
    /// in.
    #[must_use]
    pub fn restore(&self, table: Table) -> String {
        let rules = || self.rules.iter().filter(|rule| rule.table == table);
        let mut chains: Vec<Chain> = Vec::new();
        for rule in rules() {
            let to = match rule.target {
                Target::Jump(to) => Some(to),
                _ => None,
            };
            for chain in [Some(rule.chain), to].into_iter().flatten() {
                if !chain.is_built_in() && !chains.contains(&chain) {
                    chains.push(chain);
                }
            }
        }
        let head = [format!("*{}", table.name())].into_iter();
        let declared = chains.iter().map(|chain| format!(":{} -", chain.name()));
        let lines = head.chain(declared).chain(rules().map(Rule::to_string));
        lines.chain(["COMMIT".to_owned()]).map(|line| line + "\n").collect()
    }

    fn walk<'a>(&'a self, tuple: &'a Tuple<Ipv4Addr>, tracked: &'a Tracked, mark: u32) -> Walk<'a> {
        let dst = tuple.dst;
        let to_local = dst == self.node_ip
            || dst.is_loopback()
            || self.sets.contains(Set::IpvsIps, Dimensions::Dst, tuple);
        let facts = Facts { tuple, tracked, to_local };
        let Self { rules, chains, sets, .. } = self;
        Walk { rules, chains, sets, facts, mark, says: None }
    }

    /// nat's rules for the first packet of a flow: the marks it gets, and what had it marked for
    /// masquerade (spec MARK-2 to MARK-6).
    #[must_use]
    pub fn mark(&self, tuple: &Tuple<Ipv4Addr>, tracked: &Tracked) -> (u32, Option<MarkRule>) {
        let mut walk = self.walk(tuple, tracked, 0);
        walk.pass(Table::Nat, Chain::KubeServices);
        (walk.mark, walk.says)
    }

    /// KUBE-POSTROUTING for the first packet of a flow (spec MARK-8, MARK-9): whether it is
    /// masqueraded, and why.
    #[must_use]
    pub fn masquerade(
        &self,
        tuple: &Tuple<Ipv4Addr>,
        tracked: &Tracked,
        mark: u32,
    ) -> Option<(MasqueradeRule, bool)> {
        let mut walk = self.walk(tuple, tracked, mark);
        match walk.pass(Table::Nat, Chain::KubePostrouting)? {
            Target::Masquerade { random } if walk.mark == mark => {
                Some((MasqueradeRule::LoopBack, random))
            }
            Target::Masquerade { random } => Some((MasqueradeRule::Marked, random)),
            _ => None,
        }
    }

    /// filter's rules for a packet in one of its chains.
    #[must_use]
    pub fn filter(
        &self,
        chain: Chain,
        tuple: &Tuple<Ipv4Addr>,
        tracked: &Tracked,
        mark: u32,
    ) -> Verdict {
        match self.walk(tuple, tracked, mark).pass(Table::Filter, chain) {
            Some(Target::Drop) => Verdict::Drop,
            Some(Target::Reject) => Verdict::Reject,
            _ => Verdict::Accept,
        }
    }
}
