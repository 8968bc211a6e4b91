//! Before anything is measured, one datagram of every flow goes the whole way, and through what
//! keeps flows so does its answer: what arrives must be right to the last byte, and every flow has
//! been seen both ways afterwards.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::bed::{Bed, PRIMARY};
use super::far_end::FarEnd;
use super::forwarder::Kind;
use super::frames::Frames;

/// Datagrams on their way at one time.
const AT_ONCE: u32 = 32;
/// How long a datagram may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A frame arrived that is not what was to arrive, or none did.
#[derive(Debug, thiserror::Error)]
#[error("flow {flow}: expected the frame\n  {expected}\nand got\n  {arrived}")]
pub struct WrongFrame {
    flow: u32,
    expected: String,
    arrived: String,
}

/// Sends a datagram of every flow through a forwarder that has just been started, and through one
/// that keeps flows an answer to each. Returns how many frames have left by eth0.
///
/// # Errors
/// [`WrongFrame`], or where a far end cannot be opened.
pub fn rehearse(bed: &Bed, kind: Kind, frames: &Frames, pod: &mut FarEnd) -> anyhow::Result<u64> {
    let (gateway, flows) = (bed.gateway(), frames.flows.count());
    let mut vpc = FarEnd::new(bed.open_far(PRIMARY)?, gateway);
    let request = |flow| [kind.request(frames, flow), kind.expected(frames, flow)];
    exchange(flows, (pod, 0), &mut vpc, request)?;
    let answer = |flow| kind.answer(frames, flow);
    match kind.answered_at() {
        None => {}
        Some(PRIMARY) => exchange(flows, (&mut vpc, 0), pod, answer)?,
        Some(socket) => {
            let mut end = FarEnd::new(bed.open_far(socket)?, gateway);
            let queue = bed.lab.trunk_queue(0, bed.pod()?.vid);
            exchange(flows, (&mut end, queue), pod, answer)?;
        }
    }
    Ok(vpc.received())
}

/// Sends the first of each flow's frames `from` one end, and waits for the second at another.
/// Frames arrive in the order in which they were sent.
fn exchange(
    flows: u32,
    (from, queue): (&mut FarEnd, u16),
    to: &mut FarEnd,
    frames: impl Fn(u32) -> [Vec<u8>; 2],
) -> anyhow::Result<()> {
    let mut next = 0;
    while next < flows {
        // The first goes alone: it has the node ask for a neighbour.
        let end = if next == 0 { 1 } else { flows.min(next + AT_ONCE) };
        let some = next..end;
        for flow in some.clone() {
            from.send(queue, &frames(flow)[0]);
        }
        from.flush();
        let mut arrived = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while arrived.len() < some.len() && Instant::now() < deadline {
            arrived.extend(to.take());
            std::thread::yield_now();
        }
        let mut arrived = arrived.into_iter();
        for flow in some {
            let ([_, expected], got) = (frames(flow), arrived.next());
            if got.as_ref() != Some(&expected) {
                let arrived = got.map_or_else(|| "none".to_owned(), |got| hex(&got));
                return Err(WrongFrame { flow, expected: hex(&expected), arrived }.into());
            }
        }
        next = end;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
