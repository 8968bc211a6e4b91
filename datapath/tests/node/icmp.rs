//! ICMP errors about other packets: whose they are, and what nat and ipvs translate in them (spec
//! CT-18, IPVS-32).

use std::net::Ipv4Addr;

use crate::common::*;
use datapath::journey::{FlowState, PortId, Rewriter, Step};
use datapath::node::conntrack::Status;
use datapath::node::{ETH0, ETH1};
use datapath::verdict::DropReason;

const SECOND: u64 = 1_000_000_000;
/// A router on the way.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 9, 9);
const PORT_UNREACHABLE: (u8, u8) = (3, 3);
const FRAG_NEEDED: (u8, u8) = (3, 4);
const REDIRECT: (u8, u8) = (5, 1);
/// Every error that ipvs translates.
const KINDS: [(u8, u8); 6] = [PORT_UNREACHABLE, (3, 1), (3, 0), FRAG_NEEDED, (4, 0), (11, 0)];

fn bench() -> Bench {
    Bench::new(lab_switched(""))
}

/// The packet that a frame carries.
fn packet_of(seen: &Seen) -> Vec<u8> {
    let tag = if View::of(&seen.bytes).vid.is_some() { 4 } else { 0 };
    seen.bytes[14 + tag..].to_vec()
}

/// What leaves when a pod's packet comes.
fn request(bench: &mut Bench, packet: &[u8]) -> Vec<u8> {
    packet_of(&bench.sent(CALI_A, packet))
}

/// A quoted packet: its ends and TTL. Its header's checksum is right.
fn quote(data: &[u8]) -> String {
    assert!(header_holds(&data[..20]), "{data:02x?}");
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&data[at..at + 4]).unwrap());
    let port = |at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
    let (src, dst) = (address(12), address(16));
    format!("{src}:{} > {dst}:{} ttl {}", port(20), port(22), data[8])
}

/// Where an error leaves, from whom, to whom, and what it quotes.
fn told(seen: &Seen) -> (PortId, String, String) {
    let view = seen.view();
    (seen.port, format!("{} > {}", view.src.0, view.dst.0), quote(&view.data))
}

fn says(port: PortId, way: [Ipv4Addr; 2], quoted: &str) -> (PortId, String, String) {
    (port, format!("{} > {}", way[0], way[1]), quoted.to_owned())
}

fn flow_state(bench: &Bench) -> FlowState {
    let state = bench.steps().iter().rev().find_map(|step| match step {
        Step::Flow(state) => Some(*state),
        _ => None,
    });
    state.expect("conntrack's view")
}

#[test]
fn errors_about_a_request_come_from_the_virtual_address_whoever_made_them() {
    for kind in KINDS {
        for maker in [C, N2, ROUTER] {
            let mut bench = bench();
            let sent = request(&mut bench, &udp((A, 1), (FAR, 53), b"?"));
            let mtu = if kind == FRAG_NEEDED { 1_300 } else { 0 };
            let seen = bench.tagged(101, &error(maker, A, kind, mtu, &sent));
            let expected = says(CALI_A, [FAR, A], "10.0.4.27:1 > 192.168.0.10:53 ttl 63");
            assert_eq!(told(&seen[0]), expected, "{kind:?} by {maker}");
            let view = seen[0].view();
            assert_eq!((view.ttl, view.kind), (63, format!("icmp {}/{}", kind.0, kind.1)));
            assert_eq!(seen[0].bytes[38..42], mtu.to_be_bytes(), "the MTU stays");
            assert_eq!(view.data[26..28], sent[26..28], "ipvs leaves the quoted sum as it is");
            assert_eq!(
                (flow_state(&bench), bench.rewriters()),
                (FlowState::Related, vec![Rewriter::IpvsUnDnat])
            );
            let connection = |step: &Step| matches!(step, Step::Connection { vip: (FAR, 53), .. });
            assert!(bench.steps().iter().any(connection));
        }
    }
}

#[test]
fn errors_about_a_masqueraded_request_come_back_to_the_pod() {
    for kind in KINDS {
        for maker in [C, N2, ROUTER] {
            let mut bench = bench();
            let sent = request(&mut bench, &udp((A, 1), (FAR_XIP, 53), b"?"));
            let seen = bench.sent(ETH0, &error(maker, N1, kind, 0, &sent));
            let expected = says(CALI_A, [FAR_XIP, A], "10.0.4.27:1 > 47.1.1.10:53 ttl 63");
            assert_eq!(told(&seen), expected, "{kind:?} by {maker}");
            // nat keeps the quoted sum right, ipvs then leaves it.
            let between = udp((A, 1), (C, 5353), b"?");
            assert_eq!(seen.view().data[26..28], between[26..28]);
            let by = [Rewriter::UnMasquerade, Rewriter::IpvsUnDnat];
            assert_eq!((flow_state(&bench), bench.rewriters()), (FlowState::Related, by.to_vec()));
        }
    }
}

#[test]
fn a_moved_port_is_put_back() {
    let mut bench = Bench::new(lab_with("switches: {masqueradeRandomFully: true}"));
    let sent = request(&mut bench, &tcp((A, 4_000), (FAR_XIP, 80), SYN));
    assert_ne!(sent[20..22], 4_000_u16.to_be_bytes());
    let seen = bench.sent(ETH0, &error(C, N1, PORT_UNREACHABLE, 0, &sent));
    assert_eq!(told(&seen), says(CALI_A, [FAR_XIP, A], "10.0.4.27:4000 > 47.1.1.10:80 ttl 63"));
}

#[test]
fn errors_about_an_answer_go_to_who_sent_it() {
    for (vip, back_to, source) in [(FAR, A, A), (FAR_XIP, N1, N1)] {
        for (maker, ttl) in [(A, 62), (ROUTER, 9)] {
            let mut bench = bench();
            request(&mut bench, &udp((A, 1), (vip, 53), b"?"));
            let answer = udp((C, 5353), (back_to, 1), b"!");
            let way = if back_to == A { ETH1 } else { ETH0 };
            let answer = packet_of(&bench.sent(way, &answer));
            assert_eq!(View::of_packet(&answer).src, (vip, 53));
            let came = if maker == A { CALI_A } else { ETH0 };
            let seen =
                bench.sent(came, &error(maker, vip, PORT_UNREACHABLE, 0, &with_ttl(answer, ttl)));
            // nat makes the node the sender also of what a router says.
            let from = if back_to == N1 { N1 } else { maker };
            let quoted = format!("10.0.5.35:5353 > {source}:1 ttl {ttl}");
            assert_eq!(told(&seen), says(ETH0, [from, C], &quoted), "{vip} by {maker}");
            assert_eq!((seen.view().ttl, seen.view().vid), (63, None));
            assert_eq!(flow_state(&bench), FlowState::Related);
        }
    }
}

#[test]
fn an_error_about_an_answer_is_routed_as_a_request() {
    let keys = "profile: terway-1.4.2\nswitches: {masqueradeRandomFully: false}";
    let mut bench = Bench::new(lab_with(keys));
    let out = bench.sent(CALI_A, &udp((A, 1), (FAR, 53), b"?"));
    assert_eq!((out.port, out.view().vid), (ETH1, Some(101)), "spec ROUTE-11");
    let answer = udp((FAR, 53), (A, 1), b"!");
    let seen = bench.sent(CALI_A, &error(A, FAR, PORT_UNREACHABLE, 0, &answer));
    assert_eq!((seen.port, seen.view().vid), (ETH1, Some(101)));
    assert_eq!(told(&seen), says(ETH1, [A, C], "10.0.5.35:5353 > 10.0.4.27:1 ttl 64"));
}

#[test]
fn errors_of_a_destination_on_this_node_too() {
    let mut bench = bench();
    let sent = request(&mut bench, &udp((A, 1), (NEAR, 53), b"?"));
    let seen = bench.sent(CALI_B, &error(B, A, PORT_UNREACHABLE, 0, &sent));
    assert_eq!(told(&seen), says(CALI_A, [NEAR, A], "10.0.4.27:1 > 192.168.0.11:53 ttl 63"));
    let sent = request(&mut bench, &udp((A, 1), (NEAR_XIP, 53), b"?"));
    let seen = bench.sent(CALI_B, &error(B, N1, PORT_UNREACHABLE, 0, &sent));
    assert_eq!(told(&seen), says(CALI_A, [NEAR_XIP, A], "10.0.4.27:1 > 47.1.1.11:53 ttl 63"));
    // A hairpin: the pod itself refuses what it sent.
    let sent = request(&mut bench, &tcp((A, 1), (OWN, 80), SYN));
    let seen = bench.sent(CALI_A, &error(A, N1, PORT_UNREACHABLE, 0, &sent));
    assert_eq!(told(&seen), says(CALI_A, [OWN, A], "10.0.4.27:1 > 192.168.0.13:80 ttl 63"));
}

#[test]
fn errors_for_the_node_and_by_the_node() {
    let mut bench = bench();
    let sent = packet_of(&bench.sent(HOST, &udp((N1, 7), (FAR, 53), b"?")));
    let seen = bench.sent(ETH0, &error(N2, N1, (3, 1), 0, &sent));
    assert_eq!(told(&seen), says(HOST, [FAR, N1], "10.0.4.20:7 > 192.168.0.10:53 ttl 63"));
    let answer = udp((FAR, 53), (N1, 7), b"!");
    let seen = bench.sent(HOST, &error(N1, FAR, PORT_UNREACHABLE, 0, &answer));
    assert_eq!(told(&seen), says(ETH0, [N1, C], "10.0.5.35:5353 > 10.0.4.20:7 ttl 64"));
    // Without a service nothing is translated.
    let sent = packet_of(&bench.sent(HOST, &udp((N1, 7), (N2, 5), b"?")));
    let seen = bench.sent(ETH0, &error(N2, N1, PORT_UNREACHABLE, 0, &sent));
    assert_eq!(told(&seen), says(HOST, [N2, N1], "10.0.4.20:7 > 10.0.4.244:5 ttl 64"));
    assert_eq!(flow_state(&bench), FlowState::Related);
}

#[test]
fn errors_about_plain_flows_pass_untouched() {
    let mut bench = bench();
    let sent = request(&mut bench, &udp((A, 1), (C, 5), b"?"));
    for kind in KINDS.into_iter().chain([REDIRECT, (12, 0)]) {
        let came = error(ROUTER, A, kind, 0, &sent);
        let seen = bench.tagged(101, &came);
        assert_eq!(seen[0].port, CALI_A);
        assert_eq!(packet_of(&seen[0]), with_ttl(came, 63));
        assert_eq!(flow_state(&bench), FlowState::Related);
    }
    assert_eq!(bench.flows().len(), 1);
}

#[test]
fn eight_bytes_of_the_quoted_transport_are_enough() {
    let mut bench = bench();
    let sent = request(&mut bench, &tcp_data((A, 1), (FAR_XIP, 80), SYN, b"data"));
    let seen = bench.sent(ETH0, &error(C, N1, PORT_UNREACHABLE, 0, &sent[..28]));
    assert_eq!(told(&seen), says(CALI_A, [FAR_XIP, A], "10.0.4.27:1 > 47.1.1.10:80 ttl 63"));
    let seen = bench.sent(ETH0, &error(C, N1, PORT_UNREACHABLE, 0, &sent));
    assert_eq!(told(&seen), says(CALI_A, [FAR_XIP, A], "10.0.4.27:1 > 47.1.1.10:80 ttl 63"));
    let between = tcp_data((A, 1), (C, 8080), SYN, b"data");
    assert_eq!(seen.view().data[36..38], between[36..38], "a whole header's sum follows");
    // With less there are no ports to go by.
    let seen = bench.sent(ETH0, &error(C, N1, PORT_UNREACHABLE, 0, &sent[..27]));
    assert_eq!((seen.port, flow_state(&bench)), (HOST, FlowState::Invalid));
}

#[test]
fn a_quoted_datagram_without_a_sum_stays_without() {
    let mut bench = bench();
    let mut sent = request(&mut bench, &udp((A, 1), (FAR_XIP, 53), b"?"));
    sent[26..28].fill(0);
    let seen = bench.sent(ETH0, &error(C, N1, PORT_UNREACHABLE, 0, &sent));
    assert_eq!(seen.view().data[26..28], [0, 0]);
}

#[test]
fn an_error_renews_neither_flow_nor_connection() {
    let mut bench = bench();
    let sent = request(&mut bench, &udp((A, 1), (FAR_XIP, 53), b"?"));
    for _ in 0..2 {
        bench.wait(14 * SECOND);
        bench.sent(ETH0, &error(C, N1, PORT_UNREACHABLE, 0, &sent));
    }
    let entry = bench.node.conntrack().iter(bench.now).next().expect("a flow").2;
    assert_eq!(entry.deadline.at(bench.now).as_nanos(), 31 * SECOND);
    assert!(!entry.status.contains(Status::SEEN_REPLY), "{:?}", entry.status);
    let connection = bench.node.connections().iter(bench.now).next().expect("a connection");
    assert_eq!(connection.deadline.at(bench.now).as_nanos(), 301 * SECOND);
    bench.wait(3 * SECOND);
    assert_eq!(bench.flows(), [""; 0]);
    // The node's port is nobody's now.
    assert_eq!(bench.sent(ETH0, &error(C, N1, PORT_UNREACHABLE, 0, &sent)).port, HOST);
}

#[test]
fn an_error_that_belongs_to_nothing_goes_on_as_it_is() {
    let mut bench = bench();
    let foreign = udp((A, 1), (C, 5), b"?");
    let came = error(ROUTER, A, (11, 0), 0, &foreign);
    let seen = bench.tagged(101, &came);
    assert_eq!((packet_of(&seen[0]), flow_state(&bench)), (with_ttl(came, 63), FlowState::Invalid));
    let to_vip = error(A, FAR, PORT_UNREACHABLE, 0, &udp((FAR, 53), (A, 1), b"!"));
    assert_eq!(bench.dropped(CALI_A, &to_vip), DropReason::NoService);
    assert_eq!(bench.sent(ETH0, &error(ROUTER, N1, (3, 1), 0, &foreign)).port, HOST);
    // It is told to who sent the quoted packet, and to nobody else.
    let sent = request(&mut bench, &foreign);
    let seen = bench.sent(ETH0, &error(C, B, PORT_UNREACHABLE, 0, &sent));
    assert_eq!((seen.port, flow_state(&bench)), (CALI_B, FlowState::Invalid));
    // What quotes a later fragment has no ports; what is translated already is found no more.
    let fragment = with_ip(sent, |ip| ip.fragment_offset = 9.try_into().expect("an offset"));
    bench.tagged(101, &error(C, A, PORT_UNREACHABLE, 0, &fragment));
    assert_eq!(flow_state(&bench), FlowState::Invalid);
    request(&mut bench, &udp((A, 1), (FAR_XIP, 53), b"?"));
    let translated = error(FAR_XIP, A, PORT_UNREACHABLE, 0, &udp((A, 1), (FAR_XIP, 53), b"?"));
    assert_eq!(bench.dropped(ETH0, &translated), DropReason::MartianSource);
    let translated = error(C, A, PORT_UNREACHABLE, 0, &udp((A, 1), (FAR_XIP, 53), b"?"));
    let seen = bench.sent(ETH0, &translated);
    assert_eq!((packet_of(&seen), bench.rewriters()), (with_ttl(translated, 63), vec![]));
}

#[test]
fn what_cannot_be_translated_is_dropped_by_name() {
    let mut bench = bench();
    let spoilt = |mut error: Vec<u8>| {
        error[30] ^= 1;
        error
    };
    let plain = request(&mut bench, &udp((A, 1), (FAR, 53), b"?"));
    let wrong = spoilt(error(C, A, PORT_UNREACHABLE, 0, &plain));
    assert_eq!(bench.dropped(ETH1, &wrong), DropReason::UntranslatableError);
    assert_eq!(flow_state(&bench), FlowState::Invalid);
    let sent = request(&mut bench, &udp((A, 1), (FAR_XIP, 53), b"?"));
    let redirect = error(ROUTER, N1, REDIRECT, 0, &sent);
    assert_eq!(bench.dropped(ETH0, &redirect), DropReason::UntranslatableError);
    // nat has nothing to do here, and ipvs does not look at redirects.
    let redirect = error(ROUTER, A, REDIRECT, 0, &plain);
    let seen = bench.sent(ETH1, &redirect);
    assert_eq!(packet_of(&seen), with_ttl(redirect, 63));
    // nat does look at a parameter problem, ipvs does not.
    let problem = error(C, N1, (12, 0), 0, &sent);
    let seen = bench.sent(ETH0, &problem);
    assert_eq!(told(&seen), says(CALI_A, [C, A], "10.0.4.27:1 > 10.0.5.35:5353 ttl 63"));
}

#[test]
fn without_vs_conntrack_ipvs_translates_alone() {
    let mut bench = Bench::new(lab_switched("vsConntrack: false"));
    let sent = request(&mut bench, &udp((A, 1), (FAR_XIP, 53), b"?"));
    assert_eq!(View::of_packet(&sent).from(), A);
    let seen = bench.sent(ETH1, &error(N2, A, (3, 1), 0, &sent));
    assert_eq!(told(&seen), says(CALI_A, [FAR_XIP, A], "10.0.4.27:1 > 47.1.1.10:53 ttl 63"));
    let answer = udp((FAR_XIP, 53), (A, 1), b"!");
    let seen = bench.sent(CALI_A, &error(A, FAR_XIP, PORT_UNREACHABLE, 0, &answer));
    assert_eq!(told(&seen), says(ETH0, [A, C], "10.0.5.35:5353 > 10.0.4.27:1 ttl 64"));
    assert_eq!(bench.flows(), [""; 0]);
}

#[test]
fn an_error_about_an_answer_that_passes_through_goes_to_who_sent_it() {
    // Not to the virtual address: ipvs finds it in FORWARD, and takes one more from its TTL.
    let mut bench = bench();
    request(&mut bench, &udp((A, 1), (FAR, 53), b"?"));
    let stray = error(ROUTER, D, (11, 0), 0, &udp((FAR, 53), (A, 1), b"!"));
    let seen = bench.sent(ETH0, &stray);
    assert_eq!(told(&seen), says(ETH0, [ROUTER, C], "10.0.5.35:5353 > 10.0.4.27:1 ttl 64"));
    assert_eq!(seen.view().ttl, 62);
}

#[test]
fn an_error_whose_time_is_over_is_not_answered() {
    let mut bench = bench();
    let sent = request(&mut bench, &udp((A, 1), (FAR, 53), b"?"));
    let late = with_ttl(error(C, A, PORT_UNREACHABLE, 0, &sent), 1);
    assert_eq!(bench.dropped(ETH1, &late), DropReason::TtlExceeded);
    let answer = udp((FAR, 53), (A, 1), b"!");
    let late = with_ttl(error(A, FAR, PORT_UNREACHABLE, 0, &answer), 1);
    assert_eq!(bench.dropped(CALI_A, &late), DropReason::TtlExceeded);
}

#[test]
fn a_neighbour_that_fails_is_told_by_the_virtual_address() {
    for vip in [NEAR, NEAR_XIP] {
        let mut bench = bench();
        bench.sent(CALI_B, &udp((B, 1), (A, 9), b"makes a known"));
        bench.answers = false;
        bench.packet(CALI_A, &udp((A, 1), (vip, 53), b"?"));
        let told_at_last = (0..3).flat_map(|_| bench.wait(SECOND)).collect::<Vec<_>>();
        let expected = format!("10.0.4.27:1 > {vip}:53 ttl 63");
        let errors: Vec<_> = told_at_last.iter().filter(|s| s.arp().is_none()).collect();
        assert_eq!(errors.len(), 1, "{vip}");
        assert_eq!(told(errors[0]), says(CALI_A, [vip, A], &expected));
        assert_eq!(errors[0].view().ttl, 64);
    }
}

#[test]
fn no_quote_upsets_the_node() {
    let mut state = 7_u32;
    let mut below = |bound: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % bound
    };
    let mut bench = bench();
    let mut quotes = Vec::new();
    for vip in [FAR, FAR_XIP, NEAR, NEAR_XIP, C, B] {
        quotes.push(request(&mut bench, &udp((A, 1), (vip, 53), b"datagram")));
        quotes.push(request(&mut bench, &tcp((A, 1), (vip, 80), SYN)));
        quotes.push(udp((vip, 53), (A, 1), b"answer"));
    }
    quotes.push(ping(A, C, 5));
    for quote in &quotes {
        let sender = Ipv4Addr::from(<[u8; 4]>::try_from(&quote[12..16]).expect("a source"));
        for len in 0..=quote.len() {
            for kind in [PORT_UNREACHABLE, FRAG_NEEDED, REDIRECT, (11, 0), (12, 0)] {
                bench.packet(ETH0, &error(ROUTER, sender, kind, 0, &quote[..len]));
                bench.packet(CALI_A, &error(A, sender, kind, 0, &quote[..len]));
            }
        }
        for _ in 0..200 {
            let mut broken = quote.clone();
            for _ in 0..=below(3) {
                let at = below(broken.len());
                broken[at] = u8::try_from(below(256)).expect("a byte");
            }
            for (port, from) in [(ETH0, ROUTER), (CALI_A, A), (HOST, N1)] {
                bench.packet(port, &error(from, sender, PORT_UNREACHABLE, 0, &broken));
            }
        }
    }
}
