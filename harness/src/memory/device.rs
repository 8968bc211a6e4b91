//! A device between smoltcp and a wire: IP packets in, IP packets out, both in bounded queues.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Packets a host keeps before it is polled; as many as a veth's ring has.
const QUEUE: usize = 256;

/// The two queues.
#[derive(Debug)]
pub(super) struct PacketQueues {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
    mtu: u16,
}

impl PacketQueues {
    /// Empty queues of a host whose interface has this MTU.
    pub(super) fn new(mtu: u16) -> Self {
        Self { received: VecDeque::new(), sent: VecDeque::new(), mtu }
    }

    /// Puts a packet in front of the stack; a full queue loses it, as a network card's would.
    pub(super) fn push(&mut self, packet: &[u8]) {
        if self.received.len() < QUEUE {
            self.received.push_back(packet.to_vec());
        }
    }

    /// The oldest packet the stack has sent.
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        self.sent.pop_front()
    }

    /// Has a packet sent that the stack did not make.
    pub(super) fn inject(&mut self, packet: Vec<u8>) {
        self.sent.push_back(packet);
    }
}

impl Device for PacketQueues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sending<'_>)> {
        let packet = self.received.pop_front()?;
        Some((Received(packet), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        (self.sent.len() < QUEUE).then_some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(self.mtu);
        capabilities
    }
}

/// A packet on its way into the stack.
#[derive(Debug)]
pub(super) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a packet on its way out of the stack.
#[derive(Debug)]
pub(super) struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}
