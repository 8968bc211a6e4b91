//! Counts the instructions of a packet or an operation under callgrind and holds them against the
//! committed table, `benches/instructions.txt`. Unlike a time, a count is the same on every run, so
//! 2 % more is a finding: then this fails. What costs less is told, for the table to be blessed:
//!
//! ```sh
//! cargo run --release -p benches --bin instructions
//! TRUNKLINE_BLESS=1 cargo run --release -p benches --bin instructions
//! ```
//!
//! It runs itself under valgrind once for each subject, and callgrind counts within
//! [`within_the_count`] alone, so that neither set-up nor the filling of buffers is in the figure.
//! That takes no crate and no runner of a crate's own version on each machine that tests.
//!
//! `instructions where NAME` tells of one subject from which of the datapath's files its instructions come.
//!
//! Another compiler makes other code, so with another compiler than the table's nothing is compared
//! and that is said. What the machine's processor can do does not matter: the C library is told to
//! copy memory in the same way everywhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use benches::calib::Calibration;
use benches::fused::FusedLink;
use benches::scenario8::ClientNode;
use benches::tables::{Flows, Routes, Slots};
use benches::way::{BALANCED, FORWARDED, Link, MASQUERADED};
use benches::{BATCH, Work, each, profile};
use datapath::link::ElementId;
use datapath::wire::{Packet, checksum, ethernet};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
/// How much more than in the table is a failure, and how much less is worth a word.
const TOLERANCE: f64 = 0.02;
/// Batches of one subject.
const BATCHES: u64 = 32;
/// Operations that are counted of one.
const OPERATIONS: f64 = (BATCHES * BATCH as u64) as f64;
/// Flows and keys of a subject that has many.
const MANY: u32 = 1_000;
/// Bends glibc to the functions that every `x86_64` has.
const PLAIN_COPIES: &str =
    "glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-AVX512VL,-ERMS,-SSE4_1,-SSSE3";

/// What is counted: its name and how it runs.
type Subject = (&'static str, fn());

const NODE: ElementId = ElementId::Node(0);
const SUBJECTS: [Subject; 19] = [
    ("parse", parse),
    ("checksum of 64 bytes", || sum(64)),
    ("checksum of 1500 bytes", || sum(1_500)),
    ("index, hit", || asked(Slots::new(MANY), Slots::hit)),
    ("index, miss", || asked(Slots::new(MANY), Slots::miss)),
    ("flow table, hit", || asked(Flows::new(MANY), Flows::hit)),
    ("flow table, miss", || asked(Flows::new(MANY), Flows::miss)),
    ("prefix table", || asked(Routes::new(MANY), Routes::hit)),
    ("calib", || handled(Calibration::new(ClientNode::datagrams(MANY)))),
    ("node, S8 in UDP, cached", || handled(ClientNode::established(MANY, true))),
    ("node, S8 in UDP, walked", || handled(ClientNode::established(MANY, false))),
    ("node, S8 in TCP, cached", || handled(Link::tcp(MASQUERADED, true).requests(NODE))),
    ("node, S8's answers, walked", || handled(Link::udp(MASQUERADED, false).answers(NODE))),
    ("node, to ClusterIP, walked", || handled(Link::udp(BALANCED, false).requests(NODE))),
    ("node, to pod, walked", || handled(Link::udp(FORWARDED, false).requests(NODE))),
    ("node, new connection", || handled(ClientNode::with_newcomers(MANY, newcomers()))),
    ("VPC", || handled(Link::udp(FORWARDED, true).requests(ElementId::Vpc))),
    ("link, S8, fused, one way", || handled(FusedLink::established(MANY))),
    ("link, S8, there and back", || asked(Link::udp(MASQUERADED, true), Link::round)),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => check(),
        ["where", name] => tell_where(name),
        [name] => {
            subject(name)();
            ExitCode::SUCCESS
        }
        _ => panic!("a subject's name, or `where` and one"),
    }
}

/// How a subject runs.
fn subject(name: &str) -> fn() {
    let subject = SUBJECTS.iter().find(|(subject, _)| *subject == name);
    subject.expect("the name of a subject").1
}

/// Prints from which files the instructions of a subject come.
fn tell_where(name: &str) -> ExitCode {
    let file = std::env::temp_dir().join(format!("instructions-{}", std::process::id()));
    let out = format!("--callgrind-out-file={}", file.display());
    let Some(total) = run(name, &[&out, "--dump-instr=yes", "--dump-line=no"]) else {
        eprintln!("instructions: valgrind is not installed");
        return ExitCode::FAILURE;
    };
    let written = std::fs::read_to_string(&file).expect("read what callgrind has written");
    std::fs::remove_file(&file).expect("remove it");
    let mut text = format!("{name}: {total:.1} instructions\n");
    for (file, count) in profile::by_file(&program(), &written) {
        let each = count as f64 / OPERATIONS;
        let _ = writeln!(text, "{each:>9.1} {:>5.1} %  {file}", 100.0 * each / total);
    }
    print!("{text}");
    ExitCode::SUCCESS
}

/// Holds every count against the table, or writes that.
fn check() -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("instructions: only those of the release profile mean anything: --release");
        return ExitCode::FAILURE;
    }
    let passed = guard();
    // As cargo's tests say it, for whoever adds them up.
    let (word, failed) = if passed { ("ok", 0) } else { ("FAILED", 1) };
    println!("test result: {word}. {} passed; {failed} failed; 0 ignored", 1 - failed);
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether nothing costs more than the table allows.
fn guard() -> bool {
    let compiler = compiler();
    let bless = std::env::var_os("TRUNKLINE_BLESS").is_some();
    let text = std::fs::read_to_string(TABLE).unwrap_or_default();
    let (made_with, table) = read(&text);
    if !bless && made_with != compiler {
        eprintln!("skipped: instructions: the table was made with {made_with}, here is {compiler}");
        return true;
    }
    let mut counts = Vec::new();
    for (name, _) in SUBJECTS {
        let Some(count) = count(name) else {
            eprintln!("skipped: instructions: valgrind is not installed");
            return true;
        };
        println!("{}", compared(name, count, table.get(name).copied()));
        counts.push((name, count));
    }
    if bless {
        std::fs::write(TABLE, written(&compiler, &counts)).expect("write the table");
        return true;
    }
    let limit = |name: &str| table.get(name).map_or(0.0, |known| known * (1.0 + TOLERANCE));
    counts.iter().all(|(name, count)| *count <= limit(name))
}

/// One line about a count.
fn compared(name: &str, count: f64, known: Option<f64>) -> String {
    let Some(known) = known else {
        return format!("{name:<28} {count:>9.1}, not in the table: set TRUNKLINE_BLESS=1");
    };
    let change = count / known - 1.0;
    let word = match change {
        more if more > TOLERANCE => ", too many",
        less if less < -TOLERANCE => ", fewer: set TRUNKLINE_BLESS=1 to keep it so",
        _ => "",
    };
    format!("{name:<28} {count:>9.1} {:>+7.2} %{word}", change * 100.0)
}

/// Instructions of one operation of a subject; `None` without valgrind.
fn count(name: &str) -> Option<f64> {
    run(name, &["--callgrind-out-file=/dev/null"])
}

/// The same of a run with these options of callgrind.
fn run(name: &str, options: &[&str]) -> Option<f64> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*within_the_count*"])
        .args(options)
        .arg(program())
        .arg(name)
        // The environment lies on the stack, and how memory is aligned there is part of the count.
        .env_clear()
        .env("GLIBC_TUNABLES", PLAIN_COPIES);
    let output = match valgrind.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        output => output.expect("run valgrind"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let all: f64 = collected.and_then(|(_, all)| all.parse().ok()).expect("a count");
    Some(all / OPERATIONS)
}

fn program() -> PathBuf {
    std::env::current_exe().expect("know this program")
}

/// The compiler in use, and for what it compiles.
fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output().expect("run rustc");
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("{}, {}", version.trim(), std::env::consts::ARCH)
}

/// What made a table, and its counts by name.
fn read(text: &str) -> (&str, BTreeMap<&str, f64>) {
    let compiler = text.lines().find_map(|line| line.strip_prefix("# made with: "));
    (compiler.unwrap_or("nothing"), text.lines().filter_map(read_line).collect())
}

fn read_line(line: &str) -> Option<(&str, f64)> {
    let (name, count) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    Some((name.trim_end(), count.parse().ok()?))
}

fn written(compiler: &str, counts: &[(&str, f64)]) -> String {
    let mut text = format!(
        "# Instructions of a packet or an operation. Written with TRUNKLINE_BLESS=1 by
# `make instructions`, which fails where one needs 2 % more.
# made with: {compiler}
"
    );
    for (name, count) in counts {
        let _ = writeln!(text, "{name:<28} {count:>9.1}");
    }
    text
}

/// The only function whose instructions count, with those of all it calls.
#[inline(never)]
fn within_the_count(operation: &mut dyn FnMut()) {
    operation();
}

/// Counts what handles frames.
fn handled(mut work: impl Work) {
    let mut next = 0;
    // Once before, so that every vector has its size.
    each(&mut work, 1, &mut next, |handle| handle());
    each(&mut work, BATCHES, &mut next, within_the_count);
}

/// Counts a call, as often as frames are handled.
fn asked<S, A>(mut subject: S, ask: impl Fn(&mut S) -> A) {
    black_box(ask(&mut subject));
    for _ in 0..BATCHES {
        within_the_count(&mut || {
            for _ in 0..BATCH {
                black_box(ask(black_box(&mut subject)));
            }
        });
    }
}

fn parse() {
    let frame = ClientNode::datagrams(1).remove(0);
    asked(frame, |frame| Packet::<Ipv4Addr>::parse(&frame[ethernet::HEADER_LEN..]).is_ok());
}

fn sum(length: usize) {
    asked(vec![7_u8; length], |bytes| checksum::of(bytes));
}

/// SYNs for every batch, and for the one before.
fn newcomers() -> u32 {
    u32::try_from((BATCHES + 1) * BATCH as u64).unwrap_or(0)
}
