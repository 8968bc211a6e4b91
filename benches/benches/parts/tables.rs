//! Look-ups in tables of 1 to 1,000,000 entries: of what is there, and of what is not. From some
//! size on a look-up waits for memory, which is what is seen here and not in counts of instructions.

use benches::tables::{Flows, Routes, Slots};
use criterion::Criterion;

const SIZES: [u32; 4] = [1, 1_000, 64_000, 1_000_000];

pub(crate) fn index(c: &mut Criterion) {
    let mut group = c.benchmark_group("index");
    for size in SIZES {
        let mut slots = Slots::new(size);
        group.bench_function(format!("hit/{size}"), |b| b.iter(|| slots.hit()));
        group.bench_function(format!("miss/{size}"), |b| b.iter(|| slots.miss()));
    }
    group.finish();
}

pub(crate) fn flow_table(c: &mut Criterion) {
    let mut group = c.benchmark_group("flow table");
    for size in SIZES {
        let mut flows = Flows::new(size);
        group.bench_function(format!("hit/{size}"), |b| b.iter(|| flows.hit()));
        group.bench_function(format!("miss/{size}"), |b| b.iter(|| flows.miss()));
    }
    group.finish();
}

pub(crate) fn prefix_table(c: &mut Criterion) {
    let mut group = c.benchmark_group("prefix table");
    for size in SIZES {
        let mut routes = Routes::new(size);
        group.bench_function(format!("hit/{size}"), |b| b.iter(|| routes.hit()));
        group.bench_function(format!("default/{size}"), |b| b.iter(|| routes.miss()));
    }
    group.finish();
}
