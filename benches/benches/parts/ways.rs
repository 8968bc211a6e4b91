//! One element and one flow. Each kind of way through a node, walked, so that every hook of it is
//! met: hooks are not called by anybody but the walk, so the difference of two ways is what can be
//! known of one. The same with the flow cache, in UDP and TCP; the VPC; and a pick of each
//! scheduler, as the way of a datagram to a service that schedules every datagram anew (one-packet
//! scheduling) among 16 endpoints.

use benches::way::{FORWARDED, Link, MASQUERADED, TALKS, Way};
use benches::{BATCH, time};
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use datapath::lab::Scheduler;
use datapath::link::ElementId;

const NODE: ElementId = ElementId::Node(0);

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut way: Way) {
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut next = 0;
    group.bench_function(name, |b| b.iter_custom(|batches| time(&mut way, batches, &mut next)));
}

pub(crate) fn walked(c: &mut Criterion) {
    let mut group = c.benchmark_group("walked");
    for talk in TALKS {
        let link = Link::udp(talk, false);
        measure(&mut group, talk.name, link.requests(NODE));
        measure(&mut group, &format!("{}, answer", talk.name), link.answers(NODE));
    }
    group.finish();
}

pub(crate) fn cached(c: &mut Criterion) {
    let mut group = c.benchmark_group("cached");
    for (name, link) in
        [("UDP", Link::udp(MASQUERADED, true)), ("TCP", Link::tcp(MASQUERADED, true))]
    {
        measure(&mut group, &format!("{name} {}", MASQUERADED.name), link.requests(NODE));
        measure(&mut group, &format!("{name} {}, answer", MASQUERADED.name), link.answers(NODE));
    }
    group.finish();
}

pub(crate) fn vpc(c: &mut Criterion) {
    let mut group = c.benchmark_group("VPC");
    let link = Link::udp(FORWARDED, true);
    measure(&mut group, FORWARDED.name, link.requests(ElementId::Vpc));
    measure(&mut group, &format!("{}, answer", FORWARDED.name), link.answers(ElementId::Vpc));
    group.finish();
}

pub(crate) fn scheduler(c: &mut Criterion) {
    let mut group = c.benchmark_group("scheduler");
    for scheduler in Scheduler::ALL {
        measure(&mut group, scheduler.name(), Link::scheduled(scheduler).requests(NODE));
    }
    group.finish();
}
