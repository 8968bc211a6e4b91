//! Case files, found and read: instances that can be played.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use datapath::lab::{self, Lab, Position};
use datapath::link::{ElementId, HostId};
use serde_json::{Map, Value, json};

use super::file::{self, Depth, File, TableKind, TablesOf, Vary};
use super::matrix::{Choice, choices};
use super::mistake::Mistake;
use super::names::Names;
use super::packet::from_hex;
use super::spec::{BadWord, Spec};
use crate::pcap;
use crate::scenario::{Source, find, merge};

/// What a folder with a case has in it.
pub const CASE: &str = "case.yaml";

/// A case with one combination of its matrix, every name resolved in its lab.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The folder's path below the one that was asked for, and the label in brackets.
    pub name: String,
    /// The combination's label; empty where the case has no matrix.
    pub label: String,
    /// What the case is there for.
    pub why: String,
    /// The folder.
    pub folder: PathBuf,
    /// The lab.
    pub lab: Lab,
    /// The lab file's text.
    pub lab_text: String,
    /// What the case calls the lab's hosts.
    pub names: Names,
    /// Whether ARP is looked at.
    pub arp: bool,
    /// Whether ports are drawn at random.
    pub random_ports: bool,
    /// Datapaths that cannot judge it, and why.
    pub not_on: BTreeMap<String, String>,
    /// What happens.
    pub timeline: Vec<Step>,
}

/// A step that can be played.
#[derive(Clone, Debug)]
pub enum Step {
    /// Packets, sent one behind the other.
    Packets(Vec<Spec>),
    /// A TCP connection is opened by this SYN.
    Open(Spec),
    /// Frames as they stand.
    Frames(Vec<(HostId, Vec<u8>)>),
    /// Many connections.
    Burst(Burst),
    /// Time passes.
    Advance(Duration),
    /// The lab is now this one.
    Apply(Box<Lab>, String),
    /// State tables of a node.
    Tables(usize, Vec<TableKind>),
    /// What elements have dropped.
    Drops(Vec<ElementId>),
}

/// Many connections.
#[derive(Clone, Debug)]
pub struct Burst {
    /// The first packet of the first connection.
    pub first: Spec,
    /// The client's first address.
    pub source: Ipv4Addr,
    /// How many.
    pub count: u16,
    /// What rises.
    pub vary: Vary,
    /// How far each goes.
    pub depth: Depth,
    /// Which are closed.
    pub close: Option<file::Close>,
}

/// The folders with a case in and below `folder`, by name.
///
/// # Errors
/// A folder that cannot be read.
pub fn folders(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if folder.join(CASE).is_file() {
        found.push(folder.to_owned());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut below = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            below.push(path);
        }
    }
    below.sort();
    for folder in below {
        found.extend(folders(&folder)?);
    }
    Ok(found)
}

/// Every instance of the case in `folder`; `name` is what the case is called.
///
/// # Errors
/// A mistake in the case or its lab, with its place.
pub fn instances(folder: &Path, name: &str) -> anyhow::Result<Vec<Instance>> {
    let path = folder.join(CASE);
    let source = find(&path.to_string_lossy())?;
    let file: File = serde_saphyr::from_str(&source.text)
        .map_err(|error| anyhow::anyhow!("{}: {error}", source.name))?;
    let of_file = |message: String| source.mistake(Position::START, None, message);
    let choices = choices(&file.matrix, &file.exclude).map_err(of_file)?;
    let build = |choice: &Choice| {
        let label = choice.label();
        let name = if label.is_empty() { name.to_owned() } else { format!("{name}[{label}]") };
        let build = Build { source: &source, file: &file, choice, folder };
        build.instance(name, label)
    };
    choices.iter().map(build).collect()
}

impl Source {
    fn mistake(&self, at: Position, word: Option<&str>, message: String) -> anyhow::Error {
        Mistake::new(&self.name, &self.text, at, word, message).into()
    }
}

/// One instance in the making.
struct Build<'a> {
    source: &'a Source,
    file: &'a File,
    choice: &'a Choice,
    folder: &'a Path,
}

impl Build<'_> {
    fn instance(&self, name: String, label: String) -> anyhow::Result<Instance> {
        let Self { file, choice, .. } = self;
        let start = |message: String| self.source.mistake(Position::START, None, message);
        let mut value = self.lab()?;
        let (lab_text, lab) = self.load(&value)?;
        let hosts = file.hosts.iter();
        let hosts = hosts.map(|(name, host)| Ok((name.clone(), choice.string(host)?)));
        let hosts = hosts.collect::<Result<_, _>>().map_err(start)?;
        let names = Names::new(&lab, &hosts).map_err(|host| {
            let expected = "hosts: expected pod:NS/NAME, node:NAME or outside:NAME of the lab";
            let message = format!("{expected}, found `{host}`");
            self.source.mistake(Position::START, Some(&host), message)
        })?;
        let mut timeline = Vec::new();
        let mut now = lab.clone();
        for written in &file.timeline {
            let at = written.referenced.into();
            let step =
                choice.apply(&written.value).map_err(|m| self.source.mistake(at, None, m))?;
            let step: file::Step = serde_json::from_value(step)
                .map_err(|error| self.source.mistake(at, None, error.to_string()))?;
            let steps =
                Reader { build: self, lab: &now, names: &names, at }.steps(&step, &mut value)?;
            if let Some(Step::Apply(lab, _)) = steps.last() {
                now = (**lab).clone();
            }
            timeline.extend(steps);
        }
        Ok(Instance {
            name,
            label,
            why: file.why.clone(),
            folder: self.folder.to_owned(),
            lab,
            lab_text,
            names,
            arp: file.arp,
            random_ports: file.random_ports,
            not_on: file.not_on.clone(),
            timeline,
        })
    }

    /// The lab file with everything the case changes in it. Neighbours are known from the start
    /// unless something says otherwise (spec CASE-3).
    fn lab(&self) -> anyhow::Result<Value> {
        let Self { source, file, choice, .. } = self;
        let start = |message: String| source.mistake(Position::START, None, message);
        let written = source.beside(&choice.string(&file.lab).map_err(start)?)?;
        // What is wrong in the file itself is told with its place there.
        lab::load(&written.text, &written.name)?;
        let mut value: Value = serde_saphyr::from_str(&written.text)
            .map_err(|error| anyhow::anyhow!("{}: {error}", written.name))?;
        let switches = value.get("switches").filter(|switches| switches.is_object()).cloned();
        let mut known = json!({ "permanentNeighbours": true });
        merge(&mut known, &switches.and_then(|s| s.as_object().cloned()).unwrap_or_default());
        merge(&mut value, &patch("switches", known));
        merge(&mut value, &choice.map(&file.patch).map_err(start)?);
        if let Some(profile) = &file.profile {
            let profile = choice.string(profile).map_err(start)?;
            merge(&mut value, &patch("profile", Value::String(profile)));
        }
        let switches = choice.map(&file.switches).map_err(start)?;
        merge(&mut value, &patch("switches", Value::Object(switches)));
        Ok(value)
    }

    /// The text of a patched lab, and the lab in it. Messages are about that text.
    fn load(&self, value: &Value) -> anyhow::Result<(String, Lab)> {
        let text = serde_json::to_string_pretty(value)?;
        let name = format!("{} with the patches of {}", self.file.lab, self.source.name);
        let lab = lab::load(&text, &name)?;
        Ok((text, lab))
    }
}

fn patch(key: &str, value: Value) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value)])
}

/// Reads a step.
struct Reader<'a> {
    build: &'a Build<'a>,
    lab: &'a Lab,
    names: &'a Names,
    at: Position,
}

impl Reader<'_> {
    fn steps(&self, step: &file::Step, value: &mut Value) -> anyhow::Result<Vec<Step>> {
        let one = |step| Ok(vec![step]);
        match step {
            file::Step::Send(texts) => one(Step::Packets(self.specs(texts.texts(), Spec::send)?)),
            file::Step::Answer(texts) => {
                one(Step::Packets(self.specs(texts.texts(), Spec::answer)?))
            }
            file::Step::Open(text) => one(Step::Open(self.spec(&format!("{text} S"))?)),
            file::Step::Frame(frame) => one(Step::Frames(vec![self.frame(frame)?])),
            file::Step::Capture(file) => one(Step::Frames(self.capture(file)?)),
            file::Step::Burst(burst) => one(Step::Burst(self.burst(burst)?)),
            file::Step::Advance(time) => {
                let time = humantime::parse_duration(time);
                let time = time.map_err(|error| self.mistake(None, format!("advance: {error}")))?;
                one(Step::Advance(time))
            }
            file::Step::Apply(patch) => {
                merge(value, patch);
                let (text, lab) = self.build.load(value)?;
                one(Step::Apply(Box::new(lab), text))
            }
            file::Step::Tables(tables) => self.tables(tables),
            file::Step::Drops(elements) => {
                let elements = elements.texts().iter().map(|name| self.element(name));
                one(Step::Drops(elements.collect::<Result<_, _>>()?))
            }
        }
    }

    fn mistake(&self, word: Option<&str>, message: String) -> anyhow::Error {
        self.build.source.mistake(self.at, word, message)
    }

    fn bad_word(&self, bad: &BadWord) -> anyhow::Error {
        self.mistake(Some(&bad.word), bad.to_string())
    }

    fn spec(&self, text: &str) -> anyhow::Result<Spec> {
        Spec::send(text, self.lab, self.names).map_err(|bad| self.bad_word(&bad))
    }

    fn specs(
        &self,
        texts: &[String],
        read: fn(&str, &Lab, &Names) -> Result<Spec, BadWord>,
    ) -> anyhow::Result<Vec<Spec>> {
        let each = texts.iter().map(|text| read(text, self.lab, self.names));
        each.collect::<Result<_, _>>().map_err(|bad| self.bad_word(&bad))
    }

    fn host(&self, name: &str) -> anyhow::Result<HostId> {
        let known = || self.names.hosts(self.lab);
        let host = self.names.host(name);
        host.ok_or_else(|| {
            self.mistake(Some(name), format!("expected one of {}, found `{name}`", known()))
        })
    }

    fn element(&self, name: &str) -> anyhow::Result<ElementId> {
        let found = ElementId::all(self.lab).find(|id| id.name(self.lab) == name);
        found.ok_or_else(|| {
            let known: Vec<_> = ElementId::all(self.lab).map(|id| id.name(self.lab)).collect();
            let message = format!("expected one of {}, found `{name}`", known.join(", "));
            self.mistake(Some(name), message)
        })
    }

    fn frame(&self, frame: &file::Frame) -> anyhow::Result<(HostId, Vec<u8>)> {
        let from = self.host(&frame.from)?;
        let digits: String = frame.hex.split_whitespace().collect();
        let bytes = from_hex(&digits).ok_or_else(|| {
            self.mistake(None, "hex: expected pairs of hexadecimal digits".into())
        })?;
        Ok((from, bytes))
    }

    /// What hosts send in a capture: what is inbound at their wires' ends is what reached them.
    fn capture(&self, file: &str) -> anyhow::Result<Vec<(HostId, Vec<u8>)>> {
        let path = self.build.folder.join(file);
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let capture = pcap::read(&bytes).with_context(|| path.display().to_string())?;
        let mut hosts = Vec::new();
        for interface in &capture.interfaces {
            let host = self.names.host(&interface.name);
            let host = host.or_else(|| HostId::named(self.lab, &interface.name));
            hosts.push(host.with_context(|| {
                format!("{}: the lab has no host {}", path.display(), interface.name)
            })?);
        }
        let sent = capture.packets.iter().filter(|p| p.direction != Some(pcap::Direction::Inbound));
        Ok(sent.filter_map(|p| Some((*hosts.get(p.interface)?, p.data.to_vec()))).collect())
    }

    fn burst(&self, burst: &file::Burst) -> anyhow::Result<Burst> {
        let what = if burst.what == Depth::Udp { "udp" } else { "S" };
        let first = self.spec(&format!("{} > {} {what}", burst.from, burst.to))?;
        let source = first.src.or_else(|| super::names::address_of(self.lab, first.from));
        if burst.close.is_some_and(|close| close.every == 0 || burst.what != Depth::Full) {
            let message = "close: expected `every` of at least 1 and connections that are open";
            return Err(self.mistake(None, message.into()));
        }
        let source = source.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let file::Burst { count, vary, what: depth, close, .. } = *burst;
        Ok(Burst { first, source, count, vary, depth, close })
    }

    fn tables(&self, tables: &TablesOf) -> anyhow::Result<Vec<Step>> {
        let of = |name: &str, kinds: &[TableKind]| match self.element(name)? {
            ElementId::Node(node) => Ok(Step::Tables(node, kinds.to_vec())),
            ElementId::Vpc => {
                Err(self.mistake(Some(name), "tables: expected a node, found `vpc`".into()))
            }
        };
        match tables {
            TablesOf::All(nodes) => {
                nodes.texts().iter().map(|name| of(name, &TableKind::ALL)).collect()
            }
            TablesOf::Some(nodes) => nodes.iter().map(|(name, kinds)| of(name, kinds)).collect(),
        }
    }
}

impl Instance {
    /// Every packet the case says outright: answers are not among them.
    pub fn said(&self) -> impl Iterator<Item = Spec> + '_ {
        self.timeline.iter().flat_map(|step| match step {
            Step::Packets(specs) => specs.clone(),
            Step::Open(spec) => vec![spec.clone()],
            Step::Burst(burst) => (0..burst.count).map(|number| burst.packet(number)).collect(),
            _ => Vec::new(),
        })
    }

    /// Where those go, as `ADDRESS:PORT`.
    #[must_use]
    pub fn destinations(&self) -> BTreeSet<String> {
        self.said().filter_map(|spec| Some(format!("{}:{}", spec.to?, spec.ports.1))).collect()
    }
}

impl Instance {
    /// The time that passes in it.
    #[must_use]
    pub fn passing(&self) -> Duration {
        let of = |step: &Step| match step {
            Step::Advance(by) => *by,
            _ => Duration::ZERO,
        };
        self.timeline.iter().map(of).sum()
    }
}

impl Burst {
    /// The first packet of a connection, counted from 0.
    #[must_use]
    pub fn packet(&self, number: u16) -> Spec {
        let mut spec = self.first.clone();
        let raised = |ip: Ipv4Addr| Ipv4Addr::from(u32::from(ip).wrapping_add(number.into()));
        match self.vary {
            Vary::Port => spec.ports.0 = spec.ports.0.wrapping_add(number),
            Vary::Source => spec.src = Some(raised(self.source)),
            Vary::Destination => spec.to = spec.to.map(raised),
        }
        spec
    }
}
