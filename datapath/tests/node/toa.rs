//! TOA: which segments tell the destination who the client is, and what becomes of their headers
//! (spec FNAT-20 to FNAT-26). Every frame's checksums are checked by etherparse.

use crate::common::*;
use datapath::journey::Step;
use datapath::node::{ETH0, ToaCounters};
use datapath::wire::tcp::Flags;
use datapath::wire::toa::NoToa;

const SERVER: Addr = (C, 8080);
const FROM: Addr = (CLIENT, 40_000);
const TO: Addr = (FNAT, 80);
/// FROM as the option has it.
const TOA: [u8; 8] = [254, 8, 0x9c, 0x40, 198, 51, 100, 7];
const MSS: [u8; 4] = [2, 4, 0x05, 0xb4];
const NOP: u8 = 1;

fn bench() -> Bench {
    Bench::new(lab_fnat("2000-2999", "toa: true"))
}

/// The client's segment as it leaves.
fn ask(bench: &mut Bench, flags: Flags, ack: u32, options: &[u8], data: &[u8]) -> Seen {
    bench.sent(ETH0, &segment((FROM, TO), flags, (500, ack), options, data))
}

/// Opens a connection; its source at the destination, whose first byte has number 101.
fn open(bench: &mut Bench) -> Addr {
    let local = ask(bench, SYN, 0, &[], b"").view().src;
    bench.sent(ETH0, &segment((SERVER, local), SYN_ACK, (100, 501), &MSS, b""));
    local
}

#[test]
fn the_syn_tells_of_the_client_before_its_other_options() {
    let mut bench = bench();
    let seen = ask(&mut bench, SYN, 0, &MSS, b"");
    assert_eq!(options_of(&seen.bytes), [&TOA[..], &MSS].concat());
    assert_eq!(seen.view().dst, SERVER);
    assert!(bench.steps().contains(&Step::ToaInserted(CLIENT, 40_000)));
    assert_eq!(bench.node.toa_counters().inserted, 1);
}

#[test]
fn so_does_what_acknowledges_only_the_destinations_syn() {
    let mut bench = bench();
    open(&mut bench);
    let seen = ask(&mut bench, ACK, 101, &[], b"");
    assert_eq!(options_of(&seen.bytes), TOA);
    let seen = ask(&mut bench, ACK, 101, &[], b"GET /");
    assert_eq!((options_of(&seen.bytes), seen.view().data), (TOA.to_vec(), b"GET /".to_vec()));
    for (flags, ack) in [(ACK, 102), (FIN, 101), (RST | ACK, 101)] {
        let seen = ask(&mut bench, flags, ack, &[], b"");
        assert!(options_of(&seen.bytes).is_empty(), "{flags:?} {ack}");
    }
    assert_eq!(bench.node.toa_counters(), ToaCounters { inserted: 3, ..Default::default() });
}

#[test]
fn answers_offer_a_segment_size_that_leaves_room() {
    let mut bench = bench();
    let local = ask(&mut bench, SYN, 0, &[], b"").view().src;
    // At an even and at an odd place of the header.
    for options in [[2, 4, 5, 180, 1, 1, 1, 1], [1, 2, 4, 5, 180, 1, 1, 1]] {
        let answer = segment((SERVER, local), SYN_ACK, (100, 501), &options, b"");
        let seen = bench.sent(ETH0, &answer);
        let lowered = options.map(|byte| if byte == 180 { 172 } else { byte });
        assert_eq!(options_of(&seen.bytes), lowered);
        assert_eq!(seen.view().tuple(), (TO, FROM));
    }
}

#[test]
fn timestamps_of_the_syn_are_blanked_with_toa_or_without() {
    let options = [4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];
    let blanked = [[4, 2].to_vec(), vec![NOP; 10]].concat();
    for (toa, before) in [("true", &TOA[..]), ("false", &[])] {
        let mut bench = Bench::new(lab_fnat("2000-2999", &format!("toa: {toa}")));
        let seen = ask(&mut bench, SYN, 0, &options, b"");
        assert_eq!(options_of(&seen.bytes), [before, &blanked].concat());
    }
}

#[test]
fn a_segment_without_room_goes_without_and_is_counted() {
    let mut bench = bench();
    open(&mut bench);
    let full = [NOP; 36];
    let seen = ask(&mut bench, ACK, 101, &full, b"");
    assert_eq!(options_of(&seen.bytes), full);
    assert!(bench.steps().contains(&Step::ToaLeftOut(NoToa::OptionsFull)));
    // 20 and 20 bytes of headers: one byte of data more would be too much with the option.
    let seen = ask(&mut bench, ACK, 101, &[], &[7; 1_453]);
    assert!(options_of(&seen.bytes).is_empty());
    assert!(bench.steps().contains(&Step::ToaLeftOut(NoToa::TooLarge)));
    let seen = ask(&mut bench, ACK, 101, &[], &[7; 1_452]);
    assert_eq!((options_of(&seen.bytes), seen.view().data), (TOA.to_vec(), vec![7; 1_452]));
    let counted = ToaCounters { inserted: 2, too_large: 1, no_room: 1 };
    assert_eq!(bench.node.toa_counters(), counted);
}

#[test]
fn datagrams_and_services_without_it_carry_none() {
    let mut bench = bench();
    bench.sent(ETH0, &udp(FROM, (FNAT, 53), b"?"));
    assert_eq!(bench.node.toa_counters(), ToaCounters::default());
    let mut bench = Bench::new(lab_fnat("2000-2999", "toa: false"));
    assert!(options_of(&ask(&mut bench, SYN, 0, &[], b"").bytes).is_empty());
}

#[test]
fn a_journey_shows_what_a_segment_tells() {
    let mut bench = bench();
    let option = [&TOA[..]].concat();
    ask(&mut bench, SYN, 0, &option, b"");
    assert!(bench.steps().contains(&Step::ToaSeen(CLIENT, 40_000)));
}
