//! What is told of judged instances: text, JUnit, captures.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use datapath::journey::fingerprint;
use datapath::link::{Direction, Socket};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::expected::Difference;
use super::instance::Instance;
use super::play::{Observation, Played, Seen};
use super::suite::{Judged, Verdict};
use crate::journey::{Flow, Journey, Names, Recording, Style, flows, stitch, table};
use crate::pcap::{Direction as Way, Writer};

/// Differences of an instance that are printed; the rest are counted.
const DIFFERENCES: usize = 12;
/// Journeys of an instance that are printed.
const JOURNEYS: usize = 3;

/// An instance, one line and, where it failed, everything that helps.
#[must_use]
pub fn text(judged: &Judged<'_>, on: &str, style: Style) -> String {
    let name = style.bold(&judged.instance.name);
    match &judged.verdict {
        Verdict::Passed { not_judged: 0 } => format!("{}  {name}\n", style.green("ok  ")),
        Verdict::Passed { not_judged } => {
            let note = format!("(not judged on {on}: drops of {not_judged} elements)");
            format!("{}  {name}  {}\n", style.green("ok  "), style.dim(&note))
        }
        Verdict::NotJudged(why) => format!("{}  {name}  not judged: {why}\n", style.dim("--  ")),
        Verdict::Failed { expected: false, .. } => {
            let note = "nothing is expected of it yet: --bless writes what memory shows";
            format!("{}  {name}  {note}\n", style.red("FAIL"))
        }
        Verdict::Failed { differences, played, .. } => {
            let mut text = format!("{}  {name}\n", style.red("FAIL"));
            let _ = writeln!(text, "      {}", judged.instance.why);
            text += &told(differences, style);
            text += &journeys(judged.instance, differences, played, style);
            text
        }
    }
}

/// Differences as text, the first of them with all their words.
#[must_use]
pub fn told(differences: &[Difference], style: Style) -> String {
    let mut text = String::new();
    for difference in differences.iter().take(DIFFERENCES) {
        let mut line = |begin: &str, words: &str| {
            let _ = writeln!(text, "      {begin} {words}");
        };
        let Difference { expected, seen, .. } = difference;
        if let Some(expected) = expected {
            line("expected", &style.green(expected));
        }
        if let Some(seen) = seen {
            line("seen    ", &style.red(seen));
        }
        for field in difference.fields() {
            line("        ", &style.bold(&field));
        }
    }
    if let Some(more) = differences.len().checked_sub(DIFFERENCES).filter(|more| *more > 0) {
        let _ = writeln!(text, "      and {more} more lines");
    }
    text
}

/// The ways of the packets of the steps that differ.
fn journeys(
    instance: &Instance,
    differences: &[Difference],
    played: &Played,
    style: Style,
) -> String {
    let Some(recording) = &played.recording else { return String::new() };
    let steps: BTreeSet<usize> = differences.iter().map(|difference| difference.step).collect();
    let sent = steps.iter().filter_map(|step| played.observation.steps.get(*step));
    let frames = sent.flat_map(|seen| match seen {
        Seen::Packets { sent, .. } => sent.as_slice(),
        _ => &[],
    });
    let marks: BTreeSet<u64> =
        frames.flat_map(|sent| &sent.frames).map(|frame| fingerprint(frame)).collect();
    let ours = |journey: &&Journey| {
        let arrival = journey.first().and_then(|hop| hop.arrival);
        arrival.is_some_and(|sighting| marks.contains(&sighting.fingerprint))
    };
    let all = flows_of(instance, recording);
    let names =
        Names::new(&instance.lab, all.iter().flat_map(|f| f.journeys.iter().map(|(_, j)| j)));
    let told = all.iter().flat_map(|flow| flow.journeys.iter().map(move |(_, j)| (flow, j)));
    let told = told.filter(|(_, journey)| ours(journey)).take(JOURNEYS);
    told.fold(String::new(), |text, (flow, journey)| {
        text + "\n" + &table(&names, flow, journey, "the packet's way", style)
    })
}

fn flows_of(instance: &Instance, recording: &Recording) -> Vec<Flow> {
    flows(stitch(&instance.lab, recording))
}

/// Writes the frames that were seen into `NAME-on-DATAPATH.pcapng` in this folder, one interface a
/// port. The file's path.
///
/// # Errors
/// A file that cannot be written.
pub fn capture(
    folder: &Path,
    instance: &Instance,
    on: &str,
    observation: &Observation,
) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.=,".contains(c) { c } else { '-' };
    let name: String = instance.name.chars().map(plain).collect();
    let path = folder.join(format!("{}-on-{on}.pcapng", name.trim_end_matches('-')));
    let crossings = observation.steps.iter().flat_map(|seen| match seen {
        Seen::Packets { crossings, .. } => crossings.as_slice(),
        _ => &[],
    });
    let sockets: BTreeSet<Socket> = crossings.clone().map(|crossing| crossing.socket).collect();
    let places: Vec<_> =
        sockets.iter().map(|socket| instance.names.place(&instance.lab, *socket)).collect();
    let file = File::create(&path).with_context(|| format!("write {}", path.display()))?;
    let mut writer = Writer::new(BufWriter::new(file), places.iter().map(String::as_str))?;
    for (number, crossing) in crossings.enumerate() {
        let interface = sockets.iter().position(|socket| *socket == crossing.socket).unwrap_or(0);
        let way = match crossing.direction {
            Direction::In => Way::Inbound,
            Direction::Out => Way::Outbound,
        };
        // Times are not compared; the order is kept.
        writer.packet(interface, number as u64 * 1_000, way, &crossing.frame)?;
    }
    writer.flush()?;
    Ok(path)
}

/// Writes a JUnit report.
///
/// # Errors
/// A file that cannot be written.
pub fn junit(path: &Path, judged: &[Judged<'_>], on: &str) -> anyhow::Result<()> {
    let mut suite = TestSuite::new(format!("cases on {on}"));
    for one in judged {
        let status = match &one.verdict {
            Verdict::Passed { .. } => TestCaseStatus::success(),
            Verdict::NotJudged(why) => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(why.as_str());
                status
            }
            Verdict::Failed { differences, .. } => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(format!("{} lines differ", differences.len()));
                status.set_description(told(differences, Style::plain()));
                status
            }
        };
        let mut case = TestCase::new(one.instance.name.as_str(), status);
        case.set_time(one.took);
        suite.add_test_case(case);
    }
    let mut report = Report::new("trunkline");
    report.add_test_suite(suite);
    let mut file = File::create(path).with_context(|| format!("write {}", path.display()))?;
    report.serialize(&mut file).with_context(|| format!("write {}", path.display()))?;
    file.flush()?;
    Ok(())
}
