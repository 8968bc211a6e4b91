//! Bytes of any kind, as a capture to replay.

use std::path::Path;

use datapath::lab::load;
use harness::pcap::{self, Capture, Direction, Writer};
use harness::replay::{self, Feed, InputPort, LONGEST_SPAN, Options, choose};

/// Packets that are replayed, so that one input takes no long time.
const REPLAYED: usize = 16;

/// Reads the capture: an error that names its place, or packets that lie in the file, survive
/// being written, and can be replayed.
pub(crate) fn check(bytes: &[u8]) {
    let capture = match pcap::read(bytes) {
        Ok(capture) => capture,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for (number, packet) in (1..).zip(&capture.packets) {
        assert_eq!(packet.number, number);
        assert!(packet.interface < capture.interfaces.len());
        let range = bytes.as_ptr_range();
        let within = packet.data.as_ptr_range();
        assert!(range.start <= within.start && within.end <= range.end);
    }
    assert_survives(&capture);
    let named = capture.interfaces.first().map(|interface| interface.name.as_str());
    for interface in [None, named, Some("none of them")] {
        match choose(&capture, Path::new("file"), interface) {
            Ok(chosen) => replay(chosen.packets.iter().map(|p| (p.at, p.data.to_vec())).collect()),
            Err(error) => assert!(error.to_string().starts_with("file: ")),
        }
    }
}

/// What was read is read again from what the writer makes of it.
fn assert_survives(capture: &Capture<'_>) {
    let names = capture.interfaces.iter().map(|interface| interface.name.as_str());
    let mut writer = Writer::new(Vec::new(), names).expect("memory");
    for packet in &capture.packets {
        let direction = packet.direction.unwrap_or(Direction::Inbound);
        let at = packet.at.unwrap_or(0);
        writer.packet(packet.interface, at, direction, packet.data).expect("memory");
    }
    let written = writer.into_inner();
    let again = pcap::read(&written).expect("a sound file");
    assert_eq!(again.packets.len(), capture.packets.len());
    for (one, other) in capture.packets.iter().zip(&again.packets) {
        assert_eq!((one.data, one.at.or(Some(0))), (other.data, other.at));
    }
}

fn replay(mut packets: Vec<(Option<u64>, Vec<u8>)>) {
    packets.truncate(REPLAYED);
    let times = || packets.iter().filter_map(|(at, _)| *at);
    if times().max().zip(times().min()).is_some_and(|(last, first)| last - first > LONGEST_SPAN) {
        return;
    }
    let text = include_str!("../../../datapath/tests/common/lab.yaml");
    let lab = load(&format!("{text}\nlimits: {{flows: 16, sessions: 16}}\n"), "lab.yaml");
    let lab = lab.expect("a lab");
    let port = InputPort::find(&lab, "node:n1/eth1").expect("a port");
    let frames = packets.into_iter().map(|(at, bytes)| (at, port, bytes)).collect();
    let outcomes = replay::run(lab, &Feed::new(frames), Options::default(), |_| {});
    assert_eq!(outcomes.unbalanced(), [""; 0]);
}
