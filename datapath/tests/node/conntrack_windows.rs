//! TCP windows and states, held against what a kernel made of the same segments (spec CT-10,
//! CT-23 to CT-27).

use crate::common::*;
use datapath::journey::{FlowState, Step};
use datapath::node::conntrack::Status;
use datapath::time::Time;
use datapath::wire::tcp::Flags;

/// What a Linux 6.1 router made of made-up flows: for each segment whether it was INVALID, and the
/// flow's entry afterwards.
const TRACES: &str = include_str!("../traces/tcp.txt");

/// A segment of a trace and the kernel's answer, as written.
struct Line<'a> {
    from_a: bool,
    segment: Segment,
    answer: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        let (segment, answer) = line.split_once(" : ").expect("an answer");
        let words: Vec<_> = segment.split(' ').collect();
        let [side, flags, seq, ack, window, options, len] = words[..] else { panic!("{line}") };
        let number = |text: &str| text.parse().expect("a number");
        let segment = Segment {
            flags: flags_of(flags),
            seq: number(seq),
            ack: number(ack),
            window: window.parse().expect("a window"),
            options: bytes_of(options),
            data: vec![b'x'; len.parse().expect("a length")],
        };
        Self { from_a: side == ">", segment, answer: answer.split(' ').collect() }
    }
}

fn flags_of(letters: &str) -> Flags {
    let flag = |letter| match letter {
        'F' => Flags::FIN,
        'S' => Flags::SYN,
        'R' => Flags::RST,
        'P' => Flags::PSH,
        'A' => Flags::ACK,
        'U' => Flags::URG,
        _ => Flags::empty(),
    };
    letters.chars().map(flag).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex");
    digits.map(byte).collect()
}

/// The entry of the flow as the trace writes it, but for its timeout.
fn entry(bench: &Bench) -> Option<(&'static str, u64, String)> {
    let (.., entry) = bench.node.conntrack().iter(bench.now).next()?;
    let replied = if entry.status.contains(Status::SEEN_REPLY) { '-' } else { 'U' };
    let assured = if entry.status.contains(Status::ASSURED) { 'A' } else { '-' };
    let left = entry.deadline.left(bench.now).as_secs();
    Some((entry.state_name().expect("TCP"), left, format!("{replied}{assured}")))
}

/// Plays one flow; the first difference.
fn play(times: &[u64], lines: &[&str]) -> Option<String> {
    let mut bench = Bench::new(lab_switched(""));
    let begin = bench.now.as_nanos();
    for (step, (text, at)) in lines.iter().zip(times).enumerate() {
        bench.now = Time::from_nanos(begin + at * 1_000_000);
        let Line { from_a, segment, answer } = Line::of(text);
        let (a, b) = ((A, 40_001), (B, 8080));
        let (port, src, dst) = if from_a { (CALI_A, a, b) } else { (CALI_B, b, a) };
        bench.sent(port, &segment.packet(src, dst));
        let invalid = bench.steps().contains(&Step::Flow(FlowState::Invalid));
        let (verdict, entry) = (if invalid { "invalid" } else { "pass" }, entry(&bench));
        let agrees = answer[0] == verdict
            && match (&entry, &answer[1..]) {
                (None, ["none"]) => true,
                (Some((state, left, status)), [s, seconds, t]) => {
                    let seconds: u64 = seconds.parse().expect("seconds");
                    state == s && status == t && left.abs_diff(seconds) <= 2
                }
                _ => false,
            };
        if !agrees {
            let before = lines[..=step].join("\n");
            return Some(format!("{before}\nhere: {verdict} {entry:?}"));
        }
    }
    None
}

#[test]
fn every_segment_is_judged_as_a_kernel_judges_it() {
    let mut blocks = TRACES.split("flow\n");
    let times = blocks.next().and_then(|head| head.lines().last()).expect("times");
    let times: Vec<u64> = times.split(' ').map(|ms| ms.parse().expect("ms")).collect();
    let flows: Vec<Vec<&str>> = blocks.map(|block| block.lines().collect()).collect();
    assert!(flows.len() >= 200);
    let differences: Vec<_> = flows.iter().filter_map(|lines| play(&times, lines)).collect();
    let count = (differences.len(), flows.len());
    assert!(differences.is_empty(), "{count:?}:\n{}", differences.join("\n\n"));
}
