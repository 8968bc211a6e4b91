//! The tools that program a node and read its tables.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::net::process::spawn_in;

/// Runs a tool in a namespace with `text` as its input, and gives what it prints.
pub(crate) fn run(namespace: &str, command: &[&str], text: &str) -> anyhow::Result<String> {
    let (program, arguments) = command.split_first().context("no tool")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // iptables locks whole machines; namespaces have nothing in common.
    command.env("XTABLES_LOCKFILE", format!("/run/{namespace}.xtables"));
    let mut child = spawn_in(namespace, &mut command)?;
    if let Some(mut input) = child.stdin.take() {
        // A tool that stops reading says why itself.
        let _ = input.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed: {}\ngiven:\n{text}", said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
