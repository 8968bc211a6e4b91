//! The whole link in memory: a datagram and its answer, each through both nodes and the VPC, where
//! buffers are made for every frame, which AF_XDP does not do; and requests in batches by fused links.

use benches::fused::FusedLink;
use benches::way::{Link, TALKS};
use benches::{BATCH, time};
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
    group.throughput(Throughput::Elements(BATCH as u64));
    for flows in [1, 1_000] {
        let mut link = FusedLink::established(flows);
        let mut next = 0;
        group.bench_function(format!("fused/{flows}"), |b| {
            b.iter_custom(|batches| time(&mut link, batches, &mut next));
        });
    }
    group.finish();
}
