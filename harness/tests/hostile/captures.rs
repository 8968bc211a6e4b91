//! Captures whose lengths and numbers lie.

#[path = "../replay_captures/mod.rs"]
mod replay_captures;

use harness::pcap::{CaptureError, read};
use replay_captures::{Ng, pcap};

use crate::capture::check;

const MICROSECONDS: u32 = 0xa1b2_c3d4;

/// A length of 4 GiB is a capture that ends too early, not memory that is taken.
#[test]
fn lengths_of_four_gibibytes() {
    let sound = Ng::new(false).interface("a").packet(0, 1, b"1234", 0).bytes;
    // The last block begins at byte 68; its length, and what it says was captured.
    for (at, len) in [(72, u32::MAX - 3), (72, 1 << 31), (88, u32::MAX), (92, u32::MAX)] {
        let mut file = sound.clone();
        file[at..at + 4].copy_from_slice(&len.to_le_bytes());
        check(&file);
        if at == 72 {
            let what = "packet 1".to_owned();
            assert_eq!(read(&file), Err(CaptureError::CutShort { what, offset: 68 }));
        }
    }
    let mut old = pcap(MICROSECONDS, false, &[(1, 0)]);
    for len in [u32::MAX, 1 << 31] {
        old[32..36].copy_from_slice(&len.to_le_bytes());
        let what = "packet 1".to_owned();
        assert_eq!(read(&old), Err(CaptureError::CutShort { what, offset: 24 }));
    }
}

#[test]
fn cut_at_every_byte() {
    let simple = [0, 0, 0, 4, 1, 2, 3, 4];
    let ng = Ng::new(true).interface("a").packet(0, 1, b"123", 2).block(3, &simple);
    let ng = ng.section(false).interface("b").packet(0, 2, &[7; 60], 1).bytes;
    for file in [ng, pcap(MICROSECONDS, true, &[(1, 0), (2, 0)])] {
        (0..=file.len()).for_each(|len| check(&file[..len]));
    }
}

#[test]
fn interfaces_of_every_kind_in_one_file() {
    let mut file = Ng::new(false);
    for link_type in [1, 0, 101, 113, 276, u16::MAX] {
        file = file.interface_with(link_type, 0, &[]);
    }
    for interface in [0, 5, 2, 0, 3, 1, 4] {
        file = file.packet(interface, 1, &[1; 20], 0);
        check(&file.bytes);
    }
    check(&file.clone().packet(6, 1, &[], 0).bytes);
    check(&file.packet(u32::MAX, 1, &[], 0).bytes);
}
