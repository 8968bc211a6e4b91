//! `guest`: process 1 of a guest of the oracle.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::oracle::{Job, guest};

/// Process 1 of a guest.
#[derive(Debug, Args)]
pub struct Guest {
    /// What to do, and where to put what came of it.
    folder: PathBuf,
    /// What user-mode-linux adds of its own to the kernel's command line.
    #[arg(hide = true)]
    rest: Vec<String>,
}

impl Guest {
    /// Does the work.
    ///
    /// # Errors
    /// Where this is no guest.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        guest::run(&self.folder, || Job::run(&self.folder))?;
        Ok(ExitCode::SUCCESS)
    }
}
