//! IPVS at work in LOCAL_IN, FORWARD and LOCAL_OUT: schedule, translate, send, and restore
//! (kernel: net/netfilter/ipvs/ip_vs_core.c, ip_vs_xmit.c, ip_vs_nfct.c; spec IPVS).

use std::ops::ControlFlow::{self, Break, Continue};

use super::Node;
use super::conntrack::Tracked;
use super::ipvs::{Connection, ServiceKey, State};
use super::passage::{Passage, Refusal, Stop};
use super::pipeline::Local;
use super::prerouting::{exit_of, hit};
use crate::journey::{Hook, Rewriter, Step};
use crate::port::Buffer;
use crate::table::{Direction, Handle};
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Address, Protocol, Tuple, ZeroChecksum, tcp::Flags};

impl<B: Buffer> Node<B> {
    /// A packet for one of the node's addresses: ipvs restores an answer to the node's own
    /// connection, or takes a request for a virtual service. The rest is the node's.
    pub(super) fn local_in(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop, Local> {
        p.hook(Hook::LocalIn);
        if p.packet.tuple.proto == Protocol::ICMP {
            return self.ipvs_local_error(p, now);
        }
        if let Some(handle) = self.connections().find_reply(&p.packet.tuple, now) {
            self.restore_vip(p, handle, now);
            return Continue(Local::Deliver);
        }
        self.ipvs_request(p, now)
    }

    /// A packet that passes through: an answer of a connection gets its virtual address back, and
    /// is routed again with it.
    pub(super) fn forward(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop> {
        Self::outlives_hop(p)?;
        self.fits_exit(p, p.largest())?;
        p.decrement_ttl();
        p.hook(Hook::Forward);
        if p.packet.tuple.proto == Protocol::ICMP {
            return self.ipvs_forward_error(p, now);
        }
        let found = self.connections().find_reply(&p.packet.tuple, now);
        self.note_connection(p, found, Direction::Reply);
        let Some(handle) = found else { return Continue(()) };
        self.restore_vip(p, handle, now);
        self.reroute_restored(p)
    }

    /// What the node itself sends, in LOCAL_OUT: ipvs restores answers, takes requests.
    pub(super) fn ipvs_local_out(
        &mut self,
        p: &mut Passage<B>,
        now: Time,
    ) -> ControlFlow<Stop, Local> {
        if p.packet.tuple.proto == Protocol::ICMP {
            return self.ipvs_own_error(p, now);
        }
        if let Some(handle) = self.connections().find_reply(&p.packet.tuple, now) {
            self.restore_vip(p, handle, now);
            self.reroute_restored(p)?;
            return Continue(Local::Deliver);
        }
        self.ipvs_request(p, now)
    }

    /// TTL of a packet about to be sent on (spec EGR-1).
    fn outlives_hop(p: &Passage<B>) -> ControlFlow<Stop> {
        if p.packet.ttl <= 1 {
            return Break(Stop::Refuse(DropReason::TtlExceeded, Refusal::TimeExceeded));
        }
        Continue(())
    }

    /// Whether a packet of this size may be sent on; without DF it will be cut (spec EGR-2, EGR-3).
    fn fits_exit(&self, p: &mut Passage<B>, size: u16) -> ControlFlow<Stop> {
        let mtu = p.exit.map_or(u16::MAX, |exit| self.mtu(exit.port));
        if let Some(lesson) = &mut p.lesson {
            lesson.measured(mtu);
        }
        if size > mtu && p.packet.dont_fragment {
            let refusal = Refusal::FragmentationNeeded(mtu);
            return Break(Stop::Refuse(DropReason::MtuExceeded, refusal));
        }
        Continue(())
    }

    /// Finds the packet's connection or schedules a new one, then translates and sends it.
    fn ipvs_request(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop, Local> {
        if !matches!(p.packet.tuple.proto, Protocol::TCP | Protocol::UDP) {
            return Continue(Local::Deliver);
        }
        let Some(handle) = self.connection_for(p, now)? else {
            return Continue(Local::Deliver);
        };
        let Some(connection) = self.connections().get(handle).copied() else {
            return Continue(Local::Deliver);
        };
        self.note_connection(p, Some(handle), Direction::Original);
        p.step(self.connection_step(&connection));
        self.ipvs.pass(handle, p.packet.tcp_flags(), Direction::Original, now);
        self.ipvs.count(handle, Direction::Original, p.packet.total_len);
        self.send_translated(p, connection.destination())?;
        Continue(Local::SentByIpvs)
    }

    /// The connection of a request; a SYN on a closed one is scheduled anew (conn_reuse_mode 1,
    /// spec IPVS-19). `None` where no service wants the packet.
    fn connection_for(
        &mut self,
        p: &mut Passage<B>,
        now: Time,
    ) -> ControlFlow<Stop, Option<Handle>> {
        let tuple = p.packet.tuple;
        let first = p.packet.tcp_flags().contains(Flags::SYN);
        if let Some(handle) = self.connections().find_request(&tuple, now) {
            let state = self.connections().get(handle).map(|c| c.state);
            if !(first && matches!(state, Some(State::TimeWait | State::Close))) {
                return Continue(Some(handle));
            }
            self.ipvs.disconnect(handle);
        }
        let opens = first && !p.packet.tcp_flags().contains(Flags::RST);
        if tuple.proto == Protocol::TCP && !opens {
            return Continue(None);
        }
        let key = (tuple.proto, tuple.dst, tuple.dst_port);
        if self.ipvs.service(key).is_none() {
            return Continue(None);
        }
        self.schedule(p, key, now)
    }

    /// Picks a destination for a new connection of a virtual service.
    fn schedule(
        &mut self,
        p: &mut Passage<B>,
        key: ServiceKey,
        now: Time,
    ) -> ControlFlow<Stop, Option<Handle>> {
        let request = p.packet.tuple;
        let picked = self.ipvs.schedule(key, &request, now);
        let Some((server, destination)) = picked
            .and_then(|server| Some((server, self.ipvs.server(server)?.destination.address())))
        else {
            return Break(Stop::Refuse(DropReason::NoDestination, Refusal::PortUnreachable));
        };
        let service = self.service_number(key);
        p.step(Step::Scheduled { service, vip: (request.dst, request.dst_port), destination });
        match self.ipvs.connect(request, server, now) {
            Some(handle) => Continue(Some(handle)),
            None => Break(Stop::Drop(DropReason::FlowTableFull)),
        }
    }

    /// What a journey says of a packet that belongs to a connection.
    pub(super) fn connection_step(&self, connection: &Connection) -> Step {
        let service = self.service_number(connection.service());
        Step::Connection { service, vip: connection.vip(), destination: connection.destination() }
    }

    /// The lab's service behind a virtual one; none, the largest number, once it is deleted.
    fn service_number(&self, key: ServiceKey) -> usize {
        self.config.services.get(key).map_or(usize::MAX, |service| service.service)
    }

    /// ip_vs_nat_xmit: the packet is routed, then gets its new destination and enters LOCAL_OUT.
    fn send_translated(
        &mut self,
        p: &mut Passage<B>,
        (ip, port): (std::net::Ipv4Addr, u16),
    ) -> ControlFlow<Stop> {
        self.route_to_destination(p, ip)?;
        let to = Tuple { dst: ip, dst_port: port, ..p.packet.tuple };
        p.rewrite(to, Rewriter::IpvsDnat, ZeroChecksum::Compute);
        // One entry carries both NATs: the answer of a new flow will come from the destination
        // (spec CT-2).
        if let Tracked::New(flow) = &mut p.tracked {
            flow.reply.src = ip;
            flow.reply.src_port = port;
        }
        self.leave_conntrack(p);
        Continue(())
    }

    /// The way to a destination, looked up without a source (spec ROUTE-10).
    pub(super) fn route_to_destination(
        &self,
        p: &mut Passage<B>,
        ip: std::net::Ipv4Addr,
    ) -> ControlFlow<Stop> {
        let query = super::route::Query {
            dst: ip,
            src: Address::UNSPECIFIED,
            iif: super::route::Iif::Lo,
            oif: None,
            mark: p.mark,
        };
        let Some(found) = self.config.routes.lookup(&query) else {
            return Break(Stop::Refuse(DropReason::NoRoute, Refusal::NetUnreachable));
        };
        p.step(Step::Route(hit(&found)));
        p.exit = exit_of(&found, ip);
        // ipvs takes its one before it looks at the size (spec IPVS-25), which is the packet's even
        // where it came in fragments (spec FRAG-9).
        Self::outlives_hop(p)?;
        p.decrement_ttl();
        self.fits_exit(p, p.packet.total_len)
    }

    /// Lets the flow cache know which connection the packet turned out to belong to.
    fn note_connection(&self, p: &mut Passage<B>, found: Option<Handle>, direction: Direction) {
        if let Some(lesson) = &mut p.lesson {
            let watch = self.connections().watch(&p.packet.tuple);
            lesson.met(found.map(|handle| (handle, direction)), watch);
        }
    }

    /// Puts the virtual address back into the source of an answer.
    fn restore_vip(&mut self, p: &mut Passage<B>, handle: Handle, now: Time) {
        let Some(connection) = self.connections().get(handle).copied() else { return };
        let (vip, port) = connection.vip();
        p.step(self.connection_step(&connection));
        let to = Tuple { src: vip, src_port: port, ..p.packet.tuple };
        p.rewrite(to, Rewriter::IpvsUnDnat, ZeroChecksum::Compute);
        self.ipvs.pass(handle, p.packet.tcp_flags(), Direction::Reply, now);
        self.ipvs.count(handle, Direction::Reply, p.packet.total_len);
        self.leave_conntrack(p);
    }

    /// The way of a packet that has its virtual address back, looked up with that (spec ROUTE-13).
    pub(super) fn reroute_restored(&self, p: &mut Passage<B>) -> ControlFlow<Stop> {
        if self.config.switches.snat_reroute { self.reroute(p) } else { Continue(()) }
    }

    /// ipvs has had the packet; with vs.conntrack=0 conntrack does not get it (spec CT-20).
    pub(super) fn leave_conntrack(&self, p: &mut Passage<B>) {
        if !self.config.switches.vs_conntrack {
            p.tracked = Tracked::Untracked;
        }
        p.ipvs = true;
    }
}
