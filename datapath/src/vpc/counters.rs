//! What the VPC counts beside its ledger: frames by ENI, verdicts of security groups by rule.

use schemars::JsonSchema;
use serde::Serialize;

use crate::journey::{SgDecision, SgDirection};
use crate::lab::Lab;

/// What decided in one direction at one ENI, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SgCounters {
    /// Passed by a session.
    pub session: u64,
    /// Passed because they came from 100.64.0.0/10 (spec SG-15).
    pub exempt: u64,
    /// Passed between members of a group (spec SG-10).
    pub inner: u64,
    /// Decided by a rule, whatever it said.
    pub rule: u64,
    /// Decided by the default (spec SG-9, SG-11), whatever it said.
    pub default: u64,
    /// Dropped, by a rule or by the default.
    pub drops: u64,
}

/// What one ENI did. A packet in fragments counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EniCounters {
    /// IPv4 packets that came from it, whatever became of them.
    pub frames_out: u64,
    /// IPv4 packets that were sent to it.
    pub frames_in: u64,
    /// Verdicts on what it sends.
    pub sg_out: SgCounters,
    /// Verdicts on what it is to receive.
    pub sg_in: SgCounters,
}

/// Hits of one group's rules, each list in file order.
#[derive(Debug)]
struct GroupHits {
    ingress: Vec<u64>,
    egress: Vec<u64>,
}

impl GroupHits {
    fn of(&self, direction: SgDirection) -> &Vec<u64> {
        match direction {
            SgDirection::Out => &self.egress,
            SgDirection::In => &self.ingress,
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Counters {
    enis: Vec<EniCounters>,
    groups: Vec<GroupHits>,
}

impl Counters {
    /// Zeros for everything in `lab`.
    pub(super) fn new(lab: &Lab) -> Self {
        let hits = |group: &crate::lab::model::SecurityGroup| GroupHits {
            ingress: vec![0; group.ingress.len()],
            egress: vec![0; group.egress.len()],
        };
        Self {
            enis: vec![EniCounters::default(); lab.enis.len()],
            groups: lab.vpc.groups.iter().map(hits).collect(),
        }
    }

    /// Counts a packet that came from `eni`.
    #[inline]
    pub(super) fn came_from(&mut self, eni: usize) {
        if let Some(counters) = self.enis.get_mut(eni) {
            counters.frames_out += 1;
        }
    }

    /// Counts a packet sent to `eni`.
    #[inline]
    pub(super) fn sent_to(&mut self, eni: usize) {
        if let Some(counters) = self.enis.get_mut(eni) {
            counters.frames_in += 1;
        }
    }

    /// Counts a security group's verdict (spec SG-20).
    #[inline]
    pub(super) fn judged(
        &mut self,
        eni: usize,
        direction: SgDirection,
        accept: bool,
        decision: SgDecision,
    ) {
        if let SgDecision::Rule { group, index } = decision
            && let Some(hits) = self.groups.get_mut(group)
        {
            let list = match direction {
                SgDirection::Out => &mut hits.egress,
                SgDirection::In => &mut hits.ingress,
            };
            if let Some(count) = list.get_mut(index) {
                *count += 1;
            }
        }
        let Some(counters) = self.enis.get_mut(eni) else { return };
        let counts = match direction {
            SgDirection::Out => &mut counters.sg_out,
            SgDirection::In => &mut counters.sg_in,
        };
        match decision {
            SgDecision::Session => counts.session += 1,
            SgDecision::Exempt => counts.exempt += 1,
            SgDecision::Inner { .. } => counts.inner += 1,
            SgDecision::Rule { .. } => counts.rule += 1,
            SgDecision::Default => counts.default += 1,
        }
        counts.drops += u64::from(!accept);
    }

    /// One ENI's counters.
    pub(super) fn eni(&self, eni: usize) -> Option<&EniCounters> {
        self.enis.get(eni)
    }

    /// How often a rule decided.
    pub(super) fn rule(&self, group: usize, direction: SgDirection, index: usize) -> Option<u64> {
        self.groups.get(group)?.of(direction).get(index).copied()
    }
}
