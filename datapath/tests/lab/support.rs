//! A lab with one mistake made in it, and where the mistake is expected.

use datapath::lab::{LabError, load};

/// The lab that mistakes are made in.
pub(crate) const BASE: &str = include_str!("../labs/base.yaml");

/// Stands before the character a message must point at.
const MARK: char = '^';

/// One mistake: in [`BASE`], `from` becomes `to`, in which `^` stands before the place the message
/// is expected to point at; `message` is part of it, or of its help.
pub(crate) struct Mistake {
    /// What is replaced; occurs in the base.
    pub(crate) from: &'static str,
    /// What it is replaced by.
    pub(crate) to: &'static str,
    /// Part of the message or of the help.
    pub(crate) message: &'static str,
}

/// Makes every one of `mistakes` alone and checks that just it is found, in its place.
pub(crate) fn check(mistakes: &[Mistake]) {
    let wrong: Vec<String> = mistakes.iter().filter_map(|mistake| differs(mistake).err()).collect();
    assert!(wrong.is_empty(), "{} differ\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// What the loader says of `mistake`, where that is not what is expected.
fn differs(mistake: &Mistake) -> Result<(), String> {
    let Mistake { from, to, message } = mistake;
    if !BASE.contains(from) {
        return Err(format!("the base has no {from:?}"));
    }
    let marked = BASE.replacen(from, to, 1);
    let before = marked.split(MARK).next().expect("a first part");
    if before.len() == marked.len() {
        return Err(format!("no mark in {to:?}"));
    }
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let text = marked.replacen(MARK, "", 1);
    let expected = format!("{to:?}\nexpected {line}:{column}: {message}");
    let LabError { problems, .. } =
        load(&text, "lab.yaml").err().ok_or_else(|| format!("{expected}\nbut it loaded"))?;
    let found = |error: &str| format!("{expected}\nfound\n{error}");
    let error = LabError { source_name: "lab.yaml".to_owned(), problems };
    let [problem] = error.problems.as_slice() else { return Err(found(&error.to_string())) };
    let at = (problem.at.line as usize, problem.at.column as usize);
    let said = format!("{} / {}", problem.message, problem.help.as_deref().unwrap_or_default());
    if at == (line, column) && said.contains(message) {
        return Ok(());
    }
    Err(found(&error.to_string()))
}

/// Declares a table of mistakes: `from => to, message;` each.
macro_rules! mistakes {
    ($($from:expr => $to:expr, $message:expr;)+) => {
        &[$($crate::support::Mistake { from: $from, to: $to, message: $message }),+]
    };
}
pub(crate) use mistakes;
