//! ICMP errors about the packets of a flow or of a connection: what nat and ipvs translate in the
//! error itself and in the packet it quotes (kernel: net/netfilter/nf_conntrack_proto_icmp.c,
//! nf_nat_proto.c, ipvs/ip_vs_core.c, ipvs/ip_vs_xmit.c; spec CT-18, IPVS-32).

use std::net::Ipv4Addr;
use std::ops::ControlFlow::{self, Break, Continue};

use super::Node;
use super::conntrack::{Status, Tracked};
use super::ipvs::Connection;
use super::passage::{Passage, Stop};
use super::pipeline::Local;
use super::postrouting::{answer_port, with_source};
use super::prerouting::with_destination;
use crate::journey::Rewriter;
use crate::port::Buffer;
use crate::table::{Direction, Handle};
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Protocol, Quoted, QuotedSums, Tuple, ZeroChecksum, icmpv4};

/// Which half of an error's own addresses a hook of nat translates; of the quoted packet, which
/// went the other way, it is the other half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manip {
    /// In PREROUTING and LOCAL_OUT.
    Destination,
    /// In POSTROUTING.
    Source,
}

impl<B: Buffer> Node<B> {
    /// nf_nat_icmp_reply_translation: the source is the only half that nat translates here, so it
    /// has something to undo in errors about what the flow sent, and something to do in errors
    /// about what answered it.
    pub(super) fn nat_error(&self, p: &mut Passage<B>, manip: Manip) -> ControlFlow<Stop> {
        let Tracked::Related(handle, direction) = p.tracked else { return Continue(()) };
        let status = self.conntrack.get(handle).map(|entry| entry.status);
        if !status.is_some_and(|s| s.contains(Status::SRC_NAT)) {
            return Continue(());
        }
        let (Some((original, reply)), Some(mut quoted)) =
            (self.conntrack.tuples(handle), p.packet.quoted(p.ip()))
        else {
            return Continue(());
        };
        if quoted.kind == icmpv4::REDIRECT || !p.packet.checksum_holds(p.ip()) {
            return Break(Stop::Drop(DropReason::UntranslatableError));
        }
        match (manip, direction) {
            (Manip::Destination, Direction::Reply) => {
                let to = with_source(quoted.tuple, original.src, original.src_port);
                quoted.rewrite(p.ip_mut(), to, QuotedSums::Update);
                let to = Tuple { dst: original.src, ..p.packet.tuple };
                p.rewrite(to, Rewriter::UnMasquerade, ZeroChecksum::Keep);
            }
            (Manip::Source, Direction::Original) => {
                let to = with_destination(quoted.tuple, reply.dst, answer_port(&reply));
                quoted.rewrite(p.ip_mut(), to, QuotedSums::Update);
                let to = Tuple { src: reply.dst, ..p.packet.tuple };
                p.rewrite(to, Rewriter::Masquerade, ZeroChecksum::Keep);
            }
            (Manip::Destination, Direction::Original) | (Manip::Source, Direction::Reply) => {}
        }
        Continue(())
    }

    /// LOCAL_IN and LOCAL_OUT: an error about a connection's request, for the node itself or by
    /// it, gets the virtual address back; one about an answer goes to the destination.
    pub(super) fn ipvs_local_error(
        &mut self,
        p: &mut Passage<B>,
        now: Time,
    ) -> ControlFlow<Stop, Local> {
        let Some((quoted, answers)) = about_connection(p) else { return Continue(Local::Deliver) };
        if let Some(handle) = self.connections().find_reply(&answers, now) {
            self.restore_error(p, quoted, handle)?;
            return self.go_on_to_client(p, handle);
        }
        if let Some(handle) = self.connections().find_request(&answers, now) {
            self.send_error(p, quoted, handle)?;
            return Continue(Local::SentByIpvs);
        }
        Continue(Local::Deliver)
    }

    /// LOCAL_OUT: an error of the node itself. One with its virtual address back is routed again.
    pub(super) fn ipvs_own_error(
        &mut self,
        p: &mut Passage<B>,
        now: Time,
    ) -> ControlFlow<Stop, Local> {
        let made_by = p.packet.tuple.src;
        let taken = self.ipvs_local_error(p, now)?;
        let restored = taken == Local::Deliver && p.packet.tuple.src != made_by;
        if restored {
            self.reroute_restored(p)?;
        }
        Continue(taken)
    }

    /// FORWARD, where ipvs looks the other way round first.
    pub(super) fn ipvs_forward_error(
        &mut self,
        p: &mut Passage<B>,
        now: Time,
    ) -> ControlFlow<Stop> {
        let Some((quoted, answers)) = about_connection(p) else { return Continue(()) };
        if let Some(handle) = self.connections().find_request(&answers, now) {
            self.send_error(p, quoted, handle)?;
            return self.local_out(p, now);
        }
        let Some(handle) = self.connections().find_reply(&answers, now) else {
            return Continue(());
        };
        self.restore_error(p, quoted, handle)?;
        self.reroute_restored(p)
    }

    /// ip_vs_out_icmp: whoever made the error, it comes from the virtual address, about a packet
    /// sent to it. The connection is not renewed.
    fn restore_error(
        &mut self,
        p: &mut Passage<B>,
        mut quoted: Quoted<Ipv4Addr>,
        handle: Handle,
    ) -> ControlFlow<Stop> {
        let Some(connection) = self.connections().get(handle) else { return Continue(()) };
        self.recognise(p, &connection)?;
        self.ipvs.count(handle, Direction::Reply, p.packet.total_len);
        quoted.rewrite(p.ip_mut(), connection.request, QuotedSums::HeaderOnly);
        let mut to = Tuple { src: connection.vip().0, ..p.packet.tuple };
        if connection.local().is_some() {
            to.dst = connection.request.src;
        }
        p.rewrite(to, connection.restorer(), ZeroChecksum::Keep);
        self.leave_conntrack(p);
        Continue(())
    }

    /// ip_vs_in_icmp and ip_vs_icmp_xmit: the error goes to the destination as a request does,
    /// about a packet which that has sent. The connection is not renewed.
    fn send_error(
        &mut self,
        p: &mut Passage<B>,
        mut quoted: Quoted<Ipv4Addr>,
        handle: Handle,
    ) -> ControlFlow<Stop> {
        let Some(connection) = self.connections().get(handle) else { return Continue(()) };
        self.recognise(p, &connection)?;
        self.ipvs.count(handle, Direction::Original, p.packet.total_len);
        let (ip, _) = connection.destination();
        self.route_to_destination(p, ip)?;
        quoted.rewrite(p.ip_mut(), connection.reply(), QuotedSums::HeaderOnly);
        let mut to = Tuple { dst: ip, ..p.packet.tuple };
        if let Some((local, _)) = connection.local() {
            to.src = local;
        }
        p.rewrite(to, connection.sender(), ZeroChecksum::Keep);
        self.leave_conntrack(p);
        Continue(())
    }

    /// Records the connection that an error is about. ipvs drops an error whose checksum is wrong.
    fn recognise(&self, p: &mut Passage<B>, connection: &Connection) -> ControlFlow<Stop> {
        p.step_with(|| self.connection_step(connection));
        if p.packet.checksum_holds(p.ip()) {
            return Continue(());
        }
        Break(Stop::Drop(DropReason::UntranslatableError))
    }
}

/// The packet that an error quotes and the tuple of what answers it, where the error is of those
/// that ipvs looks at.
fn about_connection<B: Buffer>(p: &Passage<B>) -> Option<(Quoted<Ipv4Addr>, Tuple<Ipv4Addr>)> {
    let quoted = p.packet.quoted(p.ip())?;
    let looked_at =
        matches!(quoted.kind, icmpv4::UNREACHABLE | icmpv4::SOURCE_QUENCH | icmpv4::TIME_EXCEEDED)
            && matches!(quoted.tuple.proto, Protocol::TCP | Protocol::UDP);
    let answers = quoted.tuple.inverse().filter(|_| looked_at)?;
    Some((quoted, answers))
}
