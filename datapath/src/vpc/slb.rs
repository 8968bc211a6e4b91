//! Load balancers: a listener's address for a backend's, and back.

use std::net::Ipv4Addr;

use super::network::Network;
use super::session::{Backing, Key, NotOpened, Sessions};
use super::trace::Trace;
use crate::journey::{Rewriter, Step};
use crate::lab::model::Slb;
use crate::table::Direction;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Packet, Protocol, Tuple, ZeroChecksum, tcp};

/// Whose turn it is: for each load balancer and listener the place of its next backend.
#[derive(Debug)]
pub(super) struct Turns(Vec<Vec<usize>>);

impl Turns {
    /// The first backends' (spec SLB-7).
    pub(super) fn new(slbs: &[Slb]) -> Self {
        Self(slbs.iter().map(|slb| vec![0; slb.listeners.len()]).collect())
    }

    /// The backend whose turn it is, and on to the next one.
    fn take(&mut self, slb: usize, listener: usize, backends: &[usize]) -> Option<usize> {
        let turn = self.0.get_mut(slb)?.get_mut(listener)?;
        let backend = backends.get(*turn).or(backends.first()).copied()?;
        *turn = (*turn + 1) % backends.len();
        Some(backend)
    }
}

/// What load balancing works with.
#[derive(Debug)]
pub(super) struct Balancing<'a> {
    pub(super) network: &'a Network,
    pub(super) sessions: &'a mut Sessions,
    pub(super) turns: &'a mut Turns,
    pub(super) now: Time,
}

impl Balancing<'_> {
    /// Translates a packet for load balancer `slb` and says to which backend (spec SLB-1 to
    /// SLB-3).
    pub(super) fn balance(
        &mut self,
        ip: &mut [u8],
        packet: &mut Packet<Ipv4Addr>,
        slb: usize,
        trace: &mut Trace,
    ) -> Result<usize, DropReason> {
        let known = self.sessions.renew(&Key::balancers(packet.tuple), self.now);
        let known = known.filter(|(_, direction)| *direction == Direction::Original);
        let known = known.and_then(|(handle, _)| self.sessions.backing(handle));
        let (backend, to) = match known {
            Some((Backing { slb, listener, backend }, _, reply)) => {
                trace.step(Step::SlbSession { slb, listener });
                (backend, toward(packet.tuple, (reply.src, reply.src_port)))
            }
            None => self.begin(packet, slb, trace)?,
        };
        rewrite(ip, packet, to, Rewriter::Slb, trace);
        Ok(backend)
    }

    /// Chooses a backend for the first packet of a flow: the backend and the packet's tuple toward
    /// it (spec SLB-7 to SLB-10).
    fn begin(
        &mut self,
        packet: &Packet<Ipv4Addr>,
        slb: usize,
        trace: &mut Trace,
    ) -> Result<(usize, Tuple<Ipv4Addr>), DropReason> {
        let (network, tuple) = (self.network, packet.tuple);
        let (listener, entry) = network.listener(slb, &tuple).ok_or(DropReason::NoListener)?;
        trace.step(Step::SlbListener { slb, listener });
        if !begins_flow(packet) {
            return Err(DropReason::NoConnection);
        }
        // A backend that asks its own listener is not served (spec SLB-10).
        let client = network.owner_eni(tuple.src);
        if client.is_some_and(|eni| entry.backends.contains(&eni)) {
            return Err(DropReason::NoBackend);
        }
        let backend =
            self.turns.take(slb, listener, &entry.backends).ok_or(DropReason::NoBackend)?;
        let address = network.eni(backend).ok_or(DropReason::NoBackend)?.ip;
        let to = toward(tuple, (address, entry.backend_port));
        let reply = to.inverse().ok_or(DropReason::NoListener)?;
        let keys = (Key::balancers(tuple), Key::balancers(reply));
        let backing = Backing { slb, listener, backend };
        match self.sessions.open(keys.0, keys.1, Some(backing), self.now) {
            Ok(()) => Ok((backend, to)),
            Err(NotOpened::Full) => Err(DropReason::SessionTableFull),
            Err(NotOpened::Clash) => Err(DropReason::FlowClash),
        }
    }

    /// Gives a backend's answer the load balancer's address as its source (spec SLB-3). Whether
    /// the packet was one.
    pub(super) fn restore(
        &mut self,
        ip: &mut [u8],
        packet: &mut Packet<Ipv4Addr>,
        trace: &mut Trace,
    ) -> bool {
        let source = self.network.owner_eni(packet.tuple.src);
        if !source.and_then(|eni| self.network.eni(eni)).is_some_and(|eni| eni.backend) {
            return false;
        }
        let known = self.sessions.renew(&Key::balancers(packet.tuple), self.now);
        let Some((handle, Direction::Reply)) = known else { return false };
        let Some((Backing { slb, listener, .. }, original, _)) = self.sessions.backing(handle)
        else {
            return false;
        };
        let Some(to) = original.inverse() else { return false };
        trace.step(Step::SlbSession { slb, listener });
        rewrite(ip, packet, to, Rewriter::UnSlb, trace);
        true
    }
}

/// Whether a packet can be the first of a flow (spec SLB-9).
fn begins_flow(packet: &Packet<Ipv4Addr>) -> bool {
    let control = tcp::Flags::SYN | tcp::Flags::ACK | tcp::Flags::RST | tcp::Flags::FIN;
    packet.tuple.proto != Protocol::TCP || packet.tcp_flags() & control == tcp::Flags::SYN
}

/// A tuple with another destination.
fn toward(tuple: Tuple<Ipv4Addr>, (dst, dst_port): (Ipv4Addr, u16)) -> Tuple<Ipv4Addr> {
    Tuple { dst, dst_port, ..tuple }
}

/// Changes the packet's addresses and ports.
fn rewrite(
    ip: &mut [u8],
    packet: &mut Packet<Ipv4Addr>,
    to: Tuple<Ipv4Addr>,
    by: Rewriter,
    trace: &mut Trace,
) {
    let from = packet.tuple;
    packet.rewrite(ip, to, ZeroChecksum::Keep);
    trace.rewritten(by, from, to);
}
