//! House rules that no lint knows.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file of code, in lines.
const LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// Every file of the project with one of these endings, build output left out.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("list").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != ".git" {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn files_can_be_held_in_the_head() {
    let long: Vec<_> = files(&[".rs", ".c", ".sh", ".py"])
        .into_iter()
        .map(|path| (fs::read_to_string(&path).expect("read").lines().count(), path))
        .filter(|(lines, _)| *lines > LINES)
        .collect();
    assert!(long.is_empty(), "split these before {LINES} lines: {long:?}");
}

#[test]
fn citations_of_the_specification_lead_somewhere() {
    let spec: String = files(&[".md"])
        .into_iter()
        .filter(|path| path.starts_with(root().join("docs/spec")))
        .map(|path| fs::read_to_string(path).expect("read"))
        .collect();
    let mut lost = Vec::new();
    for path in files(&[".rs"]) {
        let text = fs::read_to_string(&path).expect("read");
        for citation in text.split("(spec ").skip(1).filter_map(|rest| rest.split(')').next()) {
            // "ROUTE-11, MASQ" or "IPVS-14 to IPVS-18": every word with a dash is an id.
            for id in citation.split([',', ' ']).filter(|word| word.contains('-')) {
                let id = id.trim_matches(|c: char| !c.is_ascii_alphanumeric());
                if !spec.contains(&format!("**{id}**")) {
                    lost.push(format!("{}: {id}", path.display()));
                }
            }
        }
    }
    assert!(lost.is_empty(), "not in docs/spec: {lost:#?}");
}
