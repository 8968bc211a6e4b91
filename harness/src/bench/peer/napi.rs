//! Which processor the kernel takes a device's frames on: settings of the device, put back when
//! dropped.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Context;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::bench::bed::Device;
use crate::bench::clock::Clock;
use crate::bench::forwarder::Spread;
use crate::net::sysfs;

/// The setting of steering for a device's only queue.
const STEERING: &str = "queues/rx-0/rps_cpus";
const THREADED: &str = "threaded";

/// A device whose frames are taken elsewhere than on the sender's processor.
#[derive(Debug)]
pub(super) struct Placement {
    device: Device,
    setting: Option<&'static str>,
    clock: Option<Clock>,
}

impl Placement {
    /// Has the kernel take what comes in at `device` where `spread` says. For a thread of its own
    /// the device must have a NAPI already.
    pub(super) fn new(device: Device, spread: Spread, core: usize) -> anyhow::Result<Self> {
        let mut placement = Self { device, setting: None, clock: None };
        match spread {
            Spread::Sender => {}
            Spread::Rps => {
                placement.write(STEERING, &steering_mask(core))?;
                placement.clock = Some(Clock::Kernel(core));
            }
            Spread::Threaded => {
                let before = pollers(&placement.device.ifname)?;
                placement.write(THREADED, "1")?;
                for poller in pollers(&placement.device.ifname)?.difference(&before) {
                    pin(*poller, core)?;
                    placement.clock = Some(Clock::Process((*poller).cast_unsigned()));
                }
                placement.clock.context("the device has got no thread")?;
            }
        }
        Ok(placement)
    }

    /// Whose time it takes; `None` where it is the sender's.
    pub(super) fn clock(&self) -> Option<Clock> {
        self.clock
    }

    fn write(&mut self, setting: &'static str, value: &str) -> anyhow::Result<()> {
        write(&self.device, setting, value)?;
        self.setting = Some(setting);
        Ok(())
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        if let Some(setting) = self.setting
            && let Err(error) = write(&self.device, setting, "0")
        {
            tracing::warn!(%error, "a setting of a device stays");
        }
    }
}

fn write(Device { namespace, ifname }: &Device, setting: &str, value: &str) -> anyhow::Result<()> {
    let write = || fs::write(sysfs::file(ifname, setting), value);
    sysfs::run_in(namespace, write)?.with_context(|| format!("set {setting} of {ifname}"))
}

/// A processor as the kernel reads masks: hexadecimal, a comma after each eight digits.
fn steering_mask(core: usize) -> String {
    let words = ",00000000".repeat(core / 32);
    format!("{:x}{words}", 1_u32 << (core % 32))
}

/// The kernel threads that take frames of devices of this name, in any namespace.
fn pollers(ifname: &str) -> anyhow::Result<BTreeSet<i32>> {
    let prefix = format!("napi/{ifname}-");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended meanwhile is none.
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.starts_with(&prefix) {
            found.insert(pid);
        }
    }
    Ok(found)
}

fn pin(thread: i32, core: usize) -> anyhow::Result<()> {
    let mut only = CpuSet::new();
    only.set(core)?;
    sched_setaffinity(Pid::from_raw(thread), &only).context("place the thread of a device")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_in_words_of_32() {
        assert_eq!(steering_mask(0), "1");
        assert_eq!(steering_mask(5), "20");
        assert_eq!(steering_mask(33), "2,00000000");
    }
}
