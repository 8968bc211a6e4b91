//! The longest a node is held by its timers when a million flows end in the same second: first
//! their conntrack entries, then their ipvs connections. No call is to take longer than 100 us.

use std::time::{Duration, Instant};

use benches::scenario8::ClientNode;
use datapath::time::Time;

const FLOWS: u32 = 1_000_000;

fn main() {
    let mut node = ClientNode::established(FLOWS, true);
    for (what, at) in [("conntrack entries", 31), ("ipvs connections", 400)] {
        let now = Time::from_secs(at);
        let mut calls = Vec::new();
        loop {
            let begin = Instant::now();
            let more = node.on_time(now);
            calls.push(begin.elapsed());
            if !more {
                break;
            }
        }
        calls.sort_unstable();
        let of = |part: usize| calls[(calls.len() - 1) * part / 1_000];
        let all: Duration = calls.iter().sum();
        println!(
            "{FLOWS} {what}: {} calls in {all:?}; median {:?}, 99.9 % {:?}, longest {:?}",
            calls.len(),
            of(500),
            of(999),
            of(1_000)
        );
    }
    assert_eq!(node.living(Time::from_secs(400)), (0, 0), "everything has ended");
}
