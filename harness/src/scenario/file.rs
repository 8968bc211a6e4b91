//! The scenario file as written.

use std::collections::BTreeMap;
use std::fmt;

use datapath::lab::model;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::journey::Leg;

/// A Trunkline scenario: a request in a lab and what is to become of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "Trunkline scenario")]
pub struct File {
    /// Its name, as `S8`.
    pub name: String,
    /// What it is about, in a few words.
    pub title: String,
    /// The lab file: a path from this file's folder, or the name of a lab that comes with
    /// trunkline.
    pub lab: String,
    /// What is different in the lab: a JSON merge patch (RFC 7396). Maps are merged, lists and
    /// values replaced, null removes.
    #[serde(default)]
    pub patch: Map<String, Value>,
    /// Who asks: `pod:NS/NAME`, `node:NAME` (its own stack) or `outside:NAME`.
    pub client: String,
    /// Who has the page: a pod, `NS/NAME`, or a node's own stack, `node:NAME`.
    pub server: String,
    /// What is asked for: an http URL with an IPv4 address.
    pub request: String,
    /// What is to become of it.
    pub expect: Expect,
    /// The way of the packets, where the server is reached.
    pub path: Option<Paths>,
    /// The same with other changes to the lab, by name.
    #[serde(default)]
    pub variants: BTreeMap<String, Variant>,
    /// What is different where the lab runs under another profile than its own, by the profile's
    /// name.
    #[serde(default)]
    pub profiles: BTreeMap<Profile, Section>,
}

/// A generation of Terway.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Profile {
    /// Up to 1.3.
    #[serde(rename = "terway-1.3")]
    P0,
    /// 1.4.0 and 1.4.1, the article's.
    #[serde(rename = "terway-1.4.0")]
    P1,
    /// 1.4.2 and later.
    #[serde(rename = "terway-1.4.2")]
    P2,
}

impl Profile {
    /// The profile of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::P0, Self::P1, Self::P2].into_iter().find(|profile| profile.name() == name)
    }

    /// Its name in lab files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P0 => "terway-1.3",
            Self::P1 => "terway-1.4.0",
            Self::P2 => "terway-1.4.2",
        }
    }
}

impl From<model::Profile> for Profile {
    fn from(profile: model::Profile) -> Self {
        match profile {
            model::Profile::P0 => Self::P0,
            model::Profile::P1 => Self::P1,
            model::Profile::P2 => Self::P2,
        }
    }
}

/// What is different in a scenario under a profile. What is left out is as in the scenario.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Section {
    /// What is different in the lab, on top of the scenario's own patch.
    #[serde(default)]
    pub patch: Map<String, Value>,
    /// What is to become of the request.
    pub expect: Option<Expect>,
    /// The way of the packets.
    pub path: Option<Paths>,
    /// Variants, in place of all of the scenario's.
    pub variants: Option<BTreeMap<String, Variant>>,
}

/// A variant of a scenario.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Variant {
    /// What it is about; default its name.
    pub title: Option<String>,
    /// What is different in the lab, on top of the scenario's own patch.
    #[serde(default)]
    pub patch: Map<String, Value>,
    /// Who asks, where it is not the scenario's client.
    pub client: Option<String>,
    /// Who has the page, where it is not the scenario's server.
    pub server: Option<String>,
    /// What is asked for, where it is not the scenario's request.
    pub request: Option<String>,
    /// What is to become of the request.
    pub expect: Expect,
    /// The way of the packets, where it differs from the scenario's.
    pub path: Option<Paths>,
}

/// What is to become of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expect {
    /// Whether the client gets the server's page.
    pub verdict: Outcome,
    /// Who denies it; required where it is denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
}

/// The two verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The client gets the server's page.
    Reachable,
    /// A security group drops the request or its answer.
    Denied,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reachable => "reachable",
            Self::Denied => "denied",
        })
    }
}

/// Who denies a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct By {
    /// The ENI: its ID or its part: `mem1`, `eth0@1` and `trunk@1` are the client's member ENI,
    /// its node's primary and its node's trunk; `mem2`, `eth0@2` and `trunk@2` the server's.
    pub eni: String,
    /// Out of the ENI or into it.
    pub direction: Way,
    /// The request's packets or the reply's.
    pub leg: Leg,
}

/// Out of an ENI or into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Way {
    /// Out.
    Out,
    /// In.
    In,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Out => "out",
            Self::In => "in",
        })
    }
}

/// The way of the packets in the article's form, hops joined by ` -> `.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Paths {
    /// From the client to the server.
    pub forward: String,
    /// And back.
    pub reply: String,
}
