//! The file `expected.txt`: what every instance of a case is to show.
//!
//! ```text
//! == flags=none,weights=1234
//! 1 a: 10.0.2.101:40001 > 172.16.0.10:80 S seq=1000 win=64240
//!   ECS1.eth0: 10.0.2.101:40001 > 10.0.2.103:8080 ttl=63
//! ```
//!
//! The instance of a case without a matrix has no heading.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Context as _;
use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices};

use super::render::{DROPS, Line, NOT_JUDGED};

/// What the file is called.
pub const EXPECTED: &str = "expected.txt";
/// How a heading begins.
const HEADING: &str = "== ";

/// What the instances of one case are to show, by label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    sections: BTreeMap<String, Vec<String>>,
}

impl Expected {
    /// The file in a case's folder; nothing where there is none.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = path(folder);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("read {}", path.display()))?,
        };
        let mut sections = BTreeMap::<String, Vec<String>>::new();
        let mut label = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix(HEADING) {
                Some(heading) => heading.clone_into(&mut label),
                None => sections.entry(label.clone()).or_default().push(line.to_owned()),
            }
        }
        Ok(Self { sections })
    }

    /// What the instance of that label is to show, if the file tells.
    #[must_use]
    pub fn of(&self, label: &str) -> Option<&[String]> {
        self.sections.get(label).map(Vec::as_slice)
    }

    /// From now on the instance of that label is to show this.
    pub fn set(&mut self, label: &str, lines: &[Line]) {
        let lines = lines.iter().map(|line| line.text.clone()).collect();
        self.sections.insert(label.to_owned(), lines);
    }

    /// Writes the sections of these labels, in this order, and no others.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write<'a>(
        &self,
        folder: &Path,
        labels: impl Iterator<Item = &'a str>,
    ) -> anyhow::Result<()> {
        let mut text = String::new();
        for label in labels {
            let Some(lines) = self.of(label) else { continue };
            if !label.is_empty() {
                let gap = if text.is_empty() { "" } else { "\n" };
                text += &format!("{gap}{HEADING}{label}\n");
            }
            for line in lines {
                text += line;
                text.push('\n');
            }
        }
        let path = path(folder);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(EXPECTED)
}

/// One place at which what was seen is not what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The line that was expected; `None` where it is one too many.
    pub expected: Option<String>,
    /// The line that was seen; `None` where one is missing.
    pub seen: Option<String>,
    /// The step it is about.
    pub step: usize,
}

impl Difference {
    /// The words that differ, those expected and those seen, where both lines are there; of what
    /// one of them lacks the other's is empty.
    #[must_use]
    pub fn words(&self) -> Vec<(String, String)> {
        let (Some(expected), Some(seen)) = (&self.expected, &self.seen) else { return Vec::new() };
        let expected: Vec<&str> = expected.split_whitespace().collect();
        let seen: Vec<&str> = seen.split_whitespace().collect();
        let said = |words: Option<&[&str]>| words.unwrap_or_default().join(" ");
        let ops = capture_diff_slices(Algorithm::Myers, &expected, &seen);
        let differ = ops.iter().filter(|op| op.tag() != DiffTag::Equal);
        let words =
            |op: &DiffOp| (said(expected.get(op.old_range())), said(seen.get(op.new_range())));
        differ.map(words).collect()
    }

    /// The same as text, `expected EXPECTED, seen SEEN` each.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        let said = |words: String| if words.is_empty() { "nothing".to_owned() } else { words };
        let text = |(expected, seen)| format!("expected {}, seen {}", said(expected), said(seen));
        self.words().into_iter().map(text).collect()
    }
}

/// What was held against what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Where it is not as expected.
    pub differences: Vec<Difference>,
    /// Lines that the datapath has no means to judge.
    pub not_judged: usize,
}

/// Holds what was seen against what was expected. Remaining times may differ by `tolerance`
/// seconds.
#[must_use]
pub fn compare(expected: &[String], seen: &[Line], tolerance: u64) -> Comparison {
    let mut comparison = Comparison::default();
    let texts: Vec<&str> = seen.iter().map(|line| line.text.as_str()).collect();
    // Lines are matched without what may differ: a line more or less shifts no other.
    let untold: BTreeSet<&str> =
        texts.iter().filter(|text| text.ends_with(NOT_JUDGED)).filter_map(|t| about(t)).collect();
    let key = |text: &str| match (about(text), timed(text)) {
        (Some(element), _) if untold.contains(element) => element.to_owned(),
        (_, Some((entry, _))) => entry.to_owned(),
        _ => text.to_owned(),
    };
    let wanted: Vec<String> = expected.iter().map(|text| key(text)).collect();
    let shown: Vec<String> = texts.iter().map(|text| key(text)).collect();
    for op in capture_diff_slices(Algorithm::Myers, &wanted, &shown) {
        let (mut old, mut new) = (op.old_range(), op.new_range());
        loop {
            let (wanted, at) = (old.next(), new.next());
            if wanted.is_none() && at.is_none() {
                break;
            }
            let near = at.unwrap_or(op.new_range().end).min(seen.len().saturating_sub(1));
            let difference = Difference {
                expected: wanted.and_then(|at| expected.get(at)).cloned(),
                seen: at.and_then(|at| texts.get(at)).map(|text| (*text).to_owned()),
                step: seen.get(near).map_or(0, |line| line.step),
            };
            let element = difference.seen.as_deref().and_then(about);
            if op.tag() == DiffTag::Equal && element.is_some_and(|e| untold.contains(e)) {
                comparison.not_judged += 1;
            } else if !difference.is_within(tolerance) {
                comparison.differences.push(difference);
            }
        }
    }
    comparison
}

impl Difference {
    /// Whether it is one of remaining seconds only, no more of them than that. A table entry that
    /// ends so soon agrees with none: a kernel's timers are late by up to an eighth of what they
    /// wait.
    fn is_within(&self, tolerance: u64) -> bool {
        match (&self.expected, &self.seen) {
            (Some(expected), Some(seen)) => {
                expected == seen || close_enough(expected, seen, tolerance)
            }
            (Some(line), None) | (None, Some(line)) => {
                timed(line).is_some_and(|(_, seconds)| seconds < tolerance)
            }
            (None, None) => true,
        }
    }
}

/// The element whose drops a line is about.
fn about(text: &str) -> Option<&str> {
    Some(text.strip_prefix(DROPS)?.split_once(": ")?.0)
}

/// A table entry and its remaining seconds.
fn timed(text: &str) -> Option<(&str, u64)> {
    let (entry, time) = text.strip_prefix("  ")?.rsplit_once(' ')?;
    Some((entry, time.strip_suffix('s')?.parse().ok()?))
}

/// Whether two table entries differ only in their times, and not by more than that.
fn close_enough(expected: &str, seen: &str, tolerance: u64) -> bool {
    match (timed(expected), timed(seen)) {
        (Some((entry, wanted)), Some((other, seconds))) => {
            entry == other && wanted.abs_diff(seconds) <= tolerance
        }
        _ => false,
    }
}
