//! A case: one scenario or one of its variants, with every name resolved in its lab.

use std::time::Duration;

use anyhow::Context as _;
use datapath::lab::{self, Lab};
use datapath::link::HostId;
use serde_json::{Map, Value};

use super::datapath::{Request, Url};
use super::file::{Expect, File, Outcome, Paths};
use super::library::Source;
use super::patch::merge;

/// How long a client waits, as `curl --max-time`: long enough for a SYN and its first repetition.
pub const MAX_TIME: Duration = Duration::from_secs(3);

/// A case that can be run.
#[derive(Clone, Debug)]
pub struct Case {
    /// The scenario's name.
    pub scenario: String,
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
    /// The pod that has the page, an index into the lab's pods.
    pub server: usize,
    /// The port it has it on.
    pub port: u16,
    /// What is to become of the request.
    pub expect: Expect,
    /// The way of the packets.
    pub path: Option<Paths>,
}

impl Case {
    /// The scenario's name, with the variant's: `S8`, `S8/mem2-in`.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.variant {
            None => self.scenario.clone(),
            Some(variant) => format!("{}/{variant}", self.scenario),
        }
    }

    /// The page the server has: its own name, so that the client sees who answered.
    #[must_use]
    pub fn page(&self) -> String {
        format!("{}\n", self.lab.pods.get(self.server).map_or("?", |pod| &pod.name))
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

/// The cases of a scenario file.
///
/// # Errors
/// A mistake in the scenario or its lab, or an unknown variant.
pub fn cases(source: &Source, wanted: &Wanted) -> anyhow::Result<Vec<Case>> {
    let file = source.scenario()?;
    let mut cases = Vec::new();
    if !matches!(wanted, Wanted::Variant(_)) {
        cases.push(case(source, &file, None)?);
    }
    if let Wanted::Variant(name) = wanted
        && !file.variants.contains_key(name)
    {
        let known: Vec<_> = file.variants.keys().map(String::as_str).collect();
        anyhow::bail!("{} has no variant {name}: it has {}", file.name, known.join(", "));
    }
    for name in file.variants.keys() {
        match wanted {
            Wanted::Itself => {}
            Wanted::Variant(one) if one != name => {}
            Wanted::Variant(_) | Wanted::All => cases.push(case(source, &file, Some(name))?),
        }
    }
    Ok(cases)
}

fn case(source: &Source, file: &File, variant: Option<&str>) -> anyhow::Result<Case> {
    let chosen = variant.and_then(|name| file.variants.get(name));
    let patches = [Some(&file.patch), chosen.map(|variant| &variant.patch)];
    let patches = patches.into_iter().flatten().filter(|patch| !patch.is_empty());
    let (lab_text, lab) = load(source, file, &patches.collect::<Vec<_>>())?;
    let expect = chosen.map_or(&file.expect, |variant| &variant.expect).clone();
    let here = |what| format!("{}: {what}", source.name);
    let name = variant.unwrap_or("the scenario");
    anyhow::ensure!(
        (expect.verdict == Outcome::Denied) == expect.by.is_some(),
        here(format!("expect of {name}: `by` is for `denied`, and required there"))
    );
    let url: Url =
        file.request.parse().with_context(|| here(format!("request {}", file.request)))?;
    let server = lab.pods.iter().position(|pod| pod.name == file.server);
    let server = server.with_context(|| here(format!("the lab has no pod {}", file.server)))?;
    let client = HostId::named(&lab, &file.client).with_context(|| {
        here(format!(
            "client: expected pod:NS/NAME, node:NAME or outside:NAME of the lab, found {}",
            file.client
        ))
    })?;
    let title = chosen.and_then(|variant| variant.title.as_ref()).unwrap_or(&file.title);
    Ok(Case {
        scenario: file.name.clone(),
        variant: variant.map(str::to_owned),
        title: title.clone(),
        lab_name: file.lab.clone(),
        lab_text,
        server,
        port: served_port(&lab, &url),
        expect,
        path: chosen.and_then(|variant| variant.path.clone()).or_else(|| file.path.clone()),
        request: Request { client, url, max_time: MAX_TIME },
        lab,
    })
}

/// The lab of a scenario with patches applied, as text and loaded. Messages about a patched lab are
/// about its text after patching, which they show.
fn load(
    source: &Source,
    file: &File,
    patches: &[&Map<String, Value>],
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
