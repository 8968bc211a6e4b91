//! The scenario file as written.

use std::collections::BTreeMap;
use std::fmt;

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
    /// The pod that has the page: `NS/NAME`.
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
