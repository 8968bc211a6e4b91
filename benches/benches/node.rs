//! One node in memory: established flows of scenario 8 (pod to ExternalIP, backend on another
//! node), from the cali veth to eth0, with every hook.

use benches::{FROM_CLIENT, established, refill};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use datapath::element::Element;
use datapath::port::Heap;
use datapath::time::Time;

/// Frames given to the node at once, as a poll of an AF_XDP queue does.
const BATCH: usize = 64;

fn node(c: &mut Criterion) {
    let mut group = c.benchmark_group("node/established");
    group.throughput(Throughput::Elements(BATCH as u64));
    for flows in [1, 1_000, 60_000] {
        let (mut node, frames, mut out) = established(flows);
        let mut next = (0..frames.len()).cycle();
        group.bench_function(format!("{flows} flows"), |b| {
            b.iter_batched_ref(
                || {
                    let mut batch: Vec<Heap> = (0..BATCH).map(|_| Heap::default()).collect();
                    for buffer in &mut batch {
                        refill(buffer, &frames[next.next().unwrap_or(0)]);
                    }
                    batch
                },
                |batch| {
                    node.process(batch, FROM_CLIENT, Time::ZERO, &mut out);
                    assert_eq!(out.departures.len(), BATCH);
                    std::mem::take(&mut out.departures)
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(all, node);
criterion_main!(all);
