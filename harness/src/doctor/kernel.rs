//! What the kernel can do.

use std::fs;

use nix::sys::utsname::uname;

use super::report::{Check, Finding, Remedy};
use super::smoke;

/// The oldest kernel Trunkline is tested on.
const OLDEST: (u32, u32) = (6, 1);
const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";

/// Examines it.
pub(super) fn examine() -> Vec<Check> {
    let mut checks = vec![version(), jit()];
    checks.extend(smoke::examine());
    checks
}

fn version() -> Check {
    const ID: &str = "kernel-version";
    let release = match uname() {
        Ok(names) => names.release().to_string_lossy().into_owned(),
        Err(errno) => return Check::unknown(ID, errno.to_string()),
    };
    let Some(version) = major_and_minor(&release) else {
        return Check::unknown(ID, format!("{release} is no version"));
    };
    let finding = Finding::fail(
        format!("Linux {release} is older than {}.{}", OLDEST.0, OLDEST.1),
        "Trunkline is not tested on it; the checks below tell what works",
        Remedy::run("apt-get install linux-image-amd64"),
    );
    let findings = (version < OLDEST).then_some(finding);
    Check::new(ID, format!("Linux {release}"), findings.into_iter().collect())
}

fn major_and_minor(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn jit() -> Check {
    const ID: &str = "bpf-jit";
    match fs::read_to_string(JIT) {
        Ok(value) if value.trim() == "0" => {
            let finding = Finding::warn(
                "XDP programs are interpreted",
                "every frame takes longer",
                Remedy::run("sysctl -w net.core.bpf_jit_enable=1"),
            );
            Check::new(ID, "off", vec![finding])
        }
        Ok(_) => Check::new(ID, "on", Vec::new()),
        Err(error) => Check::unknown(ID, format!("{JIT}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(major_and_minor("6.1.0-56-cloud-amd64") >= Some(OLDEST));
        assert!(major_and_minor("6.18.44") >= Some(OLDEST));
        assert!(major_and_minor("5.15.0") < Some(OLDEST));
        assert_eq!(major_and_minor("next"), None);
    }
}
