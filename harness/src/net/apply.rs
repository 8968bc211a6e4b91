//! Making a planned network, all of it or nothing.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Runtime;

use super::carrier;
use super::connection::{self, Connection};
use super::error::NetError;
use super::links;
use super::namespace::{self, failed};
use super::plan::{End, Namespace, Sysctl, Topology, Veth};

/// Makes everything in `topology`: namespaces with their sysctls, veths with both ends born where
/// they belong, addresses, neighbours and routes.
///
/// Either all of it is there afterwards or none of it. Names that existed before are never
/// touched: meeting one is an error. Of a process that is killed half-way,
/// [`remove`](super::teardown::remove) finds what is left.
///
/// # Errors
/// The first thing that is wrong with the plan or that the kernel refused.
pub fn apply(topology: &Topology) -> Result<(), NetError> {
    topology.check()?;
    namespace::prepare_directory()?;
    let undo = Undo::default();
    build(topology, &undo)?;
    undo.made().clear();
    Ok(())
}

/// The namespaces made so far. They are removed, and every veth with them, unless the list is
/// cleared first; a guard rather than an error path, so that a panic undoes them too.
#[derive(Default)]
struct Undo<'t> {
    made: Mutex<Vec<&'t str>>,
}

impl<'t> Undo<'t> {
    fn made(&self) -> MutexGuard<'_, Vec<&'t str>> {
        // Nothing panics half-way through a change of it.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for name in self.made().drain(..).rev() {
            if let Err(error) = namespace::delete(name) {
                tracing::error!(%error, "left behind");
            }
        }
    }
}

/// What of the plan concerns one namespace.
#[derive(Default)]
struct Share<'t> {
    /// Links made from here: those whose first end is here.
    links: Vec<&'t Veth>,
    /// Ends that are here.
    ends: Vec<&'t End>,
    /// Names of those that will carry frames: they and their peers are set up.
    up: BTreeSet<&'t str>,
}

/// Four rounds over the namespaces: all namespaces, then the links between them, then what is on
/// the links, then the wait until they carry frames. A round is done by several threads, each of
/// which has one namespace open at a time, so the number of open files does not grow with the lab.
fn build<'t>(topology: &'t Topology, undo: &Undo<'t>) -> Result<(), NetError> {
    let shares = shares(topology);
    each(topology, |_, planned| {
        namespace::create_here(&planned.name)?;
        undo.made().push(&planned.name);
        planned.sysctls.iter().try_for_each(|sysctl| write_sysctl(&planned.name, sysctl))
    })?;
    each(topology, |runtime, planned| {
        let share = shares.get(planned.name.as_str()).filter(|share| !share.links.is_empty());
        let Some(share) = share else { return Ok(()) };
        // A link is made from the namespace of its first end: some kernels look for a link of
        // the same name or index where the request comes from, not where the link is to be.
        let connection = connect(runtime, planned)?;
        share.links.iter().try_for_each(|link| {
            let [_, End { namespace: far, .. }] = link.in_order();
            let home = File::open(namespace::path(far))
                .map_err(|error| failed(far, "open it for a link's end", error))?;
            links::make(&connection, link, home.as_fd())
        })
    })?;
    each(topology, |runtime, planned| {
        let connection = connect(runtime, planned)?;
        if planned.loopback {
            links::set_loopback_up(&connection, &planned.name)?;
        }
        let share = shares.get(planned.name.as_str());
        share.map_or(Ok(()), |share| links::configure(&connection, &share.ends))
    })?;
    each(topology, |runtime, planned| {
        let Some(share) = shares.get(planned.name.as_str()) else { return Ok(()) };
        namespace::enter(&planned.name)?;
        carrier::wait(runtime, &planned.name, share.up.clone())
    })
}

/// A connection to a namespace, which the calling thread is in from now on.
fn connect<'r>(runtime: &'r Runtime, planned: &Namespace) -> Result<Connection<'r>, NetError> {
    namespace::enter(&planned.name)?;
    Connection::open(runtime).map_err(|error| failed(&planned.name, "open netlink", error))
}

/// Threads of a round. The kernel makes most changes one after the other; what they leave it is
/// waiting for processors to have seen a change, and that goes on at the same time.
const THREADS: usize = 8;

/// Does something for each namespace, in no order, on threads that end with this call.
fn each<'t>(
    topology: &'t Topology,
    work: impl Fn(&Runtime, &'t Namespace) -> Result<(), NetError> + Sync,
) -> Result<(), NetError> {
    let next = AtomicUsize::new(0);
    let run = || {
        let runtime = connection::runtime()?;
        while let Some(planned) = topology.namespaces.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Where one fails nobody begins with another.
            work(&runtime, planned)
                .inspect_err(|_| next.store(topology.namespaces.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    namespace::on_own_threads(THREADS.min(topology.namespaces.len()), run)
}

fn shares(topology: &Topology) -> HashMap<&str, Share<'_>> {
    let mut shares: HashMap<&str, Share<'_>> = HashMap::new();
    for link in &topology.links {
        let ends @ [first, _] = link.in_order();
        shares.entry(&first.namespace).or_default().links.push(link);
        let carries = ends.iter().all(|end| end.up);
        for end in ends {
            let share = shares.entry(&end.namespace).or_default();
            share.ends.push(end);
            share.up.extend(carries.then_some(end.ifname.as_str()));
        }
    }
    shares
}

/// Writes a setting of the namespace the calling thread is in.
pub(crate) fn write_sysctl(namespace: &str, sysctl: &Sysctl) -> Result<(), NetError> {
    // A kernel without IPv6 has no such settings, and IPv6 is as off as can be.
    let turns_ipv6_off =
        sysctl.path.starts_with("net/ipv6/") && sysctl.path.ends_with("/disable_ipv6");
    if turns_ipv6_off && sysctl.value == "1" && !Path::new("/proc/sys/net/ipv6").exists() {
        return Ok(());
    }
    // Opened for writing, not made: a mistyped name is to be reported as missing.
    let file = Path::new("/proc/sys").join(&sysctl.path);
    fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, sysctl.value.as_bytes()))
        .map_err(|cause| NetError::Sysctl {
            namespace: namespace.to_owned(),
            path: sysctl.path.clone(),
            value: sysctl.value.clone(),
            cause,
        })
}
