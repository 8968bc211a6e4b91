//! One arena for several network namespaces, and several arenas for one element.

mod common;

use common::{SMALL, arena, collect, enter, enter_new, here, in_netns, read, send, settle, veth};
use datapath::port::{Buffer, Port};
use datapath_io::link::Offload;
use datapath_io::{Arena, ArenaConfig, Faults, XskPort, link, probe};

#[test]
fn one_anchored_arena_serves_several_namespaces() {
    in_netns(|| {
        let home = here();
        let arena = arena(8, SMALL);
        let mut spaces: Vec<_> = (0..3)
            .map(|_| {
                enter_new();
                // The same names, and so the same interface indexes, in each of them.
                veth("in0", "in1", 1);
                let ends = ["in0", "in1"].map(|end| XskPort::open(&arena, end, 1).unwrap());
                enter(&home);
                ends
            })
            .collect();
        // From the outer end of the first to the outer end of the last, handed on in between.
        for number in 0..500 {
            let [outer, _] = &mut spaces[0];
            assert!(send(outer, 0, Some(9), number, 100));
            outer.flush();
            for at in 0..3 {
                let frame = collect(&mut spaces[at][1], 0, 1).pop().expect("the frame");
                assert_eq!(read(&frame), Some((Some(9), number, 100)));
                if let Some([next, _]) = spaces.get_mut(at + 1) {
                    next.send(0, frame).unwrap();
                    next.flush();
                }
            }
        }
        for [outer, inner] in &mut spaces {
            settle(&mut [outer, inner]);
        }
        // A namespace goes and another comes: the anchor keeps the arena usable.
        spaces.remove(0);
        enter_new();
        veth("in0", "in1", 1);
        spaces.push(["in0", "in1"].map(|end| XskPort::open(&arena, end, 1).unwrap()));
        enter(&home);
        let [one, other] = &mut spaces[2];
        assert!(send(one, 0, None, 1, 60));
        one.flush();
        assert_eq!(collect(other, 0, 1).len(), 1);
        drop(spaces);
        assert_eq!(arena.census().free, arena.frames());
        assert_eq!(arena.faults(), Faults::default());
    });
}

#[test]
fn a_frame_of_another_arena_is_copied() {
    in_netns(|| {
        let first = arena(2, SMALL);
        veth("anchor2", "anchor3", 2);
        let config = ArenaConfig {
            anchor: "anchor2".to_owned(),
            anchor_queue: 1,
            rings: SMALL,
            frames: 2 * SMALL.frames_per_queue() + 64,
            held: 0,
            runs: 0,
        };
        let second = Arena::new(&config).unwrap();
        // An anchor with several queues is good for several arenas, one each.
        let third = Arena::new(&ArenaConfig { anchor_queue: 0, ..config.clone() }).unwrap();
        assert!(Arena::new(&config).unwrap_err().to_string().contains("another AF_XDP socket"));
        veth("near", "far", 1);
        let mut near = XskPort::open(&first, "near", 1).unwrap();
        let mut far = XskPort::open(&second, "far", 1).unwrap();
        let mut frame = first.take().unwrap();
        common::write(&mut frame, None, 3, 1_500);
        assert!(frame.grow_front(4));
        frame.bytes_mut().copy_within(4..16, 0);
        frame.bytes_mut()[12..16].copy_from_slice(&[0x81, 0, 0, 7]);
        far.send(0, frame).unwrap();
        assert_eq!(first.census().in_hand, 0);
        assert_eq!(second.census().in_hand, 1);
        far.flush();
        let got = collect(&mut near, 0, 1);
        assert_eq!(got.iter().filter_map(read).collect::<Vec<_>>(), [(Some(7), 3, 1_504)]);
        assert_eq!(far.counters().next().unwrap().copied, 1);
        assert_eq!(third.census().free, third.frames());
    });
}

#[test]
fn an_arena_says_what_is_wrong_with_its_anchor() {
    in_netns(|| {
        let config = |anchor: &str| ArenaConfig {
            anchor: anchor.to_owned(),
            anchor_queue: 0,
            rings: SMALL,
            frames: 64,
            held: 0,
            runs: 0,
        };
        let text = Arena::new(&config("nothing")).unwrap_err().to_string();
        assert!(text.contains("nothing") && text.contains("no such interface"), "{text}");
        let none = Arena::new(&ArenaConfig { frames: 0, ..config("nothing") }).unwrap_err();
        assert!(none.to_string().contains("0 frames"));
        let rings = datapath_io::budget::Rings { rx: 48, fill: 128, tx: 64 };
        let odd = Arena::new(&ArenaConfig { rings, ..config("nothing") }).unwrap_err();
        assert!(odd.to_string().contains("power of two"));
    });
}

#[test]
fn an_interface_is_read_and_set() {
    in_netns(|| {
        veth("near", "far", 3);
        let [checksum, vlan, segmentation, joining] = Offload::ALL;
        let new = [checksum, vlan, segmentation];
        assert_eq!(link::offloads("near").unwrap(), new);
        link::turn_off("near", vlan).unwrap();
        assert_eq!(link::offloads("near").unwrap(), [checksum, segmentation]);
        link::turn_off("near", segmentation).unwrap();
        assert_eq!(link::offloads("near").unwrap(), [checksum]);
        link::turn_off("near", checksum).unwrap();
        link::turn_off("near", joining).unwrap();
        assert_eq!(link::offloads("near").unwrap(), []);
        assert_eq!(link::offloads("far").unwrap(), new);
        let found = link::channels("near").unwrap().expect("a veth says");
        assert_eq!((found.rx, found.tx), (3, 3));
        assert!(link::index("near").unwrap() > 0);
        assert!(link::index("nothing").is_err());
        let stats = link::stats("near").unwrap();
        for queue in 0..3 {
            for counter in ["drops", "xdp_drops", "xdp_packets"] {
                let name = format!("rx_queue_{queue}_{counter}");
                assert!(stats.iter().any(|(found, _)| *found == name), "{name} in {stats:?}");
            }
        }
        assert!(stats.iter().any(|(name, index)| {
            name == "peer_ifindex" && *index == u64::from(link::index("far").unwrap())
        }));
        // Twice is as good as once, and a name that is none is an error and not a crash.
        link::turn_off("near", vlan).unwrap();
        assert!(link::turn_off("", vlan).is_err());
        assert!(link::stats("a-name-beyond-any-interface").is_err());
    });
}

#[test]
fn a_program_is_taken_off_and_put_on_again() {
    in_netns(|| {
        let arena = arena(2, SMALL);
        veth("near", "far", 1);
        let [mut near, mut far] = ["near", "far"].map(|end| XskPort::open(&arena, end, 1).unwrap());
        far.set_attached(false).unwrap();
        assert!(!far.program().is_attached());
        for _ in 0..2 {
            // Twice is as good as once.
            far.set_attached(true).unwrap();
        }
        assert!(send(&mut near, 0, None, 1, 60));
        near.flush();
        assert_eq!(collect(&mut far, 0, 1).len(), 1);
    });
}

/// What the kernel has is its own affair; that it can be asked, and that nothing is left bound,
/// is not.
#[test]
fn probes_answer_and_leave_nothing_behind() {
    in_netns(|| {
        veth("near", "far", 1);
        let near = link::index("near").unwrap();
        let ask = || {
            let features = [probe::tx_budget(), probe::tx_metadata(), probe::multi_buffer(near)];
            features.map(|answer| answer.unwrap())
        };
        let first = ask();
        let arena = arena(1, SMALL);
        drop(XskPort::open(&arena, "near", 1).unwrap());
        let known = [probe::tx_budget(), probe::tx_metadata()].map(|answer| answer.unwrap());
        assert_eq!(known, first[..2]);
        assert!(probe::multi_buffer(u32::MAX >> 1).is_err(), "no such interface");
    });
}
