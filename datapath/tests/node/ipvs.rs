//! IPVS of a node: scheduling, states, timeouts (spec IPVS-4 to IPVS-21).

use crate::common::*;
use datapath::node::ipvs::State;
use datapath::table::Direction;
use datapath::verdict::DropReason;
use datapath::wire::tcp::Flags;

const SECOND: u64 = 1_000_000_000;

fn bench() -> Bench {
    Bench::new(lab_switched(""))
}

/// A segment between a and b, which stands behind NEAR; a's is for the virtual address.
fn pass(bench: &mut Bench, from_client: bool, flags: Flags) {
    let (port, packet) = if from_client {
        (CALI_A, tcp((A, 40_001), (NEAR, 80), flags))
    } else {
        (CALI_B, tcp((B, 8080), (A, 40_001), flags))
    };
    bench.sent(port, &packet);
}

fn destinations(bench: &mut Bench, vip: std::net::Ipv4Addr, count: u16) -> Vec<Addr> {
    let ports = 40_000..40_000 + count;
    ports.map(|port| bench.sent(CALI_A, &tcp((A, port), (vip, 80), SYN)).view().dst).collect()
}

#[test]
fn round_robin_begins_with_the_last_endpoint_added() {
    let mut bench = bench();
    let expected = [D, C, B, A, D, C, B, A].map(|ip| (ip, 8080));
    assert_eq!(destinations(&mut bench, MANY, 8), expected);
}

#[test]
fn weight_zero_takes_no_new_connections() {
    let mut bench = bench();
    let expected = [D, B, D, B, D].map(|ip| (ip, 8080));
    assert_eq!(destinations(&mut bench, SOME, 5), expected);
}

#[test]
fn cursors_are_apart_by_virtual_server() {
    let mut bench = bench();
    assert_eq!(destinations(&mut bench, MANY, 1), [(D, 8080)]);
    assert_eq!(destinations(&mut bench, SOME, 1), [(D, 8080)]);
    bench.sent(CALI_B, &tcp((B, 1), (MANY, 80), SYN));
    let flows = bench.flows();
    assert!(flows.iter().any(|f| f.contains("10.0.5.35:8080 > 10.0.4.31:1")), "{flows:?}");
}

#[test]
fn a_connection_keeps_its_destination() {
    let mut bench = bench();
    for _ in 0..3 {
        let seen = bench.sent(CALI_A, &tcp((A, 40_001), (MANY, 80), SYN));
        assert_eq!(seen.view().dst, (D, 8080));
    }
    assert_eq!(bench.states(), ["SYN_RECV"]);
}

#[test]
fn connections_go_through_their_states() {
    let client_closes = [
        (true, SYN, "SYN_RECV"),
        (false, SYN_ACK, "SYN_RECV"),
        (true, ACK, "ESTABLISHED"),
        (true, FIN, "CLOSE_WAIT"),
        (false, ACK, "CLOSE_WAIT"),
        (false, FIN, "TIME_WAIT"),
        (true, ACK, "TIME_WAIT"),
        (true, SYN, "SYN_RECV"),
    ];
    let server_closes = [
        (true, SYN, "SYN_RECV"),
        (false, SYN_ACK, "SYN_RECV"),
        (true, ACK, "ESTABLISHED"),
        (false, FIN, "FIN_WAIT"),
        (true, ACK, "FIN_WAIT"),
        (true, FIN, "TIME_WAIT"),
        (false, RST, "TIME_WAIT"),
    ];
    let reset = [(true, SYN, "SYN_RECV"), (true, RST, "SYN_RECV"), (false, RST, "CLOSE")];
    for steps in [&client_closes[..], &server_closes, &reset] {
        let mut bench = bench();
        for (from_client, flags, state) in steps {
            pass(&mut bench, *from_client, *flags);
            assert_eq!(bench.states(), [*state]);
        }
    }
}

/// States in the order of the rows of [`every_transition_is_the_kernels`].
const STATES: [State; 8] = [
    State::None,
    State::Established,
    State::SynSent,
    State::SynRecv,
    State::FinWait,
    State::TimeWait,
    State::Close,
    State::CloseWait,
];

#[test]
fn every_transition_is_the_kernels() {
    use State::{
        Close as Cl, CloseWait as Cw, Established as Es, FinWait as Fw, SynRecv as Sr,
        SynSent as Ss, TimeWait as Tw,
    };
    let client = [
        (SYN, [Sr, Es, Es, Sr, Sr, Sr, Sr, Sr]),
        (FIN, [Cl, Cw, Ss, Tw, Tw, Tw, Cl, Cw]),
        (ACK, [Es, Es, Ss, Es, Fw, Tw, Cl, Cw]),
        (RST, [Cl, Cl, Cl, Sr, Cl, Cl, Cl, Cl]),
    ];
    let server = [
        (SYN, [Ss, Es, Ss, Sr, Ss, Ss, Ss, Ss]),
        (FIN, [Tw, Fw, Ss, Tw, Fw, Tw, Cl, Tw]),
        (ACK, [Es, Es, Ss, Es, Fw, Tw, Cl, Cw]),
        (RST, [Cl, Cl, Ss, Cl, Cl, Tw, Cl, Cl]),
    ];
    for (rows, direction) in [(client, Direction::Original), (server, Direction::Reply)] {
        for (flags, row) in rows {
            let actual = STATES.map(|state| state.after(flags, direction));
            assert_eq!(actual, row, "{flags:?} {direction:?}");
        }
    }
    for state in STATES {
        assert_eq!(state.after(Flags::PSH, Direction::Original), State::Close);
    }
}

#[test]
fn the_first_of_rst_syn_fin_ack_counts() {
    let state = State::Established;
    let all = Flags::RST | Flags::SYN | Flags::FIN | Flags::ACK;
    assert_eq!(state.after(all, Direction::Original), State::Close);
    assert_eq!(state.after(SYN | FIN, Direction::Original), State::Established);
    assert_eq!(state.after(FIN, Direction::Original), State::CloseWait);
}

#[test]
fn active_are_open_tcp_connections_only() {
    let active: Vec<_> = STATES.iter().filter(|state| state.is_active()).collect();
    assert_eq!(active, [&State::Established, &State::SynSent, &State::SynRecv]);
    assert!(!State::Udp.is_active());
}

#[test]
fn connections_end_at_their_timeout_to_the_nanosecond() {
    let open = [(true, SYN), (false, SYN_ACK), (true, ACK)];
    let client_closes = [open[0], open[1], open[2], (true, FIN)];
    let server_closes = [open[0], open[1], open[2], (false, FIN)];
    let closed = [open[0], open[1], open[2], (true, FIN), (false, FIN)];
    let reset = [open[0], open[1], open[2], (false, RST)];
    let cases: [(&[_], &str, u64); 6] = [
        (&open[..1], "SYN_RECV", 60),
        (&open, "ESTABLISHED", 900),
        (&client_closes, "CLOSE_WAIT", 60),
        (&server_closes, "FIN_WAIT", 120),
        (&closed, "TIME_WAIT", 120),
        (&reset, "CLOSE", 10),
    ];
    for (steps, state, secs) in cases {
        let mut bench = bench();
        for (from_client, flags) in steps {
            pass(&mut bench, *from_client, *flags);
        }
        bench.wait(secs * SECOND - 1);
        assert_eq!(bench.states(), [state]);
        bench.wait(1);
        assert_eq!(bench.states(), [""; 0], "{state} after {secs} s");
    }
}

#[test]
fn any_packet_of_either_side_renews() {
    let mut bench = bench();
    pass(&mut bench, true, SYN);
    for from_client in [false, true] {
        bench.wait(59 * SECOND);
        pass(&mut bench, from_client, if from_client { SYN } else { SYN_ACK });
        assert_eq!(bench.states(), ["SYN_RECV"]);
    }
}

#[test]
fn a_port_used_again_in_time_wait_is_scheduled_anew_at_once() {
    let mut bench = bench();
    let client = (A, 40_001);
    let ask = |flags| tcp(client, (MANY, 80), flags);
    assert_eq!(bench.sent(CALI_A, &ask(SYN)).view().dst, (D, 8080));
    bench.tagged(101, &tcp((D, 8080), client, SYN_ACK));
    bench.sent(CALI_A, &ask(ACK));
    bench.sent(CALI_A, &ask(FIN));
    bench.tagged(101, &tcp((D, 8080), client, FIN));
    bench.sent(CALI_A, &ask(ACK));
    assert_eq!(bench.states(), ["TIME_WAIT"]);
    assert_eq!(bench.sent(CALI_A, &ask(SYN)).view().dst, (C, 8080));
    assert_eq!(bench.states(), ["SYN_RECV"]);
    let expected = "tcp 10.0.4.27:40001 > 192.168.0.12:80 | tcp 10.0.5.35:8080 > 10.0.4.27:40001";
    assert_eq!(bench.flows(), [expected], "conntrack has forgotten the old one too");
}

#[test]
fn only_a_segment_with_syn_is_scheduled() {
    for flags in [ACK, FIN, ACK | Flags::PSH] {
        let mut bench = bench();
        let (reason, answer) = bench.refused(CALI_A, &tcp((A, 1), (FAR, 80), flags));
        assert_eq!(reason, DropReason::NoConnection);
        assert_eq!(answer.to_string(), "tcp R 192.168.0.10:80 > 10.0.4.27:1 ttl 64");
        assert_eq!((bench.states().len(), bench.flows().len()), (0, 0));
    }
    for flags in [RST, RST | Flags::ACK, RST | Flags::SYN] {
        let mut bench = bench();
        let packet = tcp((A, 1), (FAR, 80), flags);
        assert_eq!(bench.dropped(CALI_A, &packet), DropReason::NoConnection, "silence");
        assert_eq!(bench.states(), [""; 0]);
    }
    let mut bench = bench();
    assert_eq!(bench.sent(CALI_A, &tcp((A, 1), (FAR, 80), SYN_ACK)).view().dst, (C, 8080));
}

#[test]
fn udp_is_served_and_lives_300_seconds() {
    let mut bench = bench();
    let seen = bench.sent(CALI_A, &udp((A, 5), (NEAR, 53), b"?"));
    assert_eq!(seen.view().tuple(), ((A, 5), (B, 5353)));
    let back = bench.sent(CALI_B, &udp((B, 5353), (A, 5), b"!"));
    assert_eq!(back.view().tuple(), ((NEAR, 53), (A, 5)));
    bench.wait(300 * SECOND - 1);
    assert_eq!(bench.states(), ["UDP"]);
    bench.wait(1);
    assert_eq!(bench.states(), [""; 0]);
}

#[test]
fn udp_without_a_checksum_gets_one_in_ipvs_only() {
    let zeroed = |mut packet: Vec<u8>| {
        packet[26..28].copy_from_slice(&[0, 0]);
        packet
    };
    let sum = |seen: &Seen| [seen.bytes[40], seen.bytes[41]];
    let mut bench = bench();
    let through = bench.sent(CALI_A, &zeroed(udp((A, 5), (NEAR, 53), b"odd")));
    assert_ne!(sum(&through), [0, 0]);
    assert_eq!(through.view().data, b"odd");
    let plain = bench.sent(CALI_A, &zeroed(udp((A, 5), (B, 53), b"odd")));
    assert_eq!(sum(&plain), [0, 0]);
    let masqueraded = bench.sent(CALI_A, &zeroed(udp((A, 5), (NEAR_XIP, 53), b"odd")));
    assert_eq!(masqueraded.view().from(), N1);
}

#[test]
fn policy_local_without_a_local_endpoint_fails_or_falls_back() {
    // Node 2 has no endpoint of the service; its pod d asks.
    let ask = tcp((D, 1), (LOCAL_XIP, 80), SYN);
    for (value, served) in [("fail", false), ("fallback", true)] {
        let mut run = Run::new(lab_switched(&format!("localNoEndpoint: {value}")));
        run.send(datapath::link::HostId::Pod(POD_D), &ask);
        let (_, view) = run.delivered();
        let expected = if served {
            "tcp S 10.0.4.30:1 > 10.0.4.31:8080 ttl 62"
        } else {
            "icmp 3/3 47.1.1.12:0 > 10.0.4.30:0 ttl 64"
        };
        assert_eq!(view.to_string(), expected);
    }
}
