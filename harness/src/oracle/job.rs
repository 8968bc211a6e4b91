//! What a guest is given to do, and what it gives back: files in a folder that both see.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};

use super::scenario::Scenario;
use crate::case::{CannotJudge, Instance, Observation, instances, play};
use crate::journey::Recording;
use crate::kernel::Kernel;
use crate::scenario;

/// Instances that run at the same time in a guest. Most of them wait for time to pass.
const AT_ONCE: usize = 24;
/// The file with the job.
const JOB: &str = "job.json";
/// The file with what came of its scenario.
const PLAYED: &str = "played.json";

/// The instances that one guest plays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The instances, those first that take longest.
    pub instances: Vec<Asked>,
    /// A scenario to play beside them.
    pub scenario: Option<Scenario>,
}

/// An instance by its place on disk, from which the guest reads it itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The case's folder.
    pub folder: PathBuf,
    /// The combination's label.
    pub label: String,
}

impl Asked {
    /// How an instance is asked for.
    ///
    /// # Errors
    /// Where its folder is gone.
    pub fn of(instance: &Instance) -> anyhow::Result<Self> {
        let folder = instance.folder.canonicalize()?;
        Ok(Self { folder, label: instance.label.clone() })
    }
}

/// What came of an instance in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It was played.
    Played(Observation),
    /// The kernel has no means to judge it.
    NotJudged(String),
    /// It could not be played.
    Failed(String),
}

impl Job {
    /// Writes the job into the guest's folder.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::write(folder.join(JOB), serde_json::to_vec(self)?).context("write the guest's job")
    }

    /// The answer to instance `number`, once it is there.
    ///
    /// # Errors
    /// Where the file is no answer.
    pub fn answer(folder: &Path, number: usize) -> anyhow::Result<Option<Answer>> {
        match fs::read(answer_file(folder, number)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What came of the scenario.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn played(folder: &Path) -> anyhow::Result<(scenario::Answer, Recording)> {
        let bytes = fs::read(folder.join(PLAYED)).context("read what the guest has played")?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Does the job of a folder, in the guest.
    ///
    /// # Errors
    /// A job that cannot be read, an answer that cannot be written.
    pub fn run(folder: &Path) -> anyhow::Result<()> {
        let job: Self = serde_json::from_slice(&fs::read(folder.join(JOB))?)?;
        if let Some(scenario) = &job.scenario {
            let played = scenario.play(folder)?;
            fs::write(folder.join(PLAYED), serde_json::to_vec(&played)?)?;
        }
        let mut folders: Vec<&Path> = job.instances.iter().map(|asked| &*asked.folder).collect();
        folders.sort_unstable();
        folders.dedup();
        let mut found = HashMap::new();
        for case in folders {
            for instance in instances(case, "")? {
                found.insert((case, instance.label.clone()), instance);
            }
        }
        let kernel = Kernel::default();
        let next = AtomicUsize::new(0);
        let work = || -> anyhow::Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(asked) = job.instances.get(number) else { return Ok(()) };
                let instance = found
                    .get(&(&*asked.folder, asked.label.clone()))
                    .with_context(|| format!("no instance {asked:?}"))?;
                answer(&kernel, instance).write(folder, number)?;
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            let ends = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of the guest panicked")))
            });
            ends.collect()
        })
    }
}

fn answer(kernel: &Kernel, instance: &Instance) -> Answer {
    match play(kernel, instance) {
        Ok(played) => Answer::Played(played.observation),
        Err(error) => match error.downcast::<CannotJudge>() {
            Ok(cannot) => Answer::NotJudged(cannot.why),
            Err(error) => Answer::Failed(format!("{error:#}")),
        },
    }
}

impl Answer {
    /// Under its name it is whole: the host may look at any time.
    fn write(&self, folder: &Path, number: usize) -> anyhow::Result<()> {
        let file = answer_file(folder, number);
        let part = file.with_extension("part");
        fs::write(&part, serde_json::to_vec(self)?)?;
        fs::rename(&part, &file).context("write an answer")
    }
}

fn answer_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number}.json"))
}
