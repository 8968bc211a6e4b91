//! Two network namespaces for a trial: without names, so that nobody else meets them and nothing
//! is left of them however the process ends.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;

use nix::sched::{CloneFlags, setns, unshare};

use super::apply::write_sysctl;
use super::carrier;
use super::connection::{self, Connection};
use super::error::{NetError, Refusal};
use super::links;
use super::namespace::on_own_thread;
use super::plan::{End, Namespace, Veth};

/// One of the two namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first.
    Near,
    /// The second.
    Far,
}

/// The two namespaces. They are gone with the last thread and socket in them.
#[derive(Debug)]
pub struct Pair {
    near: File,
    far: File,
}

/// Makes two namespaces and runs `work` on a thread of its own, which starts in one of them.
///
/// # Errors
/// When the kernel refuses; `work` was not run then.
pub fn in_pair<T: Send>(work: impl FnOnce(&Pair) -> T + Send) -> Result<T, NetError> {
    on_own_thread(|| {
        let make = || -> Result<File, NetError> {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| own("making a network namespace", errno.into()))?;
            for sysctl in Namespace::new("trial").sysctls {
                write_sysctl("trial", &sysctl)?;
            }
            File::open("/proc/thread-self/ns/net")
                .map_err(|error| own("opening a network namespace", error))
        };
        let pair = Pair { near: make()?, far: make()? };
        Ok(work(&pair))
    })
}

impl Pair {
    /// Moves the calling thread into one of the namespaces.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self, side: Side) -> Result<(), NetError> {
        let namespace = match side {
            Side::Near => &self.near,
            Side::Far => &self.far,
        };
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| own("entering a network namespace", errno.into()))
    }

    /// Makes a veth with one queue and an end called `name` in each namespace, and sets it up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join(&self, name: &str) -> Result<(), NetError> {
        let link = Veth {
            a: End::new("near", name, [2, 0, 0, 0, 0, 1]),
            b: End::new("far", name, [2, 0, 0, 0, 0, 2]),
            queues: 1,
        };
        let runtime = connection::runtime()?;
        let connect = |end| {
            Connection::open(&runtime)
                .map_err(|error| links::failed(end, "open netlink", Refusal::from(error)))
        };
        self.enter(Side::Near)?;
        let near = connect(&link.a)?;
        links::make(&near, &link, self.far.as_fd())?;
        links::configure(&near, &[&link.a])?;
        self.enter(Side::Far)?;
        links::configure(&connect(&link.b)?, &[&link.b])?;
        for side in [Side::Near, Side::Far] {
            self.enter(side)?;
            carrier::wait(&runtime, "trial", BTreeSet::from([name]))?;
        }
        Ok(())
    }
}

fn own(attempt: &'static str, cause: std::io::Error) -> NetError {
    NetError::Own { attempt, cause }
}
