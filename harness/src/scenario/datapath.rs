//! What can run a scenario: a lab is started, a pod serves a page, a client asks for it, and the
//! record of every hop comes back. Everything else about scenarios is the same on each datapath.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use datapath::lab::Lab;
use datapath::link::HostId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::journey::Recording;

/// A datapath on which labs can be started.
pub trait Datapath {
    /// Its name in reports: `memory`, `afxdp`.
    fn name(&self) -> &'static str;

    /// Starts the lab, all its tables empty and every element's journal open. `text` is the lab
    /// file that `lab` was loaded from, for a datapath that lives in another process.
    ///
    /// # Errors
    /// What kept the lab from starting; nothing of it is left then.
    fn start(&self, lab: &Lab, text: &str) -> anyhow::Result<Box<dyn Session>>;
}

/// A lab that runs. Dropping it without [`finish`](Self::finish) leaves nothing behind either.
pub trait Session {
    /// Has a host serve `page` as `text/plain` to every GET on TCP port `port`. Returns when it
    /// listens.
    ///
    /// # Errors
    /// What kept the server from starting.
    fn serve(&mut self, host: HostId, port: u16, page: &str) -> anyhow::Result<()>;

    /// Has a host ask for a page, as `curl --max-time` does. Being refused or getting nothing is
    /// an answer too.
    ///
    /// # Errors
    /// What kept the client from asking at all.
    fn fetch(&mut self, request: &Request) -> anyhow::Result<Answer>;

    /// Lets connections end, stops the lab and gives its record.
    ///
    /// # Errors
    /// What kept the record from being read; the lab is stopped even then.
    fn finish(self: Box<Self>) -> anyhow::Result<Recording>;
}

/// What a client is to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub client: HostId,
    /// For what.
    pub url: Url,
    /// How long it waits for everything together, as `curl --max-time`.
    pub max_time: Duration,
}

/// What a client saw, in curl's terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Answer {
    /// curl's exit status: 0, 7 (could not connect), 28 (timed out), 52 (got nothing), 56 (reset).
    pub exit: i32,
    /// The HTTP status, where there was a response.
    pub status: Option<u16>,
    /// The page, where there was a response.
    pub body: Option<String>,
    /// What went wrong, for a person.
    pub error: Option<String>,
}

impl Answer {
    /// Whether the client got a page.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.exit == 0 && self.status == Some(200)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.error, self.status) {
            (Some(error), _) => write!(f, "{error} (curl exit {})", self.exit),
            (None, Some(status)) => {
                let body = self.body.as_deref().unwrap_or_default();
                write!(f, "HTTP {status}, {:?}", body.trim_end())
            }
            (None, None) => write!(f, "curl exit {}", self.exit),
        }
    }
}

/// An `http` URL with an IPv4 address in it: a lab has no name service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The address.
    pub ip: Ipv4Addr,
    /// The port.
    pub port: u16,
    /// The path, from its slash.
    pub path: String,
}

/// The text is not such a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a URL with an IPv4 address, as http://10.0.4.30:80/")]
pub struct BadUrl;

impl FromStr for Url {
    type Err = BadUrl;
    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let rest = text.strip_prefix("http://").ok_or(BadUrl)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (ip, port) = match host.split_once(':') {
            Some((ip, port)) => (ip, port.parse().ok().filter(|port| *port > 0).ok_or(BadUrl)?),
            None => (host, 80),
        };
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        let ip = ip.parse().map_err(|_| BadUrl)?;
        if plain { Ok(Self { ip, port, path: format!("/{path}") }) } else { Err(BadUrl) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ip, port, path } = self;
        match port {
            80 => write!(f, "http://{ip}{path}"),
            _ => write!(f, "http://{ip}:{port}{path}"),
        }
    }
}
