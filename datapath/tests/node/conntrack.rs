//! Conntrack of a node: entries, states and timeouts (spec CT).

use crate::common::*;
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
    (entry.state_name().expect("a TCP flow"), entry.deadline.left(bench.now).as_secs())
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
fn a_segment_outside_the_window_strays_from_a_random_port() {
    // Spec CT-8: what a kernel did with exactly this.
    let mut bench = bench();
    let (a, vip, c) = ((A, 41_009), (FAR, 80), (C, 8080));
    bench.sent(CALI_A, &Segment::new(SYN, 1_000, 0).packet(a, vip));
    bench.tagged(101, &Segment::new(SYN_ACK, 5_000, 1_001).packet(c, a));
    bench.sent(CALI_A, &Segment::new(ACK, 1_001, 5_001).packet(a, vip));
    let stray = bench.sent(CALI_A, &Segment::new(ACK, 901_001, 5_001).packet(a, vip));
    assert_eq!(seen_as(&bench), FlowState::Invalid);
    let port = stray.view().src.1;
    assert!(port != 41_009 && port >= 1_024, "{port}");
    assert_eq!(stray.view().dst, c);
    // The backend's reset finds its way to the pod, from the virtual address.
    let reset = Segment::new(RST, 5_001, 0).packet(c, (A, port));
    assert_eq!(bench.tagged(101, &reset)[0].view().tuple(), (vip, a));
    let inside = bench.sent(CALI_A, &Segment::new(ACK, 1_001, 5_001).packet(a, vip));
    assert_eq!(inside.view().src, a);
}

/// Seconds left of the only flow after each segment: sender, sequence number, acknowledgment,
/// window, bytes.
fn seconds_left(bench: &mut Bench, segments: &[(bool, u32, u32, u16, usize)]) -> Vec<u64> {
    let mut play = |(from_a, seq, ack, window, len)| {
        let (a, b) = ((A, 40_001), (B, 8080));
        let segment = Segment { window, data: vec![0; len], ..Segment::new(ACK, seq, ack) };
        let (port, src, dst) = if from_a { (CALI_A, a, b) } else { (CALI_B, b, a) };
        bench.sent(port, &segment.packet(src, dst));
        tcp_flow(bench).1
    };
    segments.iter().map(|segment| play(*segment)).collect()
}

/// A flow whose handshake is done: a at 1,001, b at 5,001.
fn opened(switches: &str) -> Bench {
    let mut bench = Bench::new(lab_switched(switches));
    let (a, b) = ((A, 40_001), (B, 8080));
    bench.sent(CALI_A, &Segment::new(SYN, 1_000, 0).packet(a, b));
    bench.sent(CALI_B, &Segment::new(SYN_ACK, 5_000, 1_001).packet(b, a));
    bench.sent(CALI_A, &Segment::new(ACK, 1_001, 5_001).packet(a, b));
    bench
}

#[test]
fn a_flow_with_something_open_lives_shorter() {
    // Spec CT-12.
    let mut bench = opened("");
    let unacknowledged = [(true, 1_001, 5_001, 4_096, 10), (false, 5_001, 1_011, 4_096, 0)];
    assert_eq!(seconds_left(&mut bench, &unacknowledged), [300, 432_000]);
    let closed = [(false, 5_001, 1_011, 0, 0), (false, 5_001, 1_011, 4_096, 0)];
    assert_eq!(seconds_left(&mut bench, &closed), [300, 432_000]);
    let again = [(true, 1_011, 5_001, 4_096, 0); 5];
    assert_eq!(seconds_left(&mut bench, &again), [432_000, 432_000, 432_000, 300, 300]);
    let switches = "conntrack: {maxRetrans: 1, tcpTimeouts: {maxRetrans: 7, unacknowledged: 9}}";
    let mut bench = opened(switches);
    assert_eq!(seconds_left(&mut bench, &unacknowledged[..1]), [9]);
    assert_eq!(seconds_left(&mut bench, &unacknowledged[..1]), [7], "once more");
}

#[test]
fn timeouts_are_settings() {
    // Spec CT-28.
    let timeouts = "synSent: 11, synRecv: 12, established: 13, finWait: 14, closeWait: 15, \
                    lastAck: 16, timeWait: 17, close: 18";
    let rest = "udpTimeout: 21, udpStreamTimeout: 22, icmpTimeout: 23, genericTimeout: 24";
    let switches = format!("conntrack: {{tcpTimeouts: {{{timeouts}}}, {rest}}}");
    let mut bench = Bench::new(lab_switched(&switches));
    for (from_a, flags, seconds) in [
        (true, SYN, 11),
        (false, SYN_ACK, 12),
        (true, ACK, 13),
        (true, FIN, 14),
        (false, ACK, 15),
        (false, FIN, 16),
        (true, ACK, 17),
        (false, RST, 18),
    ] {
        pass(&mut bench, from_a, flags);
        assert_eq!(tcp_flow(&bench).1, seconds, "{flags:?}");
    }
    let left = |bench: &Bench| {
        let (.., entry) = bench.node.conntrack().iter(bench.now).next().expect("a flow");
        entry.deadline.left(bench.now).as_secs()
    };
    let gre = with_ip(udp((A, 1), (B, 2), b"gre"), |ip| ip.protocol = etherparse::IpNumber::GRE);
    for (packet, seconds) in [(ping(A, B, 7), 23), (gre, 24), (udp((A, 1), (B, 53), b"?"), 21)] {
        bench = Bench::new(lab_switched(&switches));
        bench.sent(CALI_A, &packet);
        assert_eq!(left(&bench), seconds);
    }
    assure(&mut bench, 1);
    assert_eq!(left(&bench), 22);
}

#[test]
fn a_liberal_node_takes_every_segment_and_a_strict_one_picks_nothing_up() {
    let outside = Segment::new(ACK, 901_001, 5_001).packet((A, 40_001), (B, 8080));
    for (switches, expected) in
        [("", FlowState::Invalid), ("conntrack: {beLiberal: true}", FlowState::Original)]
    {
        let mut bench = opened(switches);
        bench.sent(CALI_A, &outside);
        assert_eq!(seen_as(&bench), expected, "{switches}");
    }
    let mut bench = Bench::new(lab_switched("conntrack: {loose: false}"));
    bench.sent(CALI_A, &outside);
    assert_eq!((seen_as(&bench), bench.flows().len()), (FlowState::Invalid, 0));
}

#[test]
fn a_reset_before_the_window_counts_where_it_is_not_judged() {
    let reset = Segment::new(RST, 1_000, 0).packet((A, 40_001), (B, 8080));
    let exact = Segment::new(ACK, 5_001, 1_001).packet((B, 8080), (A, 40_001));
    for (switches, state) in
        [("", FlowState::Invalid), ("conntrack: {ignoreInvalidRst: true}", FlowState::Original)]
    {
        let mut bench = opened(switches);
        bench.sent(CALI_B, &exact);
        bench.sent(CALI_A, &reset);
        assert_eq!(seen_as(&bench), state, "{switches}");
    }
}

#[test]
fn udp_lives_longer_once_both_sides_speak() {
    let mut bench = bench();
    let left = |bench: &Bench| {
        let (.., entry) = bench.node.conntrack().iter(bench.now).next().expect("a flow");
        (entry.deadline.left(bench.now).as_secs(), entry.status.contains(Status::ASSURED))
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
    // Deadlines are kept in milliseconds, rounded up.
    bench.wait(120 * SECOND + SECOND / 1000);
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

/// A UDP flow of a with b that both sides use for longer than two seconds.
fn assure(bench: &mut Bench, port: u16) {
    bench.sent(CALI_A, &udp((A, port), (B, 53), b"?"));
    bench.sent(CALI_B, &udp((B, 53), (A, port), b"!"));
    bench.wait(3 * SECOND);
    bench.sent(CALI_A, &udp((A, port), (B, 53), b"?"));
}

#[test]
fn a_full_table_evicts_an_entry_that_is_not_assured() {
    // Spec CT-19.
    let mut bench = Bench::new(lab_with("limits: {flows: 3}"));
    assure(&mut bench, 1);
    assure(&mut bench, 2);
    for newcomer in 3..20 {
        bench.sent(CALI_A, &udp((A, newcomer), (B, 53), b"?"));
        let flows = bench.flows();
        let has = |port| flows.iter().any(|f| f.starts_with(&format!("udp 10.0.4.27:{port} ")));
        assert!(flows.len() == 3 && has(1) && has(2) && has(newcomer), "{flows:?}");
    }
    assert_eq!(bench.node.conntrack().evicted(), 16);
}

#[test]
fn a_full_table_of_assured_entries_drops_the_newcomer_by_name() {
    // Spec CT-19: before ipvs has seen it.
    let mut bench = Bench::new(lab_with("limits: {flows: 2}"));
    assure(&mut bench, 1);
    assure(&mut bench, 2);
    let newcomer = tcp((A, 3), (FAR, 80), SYN);
    assert_eq!(bench.dropped(CALI_A, &newcomer), DropReason::FlowTableFull);
    assert_eq!(bench.states(), [""; 0]);
    assert_eq!(bench.node.conntrack().evicted(), 0);
    bench.sent(CALI_B, &udp((B, 53), (A, 1), b"old flows go on"));
    bench.wait(120 * SECOND);
    bench.sent(CALI_A, &newcomer);
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
