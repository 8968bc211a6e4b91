//! Before anything is measured, one datagram of every flow goes the whole way, and where the node
//! forwards so does its answer: what arrives must be right to the last byte, and the node has seen
//! every flow both ways afterwards.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::bed::{Bed, TRUNK};
use super::far_end::FarEnd;
use super::forwarder::Kind;
use super::frames::Frames;

/// Datagrams on their way at one time.
const AT_ONCE: u16 = 16;
/// How long a datagram may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A frame arrived that is not what was to arrive, or none did.
#[derive(Debug, thiserror::Error)]
#[error("flow {flow}: expected the frame\n  {expected}\nand got\n  {arrived}")]
pub struct WrongFrame {
    flow: u16,
    expected: String,
    arrived: String,
}

/// Sends a datagram of every flow through a forwarder that has just been started, and through a
/// node an answer to each. Returns how many frames have left
/// by the wire of requests.
///
/// # Errors
/// [`WrongFrame`], or where a far end cannot be opened.
pub fn rehearse(bed: &Bed, kind: Kind, frames: &Frames, pod: &mut FarEnd) -> anyhow::Result<u64> {
    let mut receiver = FarEnd::new(bed.open_far(bed.exit)?, bed.receiver());
    let request = |flow| (frames.request(flow), kind.expected(frames, flow));
    exchange(frames.flows, (pod, 0), &mut receiver, request)?;
    let answer = |flow| (frames.answer(flow), frames.answered(flow));
    match kind {
        Kind::L2fwd => {}
        Kind::Node => {
            let mut trunk = FarEnd::new(bed.open_far(TRUNK)?, bed.gateway());
            let queue = bed.lab.trunk_queue(0, bed.pod()?.vid);
            exchange(frames.flows, (&mut trunk, queue), pod, answer)?;
        }
        Kind::Fused => exchange(frames.flows, (&mut receiver, 0), pod, answer)?,
    }
    Ok(receiver.received())
}

/// Sends the first of each flow's frames `from` one end, and waits for the second at another.
/// Frames arrive in the order in which they were sent.
fn exchange(
    flows: u16,
    (from, queue): (&mut FarEnd, u16),
    to: &mut FarEnd,
    frames: impl Fn(u16) -> (Vec<u8>, Vec<u8>),
) -> anyhow::Result<()> {
    let mut next = 0;
    while next < flows {
        // The first goes alone: it has the node ask for a neighbour.
        let end = if next == 0 { 1 } else { flows.min(next + AT_ONCE) };
        let some = next..end;
        for flow in some.clone() {
            from.send(queue, &frames(flow).0);
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
            let (expected, got) = (frames(flow).1, arrived.next());
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
