//! A case: one scenario or one of its variants, with every name resolved in its lab.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use datapath::lab::{self, Lab};
use datapath::link::HostId;
use serde_json::{Map, Value};

use super::datapath::{Request, Url};
use super::file::{Expect, File, Outcome, Paths, Profile, Section, Variant};
use super::library::Source;
use super::patch::merge;

/// How long a client waits, as `curl --max-time`: long enough for a SYN and its first repetition.
pub const MAX_TIME: Duration = Duration::from_secs(3);
/// The same where no answer is expected.
pub const MAX_TIME_DENIED: Duration = Duration::from_secs(2);

/// A case that can be run.
#[derive(Clone, Debug)]
pub struct Case {
    /// The scenario's name.
    pub scenario: String,
    /// The generation of Terway in its lab.
    pub profile: Profile,
    /// The variant's name; `None` for the scenario itself.
    pub variant: Option<String>,
    /// What it is about.
    pub title: String,
    /// The lab's name.
    pub lab_name: String,
    /// The lab file's text, patched.
    pub lab_text: String,
    /// The lab in it.
    pub lab: Lab,
    /// What the client asks.
    pub request: Request,
    /// Who has the page.
    pub server: HostId,
    /// The port it has it on.
    pub port: u16,
    /// What is to become of the request.
    pub expect: Expect,
    /// The way of the packets.
    pub path: Option<Paths>,
}

impl Case {
    /// The scenario's name, with the profile's where it is not the article's, and the variant's:
    /// `S8`, `S8/mem2-in`, `S8@terway-1.4.2/mem2-in`.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = self.scenario.clone();
        if self.profile != Profile::P1 {
            name = format!("{name}@{}", self.profile.name());
        }
        match &self.variant {
            None => name,
            Some(variant) => format!("{name}/{variant}"),
        }
    }

    /// The page the server has: its own name, so that the client sees who answered.
    #[must_use]
    pub fn page(&self) -> String {
        let name = match self.server {
            HostId::Pod(pod) => self.lab.pods.get(pod).map(|pod| &pod.name),
            HostId::NodeHost(node) => self.lab.nodes.get(node).map(|node| &node.name),
            HostId::Outside(host) => self.lab.outside.get(host).map(|host| &host.name),
        };
        format!("{}\n", name.map_or("?", String::as_str))
    }
}

/// Which cases of a scenario are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The scenario itself.
    Itself,
    /// One of its variants.
    Variant(String),
    /// The scenario and all its variants.
    All,
}

/// The cases of a scenario file, under a profile; `None` stands for the one its lab has.
///
/// # Errors
/// A mistake in the scenario or its lab, or an unknown variant.
pub fn cases(
    source: &Source,
    wanted: &Wanted,
    profile: Option<Profile>,
) -> anyhow::Result<Vec<Case>> {
    let file = source.scenario()?;
    let scene = Scene::new(source, &file, profile);
    let variants = scene.variants();
    let mut cases = Vec::new();
    if !matches!(wanted, Wanted::Variant(_)) {
        cases.push(scene.case(None)?);
    }
    if let Wanted::Variant(name) = wanted
        && !variants.contains_key(name)
    {
        let known: Vec<_> = variants.keys().map(String::as_str).collect();
        anyhow::bail!("{} has no variant {name}: it has {}", file.name, known.join(", "));
    }
    for (name, variant) in variants {
        match wanted {
            Wanted::Itself => {}
            Wanted::Variant(one) if one != name => {}
            Wanted::Variant(_) | Wanted::All => cases.push(scene.case(Some((name, variant)))?),
        }
    }
    Ok(cases)
}

/// A scenario file as it reads under a profile.
struct Scene<'a> {
    source: &'a Source,
    file: &'a File,
    profile: Option<Profile>,
    section: Option<&'a Section>,
}

impl<'a> Scene<'a> {
    fn new(source: &'a Source, file: &'a File, profile: Option<Profile>) -> Self {
        let section = profile.and_then(|profile| file.profiles.get(&profile));
        Self { source, file, profile, section }
    }

    fn variants(&self) -> &'a BTreeMap<String, Variant> {
        self.section.and_then(|section| section.variants.as_ref()).unwrap_or(&self.file.variants)
    }

    fn expect(&self) -> &'a Expect {
        self.section.and_then(|section| section.expect.as_ref()).unwrap_or(&self.file.expect)
    }

    fn path(&self) -> Option<&'a Paths> {
        let own = self.section.and_then(|section| section.path.as_ref());
        own.or(self.file.path.as_ref())
    }

    /// The scenario itself, or a variant.
    fn case(&self, variant: Option<(&String, &Variant)>) -> anyhow::Result<Case> {
        let file = self.file;
        let (name, chosen) = variant.unzip();
        let (lab_text, lab) = load(self.source, file, &self.patches(chosen))?;
        let expect = chosen.map_or_else(|| self.expect(), |variant| &variant.expect).clone();
        anyhow::ensure!(
            (expect.verdict == Outcome::Denied) == expect.by.is_some(),
            self.here(format_args!(
                "expect of {}: `by` is for `denied`, and required there",
                name.map_or("the scenario", String::as_str)
            ))
        );
        let request = chosen.and_then(|v| v.request.as_ref()).unwrap_or(&file.request);
        let url: Url =
            request.parse().with_context(|| self.here(format_args!("request {request}")))?;
        let client = chosen.and_then(|v| v.client.as_ref()).unwrap_or(&file.client);
        let server = chosen.and_then(|v| v.server.as_ref()).unwrap_or(&file.server);
        let max_time = match expect.verdict {
            Outcome::Reachable => MAX_TIME,
            Outcome::Denied => MAX_TIME_DENIED,
        };
        let path = chosen.and_then(|variant| variant.path.as_ref()).or_else(|| self.path());
        Ok(Case {
            scenario: file.name.clone(),
            profile: lab.profile.into(),
            variant: name.cloned(),
            title: chosen.and_then(|v| v.title.as_ref()).unwrap_or(&file.title).clone(),
            lab_name: file.lab.clone(),
            lab_text,
            server: self.host(&lab, "server", server)?,
            port: served_port(&lab, &url),
            expect,
            path: path.cloned(),
            request: Request { client: self.host(&lab, "client", client)?, url, max_time },
            lab,
        })
    }

    /// What is different in the lab, in the order in which it is applied.
    fn patches(&self, variant: Option<&Variant>) -> Vec<Map<String, Value>> {
        let profile = self
            .profile
            .map(|profile| Map::from_iter([("profile".to_owned(), Value::from(profile.name()))]));
        let written = [
            Some(&self.file.patch),
            self.section.map(|section| &section.patch),
            variant.map(|variant| &variant.patch),
        ];
        let written = written.into_iter().flatten().filter(|patch| !patch.is_empty());
        profile.into_iter().chain(written.cloned()).collect()
    }

    /// The host that `key` of the file names.
    fn host(&self, lab: &Lab, key: &str, name: &str) -> anyhow::Result<HostId> {
        HostId::named(lab, name).with_context(|| {
            self.here(format_args!(
                "{key}: expected pod:NS/NAME, node:NAME or outside:NAME of the lab, found {name}"
            ))
        })
    }

    fn here(&self, what: fmt::Arguments<'_>) -> String {
        format!("{}: {what}", self.source.name)
    }
}

/// The lab of a scenario with patches applied, as text and loaded. Messages about a patched lab are
/// about its text after patching, which they show.
fn load(
    source: &Source,
    file: &File,
    patches: &[Map<String, Value>],
) -> anyhow::Result<(String, Lab)> {
    let written = source.beside(&file.lab)?;
    if patches.is_empty() {
        let lab = lab::load(&written.text, &written.name)?;
        return Ok((written.text, lab));
    }
    let mut value: Value = serde_saphyr::from_str(&written.text)
        .map_err(|error| anyhow::anyhow!("{}: {error}", written.name))?;
    for patch in patches {
        merge(&mut value, patch);
    }
    let name = format!("{} with the patch of {}", written.name, source.name);
    // JSON is YAML too.
    let text = serde_json::to_string_pretty(&value)?;
    let lab = lab::load(&text, &name)?;
    Ok((text, lab))
}

/// The port of the server behind a URL's: a service's target port, a listener's backend port, or
/// the same one.
fn served_port(lab: &Lab, url: &Url) -> u16 {
    let services = lab.services.iter().filter(|service| {
        let mut addresses =
            service.cluster_ip.iter().chain(&service.external_ips).chain(&service.load_balancer);
        addresses.any(|ip| *ip == url.ip)
    });
    let target =
        services.flat_map(|s| &s.ports).find(|p| p.port == url.port).map(|p| p.target_port);
    let listeners = lab.slbs.iter().filter(|slb| slb.vip == url.ip).flat_map(|slb| &slb.listeners);
    let backend = || listeners.clone().find(|l| l.port == url.port).map(|l| l.backend_port);
    target.or_else(backend).unwrap_or(url.port)
}
