//! The node, and the whole fused link, against `calib`, in turns within each round: the figure that does not depend on how
//! fast the machine happens to be.

use benches::calib::Calibration;
use benches::fused::FusedLink;
use benches::scenario8::ClientNode;
use benches::statistics::{Estimate, median};
use benches::{BATCH, Work, time_each};

/// Both sides have their tables where the daemon has them.
#[global_allocator]
static MEMORY: datapath_io::LargePages = datapath_io::LargePages;

/// Rounds, each of which runs every case once.
const ROUNDS: usize = 21;
/// Batches of one turn; about 10 ms.
const BATCHES: u64 = 2_000;

/// A case and its figures, in ns a packet, one of each round.
struct Case<W> {
    name: String,
    batches: u64,
    work: W,
    next: usize,
    figures: Vec<f64>,
}

impl<W: Work> Case<W> {
    fn new(name: String, work: W) -> Self {
        Self { name, batches: BATCHES, work, next: 0, figures: Vec::new() }
    }

    /// The batch in the middle stands for the turn: one in which the machine did something else
    /// says nothing.
    fn turn(&mut self) {
        let took = time_each(&mut self.work, self.batches, &mut self.next);
        let ns: Vec<f64> = took.iter().map(|took| took.as_nanos() as f64).collect();
        self.figures.push(median(&ns) / BATCH as f64);
    }
}

/// Flows in the table while new connections are made.
const MILLION: u32 = 1_000_000;
/// Batches of new connections in one turn.
const NEW_BATCHES: u64 = 100;

fn main() {
    new_connections();
    established();
}

/// A new connection with a million in the table, held against `calib` with as many flows; then how
/// long the timers hold the node when all of them end at once.
fn new_connections() {
    let newcomers = u32::try_from((ROUNDS as u64 + 1) * NEW_BATCHES * BATCH as u64).unwrap_or(0);
    let known = Calibration::new(ClientNode::datagrams(MILLION));
    let mut calib = Case::new("calib, 1000000 flows".to_owned(), known);
    let work = ClientNode::with_newcomers(MILLION, newcomers);
    let mut new = Case::new("new connection, 1000000 flows".to_owned(), work);
    new.batches = NEW_BATCHES;
    for case_round in 0..=ROUNDS {
        calib.turn();
        new.turn();
        if case_round == 0 {
            calib.figures.clear();
            new.figures.clear();
        }
    }
    let ratios: Vec<f64> = new.figures.iter().zip(&calib.figures).map(|(n, c)| n / c).collect();
    let Estimate { median: ratio, low, high, .. } = Estimate::of(&ratios);
    println!("{:<32} {:>9.1} ns", calib.name, median(&calib.figures));
    println!(
        "{:<32} {:>9.1} ns {ratio:>9.2} {low:.2} .. {high:.2}",
        new.name,
        median(&new.figures)
    );
    let (longest, calls) = new.work.age();
    println!("a million flows end at once: {calls} calls of the timers, the longest {longest:?}");
}

/// Packets of established flows, each against `calib` with 1,000 flows, and with a million also against
/// `calib` with as many.
fn established() {
    let [mut calib, mut large] = [1_000, MILLION].map(|flows| {
        let known = Calibration::new(ClientNode::datagrams(flows));
        Case::new(format!("calib, {flows} flows"), known)
    });
    let mut nodes = Vec::new();
    for flows in [1, 1_000, 64_000, MILLION] {
        for (name, cache) in [("cached", true), ("walked", false)] {
            let work = ClientNode::established(flows, cache);
            nodes.push(Case::new(format!("node, {name}, {flows} flows"), work));
        }
    }
    let mut link = Case::new("link, fused, 1000 flows".to_owned(), FusedLink::established(1_000));
    calib.turn();
    calib.figures.clear();
    for _ in 0..ROUNDS {
        calib.turn();
        large.turn();
        nodes.iter_mut().for_each(Case::turn);
        link.turn();
    }
    println!("{:<28} {:>9} {:>9} {:>17}", "", "ns/packet", "to calib", "95 % interval");
    println!("{:<28} {:>9.1}", calib.name, median(&calib.figures));
    for case in &nodes {
        tell(&case.name, &case.figures, &calib.figures);
    }
    tell(&link.name, &link.figures, &calib.figures);
    println!("{:<28} {:>9.1}", large.name, median(&large.figures));
    for case in nodes.iter().filter(|case| case.name.contains(&MILLION.to_string())) {
        tell(&case.name, &case.figures, &large.figures);
    }
}

/// Prints a case's figures and its ratio to `calib`.
fn tell(name: &str, figures: &[f64], calib: &[f64]) {
    let ratios: Vec<f64> = figures.iter().zip(calib).map(|(case, calib)| case / calib).collect();
    let Estimate { median: ratio, low, high, .. } = Estimate::of(&ratios);
    println!("{name:<28} {:>9.1} {ratio:>9.2} {low:>9.2} .. {high:.2}", median(figures));
}
