//! Named network namespaces, kept the way iproute2 keeps them.
//!
//! A name is an empty file in [`DIRECTORY`] with a namespace bind-mounted on it, so `ip netns`
//! shows ours and `ip -n NAME` works on them. Between the making of the file and the mount a
//! name stands for nothing; a process killed there leaves such a name behind. [`list`] and
//! [`delete`] treat it like any other, [`exists`] and [`id`] do not take it for a namespace.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::error::{NetError, Refusal};
use super::plan::check_namespace_name;

/// Where names are kept. The same directory as iproute2's.
pub const DIRECTORY: &str = "/run/netns";

/// Which namespace it is, whatever names it has or has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId {
    /// The device of the kernel's namespace file system.
    pub device: u64,
    /// The namespace's inode in it.
    pub inode: u64,
}

impl NamespaceId {
    /// The namespace behind `path`, a mounted name or a `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// When there is no such file. A file that is not a namespace gives an identity that no
    /// namespace has.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// The file that stands for the namespace `name`.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes the namespace `name`. The caller's thread stays where it is.
///
/// # Errors
/// When the name is taken, even by something that is not a namespace, or the kernel refuses.
pub fn create(name: &str) -> Result<(), NetError> {
    check_namespace_name(name)?;
    prepare_directory()?;
    on_own_thread(|| create_here(name))
}

/// Makes the namespace `name` and leaves the calling thread in it.
///
/// The namespace comes first and the name last, so that a failure on the way leaves no name.
pub(super) fn create_here(name: &str) -> Result<(), NetError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| failed(name, "unshare", errno))?;
    let file = path(name);
    File::create_new(&file).map_err(|error| failed(name, "create its name", error))?;
    let bound = mount(
        Some("/proc/thread-self/ns/net"),
        &file,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    );
    bound.map_err(|errno| {
        // The error worth reporting is the mount's; an empty name that cannot even be removed
        // is still found by its prefix.
        let _ = fs::remove_file(&file);
        failed(name, "mount on its name", errno)
    })
}

/// Makes the directory of names, shared among mount namespaces as iproute2 does: a name that is
/// made or removed in one of them is then made or removed in all. Without it a process in a
/// mount namespace of its own keeps every namespace it saw alive.
///
/// # Errors
/// When the kernel refuses.
pub fn prepare_directory() -> Result<(), NetError> {
    let share = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, DIRECTORY, None::<&str>, flags, None::<&str>)
    };
    let prepare = || -> io::Result<()> {
        fs::create_dir_all(DIRECTORY)?;
        // Two processes that both find no mount would stack two; the later one would hide the
        // names made in the earlier.
        let directory = File::open(DIRECTORY)?;
        directory.lock()?;
        match share() {
            Err(Errno::EINVAL) => {
                let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
                mount(Some(DIRECTORY), DIRECTORY, None::<&str>, flags, None::<&str>)?;
                Ok(share()?)
            }
            other => Ok(other?),
        }
    };
    prepare().map_err(|cause| NetError::Own { attempt: "preparing /run/netns", cause })
}

/// Removes the name `name`; says whether there was one.
///
/// The namespace and its links go once nothing else holds it: no process lives in it and no
/// socket in it is open. The kernel takes the links down later, on its own time.
///
/// # Errors
/// When the kernel refuses.
pub fn delete(name: &str) -> Result<bool, NetError> {
    check_namespace_name(name)?;
    let file = path(name);
    // Mounts can be stacked, and each one keeps a namespace alive. EINVAL says none is left.
    loop {
        match umount2(&file, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL) => break,
            Err(Errno::ENOENT) => return Ok(false),
            Err(errno) => return Err(failed(name, "unmount its name", errno)),
        }
    }
    match fs::remove_file(&file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(name, "remove its name", error)),
    }
}

/// The names that begin with `prefix`, sorted.
///
/// # Errors
/// When the directory of names cannot be read; a missing one has no names.
pub fn list(prefix: &str) -> Result<Vec<String>, NetError> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(DIRECTORY)? {
            if let Ok(name) = entry?.file_name().into_string()
                && name.starts_with(prefix)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|cause| NetError::Own { attempt: "reading /run/netns", cause }),
    }
}

/// Whether `name` stands for a namespace.
#[must_use]
pub fn exists(name: &str) -> bool {
    id(name).is_ok()
}

/// The identity of the namespace `name`.
///
/// # Errors
/// When there is no such name, or it stands for nothing.
pub fn id(name: &str) -> Result<NamespaceId, NetError> {
    check_namespace_name(name)?;
    let look = || -> io::Result<NamespaceId> {
        let id = NamespaceId::at(&path(name))?;
        // All namespaces are files of one file system, the one this process's own is in.
        if id.device == current()?.device { Ok(id) } else { Err(Errno::EINVAL.into()) }
    };
    look().map_err(|error| failed(name, "look it up", error))
}

/// The identity of the calling thread's namespace.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn current() -> io::Result<NamespaceId> {
    NamespaceId::at(Path::new("/proc/thread-self/ns/net"))
}

/// Moves the calling thread into the namespace `name`, for good.
///
/// Sockets the thread opened before stay where they were opened.
///
/// # Errors
/// When there is no such namespace or the kernel refuses.
pub fn enter(name: &str) -> Result<(), NetError> {
    check_namespace_name(name)?;
    let file = File::open(path(name)).map_err(|error| failed(name, "open it", error))?;
    setns(&file, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(name, "enter it", errno))
}

/// Runs `work` inside the namespace `name`, on a thread that ends with it. Sockets opened by
/// `work` may be returned and used anywhere; they stay in the namespace.
///
/// # Errors
/// When there is no such namespace or the kernel refuses; `work` was not run then.
pub fn run_in<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
    on_own_thread(|| {
        enter(name)?;
        Ok(work())
    })
}

/// Runs `work` on so many threads of its own at the same time. The first error counts.
pub(super) fn on_own_threads(
    threads: usize,
    work: impl Fn() -> Result<(), NetError> + Sync,
) -> Result<(), NetError> {
    std::thread::scope(|scope| {
        let spawn = |_| {
            let thread = std::thread::Builder::new().name("netns".to_owned());
            let spawned = thread.spawn_scoped(scope, &work);
            spawned.map_err(|cause| NetError::Own { attempt: "starting a thread", cause })
        };
        let started: Vec<_> = (0..threads).map(spawn).collect();
        let done: Vec<Result<(), NetError>> = started
            .into_iter()
            .map(|thread| thread?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        done.into_iter().collect()
    })
}

/// Runs `work` on a thread of its own, so that whatever it does to its namespace ends with it.
pub(super) fn on_own_thread<T: Send>(
    work: impl FnOnce() -> Result<T, NetError> + Send,
) -> Result<T, NetError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|cause| NetError::Own { attempt: "starting a thread", cause })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(super) fn failed(name: &str, attempt: &'static str, cause: impl Into<Refusal>) -> NetError {
    NetError::Namespace { name: name.to_owned(), attempt, cause: cause.into() }
}
