//! What routes and rules have answered before. Both are functions of the node's configuration and a
//! few fields of the packet, the same for all connections from one address to one service: each is
//! asked once, until the configuration changes.

use std::net::Ipv4Addr;

use super::config::NodeConfig;
use super::kube_proxy::{Chain, Outcome, Question, Table, Verdict};
use super::route::{Found, Iif, Query};
use crate::journey::{MarkRule, MasqueradeRule, PortId};
use crate::table::{Memo, MemoKey};

/// Answers kept of each kind: a few for every pair of a pod and a service at work.
const PLACES: usize = 1_024;

/// What a chain is asked.
#[derive(Clone, Copy)]
struct Asked {
    chain: Chain,
    question: Question,
}

impl MemoKey for Asked {
    #[inline]
    fn bits(self) -> u128 {
        self.question.bits() << 5 | self.chain as u128
    }
}

impl MemoKey for Query<Ipv4Addr> {
    #[inline]
    fn bits(self) -> u128 {
        // A node has far fewer ports than there are numbers, so the last stands for none.
        let iif = match self.iif {
            Iif::Lo => u16::MAX,
            Iif::Port(PortId(port)) => port,
        };
        let PortId(oif) = self.oif.unwrap_or(PortId(u16::MAX));
        let addresses = u64::from(self.dst.to_bits()) << 32 | u64::from(self.src.to_bits());
        let rest = u64::from(iif) << 48 | u64::from(oif) << 32 | u64::from(self.mark);
        u128::from(addresses) << 64 | u128::from(rest)
    }
}

/// The answers of one node's routes and rules.
#[derive(Debug)]
pub(super) struct Decisions {
    routes: Memo<Option<Found<Ipv4Addr>>>,
    rules: Memo<Outcome>,
}

impl Decisions {
    /// None yet; `seed` keys the hashes.
    pub(super) fn new(seed: u64) -> Self {
        Self { routes: Memo::new(PLACES, seed), rules: Memo::new(PLACES, seed) }
    }

    /// The configuration has changed.
    pub(super) fn forget(&mut self) {
        self.routes.forget();
        self.rules.forget();
    }

    /// The route that the rules lead to; `None` where they lead nowhere.
    pub(super) fn route(
        &mut self,
        config: &NodeConfig,
        query: Query<Ipv4Addr>,
    ) -> Option<Found<Ipv4Addr>> {
        self.routes.get(query, |query| config.routes.lookup(&query))
    }

    fn rules(&mut self, config: &NodeConfig, chain: Chain, question: Question) -> Outcome {
        let table = match chain {
            Chain::KubeServices | Chain::KubePostrouting => Table::Nat,
            _ => Table::Filter,
        };
        self.rules.get(Asked { chain, question }, |asked| {
            config.kube_proxy.pass(table, asked.chain, &asked.question)
        })
    }

    /// nat's rules for the first packet of a flow: the marks it gets, and what had it marked for
    /// masquerade (spec MARK-2 to MARK-6).
    pub(super) fn mark(
        &mut self,
        config: &NodeConfig,
        packet: Question,
    ) -> (u32, Option<MarkRule>) {
        let Outcome { mark, says, .. } = self.rules(config, Chain::KubeServices, packet);
        (mark, says)
    }

    /// Whether the first packet of a flow is masqueraded, why, and whether always from a random
    /// port.
    pub(super) fn masquerade(
        &mut self,
        config: &NodeConfig,
        packet: Question,
    ) -> Option<(MasqueradeRule, bool)> {
        self.rules(config, Chain::KubePostrouting, packet).masquerade(packet.mark)
    }

    /// filter's rules for a packet in one of its chains.
    pub(super) fn filter(
        &mut self,
        config: &NodeConfig,
        chain: Chain,
        packet: Question,
    ) -> Verdict {
        self.rules(config, chain, packet).verdict()
    }
}
