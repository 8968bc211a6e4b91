//! Conntrack of a node: entries, states and timeouts (spec CT).

mod common;

use common::*;
use datapath::journey::{FlowState, Step};
use datapath::node::conntrack::Status;
use datapath::node::{ETH0, ETH1};
use datapath::verdict::DropReason;
use datapath::wire::tcp::Flags;

const SECOND: u64 = 1_000_000_000;

fn bench() -> Bench {
    Bench::new(lab_switched(""))
}

/// State and seconds left of the only flow.
fn tcp_flow(bench: &Bench) -> (&'static str, u64) {
    let mut flows = bench.node.conntrack().iter(bench.now);
    let (.., entry) = flows.next().expect("a flow");
    assert!(flows.next().is_none(), "more than one flow");
    (entry.state_name().expect("a TCP flow"), entry.deadline.since(bench.now).as_secs())
}

/// A segment between a and b; it is passed on.
fn pass(bench: &mut Bench, from_a: bool, flags: Flags) {
    let (a, b) = ((A, 40_001), (B, 8080));
    let (port, packet) =
        if from_a { (CALI_A, tcp(a, b, flags)) } else { (CALI_B, tcp(b, a, flags)) };
    bench.sent(port, &packet);
}

fn seen_as(bench: &Bench) -> FlowState {
    let state = bench.steps().iter().find_map(|step| match step {
        Step::Flow(state) => Some(*state),
        _ => None,
    });
    state.expect("conntrack saw it")
}

#[test]
fn a_dropped_packet_leaves_no_entry() {
    let mut bench = bench();
    let reason = bench.refused(CALI_A, &tcp((A, 1), (EMPTY, 80), SYN)).0;
    assert_eq!(reason, DropReason::NoDestination);
    bench.refused(CALI_A, &with_ttl(tcp((A, 2), (FAR, 80), SYN), 1));
    bench.refused(CALI_A, &with_ttl(tcp((A, 3), (B, 80), SYN), 1));
    let large = udp((A, 4), (B, 80), &[0; 1600]);
    assert_eq!(bench.refused(CALI_A, &large).0, DropReason::MtuExceeded);
    assert_eq!(bench.flows(), [""; 0]);
}

#[test]
fn one_entry_carries_both_nats() {
    let mut bench = bench();
    bench.sent(CALI_A, &tcp((A, 40_002), (FAR_XIP, 80), SYN));
    let expected = "tcp 10.0.4.27:40002 > 47.1.1.10:80 | tcp 10.0.5.35:8080 > 10.0.4.20:40002";
    assert_eq!(bench.flows(), [expected]);
    let connection = bench.node.connections().iter(bench.now).next().expect("a connection");
    assert_eq!(connection.reply().dst, A, "ipvs never knows the masqueraded source");
    // The answer is put back before routing, wherever it comes in.
    let seen = bench.sent(ETH0, &tcp((C, 8080), (N1, 40_002), SYN_ACK));
    assert_eq!(seen.port, CALI_A);
    assert_eq!(seen.view().tuple(), ((FAR_XIP, 80), (A, 40_002)));
}

#[test]
fn tcp_goes_through_its_states_with_their_timeouts() {
    let closing_by_client = [
        (true, SYN, "SYN_SENT", 120),
        (false, SYN_ACK, "SYN_RECV", 60),
        (true, ACK, "ESTABLISHED", 432_000),
        (true, FIN, "FIN_WAIT", 120),
        (false, ACK, "CLOSE_WAIT", 60),
        (false, FIN, "LAST_ACK", 30),
        (true, ACK, "TIME_WAIT", 120),
    ];
    let straight_back = [
        (true, SYN, "SYN_SENT", 120),
        (false, SYN_ACK, "SYN_RECV", 60),
        (true, ACK, "ESTABLISHED", 432_000),
        (true, FIN, "FIN_WAIT", 120),
        (false, FIN, "LAST_ACK", 30),
        (true, ACK, "TIME_WAIT", 120),
        (true, SYN, "SYN_SENT", 120),
    ];
    let reset = [
        (true, SYN, "SYN_SENT", 120),
        (false, SYN_ACK, "SYN_RECV", 60),
        (true, ACK, "ESTABLISHED", 432_000),
        (true, RST, "CLOSE", 10),
    ];
    for steps in [&closing_by_client[..], &straight_back, &reset] {
        let mut bench = bench();
        for (from_a, flags, state, timeout) in steps {
            bench.wait(SECOND);
            pass(&mut bench, *from_a, *flags);
            assert_eq!(tcp_flow(&bench), (*state, *timeout));
        }
    }
}

#[test]
fn replied_and_assured_come_with_the_handshake() {
    let mut bench = bench();
    let status =
        |bench: &Bench| bench.node.conntrack().iter(bench.now).next().expect("one").2.status;
    pass(&mut bench, true, SYN);
    assert_eq!(status(&bench), Status::empty());
    pass(&mut bench, false, SYN_ACK);
    assert_eq!(status(&bench), Status::SEEN_REPLY);
    pass(&mut bench, true, ACK);
    assert_eq!(status(&bench), Status::SEEN_REPLY | Status::ASSURED);
}

#[test]
fn an_entry_ends_at_its_deadline_to_the_nanosecond() {
    let mut bench = bench();
    pass(&mut bench, true, SYN);
    bench.wait(120 * SECOND - 1);
    assert_eq!(bench.flows().len(), 1);
    bench.now = bench.now + std::time::Duration::from_nanos(1);
    assert_eq!(bench.flows().len(), 0, "also when no timer has run");
    pass(&mut bench, false, SYN_ACK);
    assert_eq!(seen_as(&bench), FlowState::Invalid, "an answer to nothing");
}

#[test]
fn a_refused_connection_leaves_no_entry() {
    let mut bench = bench();
    pass(&mut bench, true, SYN);
    pass(&mut bench, false, RST.union(ACK));
    assert_eq!(bench.flows(), [""; 0]);
}

#[test]
fn an_ack_picks_a_flow_up_and_nothing_else_does() {
    for flags in [SYN_ACK, FIN, RST] {
        let mut bench = bench();
        pass(&mut bench, true, flags);
        assert_eq!((seen_as(&bench), bench.flows().len()), (FlowState::Invalid, 0), "{flags:?}");
    }
    let mut bench = bench();
    pass(&mut bench, true, ACK);
    assert_eq!(tcp_flow(&bench).0, "ESTABLISHED");
}

#[test]
fn contradicting_flags_are_invalid_and_pass() {
    let nonsense = [
        Flags::empty(),
        Flags::FIN,
        Flags::SYN | Flags::FIN,
        Flags::SYN | Flags::RST,
        Flags::RST | Flags::FIN | Flags::ACK,
        Flags::URG,
    ];
    for flags in nonsense {
        let mut bench = bench();
        pass(&mut bench, true, flags);
        assert_eq!((seen_as(&bench), bench.flows().len()), (FlowState::Invalid, 0), "{flags:?}");
    }
    let mut bench = bench();
    pass(&mut bench, true, SYN | Flags::PSH | Flags::URG);
    assert_eq!(seen_as(&bench), FlowState::New);
}

#[test]
fn a_wrong_transport_checksum_is_invalid_and_stays_wrong() {
    for mut packet in [tcp((A, 1), (B, 80), SYN), udp((A, 1), (B, 53), b"x"), ping(A, B, 1)] {
        let mut bench = bench();
        let last = packet.len() - 1;
        packet[last] ^= 1;
        let seen = bench.sent(CALI_A, &packet);
        assert_eq!((seen_as(&bench), bench.flows().len()), (FlowState::Invalid, 0));
        assert!(!checksums_hold(&seen.bytes[14..]));
    }
}

#[test]
fn an_invalid_segment_of_a_connection_strays_from_a_random_port() {
    // Spec CT-8.
    let mut bench = bench();
    bench.sent(CALI_A, &tcp((A, 41_009), (FAR, 80), SYN));
    bench.tagged(101, &tcp((C, 8080), (A, 41_009), SYN_ACK));
    bench.sent(CALI_A, &tcp((A, 41_009), (FAR, 80), ACK));
    let mut stray = tcp_data((A, 41_009), (FAR, 80), ACK, b"x");
    let last = stray.len() - 1;
    stray[last] ^= 1;
    let seen = bench.sent(CALI_A, &stray);
    let port = u16::from_be_bytes([seen.bytes[34], seen.bytes[35]]);
    assert_ne!(port, 41_009);
    assert_eq!(bench.flows().len(), 2);
    assert_eq!(bench.sent(CALI_A, &tcp((A, 41_009), (FAR, 80), ACK)).view().src.1, 41_009);
}

#[test]
fn udp_lives_longer_once_both_sides_speak() {
    let mut bench = bench();
    let left = |bench: &Bench| {
        let (.., entry) = bench.node.conntrack().iter(bench.now).next().expect("a flow");
        (entry.deadline.since(bench.now).as_secs(), entry.status.contains(Status::ASSURED))
    };
    let (ask, answer) = (udp((A, 5), (B, 53), b"?"), udp((B, 53), (A, 5), b"!"));
    bench.sent(CALI_A, &ask);
    assert_eq!(left(&bench), (30, false));
    bench.sent(CALI_B, &answer);
    assert_eq!(left(&bench), (30, false));
    bench.wait(2 * SECOND);
    bench.sent(CALI_A, &ask);
    assert_eq!(left(&bench), (30, false), "not yet later than two seconds");
    bench.wait(1);
    bench.sent(CALI_A, &ask);
    assert_eq!(left(&bench), (120, true));
    bench.wait(120 * SECOND);
    assert_eq!(bench.flows(), [""; 0]);
}

#[test]
fn echo_is_followed_by_its_identifier() {
    let mut bench = bench();
    bench.sent(CALI_A, &ping(A, B, 7));
    bench.sent(CALI_B, &pong(B, A, 7));
    assert_eq!(seen_as(&bench), FlowState::Reply);
    bench.sent(CALI_B, &pong(B, A, 8));
    assert_eq!(seen_as(&bench), FlowState::Invalid);
    assert_eq!(bench.flows().len(), 1);
}

#[test]
fn an_error_neither_makes_nor_renews_an_entry() {
    let mut bench = bench();
    let ask = udp((A, 5), (B, 53), b"?");
    bench.sent(CALI_A, &ask);
    bench.wait(10 * SECOND);
    bench.sent(CALI_B, &unreachable(B, A, &ask));
    assert_eq!(bench.flows().len(), 1);
    bench.wait(20 * SECOND);
    assert_eq!(bench.flows(), [""; 0]);
}

#[test]
fn other_protocols_have_an_entry_of_addresses() {
    let mut bench = bench();
    let gre = with_ip(udp((A, 1), (B, 2), b"gre"), |ip| ip.protocol = etherparse::IpNumber::GRE);
    bench.sent(CALI_A, &gre);
    assert_eq!(
        bench.flows(),
        ["proto-47 10.0.4.27:0 > 10.0.4.31:0 | proto-47 10.0.4.31:0 > 10.0.4.27:0"]
    );
}

#[test]
fn a_full_table_drops_the_newcomer_by_name() {
    let mut bench = Bench::new(lab_with("limits: {flows: 2}"));
    bench.sent(CALI_A, &udp((A, 1), (B, 53), b"1"));
    bench.sent(CALI_A, &udp((A, 2), (B, 53), b"2"));
    assert_eq!(bench.dropped(CALI_A, &udp((A, 3), (B, 53), b"3")), DropReason::FlowTableFull);
    bench.sent(CALI_B, &udp((B, 53), (A, 1), b"old flows go on"));
    bench.wait(31 * SECOND);
    bench.sent(CALI_A, &udp((A, 3), (B, 53), b"3"));
}

#[test]
fn without_vs_conntrack_nothing_is_tracked_or_masqueraded() {
    let mut bench = Bench::new(lab_switched("vsConntrack: false"));
    let seen = bench.sent(CALI_A, &tcp((A, 40_001), (FAR_XIP, 80), SYN));
    assert_eq!(seen.port, ETH0);
    assert_eq!(seen.view().tuple(), ((A, 40_001), (C, 8080)), "the backend sees the pod");
    let back = bench.tagged(101, &tcp((C, 8080), (A, 40_001), SYN_ACK));
    assert_eq!(back[0].view().tuple(), ((FAR_XIP, 80), (A, 40_001)));
    assert_eq!(bench.flows(), [""; 0]);
    let hairpin = bench.sent(CALI_A, &tcp((A, 40_002), (OWN, 80), SYN));
    assert_eq!(hairpin.view().tuple(), ((A, 40_002), (A, 8080)), "its own address as sender");
}

#[test]
fn without_vs_conntrack_there_is_no_second_routing() {
    let keys = "profile: terway-1.4.2\nswitches: {vsConntrack: VALUE, icmpRatelimit: 0}";
    for (value, port) in [("true", ETH1), ("false", ETH0)] {
        let mut bench = Bench::new(lab_with(&keys.replace("VALUE", value)));
        assert_eq!(bench.sent(CALI_A, &tcp((A, 1), (FAR, 80), SYN)).port, port);
    }
}
