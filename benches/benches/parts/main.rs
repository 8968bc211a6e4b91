//! Criterion's figures of the parts: bytes, tables, ways through an element, the whole link. One
//! program, since each takes the linker as long as all of them; a part is measured by its name, as in
//! `cargo bench -p benches --bench parts -- scheduler`.

mod link;
mod tables;
mod ways;
mod wire;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

/// All of them are to take little more than a minute.
fn quick() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
}

criterion_group! {
    name = all;
    config = quick();
    targets =
        wire::parse,
        wire::sum,
        tables::index,
        tables::flow_table,
        tables::prefix_table,
        ways::walked,
        ways::cached,
        ways::vpc,
        ways::scheduler,
        link::link,
}
criterion_main!(all);
