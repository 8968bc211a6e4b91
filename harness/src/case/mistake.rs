//! What is wrong with a case file, and where.

use std::fmt;

use datapath::lab::Position;

/// A mistake in a case file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// The file.
    file: String,
    at: Position,
    /// What is wrong and what was expected.
    message: String,
    /// The offending line.
    line: String,
}

impl Mistake {
    /// A mistake in the step at `at` of the file `text`. The place is that of `word`, where the
    /// step has it.
    #[must_use]
    pub(super) fn new(
        file: &str,
        text: &str,
        at: Position,
        word: Option<&str>,
        message: String,
    ) -> Self {
        let number = usize::try_from(at.line).unwrap_or(1).max(1) - 1;
        let lines = || text.lines().enumerate().skip(number);
        let found = word.filter(|word| !word.is_empty()).and_then(|word| {
            lines().find_map(|(number, line)| Some((number, line, line.find(word)?)))
        });
        let (at, line) = match found {
            Some((number, line, byte)) => {
                let column = line.get(..byte).map_or(0, |before| before.chars().count());
                let one = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
                (Position { line: one(number), column: one(column) }, line)
            }
            None => (at, lines().next().map_or("", |(_, line)| line)),
        };
        Self { file: file.to_owned(), at, message, line: line.to_owned() }
    }
}

impl std::error::Error for Mistake {}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.at;
        let number = line.to_string();
        let (gap, caret) = (number.len(), usize::try_from(column).unwrap_or(1).saturating_sub(1));
        writeln!(f, "{}:{line}:{column}: {}", self.file, self.message)?;
        writeln!(f, " {number} | {}", self.line)?;
        write!(f, " {:gap$} | {:caret$}^", "", "")
    }
}
