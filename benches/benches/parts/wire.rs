//! Bytes: parsing a packet, and checksums.

use std::net::Ipv4Addr;

use benches::scenario8::ClientNode;
use criterion::{Criterion, Throughput};
use datapath::wire::{Packet, checksum, ethernet};

pub(crate) fn parse(c: &mut Criterion) {
    let frame = ClientNode::datagrams(1).remove(0);
    let mut group = c.benchmark_group("parse");
    group.bench_with_input("datagram", &frame[ethernet::HEADER_LEN..], |b, ip| {
        b.iter(|| Packet::<Ipv4Addr>::parse(ip));
    });
    group.finish();
}

pub(crate) fn sum(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for length in [64, 1_500] {
        group.throughput(Throughput::Bytes(length));
        let bytes = vec![7_u8; length as usize];
        group.bench_with_input(format!("{length} bytes"), &bytes, |b, bytes| {
            b.iter(|| checksum::of(bytes));
        });
    }
    group.finish();
}
