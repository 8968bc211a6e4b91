//! Differences between memory and kernel that are meant to be: the file `exceptions.yaml` beside
//! the cases (spec ORA-9).

use std::cell::Cell;
use std::fs;
use std::path::Path;

use anyhow::Context;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::case::Difference;

/// What the file is called.
const FILE: &str = "exceptions.yaml";

/// A difference that is meant to be.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// The instances it is about: a name in which `*` stands for anything.
    pub case: String,
    /// What memory shows: words, or a whole line where the kernel shows none; `*` stands for
    /// anything, nothing at all for no line.
    #[serde(default)]
    pub memory: String,
    /// What the kernel shows.
    #[serde(default)]
    pub kernel: String,
    /// Where it is said that it is so: a statement of the specification or a line of the kernel.
    pub quote: String,
    /// Why it is left so.
    pub reason: String,
    /// How often it was needed.
    #[serde(skip)]
    used: Cell<usize>,
}

/// The exceptions of a folder of cases.
#[derive(Clone, Debug, Default)]
pub struct Exceptions {
    all: Vec<Exception>,
}

impl Exceptions {
    /// Those in the file of each folder that has one.
    ///
    /// # Errors
    /// A file that cannot be read or is no list of exceptions.
    pub fn read<'a>(folders: impl Iterator<Item = &'a Path>) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for path in folders.map(|folder| folder.join(FILE)).filter(|path| path.is_file()) {
            let name = path.display().to_string();
            let text = fs::read_to_string(&path).with_context(|| format!("read {name}"))?;
            let more: Vec<Exception> = serde_saphyr::from_str(&text)
                .map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
            all.extend(more);
        }
        Ok(Self { all })
    }

    /// Whether a difference of this instance is one of them. It counts as used then.
    #[must_use]
    pub fn explain(&self, instance: &str, difference: &Difference) -> bool {
        let line = |line: &Option<String>| line.as_deref().unwrap_or_default().trim().to_owned();
        let (memory, kernel) = (line(&difference.expected), line(&difference.seen));
        let pairs = if memory.is_empty() || kernel.is_empty() {
            vec![(memory, kernel)]
        } else {
            difference.words()
        };
        let found: Option<Vec<&Exception>> = pairs
            .iter()
            .map(|(memory, kernel)| {
                self.all.iter().find(|exception| {
                    matches(&exception.case, instance)
                        && matches(&exception.memory, memory)
                        && matches(&exception.kernel, kernel)
                })
            })
            .collect();
        for exception in found.iter().flatten() {
            exception.used.set(exception.used.get() + 1);
        }
        found.is_some()
    }

    /// Those that nothing needed.
    pub fn unused(&self) -> impl Iterator<Item = &Exception> {
        self.all.iter().filter(|exception| exception.used.get() == 0)
    }
}

/// Whether a text is of a form in which `*` stands for anything.
fn matches(form: &str, text: &str) -> bool {
    let Some((begin, mut form)) = form.split_once('*') else { return form == text };
    let Some(mut text) = text.strip_prefix(begin) else { return false };
    while let Some((part, rest)) = form.split_once('*') {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
        form = rest;
    }
    text.ends_with(form)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything() {
        for (form, text) in [("", ""), ("*", ""), ("a*", "abc"), ("*c", "abc"), ("a*b*c", "a-b-c")]
        {
            assert!(matches(form, text), "{form} {text}");
        }
        for (form, text) in [("", "a"), ("a", "ab"), ("a*c", "ab"), ("a*b*c", "a-c"), ("*a", "ab")]
        {
            assert!(!matches(form, text), "{form} {text}");
        }
    }
}
