//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::{Mac, ethernet};

/// Length of an ARP frame with its Ethernet header, in bytes.
pub const FRAME_LEN: usize = ethernet::HEADER_LEN + 28;
/// Hardware type 1, protocol IPv4, lengths 6 and 4.
const FIXED: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// Hardware address of the sender.
    pub sender_mac: Mac,
    /// Protocol address of the sender.
    pub sender_ip: Ipv4Addr,
    /// Hardware address of the target; zero in a request.
    pub target_mac: Mac,
    /// Protocol address of the target.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// The message that follows the Ethernet header, or `None` where it is cut short or not
    /// IPv4 over Ethernet.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (fixed, rest) = payload.split_first_chunk::<6>()?;
        if *fixed != FIXED {
            return None;
        }
        let (operation, rest) = rest.split_first_chunk::<2>()?;
        let operation = match u16::from_be_bytes(*operation) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return None,
        };
        let (sender_mac, rest) = rest.split_first_chunk::<6>()?;
        let (sender_ip, rest) = rest.split_first_chunk::<4>()?;
        let (target_mac, rest) = rest.split_first_chunk::<6>()?;
        let (target_ip, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            operation,
            sender_mac: Mac(*sender_mac),
            sender_ip: Ipv4Addr::from(*sender_ip),
            target_mac: Mac(*target_mac),
            target_ip: Ipv4Addr::from(*target_ip),
        })
    }

    /// The whole frame, from `src` to `dst`.
    #[must_use]
    pub fn frame(&self, dst: Mac, src: Mac) -> [u8; FRAME_LEN] {
        let mut frame = [0; FRAME_LEN];
        ethernet::Header { dst, src, ethertype: ethernet::ARP }.emit(&mut frame);
        let operation: u16 = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        let fields: [&[u8]; 6] = [
            &FIXED,
            &operation.to_be_bytes(),
            &self.sender_mac.0,
            &self.sender_ip.octets(),
            &self.target_mac.0,
            &self.target_ip.octets(),
        ];
        let message = frame.iter_mut().skip(ethernet::HEADER_LEN);
        for (to, from) in message.zip(fields.iter().copied().flatten()) {
            *to = *from;
        }
        frame
    }

    /// The answer that says `mac` has this request's target.
    #[must_use]
    pub fn answer(&self, mac: Mac) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }
}
