//! Frames that lie in one way each: cut at every length, every EtherType, every length field,
//! tags in tags.

use datapath::lab::load;
use datapath::wire::{Mac, checksum, ethernet};
use etherparse::PacketBuilder;

use crate::frame::build::frame;
use crate::frame::{Where, World};

const A: [u8; 4] = [10, 0, 4, 27];
const SERVICE: [u8; 4] = [192, 168, 0, 10];

fn world() -> World {
    let text = include_str!("../../../datapath/tests/common/lab.yaml");
    World::new(load(text, "lab.yaml").expect("a lab"))
}

/// One sound packet of each kind from pod a, to a service.
fn packets() -> Vec<Vec<u8>> {
    let ip = || PacketBuilder::ipv4(A, SERVICE, 64);
    let mut packets = vec![Vec::new(); 4];
    let [tcp, udp, echo, error] = packets.as_mut_slice() else { unreachable!() };
    ip().tcp(40_001, 80, 1, 4_096).syn().write(tcp, b"").expect("built");
    ip().udp(40_001, 53).write(udp, b"query").expect("built");
    ip().icmpv4_echo_request(7, 1).write(echo, b"ping").expect("built");
    ip().icmpv4_raw(3, 3, [0; 4]).write(error, &udp[..28]).expect("built");
    packets
}

/// Has every place of the lab get what `make` makes for its MAC, each a batch.
fn everywhere(make: impl Fn(Mac) -> Vec<Vec<u8>>) {
    let mut world = world();
    let places: Vec<(Where, Mac)> = world.places();
    for (at, mac) in places {
        world.put(at, &make(mac));
    }
    world.wait(1_000_000_000);
}

/// The packet with the checksum of its IP header made right.
fn mended(mut packet: Vec<u8>) -> Vec<u8> {
    packet[10..12].fill(0);
    let len = usize::from(packet[0] & 0x0f) * 4;
    let sum = checksum::of(packet.get(..len).unwrap_or(&packet));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn cut_at_every_length() {
    everywhere(|mac| {
        let cuts = |packet: Vec<u8>| {
            let whole = frame(mac, &[], ethernet::IPV4, &packet);
            let tagged = frame(mac, &[(ethernet::VLAN, 101)], ethernet::IPV4, &packet);
            [whole, tagged].into_iter().flat_map(|whole| {
                (0..=whole.len()).map(move |len| whole[..len].to_vec()).collect::<Vec<_>>()
            })
        };
        packets().into_iter().flat_map(cuts).collect()
    });
}

#[test]
fn every_ethertype() {
    let packet = packets().remove(0);
    everywhere(|mac| (0..=u16::MAX).map(|kind| frame(mac, &[], kind, &packet)).collect());
}

#[test]
fn every_length_field_lies() {
    let mut lies = Vec::new();
    for packet in packets() {
        let mut lie = |at: usize, value: u8| {
            let mut packet = packet.clone();
            packet[at] = value;
            // As it is, and with the checksum that the lie would have.
            lies.extend([packet.clone(), mended(packet)]);
        };
        for value in 0..=u8::MAX {
            // Version and header length; total length; TCP's data offset or the quoted header's
            // length; UDP's length.
            for at in [0, 2, 3, 24, 25, 28, 30, 31].into_iter().filter(|at| *at < packet.len()) {
                lie(at, value);
            }
        }
    }
    everywhere(|mac| lies.iter().map(|lie| frame(mac, &[], ethernet::IPV4, lie)).collect());
}

#[test]
fn tags_in_tags() {
    let packet = packets().remove(0);
    everywhere(|mac| {
        let nested = |depth: usize| {
            [(ethernet::VLAN, 101), (ethernet::QINQ, 101), (ethernet::VLAN, 0)]
                .map(|tag| frame(mac, &vec![tag; depth], ethernet::IPV4, &packet))
        };
        (1..=400).flat_map(nested).collect()
    });
}
