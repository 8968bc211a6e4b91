//! Packets longer than a frame: received and sent in several, in hand as one.

mod common;

use common::{SMALL, arena_with_runs, collect, in_netns, ip, read, send, settle, veth, write};
use datapath::port::{Buffer, Port};
use datapath_io::{Arena, Census, Faults, XskPort};

/// Around each number of frames, and the longest of a lab: MTU 8,500 with a tag.
const LENGTHS: [usize; 9] = [60, 1_728, 1_729, 3_456, 3_457, 5_000, 8_514, 60, 8_518];

/// A veth that carries jumbo frames.
fn jumbo_veth() {
    veth("near", "far", 1);
    ip("link set near mtu 8500");
    ip("link set far mtu 8500");
}

/// A port of an arena for nothing else.
fn arena(runs: u32, anchor: &str) -> Arena {
    arena_with_runs(1, SMALL, runs, anchor)
}

fn check_no_bug(port: &XskPort<'_>) {
    for counted in port.kernel_counters().unwrap() {
        let bugs = (counted.fill_empty, counted.rx_invalid, counted.tx_invalid);
        assert_eq!((bugs, counted.rx_dropped), ((0, 0, 0), 0), "{}", port.name());
    }
    assert_eq!(port.arena().faults(), Faults::default());
}

#[test]
fn packets_of_several_frames_arrive_whole_and_in_order() {
    in_netns(|| {
        jumbo_veth();
        let arena = arena_with_runs(2, SMALL, 70, "anchor0");
        let mut near = XskPort::open(&arena, "near", 1).expect("the near port");
        let mut far = XskPort::open(&arena, "far", 1).expect("the far port");
        // Some rounds are taken frame by frame, so that a packet is met in the middle.
        for (round, max) in (0..40).zip([64, 1].into_iter().cycle()) {
            for (number, len) in (round..).zip(LENGTHS) {
                assert!(send(&mut far, 0, None, number, len), "{number}");
            }
            far.flush();
            let mut frames = Vec::new();
            for _ in 0..common::PATIENCE {
                near.receive(0, max, &mut frames);
                if frames.len() == LENGTHS.len() {
                    break;
                }
            }
            let got: Vec<_> = frames.iter().filter_map(read).collect();
            let sent: Vec<_> =
                (round..).zip(LENGTHS).map(|(number, len)| (None, number, len)).collect();
            assert_eq!(got, sent);
            settle(&mut [&mut far]);
        }
        check_no_bug(&near);
        check_no_bug(&far);
        let packets = 40 * LENGTHS.len() as u64;
        assert_eq!(near.counters().next().unwrap().rx, packets);
        assert_eq!(far.counters().next().unwrap().tx, packets);
        let in_fill = 2 * SMALL.fill as usize;
        let free = arena.frames() - in_fill;
        assert_eq!(arena.census(), Census { free, in_fill, in_tx: 0, in_hand: 0 });
    });
}

#[test]
fn tags_are_pushed_and_popped_and_a_packet_grows_and_shrinks() {
    in_netns(|| {
        jumbo_veth();
        let arena = arena_with_runs(2, SMALL, 70, "anchor0");
        let mut near = XskPort::open(&arena, "near", 1).expect("the near port");
        let mut far = XskPort::open(&arena, "far", 1).expect("the far port");
        for len in [1_724, 1_728, 1_732, 4_000, 8_514] {
            assert!(send(&mut far, 0, None, 1, len));
            far.flush();
            let mut frame = collect(&mut near, 0, 1).pop().expect("the plain packet");
            assert!(frame.grow_front(4));
            frame.bytes_mut().copy_within(4..16, 0);
            frame.bytes_mut()[12..16].copy_from_slice(&[0x81, 0x00, 0x00, 0x65]);
            near.send(0, frame).unwrap();
            near.flush();
            let mut frame = collect(&mut far, 0, 1).pop().expect("the tagged packet");
            assert_eq!(read(&frame), Some((Some(101), 1, len + 4)));
            frame.bytes_mut().copy_within(0..12, 4);
            frame.shrink_front(4);
            // What was long may be sent short, in one frame again.
            assert!(frame.set_len(100));
            far.send(0, frame).unwrap();
            far.flush();
            let frame = collect(&mut near, 0, 1).pop().expect("the short packet");
            assert_eq!(read(&frame), Some((None, 1, 100)));
        }
        settle(&mut [&mut near, &mut far]);
        check_no_bug(&near);
        check_no_bug(&far);
    });
}

#[test]
fn a_packet_without_memory_is_lost_by_name_and_what_follows_arrives() {
    in_netns(|| {
        jumbo_veth();
        let (few, many) = (arena(1, "anchor0"), arena(70, "anchor1"));
        let mut near = XskPort::open(&few, "near", 1).expect("the near port");
        let mut far = XskPort::open(&many, "far", 1).expect("the far port");
        for number in 0..3 {
            assert!(send(&mut far, 0, None, number, 8_000));
        }
        assert!(send(&mut far, 0, None, 3, 60));
        far.flush();
        let mut got = collect(&mut near, 0, 2);
        let numbers: Vec<_> = got.iter().filter_map(read).map(|(_, number, _)| number).collect();
        assert_eq!(numbers, [0, 3]);
        let counted = near.counters().next().unwrap();
        assert_eq!((counted.rx, counted.rx_no_memory), (2, 2));
        // Nor can a packet of our own become that long; it stays as it was.
        let mut own = few.take().unwrap();
        write(&mut own, None, 9, 1_000);
        assert!(!own.set_len(1_729) && read(&own) == Some((None, 9, 1_000)));
        // One that is given back makes room for the next.
        got.clear();
        assert!(send(&mut far, 0, None, 4, 8_000));
        far.flush();
        assert_eq!(collect(&mut near, 0, 1).iter().filter_map(read).count(), 1);
        check_no_bug(&near);
    });
}

#[test]
fn a_full_queue_refuses_a_packet_whole_and_a_closed_port_frees_what_it_had() {
    in_netns(|| {
        jumbo_veth();
        let (one, other) = (arena(70, "anchor0"), arena(70, "anchor1"));
        let mut near = XskPort::open(&one, "near", 1).expect("the near port");
        let far = XskPort::open(&other, "far", 1).expect("the far port");
        // Five frames each, of the 64 that may be on their way; none is sent before the flush.
        let accepted = (0..12).filter(|number| send(&mut near, 0, None, *number, 8_514)).count();
        assert_eq!(accepted, 12);
        assert_eq!(one.census().in_hand, 60);
        near.close();
        far.close();
        for arena in [&one, &other] {
            assert_eq!(arena.census().free, arena.frames());
            assert_eq!(arena.faults(), Faults::default());
        }
    });
}
