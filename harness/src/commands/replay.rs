//! `trunkline replay`.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;

use super::NO;
use crate::replay::{self, Feed, Interfaces, Options, Outcomes, Recorder, Source, Taken};

/// Feed captures into a lab in memory and record every frame at every hop
///
/// The frames of all captures go in by their timestamps, in virtual time that begins with the
/// earliest of them; frames of equal time go in by the order of the --in options. Frames move
/// without delay, timers run between and after them, and pods, nodes and outside hosts answer ARP
/// for their own addresses. No root is needed, and the same input gives the same bytes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct Args {
    /// The lab file
    lab: PathBuf,

    /// Feed a capture (pcap or pcapng, Ethernet, up to 2 GiB) in at a port; can be repeated
    ///
    /// PORT is pod:NS/NAME, node:NAME/host0 or outside:NAME, where the host sends the frames, or
    /// node:NAME/eth0 or node:NAME/eth1, where they arrive at the node as if its wire had brought
    /// them, tagged or not, unseen by the VPC. #IFACE picks one interface of a pcapng by name (by
    /// number, from 0, if it has none); without it all are taken. Where any packet carries a
    /// direction flag only the outbound ones are fed: captures are taken at the end that sends.
    /// Packets must be captured whole.
    #[arg(long = "in", value_name = "PORT=FILE[#IFACE]", required = true)]
    inputs: Vec<Source>,

    /// The folder for the results; made if missing, files of the same names in it are replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Run until this virtual time; later frames are not fed [default: 10 s after the last frame]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    until: Option<Duration>,

    /// Have pods, nodes' own stacks and outside hosts also answer echo, TCP and UDP
    ///
    /// Every port is open and sends back what it gets. Packets that answer a fed frame (its tuple
    /// the other way round) are not answered: that flow is the capture's.
    #[arg(long)]
    answer: bool,
}

const AFTER_HELP: &str = "\
Results:
  DIR/hops.pcapng    every frame at every hop in order, one capture interface for each hop:
                     pod:NS/NAME, NODE/caliX, NODE/eth0, NODE/eth1 (tagged as on the wire),
                     NODE/host0, vpc/ENI (without tag), outside:NAME. The packet flags tell
                     the direction, seen from the pod, node, VPC or host named.
  DIR/PORT.pcapng    what left by each pod, node's own stack (node:NAME/host0) and outside
                     host, with _ for / and : in the name
  DIR/outcomes.json  frames in and out by port, and for each element every term of the
                     conservation law and the drops by reason (docs/schema/outcomes.json)

Timestamps in the results are the time of the earliest frame fed plus virtual time, in
nanoseconds.

Exit status: 0 when all was fed and every element's frames add up, 1 when they do not, 2 when
nothing could be fed.";

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Runs the command.
///
/// # Errors
/// A lab, capture or folder that cannot be used, with its name and the place in it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { lab, inputs, out, until, answer } = args;
    let name = lab.display().to_string();
    let text = fs::read_to_string(&lab).with_context(|| name.clone())?;
    let lab = datapath::lab::load(&text, &name)?;
    // All input is read before the folder is touched, so a mistake leaves older results alone.
    let feed = Feed::read(&lab, &inputs)?;
    let recorder = Recorder::create(&out, &Interfaces::new(&lab))?;
    let recorder = Rc::new(RefCell::new(recorder));
    let watcher = Rc::clone(&recorder);
    let outcomes = replay::run(lab, &feed, Options { until, answer }, move |sight| {
        watcher.borrow_mut().record(&sight);
    });
    recorder.borrow_mut().finish()?;
    let path = out.join("outcomes.json");
    let mut json = serde_json::to_string_pretty(&outcomes)?;
    json.push('\n');
    fs::write(&path, json).with_context(|| path.display().to_string())?;
    for warning in feed.taken().iter().filter_map(Taken::warning) {
        eprintln!("warning: {warning}");
    }
    print!("{}{}", taken(&feed), summary(&outcomes));
    let unbalanced = outcomes.unbalanced();
    if unbalanced.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "the frames of {} do not add up (see elements in {}): this is a bug",
        unbalanced.join(", "),
        path.display()
    );
    Ok(NO)
}

/// How much was taken of each file, a line each.
fn taken(feed: &Feed) -> String {
    let line = |taken: &Taken| {
        let Taken { source, fed, of, .. } = taken;
        format!("{:<8} {fed:>8}  of {of} packets of {}\n", "taken", source.file)
    };
    feed.taken().iter().map(line).collect()
}

/// What went in and out and was dropped, a line each.
fn summary(outcomes: &Outcomes) -> String {
    let mut lines = Vec::new();
    let ports = [("in", &outcomes.frames_in), ("out", &outcomes.frames_out)];
    for (way, ports) in ports {
        let used = ports.iter().filter(|(_, n)| **n > 0);
        lines.extend(used.map(|(port, n)| format!("{way:<8} {n:>8}  {port}\n")));
    }
    for (element, ledger) in &outcomes.elements {
        let drops = ledger.drops.iter();
        lines.extend(drops.map(|(why, n)| format!("{:<8} {n:>8}  {element} {why}\n", "dropped")));
    }
    if outcomes.link_lost > 0 {
        lines.push(format!("{:<8} {:>8}  between elements\n", "lost", outcomes.link_lost));
    }
    lines.push(format!("{:<8} {:>8}  s of virtual time\n", "ran", outcomes.until));
    lines.concat()
}
