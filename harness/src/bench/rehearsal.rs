//! Before anything is measured, what begins a flow goes the whole way for every one of them, and
//! where a forwarder keeps flows so do the answers: what arrives must be right to the last byte,
//! and such a forwarder has seen every flow both ways afterwards.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::bed::{Bed, TRUNK};
use super::far_end::FarEnd;
use super::forwarder::Kind;
use super::frames::{Act, Flow, Frames, Leg};

/// Frames on their way at one time.
const AT_ONCE: u32 = 32;
/// How long a frame may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A frame arrived that is not what was to arrive, or none did.
#[derive(Debug, thiserror::Error)]
#[error("flow {flow}, {act:?}: expected the frame\n  {expected}\nand got\n  {arrived}")]
pub struct WrongFrame {
    flow: u32,
    act: Act,
    expected: String,
    arrived: String,
}

/// Both far ends of what is measured.
struct Ends<'a> {
    bed: &'a Bed,
    frames: &'a Frames,
    kind: Kind,
    pods: &'a mut [FarEnd],
    /// Where requests leave, and the VPC at the node's trunk where answers are sent there.
    exit: FarEnd,
    trunk: Option<FarEnd>,
}

/// Sends through a forwarder that has just been started what begins each flow, and the answers
/// where it keeps flows.
///
/// # Errors
/// [`WrongFrame`], or where a far end cannot be opened.
pub fn rehearse(bed: &Bed, kind: Kind, frames: &Frames, pods: &mut [FarEnd]) -> anyhow::Result<()> {
    let host = bed.behind(kind.exit());
    let exit = FarEnd::new(bed.open_far(kind.exit())?, host);
    let trunk = match kind.answered_at() {
        Some(socket) if socket != kind.exit() => Some(FarEnd::new(bed.open_far(socket)?, host)),
        _ => None,
    };
    let mut ends = Ends { bed, frames, kind, pods, exit, trunk };
    let answered = kind.answered_at().is_some();
    let mut acts: Vec<_> = Act::opening(frames.proto()).iter().map(|act| (*act, 0)).collect();
    if bed.jumbo {
        // Of a long packet only the first buffer is looked at under load.
        acts.extend((1..frames.sizes()).flat_map(|size| [(Act::Data, size), (Act::Answer, size)]));
    }
    acts.retain(|(act, _)| act.is_request() || answered);
    ends.exchange(&acts)?;
    // A node learns the way of a flow from its first request once all flows have begun. Of a million
    // flows those would be all that is measured.
    if answered { ends.exchange(&[(Act::Data, 0)]) } else { Ok(()) }
}

impl Ends<'_> {
    /// These acts of every flow, each in one of the sizes, those of one flow soon after each other:
    /// of a million flows the first would have been forgotten before the last has begun.
    fn exchange(&mut self, acts: &[(Act, usize)]) -> anyhow::Result<()> {
        let mut next = 0;
        while next < self.frames.flows {
            // The first goes alone: it may have the node ask for a neighbour.
            let end = if next == 0 { 1 } else { self.frames.flows.min(next + AT_ONCE) };
            let flows: Vec<_> =
                (next..end).map(|number| (number, self.frames.flow(number))).collect();
            acts.iter().try_for_each(|act| self.pass(*act, &flows))?;
            next = end;
        }
        Ok(())
    }

    /// One act of some flows.
    fn pass(&mut self, act: (Act, usize), flows: &[(u32, Flow)]) -> anyhow::Result<()> {
        self.send(act, flows);
        let mut arrived = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while arrived.len() < flows.len() && Instant::now() < deadline {
            // The kernel does not take many long frames at a time.
            self.flush();
            let ends = if act.0.is_request() {
                std::slice::from_mut(&mut self.exit)
            } else {
                &mut *self.pods
            };
            arrived.extend(ends.iter_mut().flat_map(FarEnd::take));
            std::thread::yield_now();
        }
        flows.iter().try_for_each(|flow| self.check(act, *flow, &mut arrived))
    }

    fn send(&mut self, (act, size): (Act, usize), flows: &[(u32, Flow)]) {
        for (_, flow) in flows {
            let frame = self.frames.frame(act, Leg::Sent(self.kind), *flow, size);
            if act.is_request() {
                if let Some(pod) = self.pods.get_mut(usize::from(flow.pod)) {
                    pod.send(0, &frame);
                }
                continue;
            }
            let queue = match self.kind.answered_at() {
                Some(TRUNK) => self.bed.trunk_queue(flow.pod),
                _ => 0,
            };
            self.trunk.as_mut().unwrap_or(&mut self.exit).send(queue, &frame);
        }
    }

    /// Pushes out what was sent and is not on its way.
    fn flush(&mut self) {
        let others = std::iter::once(&mut self.exit).chain(&mut self.trunk);
        self.pods.iter_mut().chain(others).for_each(FarEnd::flush);
    }

    fn check(
        &self,
        (act, size): (Act, usize),
        (number, flow): (u32, Flow),
        arrived: &mut Vec<Vec<u8>>,
    ) -> anyhow::Result<()> {
        let expected = self.frames.frame(act, Leg::Arrived(self.kind), flow, size);
        // Pods are served in turn, not in the order of the flows.
        if let Some(at) = arrived.iter().position(|frame| *frame == expected) {
            arrived.remove(at);
            return Ok(());
        }
        let arrived = arrived.first().map_or_else(|| "none".to_owned(), |got| hex(got));
        Err(WrongFrame { flow: number, act, expected: hex(&expected), arrived }.into())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
