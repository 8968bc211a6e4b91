//! What became of a request, read from the record of a run.

use std::fmt;

use datapath::journey::{Fate, SgDirection, Step};
use datapath::lab::Lab;
use datapath::link::HostId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::{By, Way};
use crate::journey::{Flow, Journey, Leg, Names, Origin};

/// A packet's drop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Denial {
    /// Why, as in the closed list of drop reasons.
    pub reason: String,
    /// Where: the node's name, or `vpc`.
    pub element: String,
    /// Which way of the flow the packet went.
    pub leg: Leg,
    /// The ENI whose security groups denied it, by ID, where they did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eni: Option<String>,
    /// Out of that ENI or into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Way>,
    /// The rule or default that decided there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leg = self.leg.name();
        match (&self.eni, self.direction, &self.rule) {
            (Some(eni), Some(way), Some(rule)) => {
                write!(f, "{} at {eni}, {way}, {leg}: {rule}", self.reason)
            }
            _ => write!(f, "{} at {}, {leg}", self.reason, self.element),
        }
    }
}

/// The drop a journey ended by.
#[must_use]
pub fn denial(names: &Names<'_>, leg: Leg, journey: &Journey) -> Option<Denial> {
    let last = journey.passages.last()?;
    let Fate::Dropped(reason) = last.hop.fate else { return None };
    let mut denial = Denial {
        reason: reason.name().into(),
        element: last.element.name(names.lab()).into(),
        leg,
        eni: None,
        direction: None,
        rule: None,
    };
    let judged = last.hop.steps.iter().rev().find_map(|step| match *step {
        Step::SecurityGroup { eni, direction, accept: false, decision } => {
            Some((eni, direction, decision))
        }
        _ => None,
    });
    if let Some((eni, direction, decision)) = judged {
        denial.eni = names.lab().enis.get(eni).map(|eni| eni.id.clone());
        denial.direction = Some(match direction {
            SgDirection::Out => Way::Out,
            SgDirection::In => Way::In,
        });
        denial.rule = Some(names.decision(eni, direction, decision));
    }
    Some(denial)
}

/// The client's flow: the first that it began toward what it asked.
#[must_use]
pub fn flow_of(flows: Vec<Flow>, client: HostId, url: &super::Url) -> Option<Flow> {
    flows.into_iter().find(|flow| {
        flow.origin == Origin::Host(client)
            && (flow.tuple.dst, flow.tuple.dst_port) == (url.ip, url.port)
    })
}

/// The ID of the ENI that a scenario names by ID or by its part.
#[must_use]
pub fn eni_of(lab: &Lab, client: HostId, server: HostId, by: &By) -> Option<String> {
    let member = |host| match host {
        HostId::Pod(pod) => lab.pods.get(pod).map(|pod| pod.member),
        HostId::NodeHost(_) | HostId::Outside(_) => None,
    };
    let node = |host| match host {
        HostId::Pod(pod) => lab.nodes.get(lab.pods.get(pod)?.node),
        HostId::NodeHost(node) => lab.nodes.get(node),
        HostId::Outside(_) => None,
    };
    let eni = match by.eni.as_str() {
        "mem1" => member(client),
        "mem2" => member(server),
        "eth0@1" => node(client).map(|node| node.primary),
        "eth0@2" => node(server).map(|node| node.primary),
        "trunk@1" => node(client).map(|node| node.trunk),
        "trunk@2" => node(server).map(|node| node.trunk),
        id => lab.enis.iter().position(|eni| eni.id == id),
    };
    lab.enis.get(eni?).map(|eni| eni.id.clone())
}
