//! A frame's entry: its MACs, its tag, and the ENI it comes from.

use std::net::Ipv4Addr;

use super::network::{End, Network};
use super::trace::Trace;
use crate::journey::{PortId, Step};
use crate::port::Buffer;
use crate::verdict::DropReason;
use crate::wire::{Mac, Packet, Unparsed, Vid, ethernet};

/// A frame that may enter, its tag taken off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// What follows the Ethernet header.
    pub(super) ethertype: u16,
    /// The tag it came with.
    pub(super) vid: Option<Vid>,
    /// Whose frame it is by port and tag.
    pub(super) end: End,
    /// The node on whose trunk it came.
    trunk: Option<usize>,
}

/// Reads MACs and tag, and takes the tag off.
pub(super) fn enter<B: Buffer>(
    network: &Network,
    frame: &mut B,
    port: PortId,
    trace: &mut Trace,
) -> Result<Entry, DropReason> {
    let header = ethernet::Header::parse(frame.bytes()).ok_or(DropReason::Runt)?;
    let (port_end, trunk) = network.port(port).ok_or(DropReason::OtherHost)?;
    if header.dst != network.gateway && !header.dst.is_group() {
        return Err(DropReason::OtherHost);
    }
    let (end, vid, ethertype) = match ethernet::tag(frame.bytes()) {
        None => (port_end, None, header.ethertype),
        Some(tag) => {
            // Spec VPC-1, VPC-2.
            let node = trunk.ok_or(DropReason::UnexpectedTag)?;
            let vid = tag.vid().ok_or(DropReason::UnknownVid)?;
            let member = network.member(node, vid).ok_or(DropReason::UnknownVid)?;
            if frame.bytes().len() < ethernet::HEADER_LEN + ethernet::TAG_LEN {
                return Err(DropReason::Runt);
            }
            ethernet::pop(frame);
            trace.step(Step::TagPopped(tag.id));
            let inner = ethernet::Header::parse(frame.bytes()).ok_or(DropReason::Runt)?;
            (End::Eni(member), Some(vid), inner.ethertype)
        }
    };
    // Spec VPC-21. Only ARP requests are asked of everyone.
    let to_all = header.dst == Mac::BROADCAST && ethertype == ethernet::ARP;
    if header.dst != network.gateway && !to_all {
        return Err(DropReason::Multicast);
    }
    Ok(Entry { ethertype, vid, end, trunk })
}

impl Entry {
    /// Whose frame it is, its source address being `ip` (spec VPC-1, VPC-4).
    pub(super) fn sender(&self, network: &Network, ip: Ipv4Addr) -> End {
        match self.trunk {
            Some(node) if self.vid.is_none() => {
                network.untagged_member(node, ip).map_or(self.end, End::Eni)
            }
            _ => self.end,
        }
    }
}

/// The IPv4 packet in an untagged frame; padding behind it is cut off.
pub(super) fn packet<B: Buffer>(frame: &mut B) -> Result<Packet<Ipv4Addr>, Unparsed> {
    let parsed = Packet::parse(ip(frame));
    let total_len = match &parsed {
        Ok(packet) => packet.total_len,
        Err(Unparsed::Fragment(header)) => header.total_len,
        Err(_) => return parsed,
    };
    let len = ethernet::HEADER_LEN + usize::from(total_len);
    if len < frame.bytes().len() {
        // A shorter frame always fits.
        let _ = frame.set_len(len);
    }
    parsed
}

/// The drop that a packet which cannot be handled becomes.
pub(super) const fn unparsed(unparsed: Unparsed) -> DropReason {
    match unparsed {
        Unparsed::Header => DropReason::BadHeader,
        Unparsed::Checksum => DropReason::BadChecksum,
        Unparsed::Options => DropReason::IpOptions,
        // Fragments are gathered before; what they become is whole.
        Unparsed::Fragment(_) => DropReason::FragmentInvalid,
        Unparsed::Transport => DropReason::BadTransport,
    }
}

/// The bytes of the IP packet in an untagged frame.
pub(super) fn ip<B: Buffer>(frame: &B) -> &[u8] {
    frame.bytes().get(ethernet::HEADER_LEN..).unwrap_or_default()
}

/// The bytes of the IP packet in an untagged frame, to change.
pub(super) fn ip_mut<B: Buffer>(frame: &mut B) -> &mut [u8] {
    frame.bytes_mut().get_mut(ethernet::HEADER_LEN..).unwrap_or_default()
}
