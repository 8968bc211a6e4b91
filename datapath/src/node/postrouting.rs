//! LOCAL_OUT's nat and POSTROUTING: the second look-up, masquerade and conntrack's confirmation
//! (kernel: net/netfilter/nf_nat_proto.c, nf_nat_core.c, nf_nat_masquerade.c; spec ROUTE-11, MASQ,
//! CT-4).

use std::net::Ipv4Addr;
use std::ops::ControlFlow::{self, Break, Continue};

use super::Node;
use super::config::HOST0;
use super::conntrack::{NewFlow, Status, Tracked, has_port};
use super::icmp::Manip;
use super::kube_proxy::Question;
use super::passage::{Passage, Stop};
use crate::element::Place;
use crate::journey::{Hook, MasqueradeRule, Rewriter, Step};
use crate::port::Buffer;
use crate::table::Direction;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Protocol, Tuple, ZeroChecksum, ethernet};

/// How many ports are tried at first before the search jumps elsewhere; then half as many, as long
/// as it was at least 16 (spec MASQ-9).
const ATTEMPTS: u32 = 128;
const FEWEST_ATTEMPTS: u32 = 16;

impl<B: Buffer> Node<B> {
    /// LOCAL_OUT: conntrack for what has no flow yet; nat's rules for the node's own first
    /// packets; and the route again, with the source, where the flow's destination is translated.
    pub(super) fn local_out(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop> {
        p.hook(Hook::LocalOut);
        if p.tracked == Tracked::Invalid {
            self.track(p, now)?;
            if !p.ipvs {
                self.nat_destination(p);
            }
        }
        self.nat_error(p, Manip::Destination)?;
        let translated = match p.tracked {
            Tracked::New(flow) => flow.original.dst != flow.reply.src,
            Tracked::Known(handle, direction) | Tracked::Related(handle, direction) => {
                self.conntrack.tuples(handle).is_some_and(|(original, reply)| match direction {
                    Direction::Original => original.dst != reply.src,
                    Direction::Reply => reply.dst != original.src,
                })
            }
            Tracked::Invalid | Tracked::Untracked => false,
        };
        if translated { self.reroute(p) } else { Continue(()) }
    }

    /// POSTROUTING: the source is translated, then a new flow is confirmed.
    pub(super) fn postrouting(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop> {
        p.hook(Hook::Postrouting);
        match p.tracked {
            Tracked::New(flow) => {
                let flow = self.bind_source(p, flow, now)?;
                self.confirm(p, &flow, now)
            }
            Tracked::Known(handle, direction) => {
                let status = self.conntrack.get(handle).map(|entry| entry.status);
                let translated = status.is_some_and(|s| s.contains(Status::SRC_NAT));
                if translated
                    && direction == Direction::Original
                    && let Some((_, reply)) = self.conntrack.tuples(handle)
                {
                    let to = with_source(p.packet.tuple, reply.dst, answer_port(&reply));
                    p.rewrite(to, Rewriter::Masquerade, ZeroChecksum::Keep);
                }
                Continue(())
            }
            Tracked::Related(..) => self.nat_error(p, Manip::Source),
            Tracked::Invalid | Tracked::Untracked => Continue(()),
        }
    }

    /// Puts the packet's new flow into the table.
    pub(super) fn confirm(
        &mut self,
        p: &mut Passage<B>,
        flow: &NewFlow,
        now: Time,
    ) -> ControlFlow<Stop> {
        match self.conntrack.confirm(flow, now) {
            Ok(handle) => {
                p.tracked = Tracked::Known(handle, Direction::Original);
                Continue(())
            }
            Err(reason) => Break(Stop::Drop(reason)),
        }
    }

    /// KUBE-POSTROUTING for a new flow. Without a masquerade too its tuple must be free, or its
    /// port moves.
    fn bind_source(
        &mut self,
        p: &mut Passage<B>,
        mut flow: NewFlow,
        now: Time,
    ) -> ControlFlow<Stop, NewFlow> {
        let Some(sent) = flow.reply.inverse() else { return Continue(flow) };
        let question = Question::of(&p.packet.tuple, &p.tracked, p.mark);
        let masquerade = self.decisions.masquerade(&self.config, question);
        let (rule, random) = masquerade.unzip();
        let random = random.unwrap_or(false);
        if let Some(lesson) = &mut p.lesson
            && rule.is_some()
        {
            lesson.masqueraded(random);
        }
        // The node's address is on eth0 and, as /32, on eth1; a cali has none and falls back to
        // the first global address, again eth0's (spec MASQ-1, MASQ-2).
        let address = if rule.is_some() { self.config.ip } else { sent.src };
        let Some(bound) =
            self.unique_source(with_source(sent, address, sent.src_port), random, now)
        else {
            return Break(Stop::Drop(DropReason::NoFreePort));
        };
        if bound == sent {
            return Continue(flow);
        }
        let Some(reply) = bound.inverse() else { return Continue(flow) };
        flow.reply = reply;
        flow.set_src_nat();
        p.step(Step::Masqueraded(rule.unwrap_or(MasqueradeRule::Clash)));
        let to = with_source(p.packet.tuple, bound.src, bound.src_port);
        p.rewrite(to, Rewriter::Masquerade, ZeroChecksum::Keep);
        Continue(flow)
    }

    /// The tuple itself where its answer belongs to no other flow, else with a free port of the
    /// same class, searched from a random start (spec MASQ-4 to MASQ-6).
    pub(super) fn unique_source(
        &mut self,
        tuple: Tuple<Ipv4Addr>,
        random: bool,
        now: Time,
    ) -> Option<Tuple<Ipv4Addr>> {
        let is_free = |node: &mut Self, tuple: &Tuple<Ipv4Addr>| {
            tuple.inverse().is_none_or(|answer| !node.conntrack.is_taken(&answer, now))
        };
        if !has_port(tuple.proto) || (!random && is_free(self, &tuple)) {
            return is_free(self, &tuple).then_some(tuple);
        }
        let (lowest, count) = port_class(tuple.proto, tuple.src_port);
        let mut attempts = ATTEMPTS.min(count);
        loop {
            let start = self.random.below(count);
            for at in 0..attempts {
                // Within the class, so it fits.
                let port = u16::try_from(lowest + (start + at) % count).unwrap_or(u16::MAX);
                let candidate = Tuple { src_port: port, ..tuple };
                if is_free(self, &candidate) {
                    return Some(candidate);
                }
            }
            if attempts >= count || attempts < FEWEST_ATTEMPTS {
                return None;
            }
            attempts /= 2;
        }
    }

    /// Hands a packet for the node itself to its own stack, by host0. A packet for a virtual or
    /// local address is never delivered there: the node answers it here (spec ROUTE-9).
    pub(super) fn deliver(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop> {
        if self.config.is_balancing(p.packet.tuple.dst) {
            return Break(self.answer_for_vip(p, now));
        }
        if let Tracked::New(flow) = p.tracked {
            self.confirm(p, &flow, now)?;
        }
        p.exit = None;
        let host0 = self.config.interface(HOST0).map_or_else(Default::default, |i| i.mac);
        ethernet::set_macs(p.framed.frame.bytes_mut(), self.config.host_mac, host0);
        Continue(())
    }

    /// Where a delivered packet leaves.
    pub(super) const fn host_place() -> Place {
        Place { port: HOST0, queue: 0 }
    }
}

/// The ports a port may be exchanged for: lowest and number (spec MASQ-5). An identifier may
/// become any.
const fn port_class(proto: Protocol, port: u16) -> (u32, u32) {
    match (proto, port) {
        (Protocol::ICMP, _) => (0, 65_536),
        (_, 0..=511) => (1, 511),
        (_, 512..=1023) => (600, 424),
        (_, _) => (1024, 64_512),
    }
}

/// The port, or the identifier, to which an answer's tuple says it goes.
pub(super) fn answer_port(reply: &Tuple<Ipv4Addr>) -> u16 {
    if reply.proto == Protocol::ICMP { reply.src_port } else { reply.dst_port }
}

/// The tuple with another source.
pub(super) fn with_source(tuple: Tuple<Ipv4Addr>, src: Ipv4Addr, port: u16) -> Tuple<Ipv4Addr> {
    Tuple { src, src_port: port, ..tuple }
}
