//! The file `case.yaml` as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// A Trunkline case: a lab, what its hosts send, in order, and beside it in `expected.txt` every
/// frame and table entry that is to come of it.
///
/// `${NAME}` in `lab`, `patch`, `profile`, `switches`, `hosts` and `timeline` stands for a value
/// of the matrix: a text that is nothing else becomes the value itself, with its type.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "Trunkline case")]
pub struct File {
    /// What the case is there for, in one sentence.
    pub why: String,
    /// The lab file: a path from this file's folder, or the name of a lab that comes with
    /// trunkline.
    pub lab: String,
    /// What is different in the lab: a JSON merge patch (RFC 7396).
    #[serde(default)]
    pub patch: Map<String, Value>,
    /// The generation of Terway: a patch of the lab's `profile`.
    pub profile: Option<String>,
    /// Switches that differ: a patch of the lab's `switches`.
    #[serde(default)]
    pub switches: Map<String, Value>,
    /// Names for hosts: `pod:NS/NAME`, `node:NAME` or `outside:NAME`. A host without one is called
    /// by the part of its own name behind the last `/`.
    #[serde(default)]
    pub hosts: BTreeMap<String, String>,
    /// The case is played once for each combination of these values.
    #[serde(default)]
    pub matrix: BTreeMap<String, Axis>,
    /// Combinations left out: those that have all of these labels.
    #[serde(default)]
    pub exclude: Vec<BTreeMap<String, String>>,
    /// Whether ARP is looked at.
    #[serde(default)]
    pub arp: bool,
    /// Whether the node draws ports at random here. Ports that neither the case nor a service of
    /// the lab names are then told apart and not compared.
    #[serde(default)]
    pub random_ports: bool,
    /// Datapaths that cannot judge the case, and why.
    #[serde(default)]
    pub not_on: BTreeMap<String, String>,
    /// What happens, in order.
    #[schemars(with = "Vec<Step>")]
    pub timeline: Vec<Spanned<Value>>,
}

/// The values of one name of the matrix.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Axis {
    /// Texts and numbers, which are their own labels.
    Values(Vec<Value>),
    /// Any values, by label.
    Labelled(BTreeMap<String, Value>),
}

/// One step of the timeline.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Step {
    /// Packets, sent one behind the other: `HOST[@SOURCE][:PORT] > DESTINATION[:PORT] WHAT
    /// SETTING...`.
    Send(OneOrMore),
    /// Answers to what last reached their senders: `HOST WHAT SETTING...`. Addresses and ports are
    /// those of the packet turned round, sequence numbers go on.
    Answer(OneOrMore),
    /// A TCP connection is opened: SYN, SYN+ACK by whoever gets it, ACK. `HOST:PORT >
    /// DESTINATION:PORT`.
    Open(String),
    /// A frame as it stands.
    Frame(Frame),
    /// What hosts send in a capture beside the case, whose interfaces have the hosts' names.
    Capture(String),
    /// Many connections, of which only is told who got each.
    Burst(Burst),
    /// Time passes: `60s`, `5m`, `1h 30s`.
    Advance(String),
    /// The lab changes: a JSON merge patch on top of what it was.
    Apply(Map<String, Value>),
    /// State tables of nodes.
    Tables(TablesOf),
    /// What elements have dropped so far: nodes' names or `vpc`.
    Drops(OneOrMore),
}

/// A text or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMore {
    /// One.
    One(String),
    /// Several.
    More(Vec<String>),
}

impl OneOrMore {
    /// The texts.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::More(texts) => texts,
        }
    }
}

/// A frame as it stands.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Frame {
    /// The host that sends it.
    pub from: String,
    /// Its bytes from the Ethernet header on, hexadecimal; spaces do not count.
    pub hex: String,
}

/// Many connections.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Burst {
    /// Who opens them: `HOST[@SOURCE]:PORT`.
    pub from: String,
    /// To where: `DESTINATION:PORT`.
    pub to: String,
    /// How many.
    pub count: u16,
    /// What rises by one from each to the next.
    #[serde(default)]
    pub vary: Vary,
    /// How far each goes.
    #[serde(default)]
    pub what: Depth,
    /// Which of them are closed again.
    pub close: Option<Close>,
}

/// What rises from connection to connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Vary {
    /// The client's port.
    #[default]
    Port,
    /// The client's address.
    Source,
    /// The address asked for.
    Destination,
}

/// How far a connection goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Depth {
    /// A SYN only.
    Half,
    /// SYN, SYN+ACK, ACK.
    #[default]
    Full,
    /// One datagram.
    Udp,
}

/// Which connections of a burst are closed.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Close {
    /// Every how-manieth, counted from 1, as soon as it is open: FIN+ACK by both sides and the last
    /// ACK.
    pub every: u16,
    /// Who begins.
    #[serde(default)]
    pub by: Side,
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// Who opened it.
    #[default]
    Client,
    /// Who got it.
    Server,
}

/// State tables of nodes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TablesOf {
    /// All tables of these nodes.
    All(OneOrMore),
    /// These tables, by node.
    Some(BTreeMap<String, Vec<TableKind>>),
}

/// A state table of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TableKind {
    /// Virtual servers, as `ipvsadm -Ln` prints them.
    Services,
    /// ipvs connections, as `ipvsadm -Lnc` prints them.
    Connections,
    /// Tracked flows, as `conntrack -L` prints them.
    Conntrack,
}

impl TableKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Services, Self::Connections, Self::Conntrack];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Connections => "connections",
            Self::Conntrack => "conntrack",
        }
    }
}
