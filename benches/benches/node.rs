//! One node in memory: established flows of scenario 8 (pod to a load-balancer address, endpoint
//! on another node), from the cali veth to eth0, with the flow cache, without, and where every packet
//! misses it; and `calib`. `ratio` measures new connections.

use std::time::Duration;

use benches::calib::Calibration;
use benches::scenario8::{ClientNode, Forgetful};
use benches::{BATCH, Work, time};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn node(c: &mut Criterion) {
    let mut group = c.benchmark_group("established");
    group.throughput(Throughput::Elements(BATCH as u64));
    for flows in [1, 1_000, 64_000, 1_000_000] {
        for (name, cache) in [("cached", true), ("walked", false)] {
            let mut node = ClientNode::established(flows, cache);
            let mut next = 0;
            group.bench_function(format!("{name}/{flows}"), |b| {
                b.iter_custom(|batches| time(&mut node, batches, &mut next));
            });
        }
        let mut forgetful = Forgetful::new(flows);
        let mut next = 0;
        group.throughput(Throughput::Elements(forgetful.batch() as u64));
        group.bench_function(format!("missed/{flows}"), |b| {
            b.iter_custom(|batches| time(&mut forgetful, batches, &mut next));
        });
        group.throughput(Throughput::Elements(BATCH as u64));
        let mut calib = Calibration::new(ClientNode::datagrams(flows));
        let mut next = 0;
        group.bench_function(format!("calib/{flows}"), |b| {
            b.iter_custom(|batches| time(&mut calib, batches, &mut next));
        });
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = all; config = quick(); targets = node }
criterion_main!(all);
