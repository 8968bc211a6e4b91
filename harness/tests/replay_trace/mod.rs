//! Playing a trace's input into a lab and comparing what is seen with the trace.

pub(crate) mod kernel;
mod message;
mod own;
pub(crate) mod text;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use datapath::lab::Lab;
use datapath::wire::ethernet;
use harness::pcap::Direction;
use harness::replay::{self, Feed, InputPort, Interfaces, Options, Outcomes};

/// A frame at a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) interface: String,
    pub(crate) direction: Direction,
    pub(crate) frame: Vec<u8>,
}

/// A trace: what is fed in, and every frame at every hop, input included, but no ARP.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    pub(crate) input: Vec<(Option<u64>, InputPort, Vec<u8>)>,
    pub(crate) hops: Vec<Seen>,
    /// The interfaces that are compared; `None` for all.
    pub(crate) captured: Option<BTreeSet<String>>,
    /// Whether IP ids of frames that a node made, and chose the id of, may differ.
    pub(crate) free_ids: bool,
}

/// Feeds `input` and gives every frame at every hop but ARP.
pub(crate) fn play(
    lab: Lab,
    input: Vec<(Option<u64>, InputPort, Vec<u8>)>,
) -> (Vec<Seen>, Outcomes) {
    let names = Interfaces::new(&lab).names().to_vec();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let watched = Rc::clone(&seen);
    let outcomes = replay::run(lab, &Feed::new(input), Options::default(), move |sight| {
        if !is_arp(sight.frame) {
            let interface = names[sight.interface].clone();
            let frame = sight.frame.to_vec();
            watched.borrow_mut().push(Seen { interface, direction: sight.direction, frame });
        }
    });
    (seen.take(), outcomes)
}

pub(crate) fn is_arp(frame: &[u8]) -> bool {
    ethernet::Header::parse(frame).is_some_and(|header| header.ethertype == ethernet::ARP)
}

type Hops<'a> = BTreeMap<(&'a str, Direction), Vec<&'a [u8]>>;

fn by_hop<'a>(seen: &'a [Seen], captured: Option<&BTreeSet<String>>) -> Hops<'a> {
    let mut hops = Hops::new();
    for Seen { interface, direction, frame } in seen {
        if captured.is_none_or(|names| names.contains(interface)) {
            hops.entry((interface, *direction)).or_default().push(frame);
        }
    }
    hops
}

/// Plays a trace and says at which hops it comes out otherwise; the number of frames compared
/// where it does not.
pub(crate) fn compare(lab: Lab, trace: Trace) -> Result<usize, String> {
    let (seen, outcomes) = play(lab, trace.input);
    assert_eq!(outcomes.unbalanced(), Vec::<&str>::new());
    assert_eq!(outcomes.link_lost, 0);
    let expected = by_hop(&trace.hops, trace.captured.as_ref());
    let actual = by_hop(&seen, trace.captured.as_ref());
    let mut wrong = String::new();
    let hops: BTreeSet<_> = expected.keys().chain(actual.keys()).collect();
    for hop in hops {
        let none = Vec::new();
        let (want, got) = (expected.get(hop).unwrap_or(&none), actual.get(hop).unwrap_or(&none));
        for n in 0..want.len().max(got.len()) {
            let (want, got) = (want.get(n).copied(), got.get(n).copied());
            let free = trace.free_ids
                && want.is_some_and(|frame| kernel::made_by_a_node(&trace.hops, frame));
            if blind(want, free) != blind(got, free) {
                let (want, got) = (describe(want), describe(got));
                wrong += &format!("{} {:?} #{n}\n  want {want}\n  got  {got}\n", hop.0, hop.1);
            }
        }
    }
    if wrong.is_empty() { Ok(expected.values().map(Vec::len).sum()) } else { Err(wrong) }
}

/// Where the IP header begins.
fn ip_at(frame: &[u8]) -> usize {
    ethernet::HEADER_LEN + ethernet::tag(frame).map_or(0, |_| ethernet::TAG_LEN)
}

/// A frame to compare by: as it is, or without its IP id and the checksum over it.
fn blind(frame: Option<&[u8]>, free: bool) -> Option<Vec<u8>> {
    let mut frame = frame?.to_vec();
    let ip = ip_at(&frame);
    for byte in [4, 5, 10, 11] {
        if let Some(byte) = frame.get_mut(ip + byte).filter(|_| free) {
            *byte = 0;
        }
    }
    Some(frame)
}

/// A frame for people: tag, addresses, TTL, id, and the bytes.
fn describe(frame: Option<&[u8]>) -> String {
    let Some(frame) = frame else { return "nothing".to_owned() };
    let tag = ethernet::tag(frame).map_or(String::new(), |tag| format!("vlan {} ", tag.id));
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let Some((header, rest)) = frame.get(ip_at(frame)..).and_then(|ip| ip.split_at_checked(20))
    else {
        return hex(frame);
    };
    let address = |at: usize| header[at..at + 4].iter().map(u8::to_string).collect::<Vec<_>>();
    let number =
        |bytes: &[u8], at| bytes.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    format!(
        "{tag}{}:{} > {}:{} proto {} ttl {} id {} | {} {} {}",
        address(12).join("."),
        number(rest, 0),
        address(16).join("."),
        number(rest, 2),
        header[9],
        header[8],
        number(header, 4),
        hex(&frame[..ip_at(frame)]),
        hex(header),
        hex(rest)
    )
}
