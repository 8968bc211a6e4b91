//! PREROUTING and the routing decision: conntrack, kube-proxy's marks or the reply's de-SNAT,
//! then rules and tables (spec CT, MARK, ROUTE).

use std::net::Ipv4Addr;
use std::ops::ControlFlow::{self, Break, Continue};

use super::conntrack::{Status, Tracked};
use super::icmp::Manip;
use super::kube_proxy::{MASQUERADE_MARK, Question};
use super::passage::{Exit, Passage, Refusal, Stop};
use super::route::{Found, Iif, Query, RouteKind, judge_source, martian, reverse};
use super::{Decision, Node};
use crate::journey::{FlowState, Hook, PortId, Rewriter, RouteHit, Step, Target};
use crate::port::Buffer;
use crate::table::Direction;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Tuple, ZeroChecksum};

impl<B: Buffer> Node<B> {
    /// Conntrack, then nat's PREROUTING chain.
    pub(super) fn prerouting(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop> {
        p.hook(Hook::Prerouting);
        if !p.packet.checksum_holds(p.ip()) {
            // Looked at here only, not in LOCAL_OUT (spec ING-9).
            p.step(Step::Flow(FlowState::Invalid));
            return Continue(());
        }
        self.track(p, now)?;
        self.begin_lesson(p);
        self.nat_destination(p);
        self.nat_error(p, Manip::Destination)
    }

    /// Finds or begins the packet's flow.
    pub(super) fn track(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop> {
        let tracked = match p.packet.quoted(p.ip()) {
            Some(quoted) => Ok(self.conntrack.relate(&quoted.tuple, p.packet.tuple.dst, now)),
            None => {
                let rules = &self.config.switches.conntrack;
                self.conntrack.track(&p.packet, p.ip(), rules, now)
            }
        };
        p.tracked = match tracked {
            Ok(tracked) => tracked,
            Err(reason) => return Break(Stop::Drop(reason)),
        };
        p.step(Step::Flow(match p.tracked {
            Tracked::New(_) => FlowState::New,
            Tracked::Known(_, Direction::Original) => FlowState::Original,
            Tracked::Known(_, Direction::Reply) => FlowState::Reply,
            Tracked::Related(..) => FlowState::Related,
            Tracked::Invalid => FlowState::Invalid,
            Tracked::Untracked => FlowState::Untracked,
        }));
        Continue(())
    }

    /// Marks the first packet of a flow as kube-proxy's rules say; undoes the masquerade in the
    /// destination of an answer.
    pub(super) fn nat_destination(&mut self, p: &mut Passage<B>) {
        match p.tracked {
            Tracked::New(_) => {
                let question = Question::of(&p.packet.tuple, &p.tracked, 0);
                let (mut mark, mut rule) = self.decisions.mark(&self.config, question);
                if mark & MASQUERADE_MARK != 0 && self.config.services.is_fnat(&p.packet.tuple) {
                    // Its source is ipvs's to exchange (spec FNAT-13).
                    (mark, rule) = (mark & !MASQUERADE_MARK, None);
                }
                p.mark |= mark;
                if let Some(rule) = rule {
                    p.step(Step::Marked(rule));
                }
            }
            Tracked::Known(handle, Direction::Reply) => {
                let translated = self.conntrack.get(handle).map(|entry| entry.status);
                if !translated.is_some_and(|s| s.contains(Status::SRC_NAT)) {
                    return;
                }
                let Some((original, _)) = self.conntrack.tuples(handle) else { return };
                let to = with_destination(p.packet.tuple, original.src, original.src_port);
                p.rewrite(to, Rewriter::UnMasquerade, ZeroChecksum::Keep);
            }
            Tracked::Known(_, Direction::Original)
            | Tracked::Related(..)
            | Tracked::Invalid
            | Tracked::Untracked => {}
        }
    }

    /// The routing decision for a packet that came in, with the checks of its source.
    pub(super) fn route_input(&mut self, p: &mut Passage<B>) -> ControlFlow<Stop, Decision> {
        let Tuple { src, dst, .. } = p.packet.tuple;
        if let Some(reason) = martian(src, dst) {
            return Break(Stop::Drop(reason));
        }
        let iif = p.iif.map_or(Iif::Lo, Iif::Port);
        let query = Query { dst, src, iif, oif: None, mark: p.mark };
        let Some(found) = self.decisions.route(&self.config, query) else {
            return Break(Stop::Refuse(DropReason::NoRoute, Refusal::NetUnreachable));
        };
        let exit = exit_of(&found, dst);
        if let Some(came) = p.iif {
            let leaves = exit.map(|exit| exit.port);
            let filter = self.config.switches.rp_filter;
            let back = self.decisions.route(&self.config, reverse(src, dst, leaves));
            if let Some(reason) = judge_source(back, came, filter) {
                return Break(Stop::Drop(reason));
            }
        }
        p.step(Step::Route(hit(&found)));
        p.exit = exit;
        Continue(if exit.is_some() { Decision::Forward } else { Decision::Local })
    }

    /// The routing decision for a packet the node sends. Its own addresses have no exit.
    pub(super) fn route_output(&mut self, p: &mut Passage<B>) -> ControlFlow<Stop> {
        let found = self.look_up(p, p.packet.tuple.src)?;
        p.step(Step::Route(hit(&found)));
        p.exit = exit_of(&found, p.packet.tuple.dst);
        Continue(())
    }

    /// Looks the route up again with the packet's source; its exit changes (spec ROUTE-11,
    /// ROUTE-13).
    pub(super) fn reroute(&mut self, p: &mut Passage<B>) -> ControlFlow<Stop> {
        let found = self.look_up(p, p.packet.tuple.src)?;
        p.step(Step::Reroute(hit(&found)));
        p.exit = exit_of(&found, p.packet.tuple.dst);
        Continue(())
    }

    /// The route of a packet as the node sends it, from `src` (unspecified where none counts).
    pub(super) fn look_up(
        &mut self,
        p: &Passage<B>,
        src: Ipv4Addr,
    ) -> ControlFlow<Stop, Found<Ipv4Addr>> {
        let query = Query { dst: p.packet.tuple.dst, src, iif: Iif::Lo, oif: None, mark: p.mark };
        match self.decisions.route(&self.config, query) {
            Some(found) => Continue(found),
            None => Break(Stop::Refuse(DropReason::NoRoute, Refusal::NetUnreachable)),
        }
    }
}

/// Where a route leads a packet; `None` to the node itself.
pub(super) fn exit_of(found: &Found<Ipv4Addr>, dst: Ipv4Addr) -> Option<Exit> {
    match found.route.kind {
        RouteKind::Port(port) => Some(Exit { port, next_hop: found.route.via.unwrap_or(dst) }),
        RouteKind::Local | RouteKind::Broadcast => None,
    }
}

/// A look-up's answer as the journey records it.
pub(super) fn hit(found: &Found<Ipv4Addr>) -> RouteHit {
    RouteHit {
        rule: found.rule,
        priority: found.priority,
        table: found.table,
        prefix: found.prefix,
        via: found.route.via,
        target: match found.route.kind {
            RouteKind::Port(PortId(port)) => Target::Port(PortId(port)),
            RouteKind::Local | RouteKind::Broadcast => Target::Local,
        },
    }
}

/// The tuple with another destination; an ICMP query keeps its type and takes the port as its
/// identifier.
pub(super) fn with_destination(
    tuple: Tuple<Ipv4Addr>,
    dst: Ipv4Addr,
    port: u16,
) -> Tuple<Ipv4Addr> {
    if tuple.proto == crate::wire::Protocol::ICMP {
        return Tuple { dst, src_port: port, ..tuple };
    }
    Tuple { dst, dst_port: port, ..tuple }
}
