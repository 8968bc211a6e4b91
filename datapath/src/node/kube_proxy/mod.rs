//! What kube-proxy programs beside ipvs: ipsets, and the rules of nat and filter that look into
//! them (kube-proxy: pkg/proxy/ipvs/proxier.go; spec MARK). The rules are data, so that what a
//! packet meets here and what a kernel is given are the same.

mod graceful;
mod program;
mod rules;
mod sets;

use std::net::Ipv4Addr;

use super::ipvs::VirtualServices;
use crate::journey::MasqueradeRule;
use crate::lab::Lab;
pub use graceful::GracefulTermination;
pub use rules::{Chain, Match, Rule, Table, Target};
use rules::{Chains, Walk};
pub(super) use rules::{Outcome, Question};
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

    /// A packet's way through a chain of a table.
    pub(super) fn pass(&self, table: Table, chain: Chain, question: &Question) -> Outcome {
        let to_local = question.dst == self.node_ip
            || question.dst.is_loopback()
            || self.sets.contains(Set::IpvsIps, Dimensions::Dst, question);
        let Self { rules, chains, sets, .. } = self;
        let mark = question.mark;
        let mut walk = Walk { rules, chains, sets, question, to_local, mark, says: None };
        let ended = walk.pass(table, chain);
        Outcome { ended, mark: walk.mark, says: walk.says }
    }
}

impl Outcome {
    /// What filter's rules have said.
    pub(super) const fn verdict(&self) -> Verdict {
        match self.ended {
            Some(Target::Drop) => Verdict::Drop,
            Some(Target::Reject) => Verdict::Reject,
            _ => Verdict::Accept,
        }
    }

    /// What nat's KUBE-POSTROUTING has said of a packet that came with `mark` (spec MARK-8,
    /// MARK-9): why it is masqueraded, if it is, and whether always from a random port.
    pub(super) const fn masquerade(&self, mark: u32) -> Option<(MasqueradeRule, bool)> {
        match self.ended {
            Some(Target::Masquerade { random }) if self.mark == mark => {
                Some((MasqueradeRule::LoopBack, random))
            }
            Some(Target::Masquerade { random }) => Some((MasqueradeRule::Marked, random)),
            _ => None,
        }
    }
}
