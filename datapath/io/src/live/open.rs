//! Opening ports and closing them: most of the time the kernel waits until nobody looks any more,
//! so it is done for many ports at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use datapath::lab::Lab;
use datapath::link::{Socket, fused_peer, ports_of};

use super::part::{Edge, Part, PortState, Station};
use super::{LiveLink, Memory, OpenError, Rings, Site, body_of, go};
use crate::{Arena, XskPort};

/// Threads that open or close ports at one time.
const THREADS: usize = 16;

/// A device to be opened.
struct Job<'a> {
    socket: Socket,
    queues: u16,
    site: &'a Site,
    arena: &'static Arena,
}

impl LiveLink {
    /// Opens every port of the elements that `memory` was made for, each at its site. Fused links
    /// between them have no devices; those to elements of other threads are `rings`. `enter` moves
    /// the calling thread into a namespace; it is called on threads of this call's own.
    ///
    /// # Errors
    /// The first thing that failed; what was opened is closed again.
    pub fn open(
        lab: Lab,
        memory: &Memory,
        rings: Option<Rings>,
        sites: &[Site],
        enter: impl Fn(&str) -> Result<(), String> + Sync,
    ) -> Result<Self, OpenError> {
        let mut jobs = Vec::new();
        for element in &memory.elements {
            for (port, queues) in ports_of(&lab, *element) {
                let socket = Socket { element: *element, port };
                if fused_peer(&lab, socket).is_none() {
                    let site = sites.iter().find(|site| site.socket == socket);
                    let site = site.ok_or(OpenError::NoSite(socket))?;
                    let arena = memory.arena(socket).ok_or(OpenError::NoSite(socket))?;
                    jobs.push(Job { socket, queues, site, arena });
                }
            }
        }
        let mut devices = open_all(&jobs, &enter)?;
        let (bell, mut rings) = rings.map_or((None, Vec::new()), |r| (Some(r.bell), r.ports));
        let mut stations = Vec::new();
        for element in memory.elements.iter().copied() {
            let mut ports = Vec::new();
            for (port, queues) in ports_of(&lab, element) {
                let socket = Socket { element, port };
                let arena = memory.arena(socket).ok_or(OpenError::NoSite(socket))?;
                let edge = match fused_peer(&lab, socket) {
                    None => Edge::Device(taken(&mut devices, socket)?),
                    Some(peer) if memory.elements.contains(&peer.element) => Edge::Fused,
                    Some(_) => Edge::Ring(taken(&mut rings, socket)?),
                };
                ports.push(PortState::new(edge, arena, queues));
            }
            stations.push(Station::new(element, body_of(&lab, element), ports));
        }
        let part = Part::new(&lab, stations, bell, memory.arenas.clone());
        Ok(Self { lab: Arc::new(lab), parts: vec![part] })
    }
}

/// What is there for a port.
fn taken<T>(all: &mut Vec<(Socket, T)>, socket: Socket) -> Result<T, OpenError> {
    let at = all.iter().position(|(other, _)| *other == socket);
    at.map(|at| all.swap_remove(at).1).ok_or(OpenError::NoSite(socket))
}

type Device = (Socket, XskPort<'static>);

/// Opens devices on several threads.
fn open_all(
    jobs: &[Job<'_>],
    enter: &(impl Fn(&str) -> Result<(), String> + Sync),
) -> Result<Vec<Device>, OpenError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut opened = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            match open_one(job, enter) {
                Ok(port) => opened.push((job.socket, port)),
                Err(error) => {
                    // Nobody begins with another.
                    next.store(jobs.len(), Ordering::Relaxed);
                    return (opened, Some(error));
                }
            }
        }
        (opened, None)
    };
    let done = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS.min(jobs.len())).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(|done| done.unwrap_or_else(|p| std::panic::resume_unwind(p))).collect::<Vec<_>>()
    });
    let (mut opened, mut failed) = (Vec::new(), None);
    for (some, error) in done {
        opened.extend(some);
        failed = failed.or(error);
    }
    match failed {
        Some(error) => {
            close_all(opened.into_iter().map(|(_, port)| port).collect());
            Err(error)
        }
        None => Ok(opened),
    }
}

fn open_one(
    job: &Job<'_>,
    enter: &(impl Fn(&str) -> Result<(), String> + Sync),
) -> Result<XskPort<'static>, OpenError> {
    let Site { namespace, ifname, .. } = job.site;
    go(enter, namespace)?;
    XskPort::open(job.arena, ifname, job.queues).map_err(|source| OpenError::Port {
        namespace: namespace.clone(),
        ifname: ifname.clone(),
        source,
    })
}

/// Closes devices on several threads.
fn close_all(devices: Vec<XskPort<'static>>) {
    let threads = THREADS.min(devices.len());
    let mut shares: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    for (number, device) in devices.into_iter().enumerate() {
        shares[number % threads].push(device);
    }
    thread::scope(|scope| shares.into_iter().for_each(|share| drop(scope.spawn(|| drop(share)))));
}

impl Drop for Part {
    fn drop(&mut self) {
        let ports = self.stations.iter_mut().flat_map(|station| station.ports.drain(..));
        let devices = ports.filter_map(|port| match port.edge {
            Edge::Device(device) => Some(device),
            Edge::Ring(_) | Edge::Fused => None,
        });
        close_all(devices.collect());
    }
}
