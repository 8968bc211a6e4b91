//! Collects findings, and reads scalars into them.

use std::collections::BTreeMap;

use crate::lab::error::{Finding, Position, nearest, quoted};
use crate::lab::scalar::{Refusal, Scalar, Text};
use crate::lab::written::Written;

/// Findings after which no more nearest names are looked for.
const SUGGESTIONS: usize = 100;

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Notes a mistake.
    pub(super) fn add(&mut self, at: Position, message: impl Into<String>) {
        self.findings.push(Finding { at, message: message.into(), help: None });
    }

    /// Notes a mistake, with what may be done about it.
    pub(super) fn add_help(
        &mut self,
        at: Position,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.findings.push(Finding { at, message: message.into(), help: Some(help.into()) });
    }

    /// The value of `written`, which is the key `key`; a mistake is noted.
    pub(super) fn read<T: Scalar>(&mut self, key: &str, written: &Written<T>) -> Option<T> {
        let refusal = match T::read(&written.text) {
            Ok(value) => return Some(value),
            Err(refusal) => refusal,
        };
        let (message, help) = match refusal {
            Refusal::Because(message, help) => (format!("{key}: {message}"), help),
            Refusal::Unexpected(help) => (
                format!("{key}: expected {}, found {}", T::expected(), quoted(&written.text)),
                help,
            ),
        };
        self.findings.push(Finding { at: written.at, message, help });
        None
    }

    /// As [`Report::read`], for a key that may be left out.
    pub(super) fn read_opt<T: Scalar>(
        &mut self,
        key: &str,
        written: Option<&Written<T>>,
    ) -> Option<T> {
        written.and_then(|written| self.read(key, written))
    }

    /// Whether nearest names are still worth looking for.
    fn suggests(&self) -> bool {
        self.findings.len() < SUGGESTIONS
    }

    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// What was found.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}

/// Names of one kind of thing, each with its index and where it was given.
#[derive(Debug)]
pub(super) struct Names {
    what: &'static str,
    known: BTreeMap<String, (usize, Position)>,
}

impl Names {
    /// No names yet of `what`, as "vSwitch".
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, known: BTreeMap::new() }
    }

    /// Enters `name` for `index`; false where it is taken, which is noted.
    pub(super) fn enter(
        &mut self,
        name: &str,
        index: usize,
        at: Position,
        report: &mut Report,
    ) -> bool {
        if let Some((_, first)) = self.known.get(name) {
            let message = format!("{} {} is given twice", self.what, quoted(name));
            report.add_help(at, message, format!("the first is at line {}", first.line));
            return false;
        }
        self.known.insert(name.to_owned(), (index, at));
        true
    }

    /// The index of `name`, if it is known.
    pub(super) fn get(&self, name: &str) -> Option<usize> {
        self.known.get(name).map(|(index, _)| *index)
    }

    /// The index of `name`; an unknown name is noted.
    pub(super) fn find(&self, name: &Written<Text>, report: &mut Report) -> Option<usize> {
        self.find_text(&name.text, name.at, report)
    }

    /// The index of `name`, which is at `at`; an unknown name is noted.
    pub(super) fn find_text(&self, name: &str, at: Position, report: &mut Report) -> Option<usize> {
        let index = self.get(name);
        if index.is_none() {
            let message = format!("there is no {} {} in this lab", self.what, quoted(name));
            let known = self.known.keys().map(String::as_str);
            match report.suggests().then(|| nearest(name, known)).flatten() {
                Some(near) => report.add_help(at, message, format!("did you mean `{near}`?")),
                None if self.known.is_empty() => {
                    report.add_help(at, message, format!("the lab names no {} at all", self.what));
                }
                None => report.add(at, message),
            }
        }
        index
    }

    /// Every name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }
}
