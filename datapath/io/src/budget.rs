//! How many frames and how large rings a lab gets, as a pure function of its size.
//!
//! Two rules decide. A fill ring must hold one frame for every slot of its receive ring plus a
//! batch, or a queue nobody reads starves itself of buffers instead of showing `rx_ring_full`.
//! And the kernel keeps about 140 bytes per bound queue for *every* frame of the memory the
//! queue is bound to, so the product of queues and frames has to stay small: beyond two million
//! (280 MB) a lab is cut into several memories, which costs one copy where a frame crosses.

use crate::arena::FRAME_SIZE;
use crate::pool::{BATCH, RUN};

/// Kernel memory per frame and bound queue, in bytes.
const KERNEL_BYTES: u64 = 140;
/// Largest product of queues and frames for which everything shares one memory.
const SHARED_LIMIT: u64 = 2_000_000;
/// Most kernel memory a plan may cost in all, in bytes.
const KERNEL_LIMIT: u64 = 2 << 30;
/// Most frames in a memory of its own, unless a single port needs more: tried in this order, since
/// a cut between ports costs a copy, which is less than too short a receive ring costs.
const SPLIT_FRAMES: [u64; 3] = [8_192, 4_096, 2_048];

/// Most packets longer than a frame that the elements of a memory may keep; what is beyond is lost
/// as if there were no frame.
const HELD_RUNS: u64 = 1_024;

/// Ring sizes of every queue of an arena, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Receive ring; a power of two.
    pub rx: u32,
    /// Frames kept with the kernel to receive into; larger than `rx`.
    pub fill: u32,
    /// Most frames on their way out at one time.
    pub tx: u32,
}

impl Rings {
    /// The sizes used wherever memory allows.
    pub const LARGE: Self = Self { rx: 256, fill: 320, tx: 64 };
    /// The same for packets of up to five frames: nearly as many of them.
    pub const JUMBO: Self = Self { rx: 1_024, fill: 1_088, tx: 256 };

    /// Frames one queue has to have for itself.
    #[must_use]
    pub fn frames_per_queue(&self) -> u32 {
        self.fill + self.tx
    }
}

/// The sizes tried in turn once one shared memory is too expensive.
const LADDER: [Rings; 5] = [
    Rings { rx: 128, fill: 192, tx: 64 },
    Rings { rx: 64, fill: 128, tx: 64 },
    Rings { rx: 64, fill: 128, tx: 32 },
    Rings { rx: 32, fill: 64, tx: 32 },
    Rings { rx: 16, fill: 32, tx: 16 },
];

/// What one port needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortNeed {
    /// Number of its queues that are bound to a socket; none where its link is fused.
    pub queues: u16,
    /// Most frames that came by it and wait in queues of its own, such as those of members.
    pub held: u32,
}

impl From<u16> for PortNeed {
    /// A port of so many queues, with nothing of its own waiting.
    fn from(queues: u16) -> Self {
        Self { queues, held: 0 }
    }
}

/// What one element (a node, the VPC) needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElementNeed {
    /// Each of its ports.
    pub ports: Vec<PortNeed>,
    /// Most frames it may keep for itself by whatever port they came: fragments, what waits for a
    /// neighbour.
    pub held: u32,
    /// Whether it meets packets longer than a frame.
    pub jumbo: bool,
}

/// One arena of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArenaPlan {
    /// Ring sizes of every queue.
    pub rings: Rings,
    /// Frames of the arena.
    pub frames: u32,
    /// Frames its elements may keep for themselves.
    pub held: u32,
    /// Runs of frames for packets longer than one; none where its elements meet no such packet.
    pub runs: u32,
    /// The ports it serves, as (element, port) counted as in the request.
    pub ports: Vec<(usize, usize)>,
    /// Queues of all these ports.
    pub queues: u32,
}

impl ArenaPlan {
    /// Frames of the packet memory, those of the runs included.
    fn memory(&self) -> u64 {
        u64::from(self.frames) + u64::from(self.runs) * u64::from(RUN)
    }

    /// Kernel memory the bound queues will take, in bytes; the packet memory itself, 2 KiB a
    /// frame, comes on top.
    #[must_use]
    pub fn kernel_bytes(&self) -> u64 {
        u64::from(self.queues) * self.memory() * KERNEL_BYTES
    }
}

/// The arenas of a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One for everything, or at least one per element.
    pub arenas: Vec<ArenaPlan>,
}

impl Plan {
    /// Whether one arena serves everything, so that no frame is ever copied.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.arenas.len() <= 1
    }

    /// Index of the arena that serves a port.
    #[must_use]
    pub fn arena_of(&self, element: usize, port: usize) -> Option<usize> {
        self.arenas.iter().position(|arena| arena.ports.contains(&(element, port)))
    }

    /// The packet memory itself, in bytes; it is locked.
    #[must_use]
    pub fn packet_bytes(&self) -> u64 {
        self.arenas.iter().map(|arena| arena.memory() * FRAME_SIZE as u64).sum()
    }

    /// Kernel memory of all bound queues, in bytes.
    #[must_use]
    pub fn kernel_bytes(&self) -> u64 {
        self.arenas.iter().map(ArenaPlan::kernel_bytes).sum()
    }
}

/// No plan is affordable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the lab's {queues} queues would take {} MiB of kernel memory even with the smallest rings \
     (limit {} MiB): spread the pods over more trunks, or run fewer of them", bytes >> 20,
    KERNEL_LIMIT >> 20
)]
pub struct TooLarge {
    /// Queues of all ports.
    pub queues: u64,
    /// Kernel memory of the smallest plan, in bytes.
    pub bytes: u64,
}

/// Plans the arenas for the elements one worker runs.
///
/// Everything shares one arena with [`Rings::LARGE`], or [`Rings::JUMBO`], while queues times frames
/// stay within two million. Beyond that every element gets arenas of its own with smaller rings and at most
/// 8,192 frames each; an element whose ports do not fit into one is cut between ports, never
/// within one, so that a single port with very many queues may get more.
///
/// # Errors
/// [`TooLarge`] where even the smallest rings would take more than 2 GiB of kernel memory.
pub fn plan(elements: &[ElementNeed]) -> Result<Plan, TooLarge> {
    let everything = elements.iter().enumerate().flat_map(|(at, element)| ports_of(at, element));
    let held = elements.iter().map(|element| u64::from(element.held)).sum();
    let jumbo = elements.iter().any(|element| element.jumbo);
    let shared = Group { ports: everything.collect(), held, jumbo };
    let wanted: &[Rings] = if jumbo { &[Rings::JUMBO, Rings::LARGE] } else { &[Rings::LARGE] };
    let affordable =
        |rings: &&Rings| u64::from(shared.queues()) * shared.frames(**rings) <= SHARED_LIMIT;
    if let Some(rings) = wanted.iter().find(affordable) {
        return Ok(Plan { arenas: vec![shared.planned(*rings)] });
    }
    let mut bytes = u64::MAX;
    for rings in LADDER {
        for most in SPLIT_FRAMES {
            let all = elements.iter().enumerate();
            let groups = all.flat_map(|(at, element)| split(at, element, rings, most));
            let plan = Plan { arenas: groups.map(|group| group.planned(rings)).collect() };
            if plan.kernel_bytes() <= KERNEL_LIMIT {
                return Ok(plan);
            }
            bytes = bytes.min(plan.kernel_bytes());
        }
    }
    Err(TooLarge { queues: u64::from(shared.queues()), bytes })
}

/// Ports that share an arena, with what they need.
#[derive(Debug, Default)]
struct Group {
    ports: Vec<((usize, usize), PortNeed)>,
    held: u64,
    jumbo: bool,
}

impl Group {
    fn queues(&self) -> u32 {
        self.ports.iter().map(|(_, need)| u32::from(need.queues)).sum()
    }

    /// Frames that wait in elements.
    fn held(&self) -> u64 {
        self.held + self.ports.iter().map(|(_, need)| u64::from(need.held)).sum::<u64>()
    }

    fn frames(&self, rings: Rings) -> u64 {
        let rings = u64::from(self.queues()) * u64::from(rings.frames_per_queue());
        rings + self.held() + BATCH as u64
    }

    fn planned(&self, rings: Rings) -> ArenaPlan {
        ArenaPlan {
            rings,
            frames: u32::try_from(self.frames(rings)).unwrap_or(u32::MAX),
            held: u32::try_from(self.held()).unwrap_or(u32::MAX),
            runs: if self.jumbo { BATCH as u32 + self.held().min(HELD_RUNS) as u32 } else { 0 },
            ports: self.ports.iter().map(|(port, _)| *port).collect(),
            queues: self.queues(),
        }
    }
}

fn ports_of(
    at: usize,
    element: &ElementNeed,
) -> impl Iterator<Item = ((usize, usize), PortNeed)> + use<'_> {
    element.ports.iter().enumerate().map(move |(port, need)| ((at, port), *need))
}

/// Puts the ports of an element into as few arenas as their order allows.
fn split(at: usize, element: &ElementNeed, rings: Rings, most: u64) -> Vec<Group> {
    let (held, jumbo) = (u64::from(element.held), element.jumbo);
    let empty = || Group { ports: Vec::new(), held, jumbo };
    let mut groups = vec![empty()];
    for port in ports_of(at, element) {
        let mut fits = false;
        if let Some(group) = groups.last_mut() {
            group.ports.push(port);
            fits = group.ports.len() == 1 || group.frames(rings) <= most;
            if !fits {
                group.ports.pop();
            }
        }
        if !fits {
            groups.push(Group { ports: vec![port], ..empty() });
        }
    }
    groups.retain(|group| !group.ports.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every port is served by one arena, and each arena covers what it promises.
    fn check(elements: &[ElementNeed], plan: &Plan) {
        for (at, element) in elements.iter().enumerate() {
            for port in 0..element.ports.len() {
                let serving = plan.arenas.iter().filter(|a| a.ports.contains(&(at, port)));
                assert_eq!(serving.count(), 1, "element {at}, port {port}");
            }
        }
        for arena in &plan.arenas {
            let queues: u32 =
                arena.ports.iter().map(|&(e, p)| u32::from(elements[e].ports[p].queues)).sum();
            assert_eq!(arena.queues, queues);
            let rings = queues * (arena.rings.fill + arena.rings.tx);
            assert!(arena.frames >= rings + arena.held + BATCH as u32);
            assert!(arena.rings.rx.is_power_of_two());
            assert!(arena.rings.fill >= arena.rings.rx + arena.rings.rx.min(BATCH as u32));
        }
        assert!(plan.kernel_bytes() <= KERNEL_LIMIT);
    }

    /// `nodes` nodes with `pods` pods each: a port per pod, a trunk with a queue per pod and one
    /// for the rest; the VPC at the far end of every trunk, and an outside port.
    fn lab(nodes: usize, pods: u16, held: u32) -> Vec<ElementNeed> {
        let trunk = pods + 1;
        let mut node = vec![PortNeed::from(1); usize::from(pods)];
        node.push(trunk.into());
        let mut vpc = vec![PortNeed::from(trunk); nodes];
        vpc.push(1.into());
        let mut elements = vec![ElementNeed { ports: node, held, jumbo: false }; nodes];
        elements.push(ElementNeed { ports: vpc, held, jumbo: false });
        elements
    }

    #[test]
    fn the_two_node_lab_of_the_scenarios_shares_one_arena_with_large_rings() {
        let lab = lab(2, 3, 256);
        let plan = plan(&lab).unwrap();
        check(&lab, &plan);
        assert!(plan.is_shared());
        let arena = &plan.arenas[0];
        assert_eq!((arena.queues, arena.rings), (23, Rings::LARGE));
        assert_eq!(arena.frames, 23 * 384 + 3 * 256 + 64);
        assert_eq!(plan.arena_of(2, 1), Some(0));
        assert_eq!(plan.arena_of(2, 9), None);
    }

    #[test]
    fn a_lab_beyond_two_million_is_cut_by_element() {
        let lab = lab(6, 10, 128);
        let plan = plan(&lab).unwrap();
        check(&lab, &plan);
        // One per node, and the VPC's 67 queues in three.
        assert_eq!(plan.arenas.len(), 9);
        assert!(plan.arenas.iter().all(|a| a.frames <= 8_192 && a.rings.rx == 128));
    }

    #[test]
    fn five_hundred_pods_fit() {
        // The more queues a single trunk has, the shorter they get.
        for (nodes, pods, rx) in [(20, 25, 128), (10, 50, 128), (5, 100, 32)] {
            let lab = lab(nodes, pods, 512);
            let plan = plan(&lab).unwrap();
            check(&lab, &plan);
            let fits = |a: &ArenaPlan| a.frames <= 8_192 || a.ports.len() == 1;
            assert!(plan.arenas.iter().all(fits), "{nodes} x {pods}");
            assert!(plan.arenas.iter().all(|a| a.rings.rx == rx), "{nodes} x {pods}");
        }
    }

    #[test]
    fn a_port_that_is_larger_than_an_arena_gets_one_to_itself() {
        let ports = [1, 250, 1].map(PortNeed::from).to_vec();
        let lab = [ElementNeed { ports, ..ElementNeed::default() }];
        let plan = plan(&lab).unwrap();
        check(&lab, &plan);
        assert!(plan.arena_of(0, 1).is_some_and(|at| plan.arenas[at].ports.len() == 1));
    }

    #[test]
    fn an_impossible_lab_is_refused_with_the_reason() {
        let lab = lab(40, 250, 512);
        let refused = plan(&lab).unwrap_err();
        assert!(refused.bytes > KERNEL_LIMIT);
        assert!(refused.to_string().contains("queues would take"));
    }

    #[test]
    fn packets_longer_than_a_frame_get_memory_of_their_own() {
        let mut lab = lab(2, 3, 256);
        let without = plan(&lab).unwrap();
        lab[1].jumbo = true;
        let with = plan(&lab).unwrap();
        assert_eq!((without.arenas[0].runs, with.arenas[0].runs), (0, 3 * 256 + 64));
        assert_eq!((without.arenas[0].rings, with.arenas[0].rings), (Rings::LARGE, Rings::JUMBO));
        let frames = with.arenas[0].frames + with.arenas[0].runs * RUN;
        assert_eq!(with.packet_bytes(), u64::from(frames) * FRAME_SIZE as u64);
        assert_eq!(with.kernel_bytes(), 23 * u64::from(frames) * KERNEL_BYTES);
    }

    #[test]
    fn nothing_needs_next_to_nothing() {
        let plan = plan(&[]).unwrap();
        assert_eq!(plan.arenas[0].frames, 64);
    }
}
