//! Many instances, played beside each other and held against what is expected of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use super::bed::{CannotJudge, CaseDatapath};
use super::expected::{Difference, Expected, compare};
use super::instance::{Instance, folders, instances};
use super::play::{Played, play};
use super::render::render;

/// The cases that were asked for.
#[derive(Debug)]
pub struct Suite {
    /// Their instances, in the order of their folders.
    pub instances: Vec<Instance>,
    expected: BTreeMap<PathBuf, Expected>,
    /// The labels of every case, those that the filter left out included.
    labels: BTreeMap<PathBuf, Vec<String>>,
}

/// What came of an instance.
#[derive(Debug)]
pub enum Verdict {
    /// It showed what was expected.
    Passed {
        /// Lines that the datapath could not judge.
        not_judged: usize,
    },
    /// It did not.
    Failed {
        /// Where; the whole of it, where nothing is expected yet.
        differences: Vec<Difference>,
        /// Whether the file of expectations tells anything of it.
        expected: bool,
        /// What was seen, and the ways of the packets.
        played: Box<Played>,
    },
    /// The datapath cannot judge it, because of this.
    NotJudged(String),
}

/// An instance that was judged.
#[derive(Debug)]
pub struct Judged<'a> {
    /// The instance.
    pub instance: &'a Instance,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

impl Suite {
    /// The instances in and below these folders whose names have `filter` in them.
    ///
    /// # Errors
    /// A folder without cases, or a mistake in a case.
    pub fn load(dirs: &[PathBuf], filter: Option<&str>) -> anyhow::Result<Self> {
        let mut cases = Vec::new();
        for dir in dirs {
            let found = folders(dir)?;
            anyhow::ensure!(!found.is_empty(), "{}: no case.yaml in or below it", dir.display());
            cases.extend(found.into_iter().map(|folder| (name_below(dir, &folder), folder)));
        }
        let loaded = cases
            .par_iter()
            .map(|(name, folder)| Ok((folder, Expected::read(folder)?, instances(folder, name)?)));
        let mut suite =
            Self { instances: Vec::new(), expected: BTreeMap::new(), labels: BTreeMap::new() };
        for (folder, expected, instances) in loaded.collect::<anyhow::Result<Vec<_>>>()? {
            suite.expected.insert(folder.clone(), expected);
            let labels = instances.iter().map(|instance| instance.label.clone()).collect();
            suite.labels.insert(folder.clone(), labels);
            let wanted = |instance: &Instance| filter.is_none_or(|f| instance.name.contains(f));
            suite.instances.extend(instances.into_iter().filter(wanted));
        }
        Ok(suite)
    }

    /// Plays every instance and holds it against what is expected, several at a time; the order is
    /// that of the instances.
    ///
    /// # Errors
    /// What kept one from being played.
    pub fn judge(
        &self,
        datapath: &(dyn CaseDatapath + Sync),
        tolerance: u64,
    ) -> anyhow::Result<Vec<Judged<'_>>> {
        let bar = self.bar();
        let judged = self.instances.par_iter().map(|instance| {
            let begin = Instant::now();
            let verdict = self.verdict(datapath, instance, tolerance);
            bar.inc(1);
            let verdict = verdict.with_context(|| instance.name.clone())?;
            Ok(Judged { instance, verdict, took: begin.elapsed() })
        });
        let judged = judged.collect();
        bar.finish_and_clear();
        judged
    }

    fn verdict(
        &self,
        datapath: &dyn CaseDatapath,
        instance: &Instance,
        tolerance: u64,
    ) -> anyhow::Result<Verdict> {
        if let Some(why) = instance.not_on.get(datapath.name()) {
            return Ok(Verdict::NotJudged(why.clone()));
        }
        self.hold(instance, play(datapath, instance), tolerance)
    }

    /// Holds what was played against what is expected.
    ///
    /// # Errors
    /// What kept it from being played.
    pub fn hold(
        &self,
        instance: &Instance,
        played: anyhow::Result<Played>,
        tolerance: u64,
    ) -> anyhow::Result<Verdict> {
        let played = match played {
            Ok(played) => played,
            Err(error) => {
                let cannot = error.downcast::<CannotJudge>()?;
                return Ok(Verdict::NotJudged(cannot.why));
            }
        };
        let expected = self.expected.get(&instance.folder).and_then(|e| e.of(&instance.label));
        let seen = render(instance, &played.observation);
        let comparison = compare(expected.unwrap_or_default(), &seen, tolerance);
        Ok(if comparison.differences.is_empty() {
            Verdict::Passed { not_judged: comparison.not_judged }
        } else {
            Verdict::Failed {
                differences: comparison.differences,
                expected: expected.is_some(),
                played: Box::new(played),
            }
        })
    }

    /// Writes what every instance shows on this datapath into the files of expectations, and gives
    /// how many of them have changed. Sections of instances that were filtered out stay.
    ///
    /// # Errors
    /// What kept one from being played or written; a case that the datapath cannot judge.
    pub fn bless(&mut self, datapath: &(dyn CaseDatapath + Sync)) -> anyhow::Result<usize> {
        let bar = self.bar();
        let lines = self.instances.par_iter().map(|instance| {
            let played = play(datapath, instance).with_context(|| instance.name.clone())?;
            bar.inc(1);
            Ok(render(instance, &played.observation))
        });
        let lines = lines.collect::<anyhow::Result<Vec<_>>>()?;
        bar.finish_and_clear();
        let before = self.expected.clone();
        for (instance, lines) in self.instances.iter().zip(lines) {
            let expected = self.expected.entry(instance.folder.clone()).or_default();
            expected.set(&instance.label, &lines);
        }
        for (folder, expected) in &self.expected {
            let labels = self.labels.get(folder).into_iter().flatten();
            expected.write(folder, labels.map(String::as_str))?;
        }
        let changed = |instance: &&Instance| {
            let of = |all: &BTreeMap<PathBuf, Expected>| {
                all.get(&instance.folder).and_then(|e| e.of(&instance.label)).map(<[_]>::to_vec)
            };
            of(&before) != of(&self.expected)
        };
        Ok(self.instances.iter().filter(changed).count())
    }

    /// Progress on standard error, where that is a terminal.
    #[must_use]
    pub fn bar(&self) -> ProgressBar {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}");
        let bar = ProgressBar::new(self.instances.len() as u64);
        style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
    }
}

/// What a case is called: its folder's path below the one asked for, or that one's own name.
fn name_below(dir: &Path, folder: &Path) -> String {
    let below = folder.strip_prefix(dir).unwrap_or(folder);
    let name = if below.as_os_str().is_empty() { dir.file_name() } else { None };
    name.map_or_else(|| below.display().to_string(), |name| name.to_string_lossy().into_owned())
}
