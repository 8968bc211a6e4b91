//! What a running lab leaves on disk: `/run/trunkline/L/` with the lab file, the daemon's
//! identity, its control socket, its log, and how it is forwarded.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use datapath::lab::Lab;

use super::topology::check_name;
use super::worker::Forwarding;
use crate::lab_file;
use crate::net::process::{self, ProcessId};
use crate::net::{namespace, teardown};

/// Where all labs' folders are.
pub const RUN: &str = "/run/trunkline";
/// How long a lab may take to come up.
pub const COMING_UP: std::time::Duration = std::time::Duration::from_secs(120);
/// How long a daemon may take to close its sockets before it is killed.
const GRACE: std::time::Duration = std::time::Duration::from_secs(10);

/// The folder of one lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    name: String,
    path: PathBuf,
}

impl State {
    /// The folder of the lab of that name, which may not exist.
    ///
    /// # Errors
    /// Where the name cannot be a lab's.
    pub fn of(name: &str) -> anyhow::Result<Self> {
        check_name(name)?;
        Ok(Self { name: name.into(), path: Path::new(RUN).join(name) })
    }

    /// Makes the folder and puts the lab file into it.
    ///
    /// # Errors
    /// Where there is such a lab already, or something left of one.
    pub fn create(name: &str, lab_text: &str) -> anyhow::Result<Self> {
        let state = Self::of(name)?;
        let left = namespace::list(&teardown::prefix(name)?)?;
        if !left.is_empty() {
            bail!("lab {name} is up, or something is left of it: `trunkline down {name}` ends it");
        }
        fs::create_dir_all(RUN).with_context(|| format!("create {RUN}"))?;
        fs::create_dir(&state.path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow::anyhow!(
                "lab {name} is up, or something is left of it: `trunkline down {name}` ends it"
            ),
            _ => anyhow::Error::new(error).context(format!("create {}", state.path.display())),
        })?;
        state.write_lab(lab_text)?;
        Ok(state)
    }

    /// Notes how the lab is forwarded.
    ///
    /// # Errors
    /// Where the note cannot be written.
    pub fn write_forwarding(&self, forwarding: &Forwarding) -> anyhow::Result<()> {
        let text = serde_json::to_string(forwarding)?;
        fs::write(self.path.join("forwarding"), text).context("write how the lab is forwarded")
    }

    /// How the lab is forwarded.
    ///
    /// # Errors
    /// Where there is no note of it.
    pub fn forwarding(&self) -> anyhow::Result<Forwarding> {
        let text = fs::read_to_string(self.path.join("forwarding"));
        let text = text.context("read how the lab is forwarded")?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The lab as it is in force and forwarded.
    ///
    /// # Errors
    /// Where its file cannot be read.
    pub fn lab(&self) -> anyhow::Result<Lab> {
        Ok(self.forwarding()?.of(lab_file::load(&self.lab_file())?))
    }

    /// Keeps the lab file. Whoever reads it meets the old one or the new one, whole.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_lab(&self, text: &str) -> anyhow::Result<()> {
        let part = self.path.join("lab.yaml.part");
        let written = fs::write(&part, text).and_then(|()| fs::rename(&part, self.lab_file()));
        written.context("write the lab file")
    }

    /// Names of all labs that have a folder, in order.
    ///
    /// # Errors
    /// Where the folders cannot be listed.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let entries = match fs::read_dir(RUN) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("list {RUN}")),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort();
        names.iter().map(|name| Self::of(name)).collect()
    }

    /// The lab's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// The lab file as it is in force.
    #[must_use]
    pub fn lab_file(&self) -> PathBuf {
        self.path.join("lab.yaml")
    }

    /// The daemon's control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// What the daemon has to say.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Whether the folder is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Notes which process is the daemon.
    ///
    /// # Errors
    /// Where the note cannot be written.
    pub fn write_daemon(&self, id: ProcessId) -> anyhow::Result<()> {
        let text = serde_json::to_string(&id)?;
        fs::write(self.path.join("pid"), text).context("write the daemon's pid")
    }

    /// The daemon, if one is noted and still runs: pid and start time both fit.
    #[must_use]
    pub fn daemon(&self) -> Option<ProcessId> {
        let text = fs::read_to_string(self.path.join("pid")).ok()?;
        let id: ProcessId = serde_json::from_str(&text).ok()?;
        id.is_running().then_some(id)
    }

    /// Whether the lab is dead: its daemon has ended, or none has come within the time that `up`
    /// gives it.
    #[must_use]
    pub fn is_left(&self) -> bool {
        if self.daemon().is_some() {
            return false;
        }
        let made = fs::metadata(&self.path).and_then(|folder| folder.modified());
        let age = made.ok().and_then(|made| made.elapsed().ok());
        self.path.join("pid").exists() || age.is_some_and(|age| age > COMING_UP)
    }

    /// Ends whatever is left of the lab: its daemon, the processes in its namespaces, the
    /// namespaces, the folder. Right at any time and any number of times.
    ///
    /// # Errors
    /// Where something could not be removed.
    pub fn clean(&self) -> anyhow::Result<teardown::Removed> {
        if let Some(daemon) = self.daemon()
            && Some(daemon) != ProcessId::current()
        {
            process::stop(daemon, GRACE)?;
        }
        let removed = teardown::remove(&teardown::prefix(&self.name)?)?;
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.path.display()))
            }
            _ => Ok(removed),
        }
    }
}
