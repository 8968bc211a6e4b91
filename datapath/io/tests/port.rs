//! Frames over real veths: queues, tags, floods and the books.

mod common;

use common::{SMALL, arena, collect, in_netns, read, send, settle, veth};
use datapath::port::{Buffer, Port};
use datapath_io::{Arena, Census, Faults, LinkError, PortError, Waiter, XskPort, link};

/// Frames in a batch that every ring of the tests holds.
const BATCH: u32 = 32;

/// Both ends of a veth as ports.
fn pair<'a>(arena: &'a Arena, queues: u16) -> (XskPort<'a>, XskPort<'a>) {
    veth("near", "far", queues);
    let near = XskPort::open(arena, "near", queues).expect("the near port");
    (near, XskPort::open(arena, "far", queues).expect("the far port"))
}

/// Nothing went wrong that never may.
fn check_no_bug(port: &XskPort<'_>) {
    for (queue, counted) in port.kernel_counters().unwrap().iter().enumerate() {
        let (bugs, name) =
            ((counted.fill_empty, counted.rx_invalid, counted.tx_invalid), port.name());
        assert_eq!(bugs, (0, 0, 0), "{name}, queue {queue}");
    }
    assert_eq!(port.arena().faults(), Faults::default());
}

#[test]
fn a_frame_arrives_on_the_queue_it_was_sent_on_with_its_tag() {
    in_netns(|| {
        const QUEUES: u16 = 4;
        let arena = arena(8, SMALL);
        let (mut near, mut far) = pair(&arena, QUEUES);
        for round in 0..20 {
            for queue in 0..QUEUES {
                for number in 0..BATCH {
                    let number = round * BATCH + number;
                    assert!(send(
                        &mut far,
                        queue,
                        Some(100 + queue),
                        number,
                        64 + round as usize * 76
                    ));
                }
            }
            far.flush();
            for queue in 0..QUEUES {
                let frames = collect(&mut near, queue, BATCH as usize);
                let got: Vec<_> = frames.iter().filter_map(read).collect();
                let length = 64 + round as usize * 76;
                let sent: Vec<_> = (round * BATCH..(round + 1) * BATCH)
                    .map(|number| (Some(100 + queue), number, length))
                    .collect();
                assert_eq!(got, sent, "round {round}, queue {queue}");
            }
        }
        check_no_bug(&near);
        check_no_bug(&far);
        let received: Vec<_> = near.counters().map(|counted| counted.rx).collect();
        assert_eq!(received, [640; QUEUES as usize]);
    });
}

#[test]
fn a_tag_is_pushed_and_popped_in_place() {
    in_netns(|| {
        let arena = arena(4, SMALL);
        let (mut near, mut far) = pair(&arena, 2);
        for len in [60, 64, 590, 1_514] {
            assert!(send(&mut far, 0, None, 1, len));
            far.flush();
            // Pushed onto a received frame...
            let mut frame = collect(&mut near, 0, 1).pop().expect("the plain frame");
            assert_eq!(read(&frame), Some((None, 1, len)));
            assert!(frame.grow_front(4));
            let bytes = frame.bytes_mut();
            bytes.copy_within(4..16, 0);
            bytes[12..16].copy_from_slice(&[0x81, 0x00, 0x00, 0x65]);
            near.send(1, frame).unwrap();
            near.flush();
            // ...it arrives with the tag, four bytes longer; popped from that...
            let mut frame = collect(&mut far, 1, 1).pop().expect("the tagged frame");
            assert_eq!(read(&frame), Some((Some(101), 1, len + 4)));
            frame.bytes_mut().copy_within(0..12, 4);
            frame.shrink_front(4);
            far.send(0, frame).unwrap();
            far.flush();
            // ...it arrives as it was.
            let frame = collect(&mut near, 0, 1).pop().expect("the popped frame");
            assert_eq!(read(&frame), Some((None, 1, len)));
        }
        settle(&mut [&mut near, &mut far]);
        check_no_bug(&near);
        check_no_bug(&far);
    });
}

#[test]
fn frames_that_no_descriptor_describes_are_moved_or_refused() {
    in_netns(|| {
        let arena = arena(2, SMALL);
        let (mut near, mut far) = pair(&arena, 1);
        // An outer header taken off, and one of another size put on.
        for shift in [-20, 14] {
            let mut frame = arena.take().unwrap();
            common::write(&mut frame, None, 7, 400);
            let body = frame.bytes().to_vec();
            if shift < 0 {
                assert!(frame.grow_front(20));
                frame.bytes_mut()[..400].copy_from_slice(&body);
                assert!(frame.set_len(400));
            } else {
                assert!(frame.set_len(414));
                frame.bytes_mut()[14..].copy_from_slice(&body);
                frame.shrink_front(14);
            }
            far.send(0, frame).unwrap();
            far.flush();
            let frame = collect(&mut near, 0, 1).pop().expect("the moved frame");
            assert_eq!(read(&frame), Some((None, 7, 400)));
        }
        // Shorter than an Ethernet header, and longer than any place to send from has room for.
        let mut short = arena.take().unwrap();
        assert!(short.set_len(13));
        assert!(far.send(0, short).is_err());
        let mut long = arena.take().unwrap();
        assert!(long.grow_front(64) && long.set_len(1_792) && !long.set_len(1_793));
        assert!(far.send(0, long).is_err());
        assert_eq!(far.counters().next().unwrap().tx_invalid, 2);
    });
}

#[test]
fn a_flood_on_a_queue_nobody_reads_leaves_the_others_whole() {
    in_netns(|| {
        const FLOOD: u64 = 20_000;
        const QUEUES: u16 = 4;
        let arena = arena(8, SMALL);
        let (mut near, mut far) = pair(&arena, QUEUES);
        let (mut flooded, mut refused) = (0, 0);
        let mut arrived = [0; QUEUES as usize];
        for round in 0..50 {
            while flooded < (round + 1) * FLOOD / 50 {
                refused += u64::from(!send(&mut far, 0, Some(1), 0, 64));
                flooded += 1;
            }
            for queue in 1..QUEUES {
                (0..20).for_each(|n| assert!(send(&mut far, queue, Some(queue), n, 64)));
            }
            far.flush();
            for queue in 1..QUEUES {
                let got = collect(&mut near, queue, 20);
                arrived[usize::from(queue)] +=
                    got.iter().filter_map(read).filter(|f| f.0 == Some(queue)).count();
            }
        }
        settle(&mut [&mut far]);
        assert_eq!(arrived, [0, 1_000, 1_000, 1_000]);

        // Every flooded frame is accounted for: waiting in the ring, or counted by someone.
        let waiting = collect(&mut near, 0, SMALL.rx as usize).len() as u64;
        let kernel = near.kernel_counters().unwrap();
        let in_veth = common::statistic("far", "tx_dropped");
        let lost = kernel[0].rx_ring_full + kernel[0].rx_dropped;
        assert_eq!(waiting, u64::from(SMALL.rx));
        assert!(kernel[0].rx_ring_full > 0);
        assert_eq!(waiting + lost + in_veth + refused, FLOOD);
        assert!(kernel[1..].iter().all(|q| q.rx_ring_full + q.rx_dropped == 0));
        let stats = link::stats("near").unwrap();
        let drops = stats.iter().find(|(name, _)| name == "rx_queue_0_drops").unwrap().1;
        assert_eq!(drops, lost);
        check_no_bug(&near);
    });
}

#[test]
fn the_books_balance_after_traffic_and_after_the_ports_are_gone() {
    in_netns(|| {
        let arena = arena(8, SMALL);
        let (mut near, mut far) = pair(&arena, 4);
        let kept = {
            let mut kept = Vec::new();
            for round in 0..100 {
                for queue in 0..4 {
                    (0..BATCH).for_each(|n| assert!(send(&mut far, queue, None, n, 60)));
                    far.flush();
                    let mut frames = collect(&mut near, queue, BATCH as usize);
                    assert_eq!(frames.len(), BATCH as usize, "round {round}");
                    // Some go back, some are dropped, one is kept now and then.
                    for frame in frames.drain(..BATCH as usize / 2) {
                        near.send(queue, frame).unwrap();
                    }
                    kept.extend(frames.pop().filter(|_| round % 10 == 0));
                    near.flush();
                    assert_eq!(collect(&mut far, queue, BATCH as usize / 2).len(), 16);
                }
            }
            kept
        };
        settle(&mut [&mut near, &mut far]);
        let in_fill = 8 * SMALL.fill as usize;
        let free = arena.frames() - in_fill - kept.len();
        assert_eq!(arena.census(), Census { free, in_fill, in_tx: 0, in_hand: 40 });
        // Some more on their way, so that ports are closed with frames everywhere.
        (0..BATCH).for_each(|n| assert!(send(&mut far, 1, None, n, 60)));
        far.flush();
        (0..3).for_each(|n| assert!(send(&mut far, 2, None, n, 60)));
        check_no_bug(&near);
        near.close();
        drop(far);
        assert_eq!(arena.census().in_hand, 40);
        assert_eq!(arena.census().free, arena.frames() - 40);
        drop(kept);
        assert_eq!(arena.census().free, arena.frames());
        assert_eq!(arena.faults(), Faults::default());
        // The queues are free to be bound again, and work.
        let mut near = XskPort::open(&arena, "near", 4).unwrap();
        let mut far = XskPort::open(&arena, "far", 4).unwrap();
        assert!(send(&mut near, 3, None, 9, 60));
        near.flush();
        assert_eq!(collect(&mut far, 3, 1).len(), 1);
    });
}

#[test]
fn frames_in_flight_are_limited_and_refusals_counted() {
    in_netns(|| {
        let arena = arena(2, SMALL);
        let (mut near, mut far) = pair(&arena, 1);
        // With the far end down the kernel sends nothing.
        common::ip("link set far down");
        let sent = (0..500).filter(|n| send(&mut near, 0, None, *n, 60)).count() as u64;
        let counted = near.counters().next().unwrap();
        assert_eq!(sent + counted.tx_full, 500);
        assert!(arena.census().in_tx <= SMALL.tx as usize);
        near.flush();
        common::ip("link set far up");
        settle(&mut [&mut near]);
        assert_eq!(arena.census().in_tx, 0);
        assert!(send(&mut near, 0, None, 1_000, 60));
        near.flush();
        let last = collect(&mut far, 0, usize::MAX);
        assert!(last.iter().filter_map(read).any(|frame| frame.1 == 1_000));
    });
}

#[test]
fn a_device_that_disappears_is_survived() {
    in_netns(|| {
        let arena = arena(2, SMALL);
        let (mut near, far) = pair(&arena, 1);
        common::ip("link del near");
        let mut none = Vec::new();
        near.receive(0, 64, &mut none);
        assert!(none.is_empty());
        let accepted = send(&mut near, 0, None, 1, 60);
        near.flush();
        assert!(accepted && near.is_gone() && !send(&mut near, 0, None, 2, 60));
        assert_eq!(near.counters().next().unwrap().tx_gone, 1);
        drop((near, far));
        assert_eq!(arena.census().free, arena.frames());
        // The arena is anchored elsewhere and goes on.
        let (mut near, mut far) = pair(&arena, 1);
        assert!(send(&mut near, 0, None, 3, 60));
        near.flush();
        assert_eq!(collect(&mut far, 0, 1).len(), 1);
    });
}

#[test]
fn a_port_that_cannot_be_opened_says_why() {
    in_netns(|| {
        let arena = arena(4, SMALL);
        let unknown = XskPort::open(&arena, "nothing", 1);
        assert!(matches!(unknown, Err(PortError::Link(LinkError::Unknown { .. }))));
        veth("near", "far", 2);
        let queues = XskPort::open(&arena, "near", 3);
        assert!(matches!(queues, Err(PortError::Queues { asked: 3, rx: 2, tx: 2, .. })));
        let near = XskPort::open(&arena, "near", 2).unwrap();
        let again = XskPort::open(&arena, "near", 2);
        assert!(matches!(again, Err(PortError::Bind { queue: 0, .. })), "{again:?}");
        veth("wide0", "wide1", 8);
        let large = XskPort::open(&arena, "wide0", 8);
        assert!(matches!(large, Err(PortError::NoFrames { need: 1_536, .. })), "{large:?}");
        drop(near);
        assert_eq!(arena.census().free, arena.frames());
    });
}

#[test]
fn a_waiter_wakes_for_frames_and_keeps_waking_while_some_are_left() {
    in_netns(|| {
        let arena = arena(4, SMALL);
        let (mut near, mut far) = pair(&arena, 2);
        let mut waiter = Waiter::new().unwrap();
        waiter.add_port(5, &near).unwrap();
        let mut ready = Vec::new();
        assert!(!waiter.wait(Some(std::time::Duration::ZERO), &mut ready).unwrap());
        assert!(ready.is_empty());
        assert!(send(&mut far, 1, None, 1, 60) && send(&mut far, 1, None, 2, 60));
        far.flush();
        let mut frames = Vec::new();
        for round in 1..=2 {
            // No time-out: the test ends only if the frame wakes it.
            waiter.wait(None, &mut ready).unwrap();
            assert_eq!(ready, [5]);
            near.receive(1, 1, &mut frames);
            assert_eq!(frames.len(), round);
        }
        drop(near);
        assert!(!waiter.wait(Some(std::time::Duration::ZERO), &mut ready).unwrap());
        assert!(ready.is_empty());
    });
}

#[test]
fn ports_and_frames_may_change_threads() {
    fn is_send<T: Send>() {}
    fn is_sync<T: Sync>() {}
    is_send::<XskPort<'static>>();
    is_send::<datapath_io::UmemFrame<'static>>();
    is_send::<Arena>();
    is_sync::<Arena>();
    assert_eq!(size_of::<datapath_io::UmemFrame<'static>>(), 16);
}
