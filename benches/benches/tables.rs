//! Look-ups in tables of 1 to 1,000,000 entries: of what is there, and of what is not. From some
//! size on a look-up waits for memory, which is what is seen here and not in counts of instructions.

use std::time::Duration;

use benches::tables::{Flows, Routes, Slots};
use criterion::{Criterion, criterion_group, criterion_main};

const SIZES: [u32; 4] = [1, 1_000, 64_000, 1_000_000];

fn index(c: &mut Criterion) {
    let mut group = c.benchmark_group("index");
    for size in SIZES {
        let mut slots = Slots::new(size);
        group.bench_function(format!("hit/{size}"), |b| b.iter(|| slots.hit()));
        group.bench_function(format!("miss/{size}"), |b| b.iter(|| slots.miss()));
    }
    group.finish();
}

fn flow_table(c: &mut Criterion) {
    let mut group = c.benchmark_group("flow table");
    for size in SIZES {
        let mut flows = Flows::new(size);
        group.bench_function(format!("hit/{size}"), |b| b.iter(|| flows.hit()));
        group.bench_function(format!("miss/{size}"), |b| b.iter(|| flows.miss()));
    }
    group.finish();
}

fn prefix_table(c: &mut Criterion) {
    let mut group = c.benchmark_group("prefix table");
    for size in SIZES {
        let mut routes = Routes::new(size);
        group.bench_function(format!("hit/{size}"), |b| b.iter(|| routes.hit()));
        group.bench_function(format!("default/{size}"), |b| b.iter(|| routes.miss()));
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
}

criterion_group! { name = all; config = quick(); targets = index, flow_table, prefix_table }
criterion_main!(all);
