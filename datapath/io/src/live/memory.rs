//! The packet memories of a live link.

use std::cmp::Reverse;

use datapath::lab::{Lab, Links};
use datapath::link::{ElementId, Socket, fused_peer, ports_of};
use datapath::node::ETH1;

use super::{BLANKS, OpenError, go};
use crate::arena::ROOM;
use crate::budget::{ArenaPlan, ElementNeed, Plan, PortNeed, TooLarge, plan};
use crate::{Arena, ArenaConfig};

/// Bytes of a frame that an MTU does not count: an Ethernet header with a tag.
const HEADERS: usize = 18;

/// The memory that `elements` of a lab need, known before anything is made.
///
/// # Errors
/// Where they are too large for this machine.
pub fn memory_plan(lab: &Lab, elements: &[ElementId]) -> Result<Plan, TooLarge> {
    plan(&elements.iter().map(|element| need(lab, elements, *element)).collect::<Vec<_>>())
}

fn need(lab: &Lab, elements: &[ElementId], element: ElementId) -> ElementNeed {
    let limits = &lab.limits;
    let port = |(port, queues): (_, u16)| {
        let fused = fused_peer(lab, Socket { element, port });
        // What a trunk's member queues hold came by the trunk.
        let members = match element {
            ElementId::Node(_) if port == ETH1 => {
                u32::from(queues).saturating_mul(limits.member_queue)
            }
            _ => 0,
        };
        // What waits in the ring of a link to another thread is of the sender's memory.
        let waits = fused.is_some_and(|peer| !elements.contains(&peer.element));
        let ring = if waits { u32::from(queues).saturating_mul(limits.link_queue) } else { 0 };
        let sockets = if fused.is_some() { 0 } else { queues };
        PortNeed { queues: sockets, held: members.saturating_add(ring) }
    };
    // Fragments in the VPC stay in the memory of the node that they came from by a fused link.
    let fragments = match (element, lab.links) {
        (ElementId::Node(_), Links::Fused) => limits.fragments.saturating_mul(2),
        _ => limits.fragments,
    };
    let neighbours = match element {
        ElementId::Node(_) => limits.neighbours_held(),
        ElementId::Vpc => 0,
    };
    ElementNeed {
        ports: ports_of(lab, element).into_iter().map(port).collect(),
        held: fragments.saturating_add(neighbours).saturating_add(BLANKS as u32),
        jumbo: is_jumbo(lab),
    }
}

/// Whether packets may be longer than a frame has room for.
fn is_jumbo(lab: &Lab) -> bool {
    let nodes = lab.nodes.iter().flat_map(|node| [node.primary_mtu, node.trunk_mtu]);
    let largest = nodes.chain(lab.pods.iter().map(|pod| pod.mtu)).max();
    largest.is_some_and(|mtu| usize::from(mtu) + HEADERS > ROOM)
}

/// The packet memories of the elements that one thread runs. They stay until the process ends; a
/// link may be opened on them, closed, and opened again.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(super) elements: Vec<ElementId>,
    plan: Plan,
    pub(super) arenas: Vec<&'static Arena>,
}

impl Memory {
    /// Makes the memories of the [`memory_plan`]. `anchor` is the namespace and name of a private
    /// device that keeps them alive while ports come and go; they take a queue of it each, from
    /// `first_queue` on. `enter` moves the calling thread into a namespace and leaves it there.
    ///
    /// # Errors
    /// The first thing that failed.
    pub fn open(
        lab: &Lab,
        elements: &[ElementId],
        anchor: (&str, &str),
        first_queue: u32,
        enter: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Self, OpenError> {
        let plan = memory_plan(lab, elements)?;
        go(&enter, anchor.0)?;
        let config = |(queue, part): (u32, &ArenaPlan)| ArenaConfig {
            anchor: anchor.1.to_owned(),
            anchor_queue: queue,
            rings: part.rings,
            frames: part.frames,
            held: part.held,
            runs: part.runs,
        };
        let mut configs: Vec<_> = (first_queue..).zip(&plan.arenas).map(config).collect();
        // What arenas share is made for the largest.
        configs.sort_by_key(|config| Reverse(config.memory()));
        let mut arenas = Vec::new();
        for config in configs {
            arenas.push((config.anchor_queue, Arena::new(&config)?.leak()));
        }
        arenas.sort_by_key(|(queue, _)| *queue);
        let arenas = arenas.into_iter().map(|(_, arena)| arena).collect();
        Ok(Self { elements: elements.to_vec(), plan, arenas })
    }

    /// The memory of a port of these elements.
    #[must_use]
    pub fn arena(&self, socket: Socket) -> Option<&'static Arena> {
        let element = self.elements.iter().position(|element| *element == socket.element)?;
        let arena = self.plan.arena_of(element, usize::from(socket.port.0))?;
        self.arenas.get(arena).copied()
    }
}
