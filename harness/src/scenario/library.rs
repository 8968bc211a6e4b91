//! Scenario files: those that come with trunkline, and the user's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::file::File;

macro_rules! embedded {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../scenarios/", $name)))),+]
    };
}

/// The files in the folder `scenarios`.
const EMBEDDED: &[(&str, &str)] = embedded![
    "S1.yaml",
    "S2.yaml",
    "S3.yaml",
    "S4.yaml",
    "S5.yaml",
    "S6.yaml",
    "S7.yaml",
    "S8.yaml",
    "S9.yaml",
    "S10.yaml",
    "node-pod.yaml",
    "node-clusterip.yaml",
    "pod-node.yaml",
    "hairpin.yaml",
    "fnat.yaml",
    "article.yaml",
    "article-slb.yaml",
];

/// Those of them that are labs.
const LABS: [&str; 2] = ["article", "article-slb"];

/// A file's text and what messages call it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// The folder it is in, for a file of the user's.
    folder: Option<PathBuf>,
}

/// The names of the scenarios that come with trunkline, in their order.
pub fn names() -> impl Iterator<Item = &'static str> {
    let stem = |name: &'static str| name.strip_suffix(".yaml");
    EMBEDDED.iter().filter_map(move |(name, _)| stem(name)).filter(|name| !LABS.contains(name))
}

/// A scenario that comes with trunkline, by its name, or a file, by its path.
///
/// # Errors
/// No such scenario and no such file, or a file that cannot be read.
pub fn find(what: &str) -> anyhow::Result<Source> {
    if let Some(source) = embedded(&format!("{what}.yaml")) {
        return Ok(source);
    }
    let path = Path::new(what);
    if !path.exists() {
        let known: Vec<_> = names().collect();
        anyhow::bail!("no scenario {what}: it is neither a file nor one of {}", known.join(", "));
    }
    read(path)
}

impl Source {
    /// The file that this one names: in the same folder, or one that comes with trunkline.
    ///
    /// # Errors
    /// No such file, or one that cannot be read.
    pub fn beside(&self, name: &str) -> anyhow::Result<Self> {
        if let Some(folder) = &self.folder {
            let path = folder.join(name);
            if path.exists() {
                return read(&path);
            }
        }
        embedded(name).with_context(|| format!("{}: no lab file {name}", self.name))
    }

    /// The scenario that the file is.
    ///
    /// # Errors
    /// What is wrong with it, with line and column.
    pub fn scenario(&self) -> anyhow::Result<File> {
        serde_saphyr::from_str(&self.text)
            .map_err(|error| anyhow::anyhow!("{}: {error}", self.name))
    }
}

fn embedded(name: &str) -> Option<Source> {
    let (name, text) = EMBEDDED.iter().find(|(known, _)| *known == name)?;
    Some(Source { name: (*name).to_owned(), text: (*text).to_owned(), folder: None })
}

fn read(path: &Path) -> anyhow::Result<Source> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| name.clone())?;
    Ok(Source {
        name,
        text,
        folder: Some(path.parent().map(Path::to_path_buf).unwrap_or_default()),
    })
}
