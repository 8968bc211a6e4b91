//! The node against `calib`, in turns within each round: the figure that does not depend on how
//! fast the machine happens to be.

use benches::calib::Calibration;
use benches::scenario8::ClientNode;
use benches::{BATCH, Work, time};
use harness::bench::statistics::{Estimate, median};

/// Rounds, each of which runs every case once.
const ROUNDS: usize = 21;
/// Batches of one turn; about 10 ms.
const BATCHES: u64 = 2_000;

/// A case and its figures, in ns a packet, one of each round.
struct Case<W> {
    name: String,
    work: W,
    next: usize,
    figures: Vec<f64>,
}

impl<W: Work> Case<W> {
    fn new(name: String, work: W) -> Self {
        Self { name, work, next: 0, figures: Vec::new() }
    }

    fn turn(&mut self) {
        let took = time(&mut self.work, BATCHES, &mut self.next);
        self.figures.push(took.as_nanos() as f64 / (BATCHES * BATCH as u64) as f64);
    }
}

fn main() {
    let thousand = ClientNode::established(1_000, true).frames().to_vec();
    let mut calib = Case::new("calib, 1000 flows".to_owned(), Calibration::new(thousand));
    let mut nodes = Vec::new();
    for flows in [1, 1_000, 64_000] {
        for (name, cache) in [("cached", true), ("walked", false)] {
            let work = ClientNode::established(flows, cache);
            nodes.push(Case::new(format!("node, {name}, {flows} flows"), work));
        }
    }
    calib.turn();
    calib.figures.clear();
    for _ in 0..ROUNDS {
        calib.turn();
        nodes.iter_mut().for_each(Case::turn);
    }
    println!("{:<28} {:>9} {:>9} {:>17}", "", "ns/packet", "to calib", "95 % interval");
    println!("{:<28} {:>9.1}", calib.name, median(&calib.figures));
    for case in nodes {
        let rounds = case.figures.iter().zip(&calib.figures);
        let ratios: Vec<f64> = rounds.map(|(node, calib)| node / calib).collect();
        let Estimate { median: ratio, low, high, .. } = Estimate::of(&ratios);
        let ns = median(&case.figures);
        println!("{:<28} {ns:>9.1} {ratio:>9.2} {low:>9.2} .. {high:.2}", case.name);
    }
}
