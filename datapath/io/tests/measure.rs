//! The XDP programs that measure, over real veths.

mod common;

use std::collections::BTreeMap;

use common::{PATIENCE, SMALL, arena, arena_with_runs, in_netns, ip, settle, veth};
use datapath::port::{Buffer, Port};
use datapath_io::{Arena, XskPort, link};
use xdp_progs::{Counter, Counts, Devmap, Offer, ProgError};

const FIRST_PORT: u16 = 65_500;
const FLOWS: u16 = 36;

/// The one's complement sum of the words of some bytes.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// What the UDP checksum of a datagram is computed over, checksum included.
fn udp_sum(frame: &[u8]) -> u16 {
    sum(&[&frame[26..34], &[0, 17], &frame[38..40], &frame[34..]].concat())
}

/// A datagram of a flow with right checksums.
fn datagram(port: u16) -> Vec<u8> {
    datagram_of(port, b"some eighteen byte")
}

/// A datagram as long as an MTU of 8,500 allows.
fn longest(port: u16) -> Vec<u8> {
    datagram_of(port, &(0..=255).cycle().take(8_472).collect::<Vec<u8>>())
}

fn datagram_of(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = |headers: u16| (headers + payload.len() as u16).to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend(length(28));
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 53]);
    frame.extend(length(8));
    frame.extend([0, 0]);
    frame.extend(payload);
    let header = !sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    let check = match !udp_sum(&frame) {
        0 => 0xffff,
        check => check,
    };
    frame[40..42].copy_from_slice(&check.to_be_bytes());
    frame
}

fn index(name: &str) -> i32 {
    link::index(name).expect("the interface").cast_signed()
}

/// Sends frames and waits until the kernel has taken them.
fn send(port: &mut XskPort<'_>, frames: &[Vec<u8>]) {
    for bytes in frames {
        let mut frame = port.arena().take().expect("a free frame");
        assert!(frame.set_len(bytes.len()));
        frame.bytes_mut().copy_from_slice(bytes);
        assert!(port.send(0, frame).is_ok());
    }
    settle(&mut [port]);
}

/// What a counter says once it has counted so many frames.
fn counts(counter: &Counter, frames: u64) -> Counts {
    let read = || counter.counts().expect("the counts");
    let all = (0..PATIENCE).map(|_| read()).find(|c| c.right + c.wrong >= frames);
    all.unwrap_or_else(read)
}

fn near(arena: &Arena) -> XskPort<'_> {
    veth("near", "far", 1);
    XskPort::open(arena, "near", 1).expect("the near port")
}

#[test]
fn every_flow_is_offered_in_turn_with_a_right_checksum() {
    in_netns(|| {
        let arena = arena(1, SMALL);
        let mut near = near(&arena);
        let offer = Offer::load(link::index("far").unwrap(), FIRST_PORT, FLOWS).unwrap();
        let (mut seen, mut frames) = (BTreeMap::new(), Vec::new());
        // The kernel starts each call with fresh copies; the turn goes on.
        for _ in 0..4 {
            let count = u32::from(FLOWS) / 2;
            offer.send(&datagram(FIRST_PORT), count).unwrap();
            for _ in 0..PATIENCE {
                near.receive(0, 64, &mut frames);
                if frames.len() >= count as usize {
                    break;
                }
            }
            for frame in frames.drain(..) {
                let port = u16::from_be_bytes([frame.bytes()[34], frame.bytes()[35]]);
                assert_eq!(frame.bytes(), datagram(port), "port {port}");
                *seen.entry(port).or_insert(0) += 1;
            }
        }
        let twice_each: BTreeMap<_, _> =
            (FIRST_PORT..=FIRST_PORT + (FLOWS - 1)).map(|port| (port, 2)).collect();
        assert_eq!(seen, twice_each);
        assert_eq!(offer.offered().unwrap(), 2 * u64::from(FLOWS));
    });
}

#[test]
fn ports_beyond_the_last_are_refused() {
    let refused = Offer::load(1, FIRST_PORT, FLOWS + 1);
    assert!(matches!(refused, Err(ProgError::NoSuchPorts { .. })), "{refused:?}");
    assert!(matches!(Offer::load(1, 1, 0), Err(ProgError::NoSuchPorts { .. })));
}

#[test]
fn a_devmap_hands_frames_on_with_the_next_hops_addresses() {
    in_netns(|| {
        let arena = arena(2, SMALL);
        let mut near = near(&arena);
        veth("out", "end", 1);
        let mut end = XskPort::open(&arena, "end", 1).expect("the port behind");
        let (dst, src) = ([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 8]);
        let mut devmap = Devmap::load(link::index("out").unwrap(), [dst, src]).unwrap();
        devmap.attach(index("far")).unwrap();
        send(&mut near, &[datagram(7)]);
        let mut frames = Vec::new();
        for _ in 0..PATIENCE {
            end.receive(0, 64, &mut frames);
            if !frames.is_empty() {
                break;
            }
        }
        let expected = [&dst[..], &src, &datagram(7)[12..]].concat();
        let arrived: Vec<_> = frames.iter().map(|frame| frame.bytes().to_vec()).collect();
        assert_eq!(arrived, [expected]);
    });
}

/// A veth that carries jumbo frames, and the port at its near end.
fn near_of_jumbo(arena: &Arena) -> XskPort<'_> {
    veth("near", "far", 1);
    ip("link set near mtu 8500");
    ip("link set far mtu 8500");
    XskPort::open(arena, "near", 1).expect("the near port")
}

#[test]
fn a_devmap_hands_on_all_buffers_of_a_frame() {
    in_netns(|| {
        let arena = arena_with_runs(2, SMALL, 70, "anchor0");
        let mut near = near_of_jumbo(&arena);
        veth("out", "end", 1);
        ip("link set out mtu 8500");
        ip("link set end mtu 8500");
        let mut end = XskPort::open(&arena, "end", 1).expect("the port behind");
        let out = link::index("out").unwrap();
        let mut devmap = Devmap::load_multi_buffer(out, [[2; 6], [4; 6]]).unwrap();
        devmap.attach(index("far")).unwrap();
        send(&mut near, &[longest(7)]);
        let mut frames = Vec::new();
        for _ in 0..PATIENCE {
            end.receive(0, 64, &mut frames);
            if !frames.is_empty() {
                break;
            }
        }
        let expected = [&[2; 6][..], &[4; 6], &longest(7)[12..]].concat();
        assert!(frames.len() == 1 && frames[0].bytes() == expected);
    });
}

#[test]
fn a_frame_of_several_buffers_is_right_with_all_of_them_only() {
    in_netns(|| {
        let arena = arena_with_runs(1, SMALL, 70, "anchor0");
        let mut near = near_of_jumbo(&arena);
        // A little less than the MTU allows, so that one may be too long.
        let frame = |port| datagram_of(port, &[7; 8_470]);
        let mut counter = Counter::load_multi_buffer(&[frame(1)], false).unwrap();
        counter.attach(index("far")).unwrap();
        (0..20).for_each(|flow| send(&mut near, &[frame(flow * 1_301)]));
        assert_eq!(counts(&counter, 20), Counts { right: 20, wrong: 0 });
        // Cut in the first buffer, at the end of one, by a byte, and a byte too long.
        for length in [1_000, 1_728, 8_511, 8_513] {
            let mut wrong = frame(1);
            wrong.resize(length, 0);
            send(&mut near, &[wrong]);
        }
        assert_eq!(counts(&counter, 24), Counts { right: 20, wrong: 4 });
    });
}

#[test]
fn only_the_expected_datagram_of_any_flow_is_right() {
    in_netns(|| {
        let arena = arena(1, SMALL);
        let mut near = near(&arena);
        let mut counter = Counter::load(&[datagram(1)], false).unwrap();
        counter.attach(index("far")).unwrap();
        let right: Vec<_> = (0..50).map(|flow| datagram(flow * 1_301)).collect();
        send(&mut near, &right);
        assert_eq!(counts(&counter, 50), Counts { right: 50, wrong: 0 });
        // Any byte of the headers, in any flow.
        let wrong: Vec<_> = (0..42)
            .map(|at| {
                let mut frame = datagram(2_000 + at);
                frame[usize::from(at)] ^= 0x10;
                frame
            })
            .collect();
        send(&mut near, &wrong);
        let mut no_checksum = datagram(3);
        no_checksum[40..42].fill(0);
        send(&mut near, &[no_checksum, datagram(4)[..51].to_vec()]);
        assert_eq!(counts(&counter, 94), Counts { right: 50, wrong: 44 });
    });
}

/// A segment of a stream with a right TCP checksum, which carries a time.
fn segment(stream: u16, port: u16, sent: u32) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 80, 0, 0, 1, 0, 0, 0, 2, 0, 0x50, 0x18, 4, 0, 0, 0, 0, 0]);
    frame.extend(stream.to_be_bytes());
    frame.extend(sent.to_ne_bytes());
    frame.extend((!sent).to_ne_bytes());
    let header = !sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&header.to_be_bytes());
    let check = !sum(&[&frame[26..34], &[0, 6, 0, 30], &frame[34..]].concat());
    frame[50..52].copy_from_slice(&check.to_be_bytes());
    frame
}

#[test]
fn segments_are_held_against_their_stream_and_timed() {
    in_netns(|| {
        let arena = arena(1, SMALL);
        let mut near = near(&arena);
        let streams = [segment(0, 1, 0), segment(1, 1, 0)];
        let mut counter = Counter::load(&streams, true).unwrap();
        counter.attach(index("far")).unwrap();
        let right: Vec<_> =
            (0..40).map(|flow| segment(flow % 2, flow * 1_301, u32::from(flow) << 20)).collect();
        send(&mut near, &right);
        assert_eq!(counts(&counter, 40), Counts { right: 40, wrong: 0 });
        let before = counter.times().unwrap();
        assert_eq!(before.iter().map(|(_, count)| count).sum::<u64>(), 40);
        // Any byte of the headers but for those that the checksum leaves open together.
        let wrong: Vec<_> = (0..54)
            .map(|at| {
                let mut frame = segment(1, 2_000 + at, 7);
                frame[usize::from(at)] ^= 0x10;
                frame
            })
            .collect();
        send(&mut near, &wrong);
        send(&mut near, &[segment(2, 1, 0), segment(0, 1, 0)[..60].to_vec()]);
        assert_eq!(counts(&counter, 96), Counts { right: 40, wrong: 56 });
        assert_eq!(counter.times().unwrap().since(&before).iter().count(), 0);
    });
}
