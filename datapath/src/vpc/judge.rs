//! Security groups at work: sessions first, then what the groups say.

use std::net::Ipv4Addr;

use super::Vpc;
use super::network::End;
use super::security_group::Verdict;
use super::session::{Key, NotOpened, opposite};
use super::trace::Trace;
use crate::journey::{SgDecision, SgDirection, Step};
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::Packet;

impl<B> Vpc<B> {
    /// Lets the security groups of `end` judge, if it is an ENI (spec SG-2, SG-7).
    pub(super) fn judge(
        &mut self,
        end: End,
        direction: SgDirection,
        packet: &Packet<Ipv4Addr>,
        ip: &[u8],
        now: Time,
        trace: &mut Trace,
    ) -> Result<(), DropReason> {
        let End::Eni(eni) = end else { return Ok(()) };
        let Verdict { accept, decision } = self.decide(eni, direction, packet, ip, now);
        self.counters.judged(eni, direction, accept, decision);
        trace.step(Step::SecurityGroup { eni, direction, accept, decision });
        match (accept, direction) {
            (false, SgDirection::Out) => Err(DropReason::SecurityGroupOut),
            (false, SgDirection::In) => Err(DropReason::SecurityGroupIn),
            (true, _) if decision == SgDecision::Session => Ok(()),
            (true, _) => self.open(eni, direction, packet, now),
        }
    }

    /// What decides: a session, or else the groups (spec SG-3, SG-17).
    fn decide(
        &mut self,
        eni: usize,
        direction: SgDirection,
        packet: &Packet<Ipv4Addr>,
        ip: &[u8],
        now: Time,
    ) -> Verdict {
        let known = match packet.quoted(ip) {
            // The quoted packet went the other way.
            Some(quoted) => {
                self.sessions.knows(&Key::eni(eni, opposite(direction), quoted.tuple), now)
            }
            None => self.sessions.renew(&Key::eni(eni, direction, packet.tuple), now).is_some(),
        };
        if known {
            return Verdict { accept: true, decision: SgDecision::Session };
        }
        let peer = match direction {
            SgDirection::Out => packet.tuple.dst,
            SgDirection::In => packet.tuple.src,
        };
        let peer = self.network.owner_eni(peer);
        self.network.groups.judge(eni, direction, &packet.tuple, peer)
    }

    /// Opens the session of an accepted flow at one ENI (spec SG-5, SG-6). What nothing can answer,
    /// as an ICMP error, has none.
    fn open(
        &mut self,
        eni: usize,
        direction: SgDirection,
        packet: &Packet<Ipv4Addr>,
        now: Time,
    ) -> Result<(), DropReason> {
        let Some(answer) = packet.tuple.inverse() else { return Ok(()) };
        let original = Key::eni(eni, direction, packet.tuple);
        let reply = Key::eni(eni, opposite(direction), answer);
        match self.sessions.open(original, reply, None, now) {
            Ok(()) | Err(NotOpened::Clash) => Ok(()),
            Err(NotOpened::Full) => Err(DropReason::SessionTableFull),
        }
    }
}
