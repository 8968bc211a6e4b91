//! IPVS at work in LOCAL_IN, FORWARD and LOCAL_OUT: schedule, translate, send, and restore
//! (kernel: net/netfilter/ipvs/ip_vs_core.c, ip_vs_xmit.c, ip_vs_nfct.c; spec IPVS).

use std::net::Ipv4Addr;
use std::ops::ControlFlow::{self, Break, Continue};

use super::conntrack::Tracked;
use super::ipvs::{Change, Connection, NotScheduled, Reuse, ServiceKey};
use super::kube_proxy::{Chain, Question, Verdict};
use super::passage::{Passage, Refusal, Stop};
use super::pipeline::Local;
use super::prerouting::{exit_of, hit};
use super::{EXPIRY_BUDGET, Node};
use crate::journey::{Hook, Rewriter, Step};
use crate::port::Buffer;
use crate::table::{Direction, Handle};
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Address, Protocol, Transport, Tuple, ZeroChecksum, tcp::Flags};

/// A source port that is never scheduled: an FTP server's data connections come from it.
pub(super) const FTP_DATA: u16 = 20;

/// Who takes a request.
enum Taker {
    /// A connection.
    Connection(Handle),
    /// A destination, for this packet only.
    Destination((Ipv4Addr, u16)),
    /// No service; the packet is the node's.
    Nobody,
}

impl<B: Buffer> Node<B> {
    /// A packet for one of the node's addresses: ipvs restores an answer to the node's own
    /// connection, or takes a request for a virtual service. The rest is the node's.
    pub(super) fn local_in(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop, Local> {
        p.hook(Hook::LocalIn);
        self.filter(p, Chain::Input)?;
        if p.packet.tuple.proto == Protocol::ICMP {
            return self.ipvs_local_error(p, now);
        }
        if let Some(handle) = self.connections().find_reply(&p.packet.tuple, now) {
            self.note_connection(p, Some(handle), Direction::Reply);
            self.restore_vip(p, handle, now);
            return self.go_on_to_client(p, handle);
        }
        self.answers_nobody(p)?;
        self.ipvs_request(p, now)
    }

    /// What kube-proxy's rules in a chain of filter say of a packet (spec MARK-13, MARK-14, IPVS-29). It is
    /// nowhere near the chain FORWARD, where they drop nothing (spec MARK-16).
    pub(super) fn filter(&mut self, p: &Passage<B>, chain: Chain) -> ControlFlow<Stop> {
        let echo = matches!(p.packet.transport, Transport::Icmp { .. });
        let question = Question::of(&p.packet.tuple, &p.tracked, p.mark);
        match self.decisions.filter(&self.config, chain, question) {
            Verdict::Accept => Continue(()),
            Verdict::Drop => Break(Stop::Drop(DropReason::SourceRange)),
            Verdict::Reject => {
                let reason = if echo { DropReason::VipPingRejected } else { DropReason::NoService };
                Break(Stop::Refuse(reason, Refusal::PortUnreachable))
            }
        }
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
        let Some(handle) = found else { return self.answers_nobody(p) };
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
    pub(super) fn outlives_hop(p: &Passage<B>) -> ControlFlow<Stop> {
        if p.packet.ttl <= 1 {
            return Break(Stop::Refuse(DropReason::TtlExceeded, Refusal::TimeExceeded));
        }
        Continue(())
    }

    /// Whether a packet of this size may be sent on; without DF it will be cut (spec EGR-2, EGR-3).
    pub(super) fn fits_exit(&self, p: &mut Passage<B>, size: u16) -> ControlFlow<Stop> {
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
        let handle = match self.connection_for(p, now)? {
            Taker::Connection(handle) => handle,
            // conntrack learns nothing of a packet without a connection (spec IPVS-39).
            Taker::Destination((dst, dst_port)) => {
                let to = Tuple { dst, dst_port, ..p.packet.tuple };
                self.send_translated(p, to, Rewriter::IpvsDnat)?;
                return Continue(Local::SentByIpvs);
            }
            Taker::Nobody => return Continue(Local::Deliver),
        };
        let Some(connection) = self.connections().get(handle) else {
            return Continue(Local::Deliver);
        };
        self.note_connection(p, Some(handle), Direction::Original);
        p.step_with(|| self.connection_step(&connection));
        let (flags, bytes) = (p.packet.tcp_flags(), p.packet.total_len);
        self.ipvs.pass(handle, flags, Direction::Original, bytes, now);
        self.send_translated(p, connection.sent(), connection.sender())?;
        // One entry carries both NATs: the answer of a new flow will come from the destination
        // (spec CT-2).
        if let Tracked::New(flow) = &mut p.tracked {
            flow.reply = connection.reply();
        }
        self.tell_client(p, &connection);
        Continue(Local::SentByIpvs)
    }

    /// Who takes a request: its connection, where that may go on, or a new one.
    fn connection_for(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop, Taker> {
        let tuple = p.packet.tuple;
        let Some(handle) = self.connections().find_request(&tuple, now) else {
            return self.begin_connection(p, now);
        };
        let opens = p.packet.tcp_flags().contains(Flags::SYN);
        match self.ipvs.reuse(handle, opens) {
            Reuse::Keep => Continue(Taker::Connection(handle)),
            Reuse::Unavailable => Break(Stop::Drop(DropReason::DestinationGone)),
            // The old connection would take the flow of conntrack with it that the packet is part
            // of: the packet is dropped, and its sender may send it again (spec IPVS-19).
            Reuse::Anew if self.is_known_flow(p) => {
                self.end_connection(handle, now);
                Break(Stop::Drop(DropReason::ConnectionReused))
            }
            // Schedulers still count the old one.
            Reuse::Anew => {
                let taker = self.begin_connection(p, now);
                self.ipvs.disconnect(handle);
                taker
            }
        }
    }

    /// Whether the packet belongs to a flow that conntrack has confirmed.
    fn is_known_flow(&self, p: &Passage<B>) -> bool {
        self.config.switches.vs_conntrack && matches!(p.tracked, Tracked::Known(..))
    }

    /// Ends a connection and its flow.
    fn end_connection(&mut self, handle: Handle, now: Time) {
        if let Some(connection) = self.ipvs.disconnect(handle) {
            self.end_flow(&connection, now);
        }
    }

    /// Conntrack forgets the flow of a connection that has ended (ip_vs_conn_drop_conntrack; spec
    /// IPVS-36).
    pub(super) fn end_flow(&mut self, connection: &Connection, now: Time) {
        if self.config.switches.vs_conntrack
            && !connection.is_template()
            && let Some((flow, _)) = self.conntrack.find(&connection.request, now)
        {
            self.conntrack.remove(flow);
        }
    }

    /// Ends connections past their deadline, and their flows.
    pub(super) fn expire_connections(&mut self, now: Time) {
        let mut budget = EXPIRY_BUDGET;
        while let Some(connection) = self.ipvs.next_ended(now, &mut budget) {
            self.end_flow(&connection, now);
        }
        let mut budget = EXPIRY_BUDGET;
        while let Some(connection) = self.ipvs.next_dropped(now, &mut budget) {
            self.end_flow(&connection, now);
        }
    }

    /// kube-proxy's round: terminating destinations whose connections have ended go.
    pub(super) fn terminate_gracefully(&mut self, now: Time) {
        let ipvs = &self.ipvs;
        let changes = self.graceful.on_time(now, |key, address| ipvs.in_use(key, address));
        if !changes.is_empty() {
            self.change_services(changes, now);
        }
    }

    /// Changes ipvs. Paths learned before hold no more, and connections may end (spec IPVS-20).
    pub(super) fn change_services(&mut self, changes: Vec<Change>, now: Time) {
        let flushes = changes.iter().any(Change::is_removal);
        self.ipvs.apply(changes);
        if flushes {
            for connection in self.ipvs.flush() {
                self.end_flow(&connection, now);
            }
        }
        self.neighbours.begin_epoch();
    }

    /// Begins a connection where the packet may and a service wants it.
    fn begin_connection(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop, Taker> {
        let request = p.packet.tuple;
        let key = (request.proto, request.dst, request.dst_port);
        let flags = p.packet.tcp_flags();
        let opens = flags.contains(Flags::SYN) || self.config.switches.ipvs.sloppy_tcp;
        if request.proto == Protocol::TCP && (!opens || flags.contains(Flags::RST)) {
            return Continue(Taker::Nobody);
        }
        let Some(service) = self.ipvs.service(key).map(|service| &service.setup) else {
            return Continue(Taker::Nobody);
        };
        if request.src_port == FTP_DATA {
            return Continue(Taker::Nobody);
        }
        // Without a connection nothing would hold a local port (spec FNAT-5).
        let one_packet =
            service.one_packet && request.proto == Protocol::UDP && service.fnat.is_none();
        let in_mode_nat = service.fnat.is_none() && service.persistence.is_none();
        let picked = p.picked.take().unwrap_or_else(|| self.ipvs.pick(key, &request, now));
        let (server, template) = match picked {
            Ok(picked) => picked,
            Err(NotScheduled::NoDestination) => {
                return Break(Stop::Refuse(DropReason::NoDestination, Refusal::PortUnreachable));
            }
            Err(NotScheduled::Full) => return Break(Stop::Drop(DropReason::ConnectionTableFull)),
        };
        if let Some(lesson) = &mut p.lesson
            && in_mode_nat
            && !one_packet
        {
            lesson.scheduled(server);
        }
        let Some(destination) = self.ipvs.server(server).map(|s| s.destination.address()) else {
            return Continue(Taker::Nobody);
        };
        p.step_with(|| {
            let service = self.service_number(key);
            Step::Scheduled { service, vip: (request.dst, request.dst_port), destination }
        });
        if one_packet {
            return Continue(Taker::Destination(destination));
        }
        match self.ipvs.connect(request, flags, server, template, now) {
            Ok(handle) => Continue(Taker::Connection(handle)),
            Err(reason) => Break(Stop::Drop(reason)),
        }
    }

    /// A packet of a destination that answers no request is refused where the switch
    /// nat_icmp_send is on (ip_vs_out_hook; spec IPVS-43).
    fn answers_nobody(&self, p: &Passage<B>) -> ControlFlow<Stop> {
        if self.config.switches.ipvs.nat_icmp_send
            && !p.packet.tcp_flags().contains(Flags::RST)
            && matches!(p.packet.tuple.proto, Protocol::TCP | Protocol::UDP)
            && self.ipvs.is_from_server(&p.packet.tuple)
        {
            return Break(Stop::Refuse(DropReason::NoConnection, Refusal::PortUnreachable));
        }
        Continue(())
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
        to: Tuple<Ipv4Addr>,
        by: Rewriter,
    ) -> ControlFlow<Stop> {
        self.route_to_destination(p, to.dst)?;
        p.rewrite(to, by, ZeroChecksum::Compute);
        self.leave_conntrack(p);
        Continue(())
    }

    /// The way to a destination, looked up without a source (spec ROUTE-10).
    pub(super) fn route_to_destination(
        &mut self,
        p: &mut Passage<B>,
        ip: Ipv4Addr,
    ) -> ControlFlow<Stop> {
        let query = super::route::Query {
            dst: ip,
            src: Address::UNSPECIFIED,
            iif: super::route::Iif::Lo,
            oif: None,
            mark: p.mark,
        };
        let Some(found) = self.decisions.route(&self.config, query) else {
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
        let Some(connection) = self.connections().get(handle) else { return };
        p.step_with(|| self.connection_step(&connection));
        self.note_answer(p, handle, &connection);
        // An answer that begins a flow, conntrack having forgotten the request's, is itself
        // answered at the virtual address (spec CT-31).
        if let Tracked::New(flow) = &mut p.tracked {
            flow.reply = connection.request;
        }
        p.rewrite(connection.answer(), connection.restorer(), ZeroChecksum::Compute);
        let (flags, bytes) = (p.packet.tcp_flags(), p.packet.total_len);
        self.ipvs.pass(handle, flags, Direction::Reply, bytes, now);
        self.leave_conntrack(p);
    }

    /// The way of a packet that has its virtual address back, looked up with that (spec ROUTE-13).
    pub(super) fn reroute_restored(&mut self, p: &mut Passage<B>) -> ControlFlow<Stop> {
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
