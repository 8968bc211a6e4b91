//! Every command of the README runs, and does not fail.

use std::io::Write as _;
use std::path::Path;

use crate::support::{is_root, trunkline};

/// Takes the article's lab down, however the test ends.
struct Down;

impl Drop for Down {
    fn drop(&mut self) {
        let _ = trunkline(&["down", "article"]).output();
    }
}

/// A capture of one frame.
fn capture(path: &Path) {
    let frame = [0x02_u8; 60];
    let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&[0xff, 0xff, 0, 0, 1, 0, 0, 0]);
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0]);
    bytes.extend_from_slice(&frame);
    std::fs::write(path, bytes).expect("write a capture");
}

#[test]
fn every_command_of_the_readme_runs() {
    if !is_root() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("read the README");
    let folder = tempfile::tempdir().expect("make a folder");
    let file = folder.path().join("one.pcap");
    capture(&file);
    let _down = Down;
    let mut ran = 0;
    for block in readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for line in block.lines().filter(|line| line.starts_with("trunkline ")) {
            let line = line
                .replace("LAB", "scenarios/article.yaml")
                .replace("NS/NAME", "trunking/centos-59cdc5c9c4-l5vf9")
                .replace("FILE", file.to_str().expect("a path"))
                .replace("DIR", folder.path().join("out").to_str().expect("a path"));
            let words: Vec<_> = line.split_whitespace().skip(1).collect();
            let output = trunkline(&words).current_dir(root).output().expect("run");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if said.contains("no guest can be had") {
                let _ = writeln!(std::io::stderr(), "skipped: {line}: {}", said.trim());
                continue;
            }
            assert!(output.status.success(), "{line}: {said}");
            ran += 1;
        }
    }
    assert!(ran >= 10, "the README's commands were found");
}
