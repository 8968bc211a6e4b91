//! How connections end, are used again, and go with their destinations (spec IPVS-19 to IPVS-21,
//! IPVS-35, IPVS-36, IPVS-40 to IPVS-46, IPVS-49).

use crate::common::*;
use datapath::lab::{self, Lab};
use datapath::verdict::DropReason;
use datapath::wire::tcp::Flags;

const SECOND: u64 = 1_000_000_000;
const VIP: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 168, 0, 40);
const BOTH: &str = "{pod: t/b}, {pod: t/d}";

/// A lab with one more service, which has these endpoints.
fn lab(endpoints: &str, switches: &str) -> Lab {
    let service = format!(
        "  - {{name: t/live, clusterIP: {VIP}, endpoints: [{endpoints}], \
         ports: [{{port: 80, targetPort: 8080}}, {{port: 53, targetPort: 5353, proto: udp}}]}}\n\
         slbs:\n"
    );
    let text = include_str!("../common/lab.yaml").replace("slbs:\n", &service);
    let more = format!(
        "switches: {{masqueradeRandomFully: false, icmpRatelimit: 0, ipvs: {{{switches}}}}}\n"
    );
    lab::load(&(text + &more), "lab.yaml").expect("a lab")
}

fn bench(switches: &str) -> Bench {
    Bench::new(lab(BOTH, switches))
}

fn ask(port: u16, flags: Flags) -> Vec<u8> {
    tcp((A, port), (VIP, 80), flags)
}

/// Opens a connection to d, or to b on the second call.
fn establish(bench: &mut Bench, port: u16) -> Addr {
    let (server, _) = bench.sent(CALI_A, &ask(port, SYN)).view().dst;
    answer(bench, server, port, SYN_ACK);
    bench.sent(CALI_A, &ask(port, ACK));
    (server, 8080)
}

fn answer(bench: &mut Bench, server: std::net::Ipv4Addr, port: u16, flags: Flags) {
    let packet = tcp((server, 8080), (A, port), flags);
    if server == B {
        bench.packet(CALI_B, &packet)
    } else {
        bench.tagged(101, &packet)
    };
}

/// Destinations of the service: address, weight, active and inactive connections.
fn servers(bench: &Bench) -> Vec<(std::net::Ipv4Addr, u32, u32, u32)> {
    let key = (datapath::wire::Protocol::TCP, VIP, 80);
    let ipvs = bench.node.ipvs();
    let service = ipvs.service(key).expect("the service");
    let all = service.servers.iter().filter_map(|handle| ipvs.server(*handle));
    all.map(|s| (s.destination.ip, s.destination.weight, s.active, s.inactive)).collect()
}

fn apply(bench: &mut Bench, endpoints: &str, switches: &str) {
    bench.node.apply(&lab(endpoints, switches), bench.now);
}

#[test]
fn timeouts_are_settable() {
    let set =
        "timeouts: {tcp: 7, tcpFin: 6, udp: 5, synRecv: 4, closeWait: 3, timeWait: 2, close: 1}";
    let open = [(true, SYN), (true, ACK)];
    let cases: [(&[(bool, Flags)], u64); 6] = [
        (&open[..1], 4),
        (&open, 7),
        (&[open[0], open[1], (true, FIN)], 3),
        (&[open[0], open[1], (false, FIN)], 6),
        (&[open[0], open[1], (false, FIN), (true, FIN)], 2),
        (&[open[0], (false, RST)], 1),
    ];
    for (steps, secs) in cases {
        let mut bench = bench(set);
        for (from_client, flags) in steps {
            match from_client {
                true => _ = bench.sent(CALI_A, &ask(1, *flags)),
                false => answer(&mut bench, D, 1, *flags),
            }
        }
        bench.wait(secs * SECOND - 1);
        assert_eq!(bench.states().len(), 1, "{secs}");
        bench.wait(1);
        assert_eq!(bench.states().len(), 0, "{secs}");
    }
    let mut bench = bench(set);
    bench.sent(CALI_A, &udp((A, 1), (VIP, 53), b"?"));
    bench.wait(5 * SECOND);
    assert_eq!(bench.states().len(), 0);
}

#[test]
fn a_flow_ends_with_its_connection() {
    let mut bench = bench("timeouts: {tcp: 9}");
    establish(&mut bench, 1);
    bench.wait(8 * SECOND);
    assert_eq!(bench.flows().len(), 1);
    bench.wait(SECOND);
    assert_eq!(bench.flows().len(), 0, "though conntrack would have kept it for days");
}

#[test]
fn counts_follow_a_connection_whose_time_is_cut_short() {
    let mut bench = bench("");
    establish(&mut bench, 1);
    answer(&mut bench, D, 1, RST);
    assert_eq!(servers(&bench)[0], (D, 1, 0, 1));
    bench.wait(10 * SECOND);
    assert_eq!(servers(&bench)[0], (D, 1, 0, 0), "not only at the next look a minute later");
}

#[test]
fn reuse_is_a_switch() {
    for (mode, next) in [(0, D), (1, B), (2, B)] {
        let mut bench = bench(&format!("connReuseMode: {mode}"));
        establish(&mut bench, 1);
        bench.sent(CALI_A, &ask(1, RST));
        assert_eq!(bench.states(), ["CLOSE"]);
        assert_eq!(bench.sent(CALI_A, &ask(1, SYN)).view().dst.0, next, "{mode}");
        assert_eq!(bench.states(), ["SYN_RECV"]);
    }
}

#[test]
fn weight_zero_sends_a_syn_elsewhere_where_connections_expire() {
    let drained = "{pod: t/b}, {pod: t/d, weight: 0}";
    for (expires, next) in [(true, B), (false, D)] {
        let switches = format!("expireNodestConn: {expires}");
        let mut bench = bench(&switches);
        bench.sent(CALI_A, &udp((A, 9), (VIP, 53), b"?"));
        bench.sent(CALI_A, &ask(1, SYN));
        apply(&mut bench, drained, &switches);
        assert_eq!(bench.sent(CALI_A, &udp((A, 9), (VIP, 53), b"?")).view().dst.0, D);
        let seen = bench.packet(CALI_A, &ask(1, SYN));
        if expires {
            // conntrack knows the flow: the first SYN only ends the connection.
            assert_eq!((seen.len(), bench.reason()), (0, DropReason::ConnectionReused));
            assert_eq!(bench.states(), ["UDP"]);
        }
        assert_eq!(bench.sent(CALI_A, &ask(1, SYN)).view().dst.0, next);
    }
}

#[test]
fn connections_go_with_their_destination() {
    let switches = "gracefulTermination: false";
    let mut bench = bench(switches);
    establish(&mut bench, 1);
    establish(&mut bench, 2);
    apply(&mut bench, "{pod: t/b}", switches);
    assert_eq!((bench.states().len(), bench.flows().len()), (1, 1), "the one to b is left");
    let (reason, told) = bench.refused(CALI_A, &ask(1, ACK | Flags::PSH));
    assert_eq!(reason, DropReason::NoConnection);
    assert_eq!(told.to_string(), "tcp R 192.168.0.40:80 > 10.0.4.27:1 ttl 64");
    assert_eq!(bench.sent(CALI_A, &ask(2, ACK)).view().dst.0, B);
}

#[test]
fn or_wait_for_it_in_silence() {
    let switches = "gracefulTermination: false, expireNodestConn: false";
    let mut bench = bench(switches);
    establish(&mut bench, 1);
    apply(&mut bench, "{pod: t/b}", switches);
    assert_eq!(bench.states(), ["ESTABLISHED"]);
    for flags in [ACK, SYN] {
        assert_eq!(bench.dropped(CALI_A, &ask(1, flags)), DropReason::DestinationGone);
    }
    // Answers find their way all the same.
    let seen = bench.tagged(101, &tcp((D, 8080), (A, 1), ACK));
    assert_eq!(seen[0].view().from(), VIP);
    // It comes back to the connections it had.
    apply(&mut bench, BOTH, switches);
    assert_eq!(bench.sent(CALI_A, &ask(1, ACK)).view().dst.0, D);
    assert_eq!(servers(&bench)[0], (D, 1, 1, 0));
}

#[test]
fn a_switch_that_comes_late_ends_an_orphan_at_its_next_packet() {
    let without = "gracefulTermination: false, expireNodestConn: false";
    let mut bench = bench(without);
    establish(&mut bench, 1);
    apply(&mut bench, "{pod: t/b}", without);
    apply(&mut bench, "{pod: t/b}", "gracefulTermination: false");
    assert_eq!(bench.dropped(CALI_A, &ask(1, ACK)), DropReason::ConnectionReused);
    assert_eq!((bench.states().len(), bench.flows().len()), (0, 0));
    assert_eq!(bench.refused(CALI_A, &ask(1, ACK)).0, DropReason::NoConnection);
}

#[test]
fn sloppy_tcp_begins_with_any_segment_but_a_reset() {
    for (flags, state) in [(ACK, "ESTABLISHED"), (FIN, "CLOSE"), (Flags::PSH, "CLOSE")] {
        let mut bench = bench("sloppyTcp: true");
        assert_eq!(bench.sent(CALI_A, &ask(1, flags)).view().dst, (D, 8080));
        assert_eq!(bench.states(), [state]);
    }
    let mut bench = bench("sloppyTcp: true");
    assert_eq!(bench.dropped(CALI_A, &ask(1, RST)), DropReason::NoConnection);
}

#[test]
fn nothing_from_the_ftp_data_port_is_scheduled() {
    let mut bench = bench("");
    let (reason, told) = bench.refused(CALI_A, &ask(20, SYN));
    assert_eq!(reason, DropReason::NoConnection);
    assert_eq!(told.to_string(), "tcp RA 192.168.0.40:80 > 10.0.4.27:20 ttl 64");
}

#[test]
fn a_destination_that_answers_nobody_is_told_where_the_switch_says_so() {
    let stray = |port, flags| tcp((B, port), (A, 7), flags);
    let mut quiet = bench("");
    quiet.sent(CALI_B, &stray(8080, ACK));
    let mut bench = bench("natIcmpSend: true");
    let (_, told) = bench.refused(CALI_B, &stray(8080, ACK));
    assert!(told.to_string().starts_with("icmp 3/3 10.0.4.20"), "{told}");
    assert_eq!(bench.sent(CALI_B, &stray(8080, RST)).port, CALI_A, "a reset passes");
    assert_eq!(bench.sent(CALI_B, &stray(8081, ACK)).port, CALI_A, "so does another port");
}

#[test]
fn a_removed_endpoint_keeps_its_connections_until_they_end() {
    let mut bench = bench("");
    establish(&mut bench, 1);
    apply(&mut bench, "{pod: t/b}", "");
    assert_eq!(servers(&bench), [(D, 0, 1, 0), (B, 1, 0, 0)]);
    assert_eq!(bench.sent(CALI_A, &ask(1, ACK)).view().dst.0, D);
    assert_eq!(bench.sent(CALI_A, &ask(2, SYN)).view().dst.0, B);
    answer(&mut bench, D, 1, RST);
    bench.wait(10 * SECOND);
    assert_eq!(servers(&bench)[0], (D, 0, 0, 0), "kube-proxy looks once a minute");
    bench.wait(49 * SECOND);
    assert_eq!(servers(&bench).len(), 1);
    // Without connections it goes at once.
    bench.sent(CALI_B, &tcp((B, 5), (VIP, 53), ACK));
    apply(&mut bench, "{pod: t/d}", "");
    assert_eq!(servers(&bench).len(), 2, "b still has the second connection");
    bench.wait(120 * SECOND);
    assert_eq!(servers(&bench), [(D, 1, 0, 0)]);
    apply(&mut bench, "{pod: t/a}", "");
    assert_eq!(servers(&bench), [(A, 1, 0, 0)]);
}

#[test]
fn a_terminating_endpoint_that_comes_back_is_the_newest() {
    let mut bench = bench("");
    bench.sent(CALI_A, &ask(1, SYN));
    bench.sent(CALI_A, &ask(2, SYN));
    assert_eq!(servers(&bench), [(D, 1, 1, 0), (B, 1, 1, 0)]);
    apply(&mut bench, "{pod: t/d}", "");
    assert_eq!(servers(&bench), [(D, 1, 1, 0), (B, 0, 1, 0)]);
    apply(&mut bench, BOTH, "");
    assert_eq!(servers(&bench), [(B, 1, 1, 0), (D, 1, 1, 0)]);
    assert_eq!(bench.sent(CALI_A, &ask(2, ACK)).view().dst.0, B, "its connection has stayed");
}

#[test]
fn udp_is_not_let_end() {
    let mut bench = bench("");
    bench.sent(CALI_A, &udp((A, 9), (VIP, 53), b"?"));
    apply(&mut bench, "{pod: t/b}", "");
    assert_eq!((bench.states().len(), bench.flows().len()), (0, 0));
    assert_eq!(bench.sent(CALI_A, &udp((A, 9), (VIP, 53), b"?")).view().dst.0, B);
}

/// How many connections to the service live.
fn living(bench: &Bench) -> usize {
    bench.node.connections().iter(bench.now).count()
}

/// Seconds pass, as they would pass a node whose timers are called when they are due.
fn pass(bench: &mut Bench, seconds: u32) {
    for _ in 0..seconds {
        bench.wait(SECOND);
        // One call looks at a few.
        bench.wait(0);
    }
}

#[test]
fn drop_entry_drops_what_has_done_little() {
    for (mode, drops) in [(0, false), (1, false), (2, false), (3, true)] {
        let set = format!("dropEntry: {mode}, timeouts: {{synRecv: 900}}");
        let mut bench = bench(&set);
        for port in 0..320 {
            bench.sent(CALI_A, &ask(40_000 + port, SYN));
        }
        pass(&mut bench, 60);
        // A part of a thirty-second each second: 48 of 320 are left on average.
        let left = living(&bench);
        assert_eq!(left == 320, !drops, "{mode}: {left}");
        assert!(!drops || (20..90).contains(&left), "{left}");
        // Their flows went with them, and destinations count what is there.
        let counted: u32 = servers(&bench).iter().map(|(_, _, active, _)| active).sum();
        assert_eq!(counted as usize, left);
        assert_eq!(bench.node.conntrack().iter(bench.now).count(), left);
    }
}

#[test]
fn and_spares_what_has_done_more_or_something_just_now() {
    let mut bench = bench("dropEntry: 3, timeouts: {tcp: 900}");
    for port in 0..96 {
        let (server, _) = establish(&mut bench, 41_000 + port);
        answer(&mut bench, server, 41_000 + port, ACK);
        // A third has sent two segments, a third eight, the rest nine.
        for _ in 0..[0, 6, 7][usize::from(port) % 3] {
            bench.sent(CALI_A, &ask(41_000 + port, ACK));
        }
    }
    let by_kind = |bench: &Bench| {
        let mut kinds = [0; 3];
        for connection in bench.node.connections().iter(bench.now) {
            kinds[usize::from(connection.request.src_port - 41_000) % 3] += 1;
        }
        kinds
    };
    // For a minute all have done something just now.
    pass(&mut bench, 59);
    assert_eq!(by_kind(&bench), [32; 3]);
    pass(&mut bench, 240);
    let [two, eight, nine] = by_kind(&bench);
    assert!(two < eight && eight < nine && nine == 32, "{two} {eight} {nine}");
}
