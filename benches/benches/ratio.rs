//! The node against `calib`, in turns within each round: the figure that does not depend on how
//! fast the machine happens to be.

use benches::calib::Calibration;
use benches::rounds::Median;
use benches::scenario8::ClientNode;
use benches::{BATCH, Work, time};

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
    let ns = Median::of(calib.figures.clone());
    println!("{:<28} {:>9} {:>9} {:>17}", "", "ns/packet", "to calib", "95 % interval");
    println!("{:<28} {:>9.1}", calib.name, ns.value);
    for case in nodes {
        let ns = Median::of(case.figures.clone());
        let ratios = case.figures.iter().zip(&calib.figures).map(|(node, calib)| node / calib);
        let Median { value, interval: (low, high) } = Median::of(ratios.collect());
        println!("{:<28} {:>9.1} {value:>9.2} {low:>9.2} .. {high:.2}", case.name, ns.value);
    }
}
