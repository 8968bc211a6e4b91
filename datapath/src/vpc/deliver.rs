//! Who receives a packet, and how it gets there.

use std::net::Ipv4Addr;

use super::network::{End, Owner};
use super::slb::Balancing;
use super::trace::Trace;
use super::{Vpc, ingress};
use crate::element::Place;
use crate::journey::Step;
use crate::port::Buffer;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Packet, ethernet, ipv4};

impl<B: Buffer> Vpc<B> {
    /// Finds who receives; a load balancer translates on the way (spec VPC-6 to VPC-9).
    pub(super) fn receiver(
        &mut self,
        ip: &mut [u8],
        packet: &mut Packet<Ipv4Addr>,
        sender: End,
        now: Time,
        trace: &mut Trace,
    ) -> Result<End, DropReason> {
        let Self { network, sessions, turns, .. } = self;
        let mut balancing = Balancing { network, sessions, turns, now };
        let answer = matches!(sender, End::Eni(_)) && balancing.restore(ip, packet, trace);
        let owner = match network.owner(packet.tuple.dst) {
            Some(Owner::Slb(slb)) => Some(Owner::Eni(balancing.balance(ip, packet, slb, trace)?)),
            other => other,
        };
        let (receiver, step) = match owner {
            Some(Owner::Eni(eni)) => {
                let vswitch = network.eni(eni).map_or(0, |e| e.vswitch);
                (End::Eni(eni), Step::VSwitchRoute(vswitch))
            }
            other => {
                // The load balancer has its own way out, past the routes.
                let custom = if answer { None } else { network.custom_route(packet.tuple.dst) };
                match (custom, other) {
                    (Some((route, eni)), _) => (End::Eni(eni), Step::CustomRoute(route)),
                    (None, Some(Owner::Outside(host))) => {
                        (End::Outside(host), Step::OutsideRoute(host))
                    }
                    _ => return Err(DropReason::NoSuchAddress),
                }
            }
        };
        trace.step(step);
        if let End::Eni(eni) = receiver {
            trace.step(Step::ReceivingEni(eni));
        }
        Ok(receiver)
    }

    /// Whether the receiver takes packets for this address and frames of this size (spec VPC-12,
    /// VPC-20).
    pub(super) fn check_receiver(
        &self,
        receiver: End,
        packet: &Packet<Ipv4Addr>,
        size: u16,
    ) -> Result<(), DropReason> {
        if let End::Eni(eni) = receiver
            && self.network.eni(eni).is_some_and(|e| e.check)
            && !self.network.is_own(receiver, packet.tuple.dst)
        {
            return Err(DropReason::DestinationCheck);
        }
        match self.network.exit(receiver) {
            Some(exit) if size > exit.mtu => Err(DropReason::MtuExceeded),
            _ => Ok(()),
        }
    }

    /// Counts a packet that was sent to an ENI.
    pub(super) fn count_received(&mut self, receiver: End) {
        if let End::Eni(eni) = receiver {
            self.counters.sent_to(eni);
        }
    }

    /// Makes the frame ready for its receiver's wire (spec VPC-10, VPC-11, VPC-18).
    pub(super) fn leave(
        &mut self,
        frame: &mut B,
        receiver: End,
        packet: &Packet<Ipv4Addr>,
        trace: &mut Trace,
    ) -> Result<Place, DropReason> {
        let exit = self.network.exit(receiver).ok_or(DropReason::NoSuchAddress)?;
        if self.network.decrement_ttl {
            if packet.ttl <= 1 {
                return Err(DropReason::TtlExceeded);
            }
            ipv4::decrement_ttl(ingress::ip_mut(frame));
        }
        ethernet::set_macs(frame.bytes_mut(), exit.mac, self.network.gateway);
        if let Some(vid) = exit.vid {
            if !ethernet::push(frame, vid) {
                return Err(DropReason::NoHeadroom);
            }
            trace.step(Step::TagPushed(vid));
        }
        Ok(exit.place)
    }
}
