//! One frame each way through AF_XDP, between two namespaces of its own: what the kernel can do is
//! tried, never told by its version.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use datapath::port::{Buffer, Port};
use datapath_io::budget::{ElementNeed, plan};
use datapath_io::{Arena, ArenaConfig, UmemFrame, Waiter, XskPort, link, probe};
use nix::unistd::geteuid;

use super::privileges::AS_ROOT;
use super::report::{Check, Finding, Remedy};
use crate::net::private::{Pair, Side, in_pair};

/// The steps, each of which needs those before, and what helps where one fails.
const STEPS: [(&str, &str); 5] = [
    ("network-namespaces", "zgrep CONFIG_NET_NS /proc/config.gz"),
    ("veth", "modprobe veth"),
    ("af-xdp-socket", "grep CONFIG_XDP_SOCKETS /boot/config-$(uname -r)"),
    ("native-xdp", "grep -E 'CONFIG_(BPF_SYSCALL|XDP_SOCKETS)' /boot/config-$(uname -r)"),
    ("af-xdp-frame", "dmesg | tail"),
];
const OPTIONAL: &str = "optional-features";
/// The feature that [`--poll kernel-busy`](crate::live::worker::Poll::KernelBusy) needs.
const ASKED: &str = "receiving when asked";
const NOT_TRIED: &str = "not tried: it needs what failed above";

/// Joined by the trial, one veth keeps the packet memory, the other carries the frames.
const ANCHOR: &str = "anchor";
const WIRE: &str = "wire";
/// How long a frame may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the trial could tell.
#[derive(Default)]
struct Trial {
    /// What came of each step that succeeded.
    told: Vec<&'static str>,
    /// Features nothing depends on: name, and whether the kernel has it.
    optional: Vec<(&'static str, bool)>,
}

/// Tries it.
pub(super) fn examine() -> Vec<Check> {
    datapath_io::log_libbpf();
    let mut trial = Trial::default();
    let ended = in_pair(|pair| trial.run(pair)).map_err(anyhow::Error::from).flatten();
    let mut checks = Vec::new();
    for (number, (id, help)) in STEPS.iter().enumerate() {
        checks.push(match (trial.told.get(number), &ended) {
            (Some(told), _) => Check::new(id, *told, Vec::new()),
            (None, Err(error)) if number == trial.told.len() => {
                let consequence = "no lab in namespaces works; `run --on memory` does";
                let help = if geteuid().is_root() { help } else { AS_ROOT };
                let finding = Finding::fail(format!("{error:#}"), consequence, Remedy::run(help));
                Check::new(id, "refused", vec![finding])
            }
            _ => Check::unknown(id, NOT_TRIED),
        });
    }
    checks.push(match ended {
        Err(error) if trial.told.len() == STEPS.len() => {
            Check::unknown(OPTIONAL, format!("{error:#}"))
        }
        Err(_) => Check::unknown(OPTIONAL, NOT_TRIED),
        Ok(()) => trial.features(),
    });
    checks
}

/// Whether the kernel receives for the forwarder's sockets when it is asked.
///
/// # Errors
/// Where a frame does not get through a veth at all.
pub fn receives_when_asked() -> anyhow::Result<bool> {
    let mut trial = Trial::default();
    in_pair(|pair| trial.run(pair))??;
    Ok(trial.optional.contains(&(ASKED, true)))
}

impl Trial {
    fn run(&mut self, pair: &Pair) -> anyhow::Result<()> {
        self.told.push("two made");
        pair.join(ANCHOR)?;
        pair.join(WIRE)?;
        self.told.push("two pairs between them");
        pair.enter(Side::Near)?;
        let arena = arena()?;
        self.told.push("bound to a veth in copy mode");
        let mut near = XskPort::open(&arena, WIRE, 1)?;
        pair.enter(Side::Far)?;
        let mut far = XskPort::open(&arena, WIRE, 1)?;
        self.told.push("attached to both ends of a veth, a socket behind each");
        pass(&arena, &mut near, &mut far).context("from the first to the second")?;
        pass(&arena, &mut far, &mut near).context("from the second to the first")?;
        self.told.push("one passed each way, byte for byte");
        let asked = near.can_be_asked()? && far.can_be_asked()?;
        self.optional = vec![
            (ASKED, asked),
            ("send budget", probe::tx_budget()?),
            ("transmit metadata", probe::tx_metadata()?),
            ("multi-buffer frames", probe::multi_buffer(link::index(ANCHOR)?)?),
            ("live test frames", near.program().runs_live_frames()?),
        ];
        Ok(())
    }

    /// For information: nothing depends on these.
    fn features(&self) -> Check {
        let names = |wanted: bool| {
            let named = self.optional.iter().filter(|(_, there)| *there == wanted);
            let names: Vec<_> = named.map(|(name, _)| *name).collect();
            if names.is_empty() { "none".into() } else { names.join(", ") }
        };
        let found = format!("there: {}; not there: {}", names(true), names(false));
        Check::new(OPTIONAL, found, Vec::new())
    }
}

/// A packet memory for two ports of one queue.
fn arena() -> anyhow::Result<Arena> {
    let ports = vec![1.into(), 1.into()];
    let plan = plan(&[ElementNeed { ports, held: 2, jumbo: false }])?;
    let part = plan.arenas.first().context("a plan without memory")?;
    Ok(Arena::new(&ArenaConfig {
        anchor: ANCHOR.into(),
        anchor_queue: 0,
        rings: part.rings,
        frames: part.frames,
        held: part.held,
        runs: part.runs,
    })?)
}

/// Sends a frame from one port and waits for it at the other.
fn pass<'a>(arena: &'a Arena, from: &mut XskPort<'a>, to: &mut XskPort<'a>) -> anyhow::Result<()> {
    // To everybody, of an EtherType for trials on one's own network.
    let mut bytes = vec![0xff; 12];
    bytes.extend([0x88, 0xb5]);
    bytes.extend(0..100);
    let mut frame = arena.take().context("no free frame")?;
    if !frame.set_len(bytes.len()) {
        bail!("no room for the frame");
    }
    frame.bytes_mut().copy_from_slice(&bytes);
    let mut waiter = Waiter::new()?;
    waiter.add_port(0, to)?;
    if from.send(0, frame).is_err() {
        bail!("the frame was refused");
    }
    let deadline = Instant::now() + PATIENCE;
    let mut received: Vec<UmemFrame<'_>> = Vec::new();
    while received.is_empty() {
        if Instant::now() > deadline {
            bail!("the frame did not arrive within {} s", PATIENCE.as_secs());
        }
        from.flush();
        waiter.wait(Some(Duration::from_millis(1)), &mut Vec::new())?;
        to.receive(0, 1, &mut received);
    }
    if received.iter().any(|frame| frame.bytes() != bytes) {
        bail!("another frame arrived than was sent");
    }
    Ok(())
}
