//! Rules, tables and source validation (spec ROUTE).

use std::net::Ipv4Addr;

use crate::common::*;
use datapath::journey::{PortId, Step};
use datapath::node::route::{Found, Iif, MAIN, Query, Route, RouteKind, Rule, Selector, Tables};
use datapath::node::{ETH0, ETH1, TRUNK_TABLE};
use datapath::verdict::DropReason;

type Net = (Ipv4Addr, u8);

const ANY: Net = (Ipv4Addr::UNSPECIFIED, 0);

fn query(src: Ipv4Addr, dst: Ipv4Addr) -> Query<Ipv4Addr> {
    Query { dst, src, iif: Iif::Lo, oif: None, mark: 0 }
}

/// Tables 1 to 3, each with a default route out of the port of its number.
fn tables(rules: &[(u32, Selector<Ipv4Addr>, u32)]) -> Tables<Ipv4Addr> {
    let mut tables = Tables::new();
    for number in 1..=3_u16 {
        let route = Route { kind: RouteKind::Port(PortId(number)), via: None };
        tables.add_route(u32::from(number), ANY.0, ANY.1, route);
    }
    for (priority, selector, table) in rules {
        tables.add_rule(Rule { priority: *priority, selector: *selector, table: *table });
    }
    tables
}

fn table_of(tables: &Tables<Ipv4Addr>, query: &Query<Ipv4Addr>) -> Option<u32> {
    tables.lookup(query).map(|found| found.table)
}

const ALL: Selector<Ipv4Addr> =
    Selector { from: None, to: None, iif: None, oif: None, fwmark: None };

#[test]
fn the_smallest_priority_is_tried_first_and_equal_ones_in_order() {
    let rules = [(20, ALL, 2), (10, ALL, 1), (20, ALL, 3)];
    let tables = tables(&rules);
    assert_eq!(table_of(&tables, &query(A, B)), Some(1));
    let order: Vec<_> = tables.rules().iter().map(|r| (r.priority, r.table)).collect();
    assert_eq!(order, [(10, 1), (20, 2), (20, 3)]);
}

#[test]
fn what_a_rule_is_about_does_not_change_its_turn() {
    let from = Selector { from: Some((A, 32)), ..ALL };
    let to = Selector { to: Some((B, 32)), ..ALL };
    let both = Selector { from: Some((A, 32)), to: Some((C, 32)), ..ALL };
    for (first, query) in [(from, query(A, B)), (to, query(A, B)), (both, query(A, C))] {
        for second in [from, to, ALL] {
            let tables = tables(&[(2, second, 2), (1, first, 1), (3, ALL, 3)]);
            assert_eq!(table_of(&tables, &query), Some(1), "{first:?}, then {second:?}");
        }
    }
    let tables = tables(&[(1, both, 1), (2, to, 2), (3, ALL, 3)]);
    assert_eq!(table_of(&tables, &query(A, B)), Some(2));
    assert_eq!(table_of(&tables, &query(C, C)), Some(3));
}

#[test]
fn a_table_without_a_route_leaves_it_to_the_next_rule() {
    let mut tables = tables(&[(1, ALL, 99), (2, ALL, 4), (3, ALL, 2)]);
    let host = Route { kind: RouteKind::Port(PortId(4)), via: None };
    tables.add_route(4, B, 32, host);
    let found = |dst| tables.lookup(&query(A, dst)).map(|f: Found<_>| (f.rule, f.table, f.prefix));
    assert_eq!(found(B), Some((1, 4, (B, 32))));
    assert_eq!(found(C), Some((2, 2, ANY)));
    assert_eq!(table_of(&Tables::new(), &query(A, B)), None);
}

#[test]
fn rules_select_by_source_destination_interfaces_and_mark() {
    let net = (Ipv4Addr::new(10, 0, 4, 0), 24);
    let cases = [
        (Selector { from: Some(net), ..ALL }, query(A, C), query(C, A)),
        (Selector { to: Some(net), ..ALL }, query(C, A), query(A, C)),
        (Selector { from: Some((A, 32)), ..ALL }, query(A, C), query(B, C)),
        (
            Selector { iif: Some(Iif::Port(CALI_A)), ..ALL },
            Query { iif: Iif::Port(CALI_A), ..query(A, C) },
            query(A, C),
        ),
        (
            Selector { iif: Some(Iif::Lo), ..ALL },
            query(A, C),
            Query { iif: Iif::Port(CALI_A), ..query(A, C) },
        ),
        (
            Selector { oif: Some(PortId(1)), ..ALL },
            Query { oif: Some(PortId(1)), ..query(A, C) },
            query(A, C),
        ),
        (
            Selector { fwmark: Some((0x4000, 0x4000)), ..ALL },
            Query { mark: 0x4001, ..query(A, C) },
            Query { mark: 0x0001, ..query(A, C) },
        ),
    ];
    for (selector, hit, miss) in cases {
        let tables = tables(&[(1, selector, 1), (2, ALL, 2)]);
        assert_eq!(table_of(&tables, &hit), Some(1), "{selector:?}");
        assert_eq!(table_of(&tables, &miss), Some(2), "{selector:?}");
    }
}

#[test]
fn a_bound_interface_passes_over_routes_by_others() {
    let tables = tables(&[(1, ALL, 1), (2, ALL, 2)]);
    assert_eq!(table_of(&tables, &Query { oif: Some(PortId(2)), ..query(A, C) }), Some(2));
}

/// The rule's priority and the table of the last packet's routes.
fn routes(bench: &Bench) -> Vec<(u32, u32)> {
    let hits = bench.steps().iter().filter_map(|step| match step {
        Step::Route(hit) | Step::Reroute(hit) => Some((hit.priority, hit.table)),
        _ => None,
    });
    hits.collect()
}

#[test]
fn the_local_table_precedes_the_pods_rules() {
    let mut bench = Bench::new(lab_switched(""));
    bench.sent(CALI_A, &tcp((A, 1), (FAR, 80), SYN));
    // Local; ipvs without a source; nat with it, by iif lo: rule 2048 has another iif.
    assert_eq!(routes(&bench), [(0, 255), (32_766, MAIN), (32_766, MAIN)]);
    bench.sent(CALI_A, &tcp((A, 1), (D, 80), SYN));
    assert_eq!(routes(&bench), [(2048, TRUNK_TABLE)]);
    bench.sent(CALI_A, &tcp((A, 1), (B, 80), SYN));
    assert_eq!(routes(&bench), [(512, MAIN)]);
    bench.sent(ETH0, &tcp((N2, 1), (C, 80), SYN));
    assert_eq!(routes(&bench), [(32_766, MAIN)], "back out of the interface it came by");
}

#[test]
fn the_second_look_up_of_newer_terway_finds_the_trunk() {
    let mut bench = Bench::new(lab_with("profile: terway-1.4.2"));
    bench.sent(CALI_A, &tcp((A, 1), (FAR, 80), SYN));
    assert_eq!(routes(&bench), [(0, 255), (32_766, MAIN), (2048, TRUNK_TABLE)]);
    // And again for every later packet of the flow.
    bench.tagged(101, &tcp((C, 8080), (A, 1), SYN_ACK));
    let seen = bench.sent(CALI_A, &tcp((A, 1), (FAR, 80), ACK));
    assert_eq!((seen.port, seen.view().vid), (ETH1, Some(101)));
}

#[test]
fn the_trunks_gateway_needs_no_connected_route() {
    let mut lab = lab_switched("");
    let trunk = lab.nodes[0].trunk;
    lab.enis[trunk].vswitch = 1;
    let mut bench = Bench::new(lab);
    bench.answers = false;
    let asked = bench.packet(CALI_A, &tcp((A, 1), (CLIENT, 80), SYN));
    let arp = asked[0].arp().expect("an ARP request");
    assert_eq!((asked[0].port, arp.target_ip), (ETH1, Ipv4Addr::new(10, 0, 5, 253)));
}

#[test]
fn a_vip_the_node_lacks_goes_to_the_trunk() {
    let mut bench = Bench::new(lab_switched(""));
    let seen = bench.sent(CALI_A, &tcp((A, 1), (SLB, 80), SYN));
    assert_eq!((seen.port, seen.view().vid), (ETH1, Some(101)));
}

#[test]
fn martians_are_named_drops() {
    let mut bench = Bench::new(lab_switched(""));
    let ip = |a, b, c, d| Ipv4Addr::new(a, b, c, d);
    let sources = [
        ip(0, 0, 0, 0),
        ip(127, 0, 0, 1),
        ip(224, 0, 0, 1),
        ip(255, 255, 255, 255),
        N1,
        FAR,
        FAR_XIP,
    ];
    for src in sources {
        for (port, dst) in [(CALI_A, B), (ETH0, A), (ETH1, A), (ETH0, FAR)] {
            let reason = bench.dropped(port, &udp((src, 1), (dst, 80), b"x"));
            assert_eq!(reason, DropReason::MartianSource, "{src} to {dst}");
        }
    }
    let destinations =
        [ip(0, 0, 0, 0), ip(127, 0, 0, 1), ip(224, 0, 0, 251), ip(255, 255, 255, 255)];
    for dst in destinations {
        let reason = bench.dropped(CALI_A, &udp((A, 1), (dst, 80), b"x"));
        assert_eq!(reason, DropReason::MartianDestination, "{dst}");
    }
    assert_eq!(bench.flows(), [""; 0]);
}

#[test]
fn an_answer_from_a_vip_of_another_node_is_a_martian() {
    // Spec MARK-10: without a mark the other node sees a VIP as sender, its own address too.
    let mut bench = Bench::new(lab_switched(""));
    let reason = bench.dropped(ETH1, &tcp((FAR, 1), (A, 8080), SYN));
    assert_eq!(reason, DropReason::MartianSource);
}

#[test]
fn strict_reverse_path_drops_masqueraded_answers_on_eth0_only() {
    for (filter, dropped) in [("0", false), ("1", true), ("2", false)] {
        let mut bench = Bench::new(lab_switched(&format!("rpFilter: {filter}")));
        bench.sent(CALI_A, &tcp((A, 1), (FAR_XIP, 80), SYN));
        let answer = tcp((C, 8080), (N1, 1), SYN_ACK);
        if dropped {
            assert_eq!(bench.dropped(ETH0, &answer), DropReason::ReversePath);
        } else {
            assert_eq!(bench.sent(ETH0, &answer).port, CALI_A, "rp_filter {filter}");
        }
        // The trunk and the cali veths pass everything.
        bench.sent(CALI_A, &tcp((A, 2), (FAR, 80), SYN));
        assert_eq!(bench.tagged(101, &tcp((C, 8080), (A, 2), SYN_ACK))[0].port, CALI_A);
        bench.sent(CALI_A, &tcp((A, 2), (D, 80), SYN));
        assert_eq!(bench.tagged(101, &tcp((D, 80), (A, 2), SYN_ACK))[0].port, CALI_A);
        bench.sent(CALI_A, &tcp((A, 3), (NEAR_XIP, 80), SYN));
        assert_eq!(bench.sent(CALI_B, &tcp((B, 8080), (N1, 3), SYN_ACK)).port, CALI_A);
    }
}
