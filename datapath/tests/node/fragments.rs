//! Fragments through a node: gathered before conntrack, cut on leaving (spec FRAG).

use std::net::Ipv4Addr;

use crate::common::*;
use datapath::element::Element;
use datapath::journey::{FlowState, PortId, Step};
use datapath::node::{ETH0, ETH1};
use datapath::verdict::DropReason;

const SECOND: u64 = 1_000_000_000;

fn bench() -> Bench {
    Bench::new(lab_switched(""))
}

/// A datagram that needs three frames.
fn large(src: Addr, dst: Addr) -> Vec<u8> {
    let data: Vec<u8> = (0..4_000_u16).map(|n| n.to_le_bytes()[0]).collect();
    loose(udp(src, dst, &data))
}

/// Puts packets in at a port; what came out after each.
fn put(bench: &mut Bench, port: PortId, packets: &[Vec<u8>]) -> Vec<Vec<Seen>> {
    packets.iter().map(|packet| bench.packet(port, packet)).collect()
}

/// What came out, all by one port, put together.
fn whole(seen: &[Seen]) -> (PortId, View) {
    assert!(seen.iter().all(|s| s.port == seen[0].port));
    let packet = joined(seen.iter().map(|seen| packet_of(&seen.bytes)));
    assert!(checksums_hold(&packet), "{packet:02x?}");
    (seen[0].port, View::of(&frame_around(&seen[0], &packet)))
}

fn frame_around(seen: &Seen, packet: &[u8]) -> Vec<u8> {
    let header = seen.bytes.len() - packet_of(&seen.bytes).len();
    [&seen.bytes[..header], packet].concat()
}

/// Sizes of the packets in frames.
fn sizes(seen: &[Seen]) -> Vec<usize> {
    seen.iter().map(|seen| packet_of(&seen.bytes).len()).collect()
}

fn lost(bench: &Bench, reason: DropReason) -> u64 {
    bench.node.ledger().dropped.of(reason)
}

#[test]
fn a_datagram_is_translated_whole_and_leaves_in_order_when_the_last_fragment_has_come() {
    let mut bench = bench();
    let mut fragments = cut(&large((A, 40_000), (NEAR, 53)), 1_480);
    fragments.swap(0, 2);
    let seen = put(&mut bench, CALI_A, &fragments);
    assert_eq!((seen[0].len(), seen[1].len()), (0, 0), "nothing leaves before the last");
    assert_eq!(sizes(&seen[2]), [1_500, 1_500, 1_068]);
    let (port, view) = whole(&seen[2]);
    assert_eq!((port, view.tuple()), (CALI_B, ((A, 40_000), (B, 5353))));
    assert_eq!((view.ttl, view.id, view.dont_fragment), (63, 0x1234, false));
    assert_eq!(view.data.len(), 4_000);
    assert_eq!(bench.flows().len(), 1);
    let steps: Vec<_> = bench.hops.iter().flat_map(|hop| hop.steps.iter().copied()).collect();
    assert!(steps.contains(&Step::Gathered(3)) && steps.contains(&Step::Cut(3)), "{steps:?}");
    let ledger = bench.node.ledger();
    assert_eq!((ledger.absorbed, ledger.made, bench.node.held()), (2, 3, 0), "one is for ARP");
}

#[test]
fn an_answer_gets_its_virtual_address_back_whole() {
    let mut bench = bench();
    bench.sent(CALI_A, &udp((A, 40_000), (FAR_XIP, 53), b"?"));
    let answer = cut(&large((C, 5353), (N1, 40_000)), 1_480);
    let seen = put(&mut bench, ETH0, &answer);
    let (port, view) = whole(&seen[2]);
    assert_eq!((port, view.tuple()), (CALI_A, ((FAR_XIP, 53), (A, 40_000))));
    // By the trunk every fragment has the tag of its source.
    let seen = put(&mut bench, CALI_A, &cut(&large((A, 9), (C, 9)), 1_480));
    assert!(seen[2].iter().all(|s| (s.port, s.queue) == (ETH1, 1) && s.view().vid == Some(101)));
}

#[test]
fn fragments_that_fit_leave_as_they_came_and_others_are_cut_anew() {
    let packet = large((A, 1), (B, 9));
    let uneven = fragments_of(&packet, &[800, 1_200, 8, 640]);
    let seen = put(&mut bench(), CALI_A, &uneven).concat();
    assert_eq!(sizes(&seen), [820, 1_220, 28, 660, 1_380]);
    let mut lab = lab_switched("");
    lab.pods[POD_B].mtu = 1_001;
    let mut bench = Bench::new(lab);
    let seen = put(&mut bench, CALI_A, &uneven).concat();
    assert_eq!(sizes(&seen), [996, 996, 996, 996, 124], "multiples of eight, then the rest");
    assert_eq!(whole(&seen).1.data.len(), 4_000);
}

#[test]
fn a_packet_above_the_mtu_is_cut_where_it_may_be() {
    let mut lab = lab_switched("");
    lab.pods[POD_B].mtu = 576;
    let mut bench = Bench::new(lab);
    for dst in [(B, 9), (NEAR, 53)] {
        let seen = bench.packet(CALI_A, &loose(udp((A, 1), dst, &[7; 1_472])));
        assert_eq!(sizes(&seen), [572, 572, 396]);
        assert_eq!(whole(&seen).1.data, [7; 1_472]);
        assert_eq!(bench.refused(CALI_A, &udp((A, 1), dst, &[7; 1_472])).1.kind, "icmp 3/4");
    }
}

#[test]
fn fragments_that_may_not_be_cut_are_refused_only_where_one_of_them_is_too_large() {
    let mut lab = lab_switched("");
    lab.pods[POD_B].mtu = 1_000;
    let mut bench = Bench::new(lab);
    let strict = |size| cut(&udp((A, 1), (B, 9), &[7; 1_600]), size);
    let seen = put(&mut bench, CALI_A, &strict(976)).concat();
    assert_eq!(sizes(&seen), [996, 652]);
    assert!(!whole(&seen).1.dont_fragment, "the flag is gone");
    let seen = put(&mut bench, CALI_A, &strict(984)).concat();
    assert_eq!((seen.len(), seen[0].view().kind.as_str()), (1, "icmp 3/4"));
    assert_eq!(seen[0].view().data.len() + 28, 576, "quotes the packet as a whole");
    assert_eq!(bench.reason(), DropReason::MtuExceeded);
    // A small fragment with the flag does not make the packet one that has it.
    let mut mixed = fragments_of(&loose(udp((A, 1), (B, 9), &[7; 1_600])), &[64, 984]);
    mixed[0] = with_ip(mixed[0].clone(), |ip| ip.dont_fragment = true);
    let seen = put(&mut bench, CALI_A, &mixed).concat();
    assert_eq!(sizes(&seen), [996, 652]);
    // ipvs looks at the packet's size alone.
    let toward_service = cut(&udp((A, 1), (NEAR, 53), &[7; 1_600]), 976);
    let seen = put(&mut bench, CALI_A, &toward_service).concat();
    assert_eq!(seen[0].view().to_string(), "icmp 3/4 192.168.0.11:0 > 10.0.4.27:0 ttl 64");
}

#[test]
fn a_way_that_narrows_behind_ipvs_is_told_from_the_virtual_address() {
    let mut lab = lab_with("profile: terway-1.4.2\nswitches: {icmpRatelimit: 0}");
    lab.nodes[0].trunk_mtu = 1_400;
    let mut bench = Bench::new(lab);
    let (reason, answer) = bench.refused(CALI_A, &udp((A, 1), (FAR, 53), &[7; 1_472]));
    assert_eq!(reason, DropReason::MtuExceeded);
    assert_eq!(answer.to_string(), "icmp 3/4 192.168.0.10:0 > 10.0.4.27:0 ttl 64");
    let quoted = &answer.data;
    assert_eq!(
        quoted[12..24],
        [A.octets(), FAR.octets(), [0, 1, 0, 53]].concat(),
        "as it was sent"
    );
    let seen = bench.packet(CALI_A, &loose(udp((A, 1), (FAR, 53), &[7; 1_472])));
    assert_eq!((sizes(&seen), seen[0].port), (vec![1_396, 124], ETH1));
}

#[test]
fn what_came_before_is_dropped_alone() {
    let mut bench = bench();
    let fragments = cut(&large((A, 1), (B, 9)), 1_480);
    bench.packet(CALI_A, &fragments[0]);
    bench.packet(CALI_A, &fragments[1]);
    assert_eq!(bench.dropped(CALI_A, &fragments[1]), DropReason::FragmentDuplicate);
    let within = fragments_of(&large((A, 1), (B, 9)), &[1_472, 16]).remove(1);
    assert_eq!(bench.dropped(CALI_A, &within), DropReason::FragmentDuplicate);
    let seen = bench.packet(CALI_A, &fragments[2]);
    assert_eq!(whole(&seen).1.data.len(), 4_000);
    // All of it gone on, a fragment is the first of a packet again.
    assert!(bench.packet(CALI_A, &fragments[2]).is_empty());
    assert_eq!(bench.node.held(), 1);
}

#[test]
fn what_contradicts_the_others_spoils_the_packet() {
    let packet = large((A, 1), (B, 9));
    let good = cut(&packet, 1_480);
    let other = |sizes: &[usize], at: usize| fragments_of(&packet, sizes).remove(at);
    let shorter = cut(&packet[..3_000], 1_480).remove(2);
    let empty = with_ip(good[1][..20].to_vec(), |ip| ip.total_len = 20);
    let short = with_ip(good[1][..27].to_vec(), |ip| ip.total_len = 27);
    let last = |offset| with_ip(good[2].clone(), |ip| ip.fragment_offset = offset);
    let far = last(etherparse::IpFragOffset::try_new(8_000).expect("an offset"));
    let beyond = with_ip(far.clone(), |ip| ip.more_fragments = true);
    let ecn = |packet: &Vec<u8>| with_ip(packet.clone(), |ip| ip.ecn = 1.try_into().expect("bits"));
    let (overlap, invalid) = (DropReason::FragmentOverlap, DropReason::FragmentInvalid);
    let cases = [
        (vec![good[0].clone(), other(&[1_472], 1)], overlap),
        (vec![good[1].clone(), other(&[1_488], 0)], overlap),
        (
            vec![good[0].clone(), good[2].clone(), other(&[1_472, 8, 8], 2), good[1].clone()],
            overlap,
        ),
        // All of the last one has come, but not one behind the other.
        (
            vec![good[0].clone(), good[2].clone(), other(&[1_480, 520], 1), other(&[2_000], 0)],
            overlap,
        ),
        (vec![good[2].clone(), beyond.clone()], invalid),
        (vec![beyond, good[2].clone()], invalid),
        (vec![good[2].clone(), shorter], invalid),
        (vec![good[0].clone(), empty], invalid),
        (vec![good[0].clone(), short], invalid),
        (vec![good[0].clone(), ecn(&good[1]), good[2].clone()], invalid),
    ];
    for (fragments, reason) in cases {
        let mut bench = bench();
        let seen = put(&mut bench, CALI_A, &fragments).concat();
        assert_eq!((seen.len(), bench.node.held()), (0, 0), "{reason:?}");
        assert_eq!(lost(&bench, reason), fragments.len() as u64, "{reason:?}");
        assert_eq!(bench.flows(), [""; 0]);
    }
    // 65,536 bytes and more are noticed when nothing is missing.
    let mut bench = bench();
    let huge = loose(udp((A, 1), (B, 9), &[1; 65_507]));
    let mut fragments = cut(&huge, 1_480);
    let tail = fragments.pop().expect("the last");
    fragments.push(with_ip([&tail[..], &[0; 100]].concat(), |ip| ip.total_len += 100));
    assert_eq!(put(&mut bench, CALI_A, &fragments).concat().len(), 0);
    assert_eq!(lost(&bench, invalid), fragments.len() as u64);
}

#[test]
fn the_largest_packet_passes() {
    let mut bench = bench();
    let fragments = cut(&loose(udp((A, 1), (B, 9), &[1; 65_507])), 1_480);
    let seen = put(&mut bench, CALI_A, &fragments).concat();
    assert_eq!(seen.len(), 45);
    assert_eq!(whole(&seen).1.data.len(), 65_507);
}

#[test]
fn congestion_met_by_one_fragment_was_met_by_the_packet() {
    let mut bench = bench();
    let marked = |packet: &Vec<u8>, bits: u8| {
        with_ip(packet.clone(), |ip| ip.ecn = bits.try_into().expect("bits"))
    };
    let fragments = cut(&large((A, 1), (B, 9)), 1_480);
    let fragments: Vec<_> = fragments.iter().zip([2, 3, 1]).map(|(f, b)| marked(f, b)).collect();
    let seen = put(&mut bench, CALI_A, &fragments).concat();
    assert_eq!(whole(&seen).1.tos, 3);
}

#[test]
fn the_table_is_bounded() {
    let mut bench = Bench::new(lab_with("limits: {fragments: 2}"));
    let fragments = cut(&large((A, 1), (B, 9)), 1_480);
    bench.packet(CALI_A, &fragments[0]);
    bench.packet(CALI_A, &fragments[1]);
    assert_eq!(bench.dropped(CALI_A, &fragments[2]), DropReason::FragmentTableFull);
    assert_eq!(bench.node.held(), 2);
    assert_eq!(bench.sent(CALI_A, &udp((A, 1), (B, 9), b"whole")).port, CALI_B);
    bench.wait(30 * SECOND);
    assert_eq!((lost(&bench, DropReason::FragmentTimeout), bench.node.held()), (2, 0));
}

#[test]
fn only_a_packet_for_the_node_itself_is_told_of_its_timeout() {
    let told = |port: PortId, src: Ipv4Addr, dst: Ipv4Addr, at: usize| {
        let mut bench = bench();
        bench.sent(CALI_A, &udp((A, 7), (B, 7), b"a neighbour each"));
        bench.sent(CALI_B, &udp((B, 7), (A, 7), b"to know"));
        let came = bench.now;
        bench.packet(port, &cut(&large((src, 1), (dst, 53)), 1_480)[at]);
        let due = bench.node.poll_at().expect("a deadline");
        assert!(due.since(came).as_secs() <= 30);
        assert!(bench.wait(30 * SECOND - 1).is_empty());
        assert_eq!(bench.node.held(), 1);
        let seen = bench.wait(1);
        assert_eq!((bench.node.held(), lost(&bench, DropReason::FragmentTimeout)), (0, 1));
        seen.iter().map(|seen| seen.view().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(told(CALI_A, A, NEAR, 0), ["icmp 11/1 192.168.0.11:0 > 10.0.4.27:0 ttl 64"]);
    assert_eq!(told(CALI_A, A, N1, 0), ["icmp 11/1 10.0.4.20:0 > 10.0.4.27:0 ttl 64"]);
    assert_eq!(told(CALI_A, A, NEAR, 1), [""; 0], "the first fragment has not come");
    assert_eq!(told(CALI_A, A, B, 0), [""; 0], "for somebody else");
    assert_eq!(told(HOST, N1, NEAR, 0), [""; 0], "by the node itself");
}

#[test]
fn what_the_node_sends_and_what_arrives_never_meet() {
    let mut bench = bench();
    let fragments = cut(&large((N1, 1), (NEAR, 53)), 1_480);
    bench.packet(HOST, &fragments[0]);
    bench.packet(CALI_A, &fragments[1]);
    assert!(bench.packet(CALI_A, &fragments[2]).is_empty());
    bench.packet(HOST, &fragments[1]);
    let seen = bench.packet(HOST, &fragments[2]);
    let (port, view) = whole(&seen);
    assert_eq!((port, view.tuple()), (CALI_B, ((N1, 1), (B, 5353))));
    assert_eq!(bench.node.held(), 2);
}

#[test]
fn a_packet_for_the_nodes_own_stack_reaches_it_in_fragments() {
    let mut bench = bench();
    let seen = put(&mut bench, ETH0, &cut(&large((D, 1), (N1, 9)), 1_480)).concat();
    assert_eq!(sizes(&seen), [1_500, 1_500, 1_068]);
    let (port, view) = whole(&seen);
    assert_eq!((port, view.ttl), (HOST, 64));
    for seen in &seen {
        assert_eq!((seen.view().dst_mac, seen.view().src_mac), (bench.peer(HOST), bench.mac(HOST)));
    }
}

#[test]
fn a_large_echo_to_a_virtual_address_is_answered_in_fragments() {
    let mut bench = bench();
    let data: Vec<u8> = (0..4_000_u16).map(|n| n.to_le_bytes()[0]).collect();
    let request = loose(ping_with(A, NEAR, 77, &data));
    let seen = put(&mut bench, CALI_A, &cut(&request, 1_480)).concat();
    assert_eq!(sizes(&seen), [1_500, 1_500, 1_068]);
    let (port, view) = whole(&seen);
    assert_eq!(
        (port, view.to_string().as_str()),
        (CALI_A, "icmp 0/0 192.168.0.11:77 > 10.0.4.27:0 ttl 64")
    );
    assert_eq!(view.data, data);
}

#[test]
fn a_wrong_checksum_of_the_whole_is_invalid_for_conntrack() {
    let mut bench = bench();
    let mut fragments = cut(&large((A, 1), (B, 9)), 1_480);
    fragments[1][700] ^= 1;
    let seen = put(&mut bench, CALI_A, &fragments).concat();
    assert_eq!(seen.len(), 3, "it goes on as it is");
    assert!(bench.steps().contains(&Step::Flow(FlowState::Invalid)));
    assert_eq!(bench.flows(), [""; 0]);
}

#[test]
fn fragments_wait_for_a_neighbour_one_by_one_and_only_the_first_is_told_about() {
    let mut bench = bench();
    bench.sent(CALI_B, &udp((B, 7), (A, 7), b"a is known"));
    bench.answers = false;
    let fragments = cut(&loose(udp((A, 1), (B, 9), &[3; 4_000])), 1_480);
    let seen = put(&mut bench, CALI_A, &fragments).concat();
    assert_eq!((seen.len(), bench.node.held()), (1, 3), "one request, three wait");
    bench.wait(SECOND);
    bench.wait(SECOND);
    let seen = bench.wait(SECOND);
    let told: Vec<_> = seen.iter().map(|seen| seen.view().kind).collect();
    assert_eq!((told, lost(&bench, DropReason::NeighbourFailed)), (vec!["icmp 3/1".into()], 3));
}

#[test]
fn an_error_too_big_for_the_way_to_a_destination_is_cut() {
    let mut lab = lab_switched("");
    lab.pods[POD_B].mtu = 400;
    let mut bench = Bench::new(lab);
    let request = udp((A, 40_000), (NEAR, 53), b"?");
    bench.sent(CALI_A, &request);
    let answer = udp((NEAR, 53), (A, 40_000), &[1; 500]);
    let port_unreachable = error(A, NEAR, (3, 3), 0, &answer);
    let seen = bench.packet(CALI_A, &loose(port_unreachable));
    assert_eq!(sizes(&seen), [396, 180]);
    let (port, view) = whole(&seen);
    assert_eq!(
        (port, view.to_string().as_str()),
        (CALI_B, "icmp 3/3 10.0.4.27:0 > 10.0.4.31:0 ttl 63")
    );
}
