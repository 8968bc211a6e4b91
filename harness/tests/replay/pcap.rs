//! Reading and writing captures.

use crate::replay_captures::{Ng, pcap};
use harness::pcap::{Capture, CaptureError, Direction, Writer, read};
use proptest::prelude::*;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

fn times(capture: &Capture<'_>) -> Vec<Option<u64>> {
    capture.packets.iter().map(|packet| packet.at).collect()
}

#[test]
fn pcap_in_both_resolutions_and_byte_orders() {
    for big_endian in [false, true] {
        for (magic, nanos) in [(MICROSECONDS, 1_000), (NANOSECONDS, 1)] {
            let file = pcap(magic, big_endian, &[(7, 1), (u32::MAX, 999_999)]);
            let capture = read(&file).expect("a sound file");
            let last = 4_294_967_295_000_000_000 + 999_999 * nanos;
            assert_eq!(times(&capture), [Some(7_000_000_000 + nanos), Some(last)]);
            let second = capture.packets.get(1).expect("two packets");
            assert_eq!((second.number, second.data, second.is_cut()), (2, &[2; 60][..], false));
        }
    }
}

#[test]
fn pcap_fraction_above_a_second_is_no_panic() {
    let file = pcap(MICROSECONDS, false, &[(1, u32::MAX)]);
    assert_eq!(times(&read(&file).expect("read")), [Some(4_295_967_295_000)]);
}

#[test]
fn pcap_cut_short_names_packet_and_place() {
    let file = pcap(MICROSECONDS, false, &[(1, 0), (2, 0)]);
    let error = read(&file[..file.len() - 1]).expect_err("cut");
    assert_eq!(error, CaptureError::CutShort { what: "packet 2".into(), offset: 24 + 76 });
}

#[test]
fn pcapng_in_both_byte_orders_with_directions() {
    for big_endian in [false, true] {
        let file = Ng::new(big_endian)
            .interface("a")
            .interface("b")
            .packet(1, 5, b"out", 2)
            .packet(0, 6, b"in", 1)
            .packet(0, 7, b"none", 0)
            .bytes;
        let capture = read(&file).expect("a sound file");
        let names: Vec<_> = capture.interfaces.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let packets: Vec<_> =
            capture.packets.iter().map(|p| (p.number, p.interface, p.direction, p.data)).collect();
        let expected = [
            (1, 1, Some(Direction::Outbound), &b"out"[..]),
            (2, 0, Some(Direction::Inbound), b"in"),
            (3, 0, None, b"none"),
        ];
        assert_eq!(packets, expected);
        assert_eq!(times(&capture), [Some(5), Some(6), Some(7)]);
    }
}

#[test]
fn sections_count_their_interfaces_from_zero_and_may_turn_byte_order() {
    let file = Ng::new(false)
        .interface("first")
        .packet(0, 1, b"1", 0)
        .section(true)
        .interface("second")
        .packet(0, 2, b"2", 0)
        .bytes;
    let capture = read(&file).expect("a sound file");
    let of: Vec<_> = capture.packets.iter().map(|p| p.interface).collect();
    assert_eq!(of, [0, 1]);
    let of_the_first_section =
        Ng::new(false).interface("first").section(false).packet(0, 1, b"", 0);
    let error = read(&of_the_first_section.bytes).expect_err("undeclared");
    assert_eq!(error, CaptureError::UnknownInterface { number: 1, interface: 0, declared: 0 });
}

/// Nanoseconds of a packet at `ticks` on an interface with these two options.
fn nanos(resolution: Option<u8>, offset: Option<i64>, ticks: u64) -> Result<u64, CaptureError> {
    let ng = Ng::new(false);
    let options = [
        resolution.map_or_else(Vec::new, |r| ng.option(9, &[r])),
        offset.map_or_else(Vec::new, |o| ng.option(14, &o.to_le_bytes())),
    ]
    .concat();
    let file = ng.interface_with(1, 0, &options).packet(0, ticks, b"", 0).bytes;
    Ok(read(&file)?.packets.first().and_then(|packet| packet.at).expect("one packet with a time"))
}

#[test]
fn timestamps_in_every_resolution() {
    assert_eq!(nanos(None, None, 3), Ok(3_000), "microseconds unless said");
    assert_eq!(nanos(Some(0), None, 3), Ok(3_000_000_000));
    assert_eq!(nanos(Some(3), None, 3), Ok(3_000_000));
    assert_eq!(nanos(Some(9), None, u64::MAX), Ok(u64::MAX));
    assert_eq!(nanos(Some(12), None, 3_999), Ok(3));
    assert_eq!(nanos(Some(127), None, u64::MAX), Ok(0));
    assert_eq!(nanos(Some(0x80 | 10), None, 1_536), Ok(1_500_000_000));
    assert_eq!(nanos(Some(0xff), None, u64::MAX), Ok(0));
    assert_eq!(nanos(Some(9), Some(100), 5), Ok(100_000_000_005));
    assert_eq!(nanos(Some(9), Some(-1), 1_000_000_001), Ok(1));
    assert_eq!(nanos(Some(9), Some(-1), 0), Err(CaptureError::TimeOutOfRange(1)));
    assert_eq!(nanos(Some(0), None, u64::MAX), Err(CaptureError::TimeOutOfRange(1)));
    assert_eq!(nanos(Some(0x80), None, u64::MAX), Err(CaptureError::TimeOutOfRange(1)));
}

#[test]
fn simple_packets_end_at_the_snap_length_and_tell_no_time() {
    let simple = |len: u32, data: &[u8]| [&len.to_le_bytes()[..], data].concat();
    let file = Ng::new(false)
        .interface_with(1, 6, &[])
        .block(3, &simple(5, b"whole"))
        .block(3, &simple(9, b"cut of"))
        .bytes;
    let capture = read(&file).expect("a sound file");
    let seen: Vec<_> = capture.packets.iter().map(|p| (p.data, p.is_cut(), p.at)).collect();
    assert_eq!(seen, [(&b"whole"[..], false, None), (b"cut of", true, None)]);
    let file = Ng::new(false).interface_with(1, 0, &[]).block(3, &simple(9, b"cut of")).bytes;
    assert!(matches!(read(&file), Err(CaptureError::Malformed { .. })));
}

#[test]
fn obsolete_packets_are_read() {
    let words = [7_u32 << 16, 0, 9, 3, 3].map(u32::to_le_bytes).concat();
    let flags = [&[2, 0, 4, 0][..], &2_u32.to_le_bytes()].concat();
    let body = [&words[..], b"old\0", &flags].concat();
    let file = Ng::new(false).interface("a").block(2, &body).bytes;
    let capture = read(&file).expect("a sound file");
    let packet = capture.packets.first().expect("one packet");
    assert_eq!((packet.interface, packet.at, packet.data), (0, Some(9), &b"old"[..]));
    assert_eq!(packet.direction, Some(Direction::Outbound));
}

#[test]
fn what_other_programs_write_is_read() {
    let ng = Ng::new(false);
    // Options that end with the block, an if_tzone, a name that is not UTF-8.
    let options = [ng.option(10, &[0; 4]), ng.option(2, b"caf\xe9")].concat();
    let file = ng
        .block(0x0000_0bad, b"a vendor's own")
        .interface_with(1, 65_535, &options)
        .interface_with(1, 65_535, &[])
        .packet(0, 1, b"x", 0)
        .bytes;
    let capture = read(&file).expect("a sound file");
    let names: Vec<_> = capture.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["caf\u{fffd}", "1"], "an interface without a name has its number");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let message = |bytes: &[u8]| read(bytes).expect_err("a mistake").to_string();
    assert_eq!(message(b"GIF89a"), "neither pcap nor pcapng: the file begins with 47 49 46 38");
    assert_eq!(message(b""), "0 bytes are too few for a pcap or pcapng file");
    let sound = Ng::new(false).interface("a").packet(0, 1, b"1234", 0).bytes;
    let cut = message(&sound[..sound.len() - 2]);
    assert_eq!(cut, "the file ends inside packet 1, which begins at byte 68");
    let mut lengths = sound.clone();
    lengths[sound.len() - 4] += 4;
    assert_eq!(message(&lengths), "packet 1 at byte 68: its two lengths differ");
    let mut captured = sound.clone();
    captured[68 + 8 + 12] = 200;
    let holds = "packet 1 at byte 68: it holds fewer bytes than it says were captured";
    assert_eq!(message(&captured), holds);
    let mut version = sound;
    version[12] = 2;
    assert_eq!(message(&version), "section header at byte 0: its version is not 1.x");
}

#[test]
fn what_is_written_reads_back() {
    let mut writer = Writer::new(Vec::new(), ["pod:t/a", "ecs1/eth0"]).expect("memory");
    let at = 1_700_000_000_123_456_789;
    writer.packet(1, at, Direction::Outbound, b"odd").expect("memory");
    writer.packet(0, at + 1, Direction::Inbound, &[7; 64]).expect("memory");
    let file = writer.into_inner();
    let capture = read(&file).expect("a sound file");
    let names: Vec<_> = capture.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["pod:t/a", "ecs1/eth0"]);
    assert_eq!(times(&capture), [Some(at), Some(at + 1)]);
    let seen: Vec<_> = capture.packets.iter().map(|p| (p.interface, p.direction, p.data)).collect();
    let expected =
        [(1, Some(Direction::Outbound), &b"odd"[..]), (0, Some(Direction::Inbound), &[7; 64][..])];
    assert_eq!(seen, expected);
}

proptest! {
    /// Whatever a file holds, reading it ends, and without a panic.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
        for magic in [MICROSECONDS, NANOSECONDS, 0x0a0d_0d0a] {
            let _ = read(&[&magic.to_be_bytes()[..], &bytes].concat());
            let _ = read(&[&magic.to_le_bytes()[..], &bytes].concat());
        }
    }

    /// A sound file with some bytes changed gets past the first checks more often.
    #[test]
    fn a_spoilt_file_is_read_or_refused(
        big_endian: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let simple = [0, 0, 0, 0, 1, 2, 3, 4];
        let ng = Ng::new(big_endian).interface("a").packet(0, 1, b"123", 2).block(3, &simple);
        let sound = ng.section(!big_endian).interface("b").packet(0, 2, b"4567", 1).bytes;
        for mut file in [sound, pcap(NANOSECONDS, big_endian, &[(1, 2), (3, 4)])] {
            for (place, byte) in &changes {
                let place = place.index(file.len());
                file[place] = *byte;
            }
            let _ = read(&file);
            file.truncate(cut.index(file.len()));
            let _ = read(&file);
        }
    }

    /// What the writer writes is read back as it was given.
    #[test]
    fn any_frames_survive(
        frames in prop::collection::vec((0..3_usize, any::<u64>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..8),
    ) {
        let mut writer = Writer::new(Vec::new(), ["a", "b", "c"]).expect("memory");
        let direction = |out| if out { Direction::Outbound } else { Direction::Inbound };
        for (interface, at, out, frame) in &frames {
            writer.packet(*interface, *at, direction(*out), frame).expect("memory");
        }
        let file = writer.into_inner();
        let capture = read(&file).expect("a sound file");
        prop_assert_eq!(capture.packets.len(), frames.len());
        for (packet, (interface, at, out, frame)) in capture.packets.iter().zip(&frames) {
            prop_assert_eq!(packet.interface, *interface);
            prop_assert_eq!(packet.at, Some(*at));
            prop_assert_eq!(packet.direction, Some(direction(*out)));
            prop_assert_eq!(packet.data, &frame[..]);
        }
    }
}
