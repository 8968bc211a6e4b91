//! The far end of one of the node's wires, played by the bench: it sends, keeps what comes, and
//! answers ARP as whoever is there would.

use std::net::Ipv4Addr;

use datapath::port::{Buffer, Port};
use datapath::wire::arp::{Arp, Operation};
use datapath::wire::{Mac, ethernet};
use datapath_io::{Waiter, XskPort};

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
}

impl FarEnd {
    /// The end at `port`, where `who` can be reached.
    #[must_use]
    pub const fn new(port: XskPort<'static>, who: Host) -> Self {
        Self { port, who }
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

    /// Has a waiter wake up for what comes here.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn register(&self, waiter: &Waiter) -> std::io::Result<()> {
        waiter.add_port(0, &self.port)
    }

    /// Sends a frame; false where the wire has no room for it now.
    pub fn send(&mut self, queue: u16, bytes: &[u8]) -> bool {
        let Some(mut frame) = self.port.arena().take() else { return false };
        let fits = frame.set_len(bytes.len());
        if fits {
            frame.bytes_mut().copy_from_slice(bytes);
        }
        fits && self.port.send(queue, frame).is_ok()
    }

    /// Pushes out what was sent.
    pub fn flush(&mut self) {
        self.port.flush();
    }

    /// What has come since the last call, ARP left out.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for queue in 0..self.port.queues() {
            self.port.receive(queue, BATCH, &mut frames);
        }
        let mut taken = Vec::new();
        for frame in frames {
            match question(frame.bytes()) {
                Some(arp) if arp.target_ip == self.who.ip => {
                    let mac = self.who.mac;
                    let answer = arp.answer(mac).frame(arp.sender_mac, mac);
                    self.send(0, &answer);
                }
                Some(_) => {}
                None => taken.push(frame.bytes().to_vec()),
            }
        }
        self.port.flush();
        taken
    }
}

/// The ARP request that a frame is.
fn question(frame: &[u8]) -> Option<Arp> {
    let header = ethernet::Header::parse(frame)?;
    let arp = (header.ethertype == ethernet::ARP).then(|| frame.get(ethernet::HEADER_LEN..))??;
    Arp::parse(arp).filter(|arp| arp.operation == Operation::Request)
}
