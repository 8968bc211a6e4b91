//! `bench up`: how long a lab of many pods takes to come up and to go, and what it costs.

use std::fmt::{self, Write};
use std::time::Instant;

use datapath::lab::Lab;

use super::machine::alone;
use crate::live::client::{self, Life};
use crate::live::private;
use crate::live::protocol::Phase;
use crate::live::topology::whole_places;
use crate::live::worker::{Forwarding, shares};
use benches::statistics::median;

/// What comes up.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Pods, spread over the nodes.
    pub pods: u16,
    /// Nodes.
    pub nodes: u16,
    /// How often.
    pub rounds: u32,
    /// How it is forwarded.
    pub forwarding: Forwarding,
}

/// One time up and down, in seconds.
#[derive(Clone, Debug)]
pub struct Round {
    /// Until the command would return.
    pub up: f64,
    /// Until nothing was left.
    pub down: f64,
    /// What coming up was spent on.
    pub phases: Vec<Phase>,
}

/// What it takes of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Network namespaces.
    pub namespaces: usize,
    /// Pairs of virtual Ethernet devices.
    pub veths: usize,
    /// AF_XDP sockets, those that anchor the packet memories left out.
    pub sockets: u32,
    /// Packet memories.
    pub memories: usize,
    /// Bytes of the packet memories.
    pub packet_bytes: u64,
    /// Bytes that the kernel keeps for the sockets beside.
    pub kernel_bytes: u64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// Pods of the lab.
    pub pods: u16,
    /// Nodes of the lab.
    pub nodes: u16,
    /// Whether its links were fused.
    pub fused: bool,
    /// Threads that forward.
    pub workers: u16,
    /// What it takes.
    pub cost: Cost,
    /// Every round.
    pub rounds: Vec<Round>,
}

/// Brings such a lab up and down, as `trunkline up` and `down` do.
///
/// # Errors
/// What keeps it from coming up; nothing is left behind in any case.
pub fn up(plan: Plan, mut progress: impl FnMut(&Round)) -> anyhow::Result<Report> {
    let _alone = alone()?;
    let text = lab_text(plan.pods, plan.nodes);
    let lab = plan.forwarding.of(datapath::lab::load(&text, "bench up")?);
    let cost = cost(&lab, plan.forwarding.workers)?;
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let began = Instant::now();
        let client = client::up(&private::name(), &text, plan.forwarding, Life::Tied)?;
        let up = began.elapsed();
        let phases = client.status().map(|status| status.phases);
        let began = Instant::now();
        client.down()?;
        let (up, down) = (up.as_secs_f64(), began.elapsed().as_secs_f64());
        let round = Round { up, down, phases: phases? };
        progress(&round);
        rounds.push(round);
    }
    let (pods, nodes, workers) = (plan.pods, plan.nodes, plan.forwarding.workers);
    let fused = lab.links == datapath::lab::Links::Fused;
    Ok(Report { pods, nodes, fused, workers, cost, rounds })
}

/// A lab of so many pods, dealt to the nodes in turn; everything else is derived.
#[must_use]
pub fn lab_text(pods: u16, nodes: u16) -> String {
    let mut text =
        "vpc: {cidr: 10.0.0.0/8, vSwitches: {vsw: {cidr: 10.0.0.0/16}}}\nnodes:\n".to_owned();
    // Writing into a string cannot fail.
    for node in 0..nodes {
        let _ = writeln!(text, "  - {{name: n{node}, eth0: {{}}}}");
    }
    text.push_str("pods:\n");
    for pod in 0..pods {
        let _ = writeln!(text, "  - {{name: bench/pod-{pod}, node: n{}}}", pod % nodes.max(1));
    }
    text
}

fn cost(lab: &Lab, workers: u16) -> anyhow::Result<Cost> {
    let topology = whole_places(lab, "cost", workers)?.topology;
    let mut cost = Cost {
        namespaces: topology.namespaces.len(),
        veths: topology.links.len(),
        ..Cost::default()
    };
    for share in shares(lab, workers)? {
        let plan = datapath_io::memory_plan(lab, &share)?;
        cost.memories += plan.arenas.len();
        cost.sockets += plan.arenas.iter().map(|arena| arena.queues).sum::<u32>();
        cost.packet_bytes += plan.packet_bytes();
        cost.kernel_bytes += plan.kernel_bytes();
    }
    Ok(cost)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost { namespaces, veths, sockets, memories, packet_bytes, kernel_bytes } = self.cost;
        let links = if self.fused { "fused" } else { "wired" };
        let Self { pods, nodes, workers, .. } = self;
        writeln!(f, "{pods} pods on {nodes} nodes, {links}, {workers} workers")?;
        writeln!(f, "{namespaces} namespaces, {veths} veths, {sockets} sockets")?;
        let (packets, kernel) = (packet_bytes >> 20, kernel_bytes >> 20);
        writeln!(f, "{memories} packet memories of {packets} MiB, {kernel} MiB in the kernel")?;
        let middle =
            |of: fn(&Round) -> f64| median(&self.rounds.iter().map(of).collect::<Vec<_>>());
        let count = self.rounds.len();
        writeln!(
            f,
            "up {:.2} s, down {:.2} s, the median of {count}",
            middle(|r| r.up),
            middle(|r| r.down)
        )?;
        let Some(first) = self.rounds.first() else { return Ok(()) };
        for (number, phase) in first.phases.iter().enumerate() {
            let took = self.rounds.iter().filter_map(|round| round.phases.get(number));
            let took: Vec<f64> = took.map(|phase| phase.seconds).collect();
            writeln!(f, "  {:<24} {:.2} s", phase.name, median(&took))?;
        }
        Ok(())
    }
}

/// A round as progress tells it.
impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "up {:.2} s, down {:.2} s", self.up, self.down)
    }
}
