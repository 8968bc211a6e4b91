//! The whole link in memory: a datagram and its answer, each through both nodes and the VPC. Buffers
//! are made for every frame here, which AF_XDP does not do.

use std::time::Duration;

use benches::way::{Link, TALKS};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn link(c: &mut Criterion) {
    let mut group = c.benchmark_group("link");
    group.throughput(Throughput::Elements(2));
    for talk in TALKS {
        for (name, cache) in [("cached", true), ("walked", false)] {
            let mut link = Link::udp(talk, cache);
            group.bench_function(format!("{name}/{}", talk.name), |b| b.iter(|| link.round()));
        }
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
}

criterion_group! { name = all; config = quick(); targets = link }
criterion_main!(all);
