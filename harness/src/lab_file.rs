//! Lab files on disk.

use std::path::Path;

use anyhow::Context;
use datapath::lab::Lab;

/// The lab of a file.
///
/// # Errors
/// Where the file cannot be read or is no lab; every mistake in it is told with its place.
pub fn load(file: &Path) -> anyhow::Result<Lab> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("read {name}"))?;
    Ok(datapath::lab::load(&text, &name)?)
}
