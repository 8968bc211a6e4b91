//! The far end of one of the node's wires, played by the bench: it sends, keeps what comes, and
//! answers ARP as whoever is there would.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use datapath::port::{Buffer, Port};
use datapath::wire::arp::{Arp, Operation};
use datapath::wire::{Mac, ethernet};
use datapath_io::{Frame, XskPort};

/// Frames taken or sent at once.
pub const BATCH: usize = 64;

/// Who is asked for by ARP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// The address in question.
    pub ip: Ipv4Addr,
    /// What is answered.
    pub mac: Mac,
}

/// One far end.
#[derive(Debug)]
pub struct FarEnd {
    port: XskPort<'static>,
    who: Host,
    /// Empty between calls; kept for its memory.
    batch: Vec<Frame>,
}

impl FarEnd {
    /// The end at `port`, where `who` can be reached.
    #[must_use]
    pub fn new(port: XskPort<'static>, who: Host) -> Self {
        Self { port, who, batch: Vec::new() }
    }

    /// Frames handed to the wire so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.port.counters().map(|queue| queue.tx).sum()
    }

    /// Frames taken from the wire so far, ARP included.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.port.counters().map(|queue| queue.rx).sum()
    }

    /// Frames that the kernel has thrown away because they were not taken fast enough.
    #[must_use]
    pub fn lost(&self) -> u64 {
        // The kernel has no reason to refuse.
        let kernel = self.port.kernel_counters().unwrap_or_default();
        kernel.iter().map(|queue| queue.rx_ring_full + queue.rx_dropped).sum()
    }

    /// Sends a frame; false where the wire has no room for it now.
    pub fn send(&mut self, queue: u16, bytes: &[u8]) -> bool {
        self.send_as(queue, bytes, |_| ())
    }

    /// Sends a frame that is like `bytes` but for what `change` does to it; false where the wire
    /// has no room for it now.
    pub fn send_as(&mut self, queue: u16, bytes: &[u8], change: impl FnOnce(&mut [u8])) -> bool {
        let Some(mut frame) = self.port.arena().take() else { return false };
        let fits = frame.set_len(bytes.len());
        if fits {
            frame.bytes_mut().copy_from_slice(bytes);
            change(frame.bytes_mut());
        }
        fits && self.port.send(queue, frame).is_ok()
    }

    /// Pushes out what was sent.
    pub fn flush(&mut self) {
        self.port.flush();
    }

    /// Pushes out what was sent until the kernel has all of it, or for so long.
    pub fn drain(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.port.is_sending() && Instant::now() < deadline {
            self.port.flush();
        }
    }

    /// What has come since the last call, ARP left out.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        self.each(|frame| taken.push(frame.to_vec()));
        taken
    }

    /// Has a look at each frame that has come since the last call, ARP left out. Returns how many
    /// there were.
    pub fn each(&mut self, mut look: impl FnMut(&[u8])) -> usize {
        let mut frames = std::mem::take(&mut self.batch);
        for queue in 0..self.port.queues() {
            self.port.receive(queue, BATCH, &mut frames);
        }
        let mut looked_at = 0;
        for frame in frames.drain(..) {
            match question(frame.bytes()) {
                Some(arp) if arp.target_ip == self.who.ip => {
                    let mac = self.who.mac;
                    let answer = arp.answer(mac).frame(arp.sender_mac, mac);
                    self.send(0, &answer);
                }
                Some(_) => {}
                None => {
                    looked_at += 1;
                    look(frame.bytes());
                }
            }
        }
        self.batch = frames;
        self.port.flush();
        looked_at
    }
}

/// The ARP request that a frame is.
fn question(frame: &[u8]) -> Option<Arp> {
    let header = ethernet::Header::parse(frame)?;
    let arp = (header.ethertype == ethernet::ARP).then(|| frame.get(ethernet::HEADER_LEN..))??;
    Arp::parse(arp).filter(|arp| arp.operation == Operation::Request)
}
