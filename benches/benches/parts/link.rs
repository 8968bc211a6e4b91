//! The whole link in memory: a datagram and its answer, each through both nodes and the VPC. Buffers
//! are made for every frame here, which AF_XDP does not do.

use benches::way::{Link, TALKS};
use criterion::{Criterion, Throughput};

pub(crate) fn link(c: &mut Criterion) {
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
