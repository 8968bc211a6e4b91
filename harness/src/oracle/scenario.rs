//! Scenarios on nodes of a guest's kernel: the lab, its VPC and its hosts run in the guest.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use datapath::lab::{self, Lab};
use datapath::link::HostId;
use serde::{Deserialize, Serialize};

use super::boot::GuestKernel;
use super::job::Job;
use crate::journey::Recording;
use crate::kernel::KernelLink;
use crate::memory::{Hosted, Services};
use crate::scenario::{Answer, Datapath, Request, Session};

/// How long a guest may take for a scenario, its boot included.
const BOUND: Duration = Duration::from_secs(120);

/// The datapath of a guest's kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelNodes;

impl Datapath for KernelNodes {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn start(&self, _: &Lab, text: &str) -> anyhow::Result<Box<dyn Session>> {
        let kernel = GuestKernel::get().context("no guest can be had")?;
        let (lab, pages) = (text.to_owned(), Vec::new());
        Ok(Box::new(KernelSession { kernel, lab, pages, recording: None }))
    }
}

/// A scenario that a guest will play when its client asks.
struct KernelSession {
    kernel: GuestKernel,
    lab: String,
    pages: Vec<(HostId, u16, String)>,
    recording: Option<Recording>,
}

impl Session for KernelSession {
    fn serve(&mut self, host: HostId, port: u16, page: &str) -> anyhow::Result<()> {
        self.pages.push((host, port, page.to_owned()));
        Ok(())
    }

    fn fetch(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let Request { client, url, max_time } = request;
        let scenario = Scenario {
            lab: self.lab.clone(),
            pages: self.pages.clone(),
            client: *client,
            url: url.to_string(),
            max_time: *max_time,
        };
        let folder = tempfile::tempdir()?;
        Job { scenario: Some(scenario), ..Job::default() }.write(folder.path())?;
        self.kernel.boot(folder.path())?.wait(BOUND)?;
        let (answer, recording) = Job::played(folder.path())?;
        self.recording = Some(recording);
        Ok(answer)
    }

    fn finish(self: Box<Self>) -> anyhow::Result<Recording> {
        self.recording.context("the client has asked for nothing")
    }
}

/// A scenario as the guest is given it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// The lab file's text.
    lab: String,
    /// Who serves what at which port.
    pages: Vec<(HostId, u16, String)>,
    /// Who asks.
    client: HostId,
    /// For what.
    url: String,
    /// How long it waits.
    max_time: Duration,
}

impl Scenario {
    /// Plays it on this machine's kernel, which is a guest's.
    ///
    /// # Errors
    /// What kept it from being played.
    pub fn play(&self, folder: &Path) -> anyhow::Result<(Answer, Recording)> {
        let lab = lab::load(&self.lab, &folder.display().to_string())?;
        let mut hosted = Hosted::new(KernelLink::start(&lab)?, &Services::default());
        for (host, port, page) in &self.pages {
            hosted.serve(*host, *port, page)?;
        }
        let url = self.url.parse().map_err(|error| anyhow!("{}: {error}", self.url))?;
        let (client, max_time) = (self.client, self.max_time);
        let answer = hosted.fetch(&Request { client, url, max_time })?;
        hosted.end();
        Ok((answer, hosted.link.finish()?))
    }
}
