//! The file `expected.txt`: what every instance of a case is to show.
//!
//! ```text
//! == flags=none,weights=1234
//! 1 a: 10.0.2.101:40001 > 172.16.0.10:80 S seq=1000 win=64240
//!   ECS1.eth0: 10.0.2.101:40001 > 10.0.2.103:8080 ttl=63
//! ```
//!
//! The instance of a case without a matrix has no heading.

use std::collections::BTreeMap;
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
    // What may differ is made the same before the lines are matched.
    let mut wanted = expected.to_vec();
    for (at, line) in seen.iter().enumerate() {
        let Some(wanted) = wanted.get_mut(at) else { break };
        if is_not_judged(&line.text, wanted) {
            comparison.not_judged += 1;
            wanted.clone_from(&line.text);
        } else if close_enough(wanted, &line.text, tolerance) {
            wanted.clone_from(&line.text);
        }
    }
    let texts: Vec<String> = seen.iter().map(|line| line.text.clone()).collect();
    for op in capture_diff_slices(Algorithm::Myers, &wanted, &texts) {
        if op.tag() == DiffTag::Equal {
            continue;
        }
        let (mut old, mut new) = (op.old_range(), op.new_range());
        loop {
            let (expected, at) = (old.next(), new.next());
            if expected.is_none() && at.is_none() {
                break;
            }
            let near = at.unwrap_or(op.new_range().end).min(seen.len().saturating_sub(1));
            comparison.differences.push(Difference {
                expected: expected.and_then(|at| wanted.get(at)).cloned(),
                seen: at.and_then(|at| seen.get(at)).map(|line| line.text.clone()),
                step: seen.get(near).map_or(0, |line| line.step),
            });
        }
    }
    comparison.differences.retain(|difference| !ends_within(difference, tolerance));
    comparison
}

/// Whether one side has a table entry that ends so soon that it agrees with none: a kernel's
/// timers are late by up to an eighth of what they wait.
fn ends_within(difference: &Difference, tolerance: u64) -> bool {
    match (&difference.expected, &difference.seen) {
        (Some(line), None) | (None, Some(line)) => {
            timed(line).is_some_and(|(_, seconds)| seconds < tolerance)
        }
        _ => false,
    }
}

/// Whether the line is about drops that the datapath cannot tell.
fn is_not_judged(seen: &str, expected: &str) -> bool {
    let about = |text: &str| {
        let (element, _) = text.strip_prefix(DROPS)?.split_once(": ")?;
        Some(element.to_owned())
    };
    seen.ends_with(NOT_JUDGED) && about(seen).is_some() && about(seen) == about(expected)
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
