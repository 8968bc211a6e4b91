//! One node in memory: established flows of scenario 8 (pod to a load-balancer address, endpoint
//! on another node), from the cali veth to eth0, with the flow cache and without; and `calib`.

use benches::calib::Calibration;
use benches::scenario8::ClientNode;
use benches::{BATCH, Work, time};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn node(c: &mut Criterion) {
    let mut group = c.benchmark_group("established");
    group.throughput(Throughput::Elements(BATCH as u64));
    for flows in [1, 1_000, 64_000] {
        for (name, cache) in [("cached", true), ("walked", false)] {
            let mut node = ClientNode::established(flows, cache);
            let mut next = 0;
            group.bench_function(format!("{name}/{flows}"), |b| {
                b.iter_custom(|batches| time(&mut node, batches, &mut next));
            });
        }
        let frames = ClientNode::established(flows, true).frames().to_vec();
        let mut calib = Calibration::new(frames);
        let mut next = 0;
        group.bench_function(format!("calib/{flows}"), |b| {
            b.iter_custom(|batches| time(&mut calib, batches, &mut next));
        });
    }
    group.finish();
}

criterion_group!(all, node);
criterion_main!(all);
