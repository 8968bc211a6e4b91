//! Egress: next hop to MAC, the trunk's tag, out (spec NEIGH, EGR).

use std::net::Ipv4Addr;

use super::Node;
use super::config::ETH1;
use super::neighbour::{Due, Waiting};
use super::passage::{Passage, Refusal};
use crate::element::{Output, Place};
use crate::journey::{Hook, PortId, Step};
use crate::port::Buffer;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::arp::{Arp, Operation};
use crate::wire::{Mac, ethernet};

impl<B: Buffer> Node<B> {
    /// Finds the next hop's MAC, or lets the packet wait for it.
    pub(super) fn leave(&mut self, mut p: Passage<B>, now: Time, out: &mut Output<B>) {
        p.hook(Hook::Egress);
        let Some(exit) = p.exit else {
            return self.lose(p.framed, DropReason::NoRoute, out);
        };
        if let Some(mac) = self.neighbours.mac(exit.port, exit.next_hop) {
            return self.send_to(p, mac, out);
        }
        p.step(Step::Resolving(exit.next_hop));
        // The request names the waiting packet's source where that is ours, so that a pod may
        // learn a VIP for a neighbour (spec NEIGH-4).
        let src = p.packet.tuple.src;
        let ours = self.config.is_local(src) && !self.config.switches.strict_arp;
        let sender = if ours { src } else { self.config.ip };
        let Waiting { ask, lost } = self.neighbours.wait(exit.port, exit.next_hop, p, sender, now);
        if let Some((packet, reason)) = lost {
            self.lose(packet.framed, reason, out);
        }
        if ask {
            self.ask(exit.port, exit.next_hop, sender, now, out);
        }
    }

    /// Sends a packet to a neighbour: MACs, then the tag its source asks for.
    pub(super) fn send_to(&mut self, mut p: Passage<B>, mac: Mac, out: &mut Output<B>) {
        let Some((exit, interface)) =
            p.exit.and_then(|exit| Some((exit, self.config.interface(exit.port)?)))
        else {
            return self.lose(p.framed, DropReason::NoRoute, out);
        };
        let interface_mac = interface.mac;
        ethernet::set_macs(p.framed.frame.bytes_mut(), mac, interface_mac);
        p.step(Step::Neighbour(exit.next_hop, mac));
        let mut place = Place { port: exit.port, queue: 0 };
        // Out of a cali veth the next hop is the pod itself (spec TRUNK-5).
        if let Some(queue) = p.member_queue
            && let Some(pod) = self.config.pod(exit.next_hop)
            && pod.port == exit.port
            && pod.queue != queue
        {
            self.trunk.count_mismatch(queue);
            // Each such packet is to be counted, so none of them takes a learned path.
            p.lesson = None;
        }
        let mut tag = None;
        // Terway's egress filter matches the packet's source as it now is (spec EGR-7, EGR-8).
        if exit.port == ETH1
            && self.config.switches.vlan_push
            && let Some(pod) = self.config.pod(p.packet.tuple.src)
        {
            let (vid, queue) = (pod.vid, pod.queue);
            if !ethernet::push(&mut p.framed.frame, vid) {
                return self.lose(p.framed, DropReason::NoHeadroom, out);
            }
            place.queue = queue;
            tag = Some(vid);
            p.step(Step::TagPushed(vid));
        }
        self.learn(&p, place, (mac, interface_mac), tag);
        let tuple = Some(p.packet.tuple);
        self.depart(p.framed, place, tuple, out);
    }

    /// Asks who has an address.
    fn ask(
        &mut self,
        port: PortId,
        ip: Ipv4Addr,
        sender: Ipv4Addr,
        now: Time,
        out: &mut Output<B>,
    ) {
        let Some(mac) = self.config.interface(port).map(|i| i.mac) else { return };
        let request = Arp {
            operation: Operation::Request,
            sender_mac: mac,
            sender_ip: sender,
            target_mac: Mac::default(),
            target_ip: ip,
        };
        self.send_arp(request, Mac::BROADCAST, mac, port, now, out);
    }

    /// Repeats requests that are due and gives up on neighbours that do not answer.
    pub(super) fn chase_neighbours(&mut self, now: Time, out: &mut Output<B>) {
        while let Some(due) = self.neighbours.next_due(now) {
            match due {
                Due::Ask { port, ip, sender } => self.ask(port, ip, sender, now, out),
                Due::GaveUp(waiting) => {
                    for p in waiting {
                        self.refuse(&p, Refusal::HostUnreachable, now, out);
                        self.lose(p.framed, DropReason::NeighbourFailed, out);
                    }
                }
            }
        }
    }
}
