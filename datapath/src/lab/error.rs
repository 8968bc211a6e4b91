//! What is wrong with a lab file, and where.

use std::fmt;

/// Columns of an offending line that are shown; a longer line is cut around the mistake.
const SHOWN: usize = 100;

/// A place in a lab file, both numbers counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl Position {
    /// The first character of the file.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl Default for Position {
    fn default() -> Self {
        Self::START
    }
}

impl From<serde_saphyr::Location> for Position {
    fn from(location: serde_saphyr::Location) -> Self {
        let at = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
        Self { line: at(location.line()), column: at(location.column()) }
    }
}

/// One mistake in a lab file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub at: Position,
    /// What is wrong and what was expected.
    pub message: String,
    /// What may be meant or done instead.
    pub help: Option<String>,
    /// The offending line, or the part of it around the mistake.
    pub excerpt: String,
    /// Characters of `excerpt` before the mistake.
    pub caret: usize,
}

/// A lab file that cannot be loaded: every mistake found, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabError {
    /// The file's name, as given to the loader.
    pub source_name: String,
    /// The mistakes, in file order; never empty.
    pub problems: Vec<Problem>,
}

impl std::error::Error for LabError {}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_all(f, &self.source_name, "", &self.problems)
    }
}

/// What a lab file that can be loaded says without meaning it, probably: it works, and loses or
/// hides something without a word (spec LAB-30).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lints {
    /// The file's name, as given to the loader.
    pub source_name: String,
    /// What was found, in file order.
    pub problems: Vec<Problem>,
}

impl Lints {
    /// `findings` about `text`.
    pub(crate) fn new(text: &str, source_name: &str, findings: Vec<Finding>) -> Self {
        Self { source_name: source_name.to_owned(), problems: located(text, findings) }
    }
}

impl fmt::Display for Lints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_all(f, &self.source_name, "warning: ", &self.problems)
    }
}

/// Writes each problem with its line under it, an empty line between two.
fn write_all(
    f: &mut fmt::Formatter<'_>,
    source_name: &str,
    kind: &str,
    problems: &[Problem],
) -> fmt::Result {
    for (n, problem) in problems.iter().enumerate() {
        if n > 0 {
            f.write_str("\n\n")?;
        }
        let Problem { at, message, help, excerpt, caret } = problem;
        let Position { line, column } = at;
        let number = line.to_string();
        let gap = number.len();
        writeln!(f, "{source_name}:{line}:{column}: {kind}{message}")?;
        writeln!(f, " {number} | {excerpt}")?;
        write!(f, " {:gap$} | {:caret$}^", "", "")?;
        if let Some(help) = help {
            write!(f, "\n {:gap$} = help: {help}", "")?;
        }
    }
    Ok(())
}

/// A mistake before the offending line is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) at: Position,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl LabError {
    /// `findings` about `text`, put into file order and given their lines.
    pub(crate) fn new(text: &str, source_name: &str, findings: Vec<Finding>) -> Self {
        Self { source_name: source_name.to_owned(), problems: located(text, findings) }
    }
}

/// `findings` in file order, each once and with its line.
fn located(text: &str, mut findings: Vec<Finding>) -> Vec<Problem> {
    findings.sort();
    findings.dedup();
    let lines = split_lines(text);
    let with_line = |Finding { at, message, help }| {
        let Position { line, column } = at;
        let index = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
        let (excerpt, caret) = cut(lines.get(index).copied().unwrap_or_default(), column);
        Problem { at, message, help, excerpt, caret }
    };
    findings.into_iter().map(with_line).collect()
}

/// The lines of `text` as YAML counts them: ended by LF, CR LF or CR.
fn split_lines(text: &str) -> Vec<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let by_lf = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    by_lf.flat_map(|line| line.split('\r')).collect()
}

/// The part of `line` around `column`, printable, and the number of characters before it.
fn cut(line: &str, column: u32) -> (String, usize) {
    let before = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    let skipped = if before < SHOWN { 0 } else { before.saturating_sub(SHOWN / 2) };
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let excerpt: String = line.chars().skip(skipped).take(SHOWN).map(printable).collect();
    let caret = before.saturating_sub(skipped).min(excerpt.chars().count());
    (excerpt.trim_end().to_owned(), caret)
}

/// `text` in backquotes, cut short and made printable, for use in a message.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    format!("`{shown}`")
}

/// `words` in backquotes, joined as English does: "`a`, `b` or `c`".
pub(crate) fn alternatives<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// The one of `known` that `text` was probably meant to be.
pub(crate) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    let length = text.chars().count();
    if length > LONGEST {
        return None;
    }
    let allowed = (length / 3).max(1);
    known
        .into_iter()
        .filter(|k| k.chars().count().abs_diff(length) <= allowed)
        .map(|k| (distance(text, k), k))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Letters to insert, delete, replace or swap with the next to make `b` of `a`, case aside.
fn distance(a: &str, b: &str) -> usize {
    strsim::osa_distance(&a.to_lowercase(), &b.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("cird", "cidr"), 1);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("vsw-A", "vsw-b"), 1);
    }

    #[test]
    fn nearest_refuses_what_is_far() {
        assert_eq!(nearest("sg-ope", ["sg-open", "sg-db"]), Some("sg-open"));
        assert_eq!(nearest("sg-open", ["web"]), None);
    }

    #[test]
    fn lines_end_as_in_yaml() {
        assert_eq!(split_lines("a\r\nb\rc\nd"), ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_long_line_is_cut_around_the_mistake() {
        let line = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let (excerpt, caret) = cut(&line, 501);
        assert_eq!(excerpt.chars().nth(caret), Some('X'));
        assert_eq!(excerpt.len(), SHOWN);
    }
}
