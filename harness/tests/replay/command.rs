//! `trunkline replay` as it is called: what it writes, and what it says of mistakes.

use std::fs;
use std::process::{Command, Output};

use crate::replay_captures::{Ng, pcap as pcap_file, udp};
use harness::pcap::{self, Direction};
use harness::replay::Outcomes;
use tempfile::TempDir;

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../datapath/tests/labs/kernel.yaml");

const POD_A: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
const CALI_A: [u8; 6] = [2, 0xca, 0, 0, 0, 0x0a];
const GATEWAY: [u8; 6] = [0xee, 0xff, 0xff, 0xff, 0xff, 0xff];
const TRUNK_1: [u8; 6] = [2, 0, 0, 0, 1, 1];
const A: [u8; 4] = [10, 0, 2, 101];
const B: [u8; 4] = [10, 0, 2, 102];
const C: [u8; 4] = [10, 0, 2, 103];
/// ClusterIP with B, C and D behind it.
const CIPM: [u8; 4] = [172, 16, 0, 13];

/// A datagram of pod A.
fn from_a(port: u16, to: ([u8; 4], u16)) -> Vec<u8> {
    udp([POD_A, CALI_A], (A, port), to)
}

/// A folder with captures, and what replay makes of them.
struct Bench(TempDir);

impl Bench {
    fn new(files: &[(&str, Vec<u8>)]) -> Self {
        let dir = TempDir::new().expect("a folder");
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).expect("a file");
        }
        Self(dir)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
        command.args(["replay", LAB]).args(args).current_dir(self.0.path());
        command.output().expect("trunkline runs")
    }

    /// Runs what must succeed, into `out`; the report.
    fn replay(&self, args: &[&str]) -> Outcomes {
        let output = self.run(&[args, &["--out", "out"]].concat());
        let says = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{says}");
        serde_json::from_slice(&self.read("out/outcomes.json")).expect("the form of the report")
    }

    /// Runs what must fail; what it says. Nothing is written then.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(&[args, &["--out", "out"]].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!self.0.path().join("out").exists(), "a refused replay made its folder");
        String::from_utf8(output.stderr).expect("text")
    }

    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.0.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// Time, interface, direction and frame of every packet of a written capture, without ARP.
    fn seen(&self, file: &str) -> Vec<(u64, String, Direction, Vec<u8>)> {
        let bytes = self.read(file);
        let capture = pcap::read(&bytes).expect("a sound capture");
        let packets = capture.packets.iter().filter(|p| p.data.get(12..14) != Some(&[8, 6]));
        packets
            .map(|p| {
                let name = capture.interfaces[p.interface].name.clone();
                let (at, direction) = (p.at.expect("a time"), p.direction.expect("a direction"));
                (at, name, direction, p.data.to_vec())
            })
            .collect()
    }

    /// Where frames were seen, in order, as `NAME <` (inbound) or `NAME >`; an ENI's id is cut.
    fn hops(&self) -> Vec<String> {
        let way = |d| if d == Direction::Inbound { '<' } else { '>' };
        let cut = |name: &str| name.split("eni-").next().map_or(String::new(), str::to_owned);
        let seen = self.seen("out/hops.pcapng");
        seen.iter().map(|(_, name, d, _)| format!("{} {}", cut(name), way(*d))).collect()
    }
}

#[test]
fn frames_go_by_time_then_by_option_and_are_written_alike_each_time() {
    let one = Ng::new(false)
        .interface("x")
        .packet(0, 5_000_000_000, &from_a(1, (B, 9)), 0)
        .packet(0, 7_000_000_000, &from_a(2, (B, 9)), 0)
        .packet(0, 6_000_000_123, &from_a(3, (B, 9)), 0)
        .bytes;
    let two = Ng::new(true).interface("y").packet(0, 7_000_000_000, &from_a(4, (B, 9)), 0).bytes;
    let bench = Bench::new(&[("one", one), ("two", two)]);
    let args = ["--in", "pod:t/a=two", "--in", "pod:t/a=one"];
    let outcomes = bench.replay(&args);
    let sent = bench.seen("out/hops.pcapng").into_iter().filter(|(_, name, ..)| name == "pod:t/a");
    let sent: Vec<_> = sent.map(|(at, .., frame)| (at, frame[35])).collect();
    let expected = [(5_000_000_000, 1), (6_000_000_123, 3), (7_000_000_000, 4), (7_000_000_000, 2)];
    assert_eq!(sent, expected);
    assert_eq!((outcomes.frames_in["pod:t/a"], outcomes.frames_in["pod:t/b"]), (4, 0));
    assert_eq!((outcomes.until, outcomes.version, outcomes.link_lost), (12.0, 1, 0));
    assert!(outcomes.elements.values().all(|ledger| ledger.balanced));
    let files = ["hops.pcapng", "pod_t_b.pcapng", "outcomes.json"].map(|f| format!("out/{f}"));
    let first = files.clone().map(|file| bench.read(&file));
    bench.replay(&args);
    assert!(first == files.map(|file| bench.read(&file)), "two replays differ");
}

#[test]
fn every_port_has_its_file_and_every_hop_its_interface() {
    let bench = Bench::new(&[("a", pcap_file(0xa1b2_c3d4, false, &[(1, 0)]))]);
    let outcomes = bench.replay(&["--in", "pod:t/a=a"]);
    assert_eq!(outcomes.elements["ecs1"].drops["unknown-ethertype"], 1);
    let mut files: Vec<_> = fs::read_dir(bench.0.path().join("out"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    files.sort();
    let ports = ["node_ecs1_host0", "node_ecs2_host0", "outside_ext"].into_iter();
    let ports = ports.chain(["pod_t_a", "pod_t_b", "pod_t_c", "pod_t_d"]);
    let mut expected: Vec<_> = ports.map(|port| format!("{port}.pcapng")).collect();
    expected.extend(["hops.pcapng", "outcomes.json"].map(str::to_owned));
    expected.sort();
    assert_eq!(files, expected);
    let bytes = bench.read("out/hops.pcapng");
    let capture = pcap::read(&bytes).expect("a sound capture");
    let names: Vec<_> = capture.interfaces.iter().map(|i| i.name.as_str()).collect();
    let (before, rest) = names.split_at(14);
    let pods = ["pod:t/a", "pod:t/b", "pod:t/c", "pod:t/d"];
    let one = ["ecs1/caliA", "ecs1/caliB", "ecs1/eth0", "ecs1/eth1", "ecs1/host0"];
    let two = ["ecs2/caliC", "ecs2/caliD", "ecs2/eth0", "ecs2/eth1", "ecs2/host0"];
    assert_eq!(before, [&pods[..], &one, &two].concat());
    let (outside, enis) = rest.split_last().expect("more");
    assert_eq!((*outside, enis.len()), ("outside:ext", 8));
    assert!(enis.iter().all(|name| name.starts_with("vpc/eni-")));
}

#[test]
fn a_pod_s_file_has_what_it_received() {
    let file = Ng::new(false).interface("x").packet(0, 1, &from_a(40_000, (B, 9)), 0).bytes;
    let bench = Bench::new(&[("a", file)]);
    let outcomes = bench.replay(&["--in", "pod:t/a=a"]);
    assert_eq!(bench.hops(), ["pod:t/a >", "ecs1/caliA <", "ecs1/caliB >", "pod:t/b <"]);
    let received = bench.seen("out/pod_t_b.pcapng");
    let (_, name, direction, frame) = received.first().expect("one frame");
    assert_eq!((name.as_str(), *direction, frame[22]), ("pod:t/b", Direction::Inbound, 63));
    // The datagram, and the ARP request before it.
    assert_eq!((received.len(), outcomes.frames_out["pod:t/b"]), (1, 2));
}

#[test]
fn only_what_leaves_is_fed_where_directions_are_told() {
    let file = Ng::new(false)
        .interface("podA/eth0")
        .interface("other")
        .packet(0, 1, &from_a(1, (B, 9)), 2)
        .packet(0, 2, &from_a(2, (B, 9)), 1)
        .packet(0, 3, &from_a(3, (B, 9)), 0)
        .packet(1, 4, &from_a(4, (B, 9)), 0)
        .bytes;
    let bench = Bench::new(&[("a", file.clone()), ("odd#name", file)]);
    let fed = |file: &str| bench.replay(&["--in", &format!("pod:t/a={file}")]).frames_in["pod:t/a"];
    assert_eq!(fed("a#podA/eth0"), 1);
    assert_eq!(fed("a#other"), 1, "no flags on this interface");
    assert_eq!(fed("a"), 1, "flags in the file");
    assert_eq!(fed("odd#name"), 1);
    assert_eq!(fed("odd#name#other"), 1);
}

#[test]
fn frames_enter_at_nodes_and_their_stacks() {
    let mut tagged = udp([GATEWAY, TRUNK_1], (C, 7), (A, 9));
    tagged.splice(12..12, [0x81, 0, 0, 101]);
    let wire = Ng::new(false).interface("x").packet(0, 1, &tagged, 0).bytes;
    // The MAC of host0's forwarder end is derived; a broadcast reaches it all the same.
    let stack = udp([[2, 9, 9, 9, 9, 9], [0xff; 6]], ([10, 0, 0, 11], 7), (A, 9));
    let stack = Ng::new(false).interface("x").packet(0, 1, &stack, 0).bytes;
    let bench = Bench::new(&[("wire", wire), ("stack", stack)]);
    bench.replay(&["--in", "node:ecs1/eth1=wire"]);
    assert_eq!(bench.hops(), ["ecs1/eth1 <", "ecs1/caliA >", "pod:t/a <"]);
    let outcomes = bench.replay(&["--in", "node:ecs1/host0=stack"]);
    assert_eq!(bench.hops().first().map(String::as_str), Some("ecs1/host0 <"));
    assert_eq!(outcomes.frames_in["node:ecs1/host0"], 1);
}

#[test]
fn timers_run_between_and_until() {
    let at = |secs: u64, port| (secs * 1_000_000_000, from_a(port, (CIPM, 53)));
    let mut ng = Ng::new(false).interface("x");
    // ipvs keeps a UDP connection for 300 s after its last datagram.
    for (ns, frame) in [at(0, 7), at(299, 7), at(600, 7), at(700, 7)] {
        ng = ng.packet(0, ns, &frame, 0);
    }
    let bench = Bench::new(&[("a", ng.bytes)]);
    let outcomes = bench.replay(&["--in", "pod:t/a=a", "--until", "650.5"]);
    assert_eq!((outcomes.frames_in["pod:t/a"], outcomes.until), (3, 650.5));
    let received = |pod: &str| bench.seen(&format!("out/pod_t_{pod}.pcapng")).len();
    assert_eq!(["d", "c", "b"].map(received), [2, 1, 0], "the third datagram is a new connection");
}

#[test]
fn hosts_answer_when_asked_to_but_not_the_captures() {
    let frames = Ng::new(false).interface("x").packet(0, 1, &from_a(40_000, (C, 5353)), 0);
    let bench = Bench::new(&[("a", frames.bytes)]);
    let silent = bench.replay(&["--in", "pod:t/a=a"]);
    assert_eq!(bench.seen("out/pod_t_a.pcapng").len(), 0);
    let outcomes = bench.replay(&["--in", "pod:t/a=a", "--answer"]);
    let answers = bench.seen("out/pod_t_a.pcapng");
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].3[42..46], *b"ping");
    assert_eq!(outcomes.frames_in, silent.frames_in, "answers are not fed");
    let sent = bench.hops().iter().filter(|hop| *hop == "pod:t/a >").count();
    assert_eq!(sent, 1, "A does not echo the answer back");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let frame = from_a(1, (B, 9));
    let ng = || Ng::new(false).interface("eth0").interface("eth1");
    let bench = Bench::new(&[
        ("sound", ng().packet(0, 1, &frame, 0).bytes),
        ("cut", ng().packet(0, 1, &frame, 0).packet_with(0, 2, 1_514, &frame, &[]).bytes),
        ("large", ng().packet(0, 1, &[0; 9_000], 0).bytes),
        ("wifi", Ng::new(false).interface_with(105, 0, &[]).packet(0, 1, &frame, 0).bytes),
        ("classic", pcap_file(0xa1b2_c3d4, false, &[(1, 0)])),
        ("text", b"hello".to_vec()),
    ]);
    let says = |input: &str, expected: &str| {
        let said = bench.refused(&["--in", input]);
        assert!(said.contains(expected), "{input}\nexpected {expected}\nsaid     {said}");
    };
    says(
        "pod:t/e=sound",
        "--in no input port is called `pod:t/e`; nearest: pod:t/a, pod:t/b, pod:t/c",
    );
    says("node:esc1/eth0=sound", "nearest: node:ecs1/eth0");
    says("pod:t/a=none", "none: No such file or directory");
    says("pod:t/a=sound#eth2", "sound: no interface is called `eth2`; there are: eth0, eth1");
    says("pod:t/a=classic#eth0", "classic: no interface is called `eth0`; a pcap file names no");
    says("pod:t/a=cut", "cut: packet 2: only 46 of 1514 bytes were captured");
    says("pod:t/a=large", "large: packet 1: 9000 bytes are more than a frame buffer holds");
    says("pod:t/a=wifi", "wifi: interface `0` has link type 105; only Ethernet (1)");
    says("pod:t/a=text", "text: neither pcap nor pcapng");
    let usage = bench.run(&["--in", "pod:t/a", "--out", "out"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&usage.stderr).contains("expected PORT=FILE"));
}

#[test]
fn a_file_over_two_gibibytes_is_refused_unread() {
    let bench = Bench::new(&[]);
    // Sparse: it takes no room on the disk.
    let file = fs::File::create(bench.0.path().join("huge")).expect("a file");
    file.set_len((2 << 30) + 1).expect("a sparse file");
    assert!(bench.refused(&["--in", "pod:t/a=huge"]).contains("huge: larger than 2 GiB"));
}

#[test]
fn what_was_taken_of_each_file_is_told_and_what_may_not_be_meant_is_warned_of() {
    let frame = from_a(1, (B, 9));
    let inbound = Ng::new(false).interface("x").packet(0, 1, &frame, 1).packet(0, 2, &frame, 1);
    let mixed = Ng::new(false).interface("x").interface("y").packet(0, 1, &frame, 0);
    let mixed = mixed.packet(1, 2, &frame, 0);
    let empty = Ng::new(false).interface("x");
    let bench =
        Bench::new(&[("inbound", inbound.bytes), ("mixed", mixed.bytes), ("empty", empty.bytes)]);
    let cases = [
        ("inbound", "0  of 2 packets of inbound", Some("every packet that tells its direction")),
        ("empty", "0  of 0 packets of empty", Some("it holds no packet")),
        ("mixed", "2  of 2 packets of mixed", Some("go into pod:t/a: x, y; FILE#IFACE picks one")),
        ("mixed#y", "1  of 1 packets of mixed#y", None),
    ];
    for (file, told, warned) in cases {
        let output = bench.run(&["--in", &format!("pod:t/a={file}"), "--out", "out"]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{err}");
        assert!(out.contains(told), "{out}");
        match warned {
            Some(words) => assert!(err.starts_with("warning: ") && err.contains(words), "{err}"),
            None => assert_eq!(err, ""),
        }
    }
}

#[test]
fn a_frame_centuries_after_the_first_is_refused() {
    let frame = from_a(1, (B, 9));
    let file =
        |late| Ng::new(false).interface("x").packet(0, 1, &frame, 0).packet(0, late, &frame, 0);
    let files = [("ages", file(u64::MAX).bytes), ("years", file(u64::MAX / 8).bytes)];
    let bench = Bench::new(&files);
    let said = bench.refused(&["--in", "pod:t/a=ages"]);
    assert!(said.contains("ages: packet 2: its time is more than 100 years after"), "{said}");
    assert_eq!(bench.replay(&["--in", "pod:t/a=years"]).frames_in["pod:t/a"], 2);
}
