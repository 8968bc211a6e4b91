//! Cases as folders: `trunkline test` on those of the repository and on a user's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use datapath::lab::Lab;
use harness::case::packet::{Body, Packet, Sum, Tcp, TcpOption, filler};
use harness::case::{Bed, CaseDatapath, Line, Memory, Seen, Suite, compare, play, play_by_clock};
use harness::pcap;
use rayon::prelude::*;
use tempfile::TempDir;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn test(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    command.arg("test").args(args).output().expect("run")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A user's own folder with one case in the lab of the repository's cases.
struct Own {
    folder: TempDir,
}

impl Own {
    fn new(timeline: &str) -> Self {
        let own = Self { folder: tempfile::tempdir().expect("a folder") };
        let lab = repository("cases/lab.yaml").canonicalize().expect("the lab");
        own.write(
            "case.yaml",
            &format!("why: A test.\nlab: {}\ntimeline:\n{timeline}", lab.display()),
        );
        own
    }

    fn path(&self) -> &str {
        self.folder.path().to_str().expect("a path in Unicode")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("write");
    }

    fn expected(&self) -> String {
        fs::read_to_string(self.folder.path().join("expected.txt")).expect("read")
    }

    fn bless(&self) -> String {
        let blessed = test(&[self.path(), "--bless"]);
        assert!(blessed.status.success(), "{}", stderr(&blessed));
        stdout(&blessed)
    }
}

#[test]
fn the_cases_of_the_repository_pass_in_memory() {
    let cases = repository("cases").display().to_string();
    let output = test(&[&cases]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    let listed = stdout(&test(&[&cases, "--list"]));
    let passed = stdout(&output).lines().filter(|line| line.starts_with("ok")).count();
    assert_eq!(passed, listed.lines().count());
    assert!(listed.contains("ways/cluster-ip[profile=terway-1.4.2]\n"), "{listed}");
    let one = stdout(&test(&[&cases, "--filter", "ways/hairpin", "-j", "1"]));
    assert_eq!(one, "ok    ways/hairpin\n1 passed, 0 failed, 0 not judged on memory\n");
}

/// Memory whose elements keep no journal. Only then do packets take learned paths.
struct Unrecorded;

impl CaseDatapath for Unrecorded {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn start(&self, lab: &Lab, text: &str) -> anyhow::Result<Box<dyn Bed>> {
        let mut bed = Memory.start(lab, text)?;
        // This closes the journals.
        assert!(bed.recording().is_some());
        Ok(bed)
    }
}

/// Learned paths and the walk through every hook show the same (spec LAW-4).
#[test]
fn the_cases_of_the_repository_show_the_same_by_learned_paths() {
    let suite = Suite::load(&[repository("cases")], None).expect("the cases");
    let hops_walked = suite.instances.par_iter().map(|instance| {
        assert!(instance.lab.switches.flow_cache, "{}: the cache is off", instance.name);
        let walked = play(&Memory, instance).expect("played");
        let learned = play(&Unrecorded, instance).expect("played");
        let hops = |played: &harness::case::Played| {
            let recording = played.recording.as_ref().expect("memory keeps one");
            recording.hops.iter().map(|(_, hops)| hops.len()).sum::<usize>()
        };
        assert_eq!(hops(&learned), 0, "{}", instance.name);
        assert_eq!(walked.observation, learned.observation, "{}", instance.name);
        hops(&walked)
    });
    assert!(hops_walked.sum::<usize>() > 0, "memory's own journals are open");
}

#[test]
fn a_wrong_expectation_is_told_field_by_field() {
    let own = Own::new("  - send: a:40001 > cip:80 S\n");
    let missing = test(&[own.path(), "--keep", own.path()]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stdout(&missing).contains("--bless"), "{}", stdout(&missing));
    assert_eq!(own.bless(), "1 cases, 1 changed\n");
    assert_eq!(own.bless(), "1 cases, 0 changed\n");
    assert_eq!(
        own.expected(),
        "1 a: 10.0.2.101:40001 > 172.16.0.10:80 S seq=1000 win=64240\n  \
         ECS1.eth0: 10.0.2.101:40001 > 10.0.2.103:8080 ttl=63\n  vpc>ECS2.eth1: vlan=201\n  \
         c: ttl=62\n"
    );

    own.write("expected.txt", &own.expected().replace("vlan=201", "vlan=202"));
    let junit = own.folder.path().join("junit.xml");
    let kept = own.folder.path().join("kept");
    let paths = [&junit, &kept].map(|path| path.display().to_string());
    let wrong = test(&[own.path(), "--junit", &paths[0], "--keep", &paths[1]]);
    assert_eq!(wrong.status.code(), Some(1));
    let said = stdout(&wrong);
    for part in [
        "expected   vpc>ECS2.eth1: vlan=202",
        "seen       vpc>ECS2.eth1: vlan=201",
        "expected vlan=202, seen vlan=201",
        "what decided",
        "0 passed, 1 failed, 0 not judged on memory",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    assert!(fs::read_to_string(&junit).expect("read").contains("failures=\"1\""));
    let capture = fs::read_dir(&kept).expect("kept").next().expect("a file").expect("an entry");
    let bytes = fs::read(capture.path()).expect("read");
    let capture = pcap::read(&bytes).expect("a capture");
    // The SYN into three elements and out of each.
    assert_eq!(capture.packets.len(), 6);
    assert!(capture.interfaces.iter().any(|interface| interface.name == "ECS1.eth0"));
}

#[test]
fn a_mistake_in_a_case_is_told_with_its_place() {
    for (timeline, place, what) in [
        ("  - send: a:40001 > cip:80 S ttl=300\n", ":4:30: ", "found `ttl=300`"),
        ("  - send: z:40001 > cip:80 S\n", ":4:11: ", "a host to begin with: one of a, b, c, d"),
        ("  - answer: c udp\n  - send: a > nobody S\n", ":5:15: ", "found `nobody`"),
        ("  - send: a:1 > cip:80 udp win=7\n", ":4:28: ", "a setting that goes with `udp`"),
        ("  - advance: soon\n", ":4:5: ", "advance"),
        ("  - sent: a:1 > cip:80 S\n", ":4:5: ", "unknown variant `sent`"),
        ("  - send: ${what}\n", ":4:5: ", "expected a name of the matrix"),
    ] {
        let own = Own::new(timeline);
        let output = test(&[own.path()]);
        assert_eq!(output.status.code(), Some(2), "{timeline}");
        let said = stderr(&output);
        assert!(said.contains(&format!("case.yaml{place}")) && said.contains(what), "{said}");
    }
    let empty = tempfile::tempdir().expect("a folder");
    let output = test(&[empty.path().to_str().expect("Unicode")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no case.yaml"), "{}", stderr(&output));
}

#[test]
fn what_a_datapath_cannot_judge_is_counted() {
    let own = Own::new("  - send: a:40001 > cip:80 S\nnotOn: {memory: it is a test}\n");
    let output = test(&[own.path()]);
    assert!(output.status.success());
    let said = stdout(&output);
    assert!(said.contains("not judged: it is a test"), "{said}");
    assert!(said.ends_with("0 passed, 0 failed, 1 not judged on memory\n"), "{said}");
}

/// What a node drops, refuses and makes itself is there, and what hosts say wrong arrives so.
#[test]
fn a_case_shows_what_the_node_makes_and_what_goes_nowhere() {
    let own = Own::new(
        "  - send: a:1 > cip:81 S\n  - send: a:2 > cip:80 S badipsum\n  - drops: ECS1\n  - send: \
         'a:3 > c:9 udp data=\"x\" badsum'\n  - send: ext > a echo ident=7 number=1 len=8 ttl=9\n  \
         - answer: a echo-reply\n",
    );
    own.bless();
    let expected = own.expected();
    for line in [
        "+ a: 172.16.0.10:81 > 10.0.2.101:1 RA seq=0 ack=1001 win=0 df\n",
        "badipsum\n  nothing\n",
        "drops ECS1: bad-checksum 1, no-service 1\n",
        "udp data=\"x\" badsum\n  ECS1.eth1: vlan=101 ttl=63\n",
        "echo ident=7 number=1 len=8 ttl=9\n",
        "10.0.2.101 > 100.64.0.10 echo-reply ident=7 number=1 len=8\n",
    ] {
        assert!(expected.contains(line), "{line} is not in:\n{expected}");
    }
}

/// The README's worked example, as it stands there.
#[test]
fn the_example_of_the_readme_shows_what_the_readme_says() {
    let readme = fs::read_to_string(repository("README.md")).expect("read the README");
    let block = |kind: &str, begin: &str| {
        let fence = format!("```{kind}\n");
        let mut blocks = readme.split(&fence).skip(1);
        let block = blocks.find(|block| block.starts_with(begin)).expect("a block");
        block.split("```").next().unwrap_or_default().to_owned()
    };
    let own = Own { folder: tempfile::tempdir().expect("a folder") };
    own.write("case.yaml", &block("yaml", "why:"));
    own.bless();
    let expected = own.expected();
    assert!(expected.starts_with(&block("text", "== port=")), "{expected}");
    assert!(test(&[own.path()]).status.success());
}

#[test]
fn a_packet_is_the_same_after_its_bytes() {
    let tcp = Tcp {
        ports: (1, 65_535),
        flags: 0xd2,
        seq: u32::MAX,
        ack: 7,
        window: 3,
        urgent: 9,
        options: vec![
            TcpOption::Mss(1_460),
            TcpOption::SackOk,
            TcpOption::Nop,
            TcpOption::Scale(7),
            TcpOption::Stamp(1, 2),
            TcpOption::Sack(vec![(3, 4)]),
            TcpOption::Other(253, vec![1]),
        ],
    };
    let new = |body| Packet::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), body);
    let udp = new(Body::Udp { ports: (5, 6), len: None });
    let packets = [
        Packet { data: filler(30), tos: 0xb8, df: true, ttl: 1, ..new(Body::Tcp(tcp)) },
        Packet { sum: Sum::Wrong, header_sum: Sum::Wrong, id: 77, ..udp.clone() },
        Packet { sum: Sum::Absent, options: vec![1, 1, 1, 0], data: filler(3), ..udp.clone() },
        Packet { data: filler(3), ..new(Body::Bare(47)) },
    ];
    for packet in &packets {
        let read = Packet::read(&packet.bytes()).expect("a packet");
        assert_eq!(&read, packet);
        assert_eq!(read.line(), packet.line());
    }
    assert_eq!(
        packets[0].line(),
        "10.0.0.1:1 > 10.0.0.2:65535 SAEW seq=4294967295 ack=7 win=3 urg=9 \
         opt=mss:1460,sackok,nop,ws:7,ts:1-2,sack:3-4,253:01 len=30 ttl=1 tos=0xb8 df"
    );
    // Fragments carry every byte once.
    let whole = Packet { data: filler(3_000), ..udp };
    let pieces = whole.cut(1_500);
    let carried: Vec<u8> = pieces.iter().flat_map(|piece| piece[20..].to_vec()).collect();
    assert_eq!((pieces.len(), &carried[..]), (3, &whole.bytes()[20..]));
}

/// What a kernel's timers may decide otherwise neither counts nor shifts anything else; all the rest
/// counts.
#[test]
fn lines_agree_but_for_what_may_differ() {
    let expected = ["in tables:", "  tcp ends 1s", "  tcp stays 100s", "drops ECS1: martian 1"];
    let agrees = |seen: &[&str]| {
        let seen: Vec<Line> =
            seen.iter().map(|text| Line { text: (*text).to_owned(), step: 0 }).collect();
        let comparison = compare(&expected.map(str::to_owned), &seen, 2);
        (comparison.differences.len(), comparison.not_judged)
    };
    let drops = "drops ECS1: martian 1";
    assert_eq!(agrees(&["in tables:", "  tcp ends 1s", "  tcp stays 99s", drops]), (0, 0));
    assert_eq!(agrees(&["in tables:", "  tcp stays 98s", drops]), (0, 0));
    assert_eq!(agrees(&["in tables:", "  tcp stays 98s", "drops ECS1: not judged"]), (0, 1));
    assert_eq!(agrees(&["in tables:", "  tcp stays 97s", drops]), (1, 0));
    assert_eq!(agrees(&["in tables:", "  tcp ends 1s", drops]), (1, 0));
    assert_eq!(agrees(&["in tables:", "  tcp stays 100s", "drops ECS1: martian 2"]), (1, 0));
    assert_eq!(agrees(&["in tables:", "  tcp stays 100s", "  udp new 30s", drops]), (1, 0));
}

/// A step takes the time that the clock says, whatever the case says (spec ORA-8).
#[test]
fn a_case_can_be_played_at_the_pace_of_another_clock() {
    let timeline = "  - send: a:40000 > c:53 udp data=\"query\"\n  - advance: 5s\n  - tables: {ECS1: [conntrack]}\n";
    let own = Own::new(timeline);
    let suite = Suite::load(&[own.folder.path().to_owned()], None).expect("a case");
    let left = |clock: &[u64]| {
        let clock: Vec<_> = clock.iter().copied().map(Duration::from_secs).collect();
        let played = play_by_clock(&Memory, &suite.instances[0], &clock).expect("played");
        let Some(Seen::Table { entries, .. }) = played.observation.steps.last() else {
            panic!("no table: {:?}", played.observation)
        };
        entries.iter().map(|entry| entry.seconds).collect::<Vec<_>>()
    };
    assert_eq!(left(&[]), [25]);
    assert_eq!(left(&[0, 5, 5]), [25]);
    assert_eq!(left(&[3, 5, 9]), [25]);
    assert_eq!(left(&[3, 8, 8]), [22]);
    assert_eq!(left(&[31, 31, 31]), [] as [u64; 0]);
}
