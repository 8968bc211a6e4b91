//! Sessions of security groups and load balancers.

use std::fmt;

use datapath::journey::SgDirection;
use datapath::lab::Lab;
use datapath::time::Time;
use datapath::vpc::{self, SessionView, Vpc};
use schemars::JsonSchema;
use serde::Serialize;

use super::ConntrackTuple;
use super::security_group::owner;
use super::table::{columns, row};

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum SessionOwner {
    /// An ENI's, by its security groups.
    Eni {
        /// The ENI's id.
        eni: String,
        /// Whose the ENI is.
        owner: String,
        /// in or out: the direction of the first packet.
        direction: &'static str,
    },
    /// A load balancer's.
    Slb {
        /// Its id.
        slb: String,
        /// Its listener's port.
        port: u16,
        /// The id of the ENI it chose.
        backend: String,
    },
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Session {
    /// Whose it is.
    #[serde(flatten)]
    pub owner: SessionOwner,
    /// The protocol.
    pub protocol: String,
    /// Seconds it lives without a packet.
    pub expires: u64,
    /// The first packet.
    pub original: ConntrackTuple,
    /// The answer.
    pub reply: ConntrackTuple,
}

/// The sessions of the VPC that are alive, in the order of their records.
pub(super) fn sessions<B>(lab: &Lab, vpc: &Vpc<B>, now: Time) -> Vec<Session> {
    let of = |view: SessionView| Session {
        owner: owner_of(lab, view.owner),
        protocol: view.original.proto.to_string(),
        expires: view.ends.since(now).as_secs(),
        original: (&view.original).into(),
        reply: (&view.reply).into(),
    };
    vpc.sessions(now).map(of).collect()
}

fn owner_of(lab: &Lab, of: vpc::SessionOwner) -> SessionOwner {
    let id = |eni: usize| lab.enis.get(eni).map_or("?", |eni| &eni.id).to_owned();
    match of {
        vpc::SessionOwner::Eni { eni, direction } => SessionOwner::Eni {
            eni: id(eni),
            owner: lab.enis.get(eni).map_or_else(|| "?".to_owned(), |eni| owner(lab, eni)),
            direction: match direction {
                SgDirection::In => "in",
                SgDirection::Out => "out",
            },
        },
        vpc::SessionOwner::Balancer { slb, listener, backend } => {
            let slb = lab.slbs.get(slb);
            let listener = slb.and_then(|slb| slb.listeners.get(listener));
            SessionOwner::Slb {
                slb: slb.map_or("?", |slb| &slb.id).to_owned(),
                port: listener.map_or(0, |listener| listener.port),
                backend: id(backend),
            }
        }
    }
}

/// One session a line.
pub(super) fn print(f: &mut fmt::Formatter<'_>, sessions: &[Session]) -> fmt::Result {
    let mut rows = vec![
        ["at", "owner", "first", "proto", "expires", "original", "reply"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for Session { owner, protocol, expires, original, reply } in sessions {
        let (at, owner, first): (&str, &str, &str) = match owner {
            SessionOwner::Eni { eni, owner, direction } => (eni, owner, direction),
            SessionOwner::Slb { slb, port, backend } => (slb, &format!("{port} > {backend}"), "in"),
        };
        rows.push(row([&at, &owner, &first, protocol, expires, original, reply]));
    }
    columns(f, &rows)
}
