//! `bench up`: how long a lab of many pods takes from its file to the moment at which all its ports
//! forward, and to be gone again, by wires and fused, in turn.

use std::fmt::{self, Write};
use std::time::{Duration, Instant};

use super::generator::Input;
use super::load::Load;
use super::report::{Better, Case, Mode, Report, Unit, written};
use super::session::Session;
use crate::live::client::{Life, up as bring_up};
use crate::live::private;
use crate::live::topology::WiredOrFused;
use crate::live::worker::{Forwarding, shares};

/// What to bring up, how often, and what is expected.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds; each brings the lab up and down in both ways.
    pub rounds: u32,
    /// Pods of the lab.
    pub pods: u16,
    /// Nodes, among which they have their turns.
    pub nodes: u16,
    /// The most seconds until it is up, by the median.
    pub expected: Vec<(WiredOrFused, f64)>,
}

/// One way to join the elements, and the seconds of each round: up, and down again.
#[derive(Debug)]
struct Timed {
    links: WiredOrFused,
    rounds: Vec<[f64; 2]>,
}

/// What a lab takes of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    sockets: usize,
    /// Bytes of the packet memories, and of what the kernel keeps for the sockets on them.
    packets: u64,
    kernel: u64,
}

/// Brings up and down. A small lab, the bench's own, is up all the time.
///
/// # Errors
/// Where the machine cannot run it. Nothing is left behind in any case.
pub fn up(plan: &Plan) -> anyhow::Result<Report> {
    let text = written(|text| write(plan, text));
    let mut session = Session::open(&Load::smallest(Input::Skb), |_| ())?;
    let mut both =
        [WiredOrFused::Wired, WiredOrFused::Fused].map(|links| Timed { links, rounds: Vec::new() });
    let interrupted = session.rounds(plan.rounds, |session, round| {
        let first = round as usize % both.len();
        for at in [first, 1 - first] {
            let (setting, _, progress) = session.parts();
            let name = name(both[at].links);
            progress.say(format!("{name} up and down"));
            let [up, down] = both[at].round(&text)?;
            progress.line(&format!("{name:<6} up {up:.2} s, down {down:.2} s"));
            setting.wait(Duration::ZERO)?;
        }
        Ok(())
    })?;
    let cases = cases(plan, &text, &both)?;
    let mut report = Report { load: None, ..session.report(Mode::Up, cases, interrupted) };
    let mut expected = Vec::new();
    for (links, most) in &plan.expected {
        let name = name(*links);
        let mut of = report.cases.iter().filter(|case| (&*case.group, &*case.name) == (name, "up"));
        report.passed &= of.all(|case| case.estimate.median <= *most);
        expected.push(format!("{name} up in {most} s or less"));
    }
    report.expected = expected.join(", ");
    Ok(report)
}

/// As the command line has it.
fn name(links: WiredOrFused) -> &'static str {
    match links {
        WiredOrFused::Wired => "wired",
        WiredOrFused::Fused => "fused",
    }
}

impl Timed {
    fn round(&mut self, text: &str) -> anyhow::Result<[f64; 2]> {
        let began = Instant::now();
        let lab = bring_up(&private::name(), text, forwarding(self.links), Life::Tied)?;
        let up = began.elapsed().as_secs_f64();
        let began = Instant::now();
        lab.down()?;
        let times = [up, began.elapsed().as_secs_f64()];
        self.rounds.push(times);
        Ok(times)
    }
}

fn forwarding(links: WiredOrFused) -> Forwarding {
    Forwarding { links: Some(links), ..Forwarding::default() }
}

impl Size {
    fn of(text: &str, links: WiredOrFused) -> anyhow::Result<Self> {
        let forwarding = forwarding(links);
        let lab = forwarding.of(datapath::lab::load(text, "the bench's lab")?);
        let mut size = Self::default();
        for share in shares(&lab, forwarding.workers)? {
            let plan = datapath_io::memory_plan(&lab, &share)?;
            // Each memory has a socket that keeps it.
            let sockets = plan.arenas.iter().map(|arena| arena.queues as usize + 1);
            size.sockets += sockets.sum::<usize>();
            size.packets += plan.packet_bytes();
            size.kernel += plan.kernel_bytes();
        }
        Ok(size)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sockets, packets, kernel } = self;
        let [packets, kernel] = [packets, kernel].map(|bytes| bytes >> 20);
        write!(f, "{sockets} sockets, {packets} MiB of packet memory, {kernel} MiB of the kernel's")
    }
}

fn cases(plan: &Plan, text: &str, [wired, fused]: &[Timed; 2]) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for timed in [wired, fused] {
        for (at, figure) in ["up", "down"].into_iter().enumerate() {
            let of = |timed: &Timed| timed.rounds.iter().map(|round| round[at]).collect();
            let group = name(timed.links);
            let mut case = Case::new(group, figure, Unit::Seconds, Better::Lower, of(timed));
            if timed.links == WiredOrFused::Fused {
                case = case.against(name(wired.links), of(wired));
            }
            if at == 0 {
                let Plan { pods, nodes, .. } = plan;
                let size = Size::of(text, timed.links)?;
                case.notes.push(format!("{pods} pods on {nodes} nodes: {size}"));
            }
            cases.push(case);
        }
    }
    Ok(cases)
}

/// Writes the lab file.
fn write(Plan { pods, nodes, .. }: &Plan, to: &mut impl Write) -> fmt::Result {
    writeln!(to, "profile: terway-1.4.0\nvpc:\n  cidr: 10.0.0.0/16\n  vSwitches:")?;
    writeln!(to, "    vsw-a: {{cidr: 10.0.4.0/24}}\n    vsw-b: {{cidr: 10.0.16.0/20}}\nnodes:")?;
    for node in 1..=*nodes {
        let [eth0, trunk] = [node, 100 + node].map(|last| format!("{{ip: 10.0.4.{last}}}"));
        writeln!(to, "  - {{name: n{node}, eth0: {eth0}, trunk: {trunk}}}")?;
    }
    writeln!(to, "pods:")?;
    for pod in 1..=*pods {
        let ([high, low], node) = (pod.to_be_bytes(), pod % nodes + 1);
        let ip = format!("10.0.{}.{low}", 16 + high);
        writeln!(to, "  - {{name: bench/pod{pod}, node: n{node}, ip: {ip}}}")?;
    }
    writeln!(to, "seed: 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_loads_and_fused_it_has_fewer_sockets() {
        let plan = Plan { rounds: 1, pods: 500, nodes: 10, expected: Vec::new() };
        let text = written(|text| write(&plan, text));
        let lab = datapath::lab::load(&text, "bench").expect("a lab");
        assert_eq!((lab.pods.len(), lab.nodes.len()), (500, 10));
        let size = |links| Size::of(&text, links).expect("it fits");
        let [wired, fused] = [WiredOrFused::Wired, WiredOrFused::Fused].map(size);
        assert!(fused.sockets < wired.sockets && fused.packets < wired.packets);
        assert!(fused.sockets > 500, "{fused}");
    }
}
