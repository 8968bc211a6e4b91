//! Which packets belong together: the requests of a flow and their answers, followed through
//! every change of their tuples.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use datapath::journey::{SgDecision, Step};
use datapath::wire::{Protocol, Tuple};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stitch::{End, Journey, Origin};

/// Which way of a flow a packet goes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Leg {
    /// As its first packet.
    Request,
    /// Back to who sent the first packet.
    Reply,
    /// An ICMP error about one of its packets.
    Error,
}

impl Leg {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Reply => "reply",
            Self::Error => "error",
        }
    }
}

/// A flow: what a client began, and everything that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who began it.
    pub origin: Origin,
    /// Its tuple as the client has it.
    pub tuple: Tuple<Ipv4Addr>,
    /// Its packets, in order.
    pub journeys: Vec<(Leg, Journey)>,
}

impl Flow {
    /// The first packet of a direction.
    #[must_use]
    pub fn first(&self, leg: Leg) -> Option<&Journey> {
        self.of(leg).next()
    }

    /// The first packet with data of a direction.
    #[must_use]
    pub fn first_data(&self, leg: Leg) -> Option<&Journey> {
        self.of(leg).find(|journey| journey.first().is_some_and(|hop| hop.payload_len > 0))
    }

    /// The packets of a direction.
    pub fn of(&self, leg: Leg) -> impl Iterator<Item = &Journey> {
        self.journeys.iter().filter(move |(of, _)| *of == leg).map(|(_, journey)| journey)
    }

    /// The first packet that was dropped, and its direction.
    #[must_use]
    pub fn first_dropped(&self) -> Option<(Leg, &Journey)> {
        let dropped = |(_, journey): &&(Leg, Journey)| matches!(journey.end, End::Dropped(..));
        self.journeys.iter().find(dropped).map(|(leg, journey)| (*leg, journey))
    }

    /// What made the security groups of an ENI open the session by which later packets pass.
    #[must_use]
    pub fn opened(&self, eni: usize) -> Option<Step> {
        let steps = self.journeys.iter().flat_map(|(_, j)| &j.passages).flat_map(|p| &p.hop.steps);
        let opens = |step: &&Step| {
            matches!(step, Step::SecurityGroup { eni: at, accept: true, decision, .. }
                if *at == eni && *decision != SgDecision::Session)
        };
        steps.copied().find(|step| opens(&step))
    }
}

/// The flows of IPv4 packets among `journeys`, in the order of their first packets.
#[must_use]
pub fn flows(journeys: Vec<Journey>) -> Vec<Flow> {
    let mut flows: Vec<Flow> = Vec::new();
    let mut known: HashMap<Tuple<Ipv4Addr>, (usize, Leg)> = HashMap::new();
    for journey in journeys {
        let tuples: Vec<_> = journey.tuples().collect();
        let Some(first) = tuples.first().copied() else { continue };
        let (number, leg) = match known.get(&first) {
            Some(found) => *found,
            None => match about(&flows, &tuples) {
                Some(flow) => (flow, Leg::Error),
                None => {
                    let (origin, journeys) = (journey.origin, Vec::new());
                    flows.push(Flow { origin, tuple: first, journeys });
                    (flows.len() - 1, Leg::Request)
                }
            },
        };
        if leg != Leg::Error {
            known.entry(first).or_insert((number, leg));
            let back = if leg == Leg::Request { Leg::Reply } else { Leg::Request };
            for answer in tuples.iter().filter_map(Tuple::inverse) {
                known.entry(answer).or_insert((number, back));
            }
        }
        if let Some(flow) = flows.get_mut(number) {
            flow.journeys.push((leg, journey));
        }
    }
    flows
}

/// The flow an ICMP error is about. What it quotes is in no record, so the newest flow of the host
/// it goes to is taken.
fn about(flows: &[Flow], tuples: &[Tuple<Ipv4Addr>]) -> Option<usize> {
    let last = tuples.last().filter(|tuple| is_error(tuple))?;
    let concerns = |flow: &Flow| {
        flow.journeys.iter().any(|(_, j)| j.tuples().any(|tuple| tuple.src == last.dst))
    };
    flows.iter().rposition(concerns)
}

/// Whether a packet is an ICMP error: unreachable, time exceeded, parameter problem.
fn is_error(tuple: &Tuple<Ipv4Addr>) -> bool {
    let [kind, _] = tuple.dst_port.to_be_bytes();
    tuple.proto == Protocol::ICMP && matches!(kind, 3 | 4 | 5 | 11 | 12)
}
