//! The faces of the command line, one file a group.

use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;

pub mod bench;
pub mod doctor;
pub mod explain;
pub mod guest;
pub mod lab;
pub mod oracle;
pub mod replay;
pub mod run;
pub mod schema;
pub mod show;
pub mod test;

/// What `--help` says of exit statuses.
pub const STATUSES: &str = "\
Exit status:
  0  all is well
  1  the answer is no: a scenario or a case failed, no answer came back, frames do not add up
  2  the command could not do its work: bad input, a missing right, no such lab
`exec` ends with the status of the program it runs: 126 where that cannot be run, 127 where there
is none.";

/// The answer is no.
pub const NO: ExitCode = ExitCode::FAILURE;

/// The command could not do its work. Usage errors have the same status.
#[must_use]
pub fn trouble() -> ExitCode {
    ExitCode::from(2)
}

/// A document for machines: its body, and the version of its form.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Versioned<T> {
    /// Version of this form; a change that a reader could stumble over raises it.
    version: u32,
    /// What it says.
    #[serde(flatten)]
    body: T,
}

impl<T> Versioned<T> {
    /// The document of a body. Every form is in its first version.
    pub const fn new(body: T) -> Self {
        Self { version: 1, body }
    }
}
