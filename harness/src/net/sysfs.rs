//! The `/sys` of a namespace: settings of links that neither netlink nor ethtool has.

use std::fs;
use std::io;
use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::error::NetError;
use super::namespace::{self, failed, on_own_thread};

/// The file of a link's setting, as the link's own namespace shows it.
#[must_use]
pub fn file(ifname: &str, setting: &str) -> PathBuf {
    PathBuf::from("/sys/class/net").join(ifname).join(setting)
}

/// What a setting of a link in the calling thread's `/sys` says.
///
/// # Errors
/// Where there is no such link or setting.
pub fn read(ifname: &str, setting: &str) -> io::Result<String> {
    Ok(fs::read_to_string(file(ifname, setting))?.trim().to_owned())
}

/// Runs `work` where `/sys` shows the links of the namespace `name`, on a thread that ends with it.
///
/// # Errors
/// When there is no such namespace or the kernel refuses; `work` was not run then.
pub fn run_in<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
    on_own_thread(|| {
        own_mounts()?;
        enter(name)?;
        Ok(work())
    })
}

/// Gives the calling thread mounts of its own, so that it can see each namespace's `/sys`.
pub(super) fn own_mounts() -> Result<(), NetError> {
    let separate = || -> nix::Result<()> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        // What is mounted there from now on is seen by nobody else. The rest stays shared, so that
        // no namespace is kept alive by a name here.
        let flags = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        mount(None::<&str>, "/sys", None::<&str>, flags, None::<&str>)
    };
    separate().map_err(|errno| NetError::Own { attempt: "separating mounts", cause: errno.into() })
}

/// Moves the calling thread, which has mounts of its own, into a namespace and its `/sys`.
pub(super) fn enter(name: &str) -> Result<(), NetError> {
    namespace::enter(name)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| failed(name, "mount its /sys", errno))
}
