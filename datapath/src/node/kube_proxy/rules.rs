//! Rules as iptables has them: what they match, where they lead, and a packet's way through them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::sets::{Dimensions, Set, Sets};
use crate::journey::MarkRule;
use crate::node::conntrack::Tracked;
use crate::wire::{Protocol, Tuple};

/// A table of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// nat, asked for the first packet of a flow only.
    Nat,
    /// filter, asked for every packet.
    Filter,
}

impl Table {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }
}

macro_rules! chains {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A chain; two tables may each have one of the same name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Chain {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Chain {
            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

chains! {
    /// What arrives.
    Prerouting = "PREROUTING",
    /// What is for the node.
    Input = "INPUT",
    /// What passes through.
    Forward = "FORWARD",
    /// What the node sends.
    Output = "OUTPUT",
    /// What leaves.
    Postrouting = "POSTROUTING",
    /// kube-proxy's first.
    KubeServices = "KUBE-SERVICES",
    /// Load balancers' addresses.
    KubeLoadBalancer = "KUBE-LOAD-BALANCER",
    /// nat: who may use a load balancer's address. filter: the kubelet's, which drops the rest.
    KubeFirewall = "KUBE-FIREWALL",
    /// Ports of the nodes.
    KubeNodePort = "KUBE-NODE-PORT",
    /// Marks for masquerade.
    KubeMarkMasq = "KUBE-MARK-MASQ",
    /// Marks for dropping, the kubelet's.
    KubeMarkDrop = "KUBE-MARK-DROP",
    /// Masquerades.
    KubePostrouting = "KUBE-POSTROUTING",
    /// What is forwarded with kube-proxy's blessing.
    KubeForward = "KUBE-FORWARD",
    /// Load balancers' addresses with source ranges.
    KubeProxyFirewall = "KUBE-PROXY-FIREWALL",
    /// Who may use them.
    KubeSourceRangesFirewall = "KUBE-SOURCE-RANGES-FIREWALL",
    /// Keeps the node's own services from answering at virtual addresses.
    KubeIpvsFilter = "KUBE-IPVS-FILTER",
}

impl Chain {
    /// Whether the kernel calls it by itself.
    #[must_use]
    pub const fn is_built_in(self) -> bool {
        matches!(
            self,
            Self::Prerouting | Self::Input | Self::Forward | Self::Output | Self::Postrouting
        )
    }
}

/// A condition of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// A set has an entry for the packet.
    Set(Set, Dimensions),
    /// The source is in the range.
    From(Ipv4Net),
    /// The source is not in the range.
    NotFrom(Ipv4Net),
    /// The destination is an address of the node.
    ToLocal,
    /// The packet is of this protocol.
    Protocol(Protocol),
    /// It has this mark.
    Marked(u32),
    /// It does not have this mark.
    Unmarked(u32),
    /// It begins a flow.
    New,
    /// It belongs to a flow, or is about one.
    Established,
}

/// Where a rule leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Into another chain of the table, and back.
    Jump(Chain),
    /// Back.
    Return,
    /// Through the table.
    Accept,
    /// Nowhere.
    Drop,
    /// Nowhere, and the sender is told: port unreachable.
    Reject,
    /// On, with this mark.
    Mark(u32),
    /// On, without this mark.
    Unmark(u32),
    /// Through the table, with an address of the leaving device as its source.
    Masquerade {
        /// `--random-fully`: always from a random port.
        random: bool,
    },
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its table.
    pub table: Table,
    /// Its chain.
    pub chain: Chain,
    /// Its conditions, all of which must hold.
    pub matches: Vec<Match>,
    /// Where it leads.
    pub target: Target,
    /// What a journey says where the rule has had a packet marked for masquerade.
    pub says: Option<MarkRule>,
}

impl Rule {
    pub(super) fn new(
        table: Table,
        chain: Chain,
        matches: impl Into<Vec<Match>>,
        target: Target,
    ) -> Self {
        Self { table, chain, matches: matches.into(), target, says: None }
    }

    /// The rule as one that has packets marked for masquerade.
    pub(super) fn says(self, says: MarkRule) -> Self {
        Self { says: Some(says), ..self }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(set, dimensions) => {
                write!(f, "-m set --match-set {} {}", set.name(), dimensions.name())
            }
            Self::From(range) => write!(f, "-s {range}"),
            Self::NotFrom(range) => write!(f, "! -s {range}"),
            Self::ToLocal => f.write_str("-m addrtype --dst-type LOCAL"),
            Self::Protocol(proto) => write!(f, "-p {proto}"),
            Self::Marked(mark) => write!(f, "-m mark --mark {mark:#x}/{mark:#x}"),
            Self::Unmarked(mark) => write!(f, "-m mark ! --mark {mark:#x}/{mark:#x}"),
            Self::New => f.write_str("-m conntrack --ctstate NEW"),
            Self::Established => f.write_str("-m conntrack --ctstate RELATED,ESTABLISHED"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jump(chain) => f.write_str(chain.name()),
            Self::Return => f.write_str("RETURN"),
            Self::Accept => f.write_str("ACCEPT"),
            Self::Drop => f.write_str("DROP"),
            Self::Reject => f.write_str("REJECT"),
            Self::Mark(mark) => write!(f, "MARK --or-mark {mark:#x}"),
            Self::Unmark(mark) => write!(f, "MARK --xor-mark {mark:#x}"),
            Self::Masquerade { random: false } => f.write_str("MASQUERADE"),
            Self::Masquerade { random: true } => f.write_str("MASQUERADE --random-fully"),
        }
    }
}

/// As `iptables-restore` reads it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-A {}", self.chain.name())?;
        for condition in &self.matches {
            write!(f, " {condition}")?;
        }
        write!(f, " -j {}", self.target)
    }
}

/// A packet as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) struct Question {
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
    pub(super) dst_port: u16,
    pub(super) proto: Protocol,
    /// Its mark when it comes.
    pub(in crate::node) mark: u32,
    state: FlowState,
}

/// What rules may ask of a packet's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlowState {
    New,
    Established,
    Other,
}

impl Question {
    /// A packet with this tuple and mark, of which conntrack knows this.
    pub(in crate::node) const fn of(tuple: &Tuple<Ipv4Addr>, tracked: &Tracked, mark: u32) -> Self {
        let Tuple { src, dst, dst_port, proto, .. } = *tuple;
        let state = match tracked {
            Tracked::New(_) => FlowState::New,
            Tracked::Known(..) | Tracked::Related(..) => FlowState::Established,
            Tracked::Invalid | Tracked::Untracked => FlowState::Other,
        };
        Self { src, dst, dst_port, proto, mark, state }
    }

    /// What tells it from all other questions, in 122 bits.
    #[inline]
    pub(in crate::node) fn bits(&self) -> u128 {
        let addresses = u64::from(self.src.to_bits()) << 32 | u64::from(self.dst.to_bits());
        let rest =
            u64::from(self.mark) << 24 | u64::from(self.dst_port) << 8 | u64::from(self.proto.0);
        u128::from(addresses) << 58 | u128::from(rest) << 2 | self.state as u128
    }
}

/// What rules have said of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) struct Outcome {
    /// The target that ended its way, if one did.
    pub(super) ended: Option<Target>,
    /// Its mark now.
    pub(in crate::node) mark: u32,
    /// What had it marked.
    pub(in crate::node) says: Option<MarkRule>,
}

/// Where among all rules those of a chain are.
#[derive(Debug)]
pub(super) struct Chains(BTreeMap<(Table, Chain), Vec<usize>>);

impl Chains {
    /// The chains of these rules.
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut chains: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (place, rule) in rules.iter().enumerate() {
            chains.entry((rule.table, rule.chain)).or_default().push(place);
        }
        Self(chains)
    }
}

/// A packet's way through the chains of one table.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) rules: &'a [Rule],
    pub(super) chains: &'a Chains,
    pub(super) sets: &'a Sets,
    pub(super) question: &'a Question,
    /// Whether its destination is an address of the node.
    pub(super) to_local: bool,
    /// The packet's mark, as it is now.
    pub(super) mark: u32,
    /// What had it marked.
    pub(super) says: Option<MarkRule>,
}

impl Walk<'_> {
    /// Passes a chain; the target that ended the way, if one did. Chains lead to other chains two
    /// deep at most, and never back.
    pub(super) fn pass(&mut self, table: Table, chain: Chain) -> Option<Target> {
        let places = self.chains.0.get(&(table, chain)).map_or(&[][..], Vec::as_slice);
        for rule in places.iter().filter_map(|place| self.rules.get(*place)) {
            if !rule.matches.iter().all(|condition| self.holds(condition)) {
                continue;
            }
            match rule.target {
                Target::Jump(to) => {
                    self.says = self.says.or(rule.says);
                    if let Some(ended) = self.pass(table, to) {
                        return Some(ended);
                    }
                }
                Target::Return => return None,
                Target::Mark(mark) => self.mark |= mark,
                Target::Unmark(mark) => self.mark &= !mark,
                Target::Accept | Target::Drop | Target::Reject | Target::Masquerade { .. } => {
                    return Some(rule.target);
                }
            }
        }
        None
    }

    fn holds(&self, condition: &Match) -> bool {
        let packet = self.question;
        match *condition {
            Match::Set(set, dimensions) => self.sets.contains(set, dimensions, packet),
            Match::From(range) => range.contains(&packet.src),
            Match::NotFrom(range) => !range.contains(&packet.src),
            Match::ToLocal => self.to_local,
            Match::Protocol(proto) => packet.proto == proto,
            Match::Marked(mark) => self.mark & mark == mark,
            Match::Unmarked(mark) => self.mark & mark != mark,
            Match::New => packet.state == FlowState::New,
            Match::Established => packet.state == FlowState::Established,
        }
    }
}
