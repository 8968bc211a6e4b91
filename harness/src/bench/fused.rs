//! The fused link as it is measured: a pod of the first node to one of the second, through both
//! nodes and the VPC, which one worker runs with nothing but memory between them.

use anyhow::{Context, anyhow};
use datapath::lab::Lab;
use datapath::link::{HostId, Socket, socket_of};
use datapath_io::{LiveLink, PortView, Waiter};

use super::bed::{self, Bed, CALI};
use super::forwarder::{Books, wires};
use super::machine::pin;
use crate::live::worker::{Poll, Seat, Worker};

/// Where requests leave: the node's end of the endpoint's veth.
///
/// # Errors
/// Where the lab has no endpoint.
pub fn exit(lab: &Lab) -> anyhow::Result<Socket> {
    let service = lab.services.first().context("the lab has no service")?;
    let pod = service.endpoints.first().context("the service has no endpoint")?.pod;
    socket_of(lab, HostId::Pod(pod)).context("the lab has no such pod")
}

/// Starts it on a core, as `up` does with `links: fused`.
///
/// # Errors
/// Where a port cannot be opened; nothing is left open then.
pub fn start(bed: &Bed, core: usize) -> anyhow::Result<Worker> {
    let (lab, memory) = (bed.lab.clone(), bed.memory.clone());
    let sites = bed.ground.places.sites.clone();
    let open = move || {
        let link = LiveLink::open(lab, &memory, None, &sites, bed::enter)?;
        pin(core)?;
        Ok(link)
    };
    Worker::start(vec![Seat::new(Waiter::new()?, open)], Poll::Busy)
}

/// What it has counted at the two pods' ports, and dropped anywhere.
///
/// # Errors
/// Where the kernel's counters cannot be read.
pub fn books(link: &LiveLink, exit: Socket) -> anyhow::Result<Books> {
    let device = |socket: Socket| {
        let ports = link.ports(socket.element);
        match ports.into_iter().find(|(other, _)| *other == socket) {
            Some((_, PortView::Device(port))) => Ok(port),
            _ => Err(anyhow!("the lab has no such device")),
        }
    };
    let mut books = wires(device(CALI)?, device(exit)?)?;
    for (id, element) in link.elements() {
        for (reason, count) in element.ledger().dropped.nonzero() {
            *books.dropped.entry(reason.name().to_owned()).or_default() += count;
        }
        for (_, port) in link.ports(id) {
            let PortView::Fused(queues) = port else { continue };
            let lost: u64 = queues.iter().map(|q| q.counters.full + q.no_frame).sum();
            if lost > 0 {
                *books.dropped.entry("handover".to_owned()).or_default() += lost;
            }
        }
    }
    books.imbalances = link.imbalances();
    Ok(books)
}
