//! Defragmentation, before conntrack sees a packet: at PREROUTING for what arrives, at LOCAL_OUT
//! for what comes from host0 (kernel: net/ipv4/netfilter/nf_defrag_ipv4.c, net/ipv4/ip_fragment.c;
//! spec FRAG-1 to FRAG-7).

use std::ops::ControlFlow::Continue;

use super::config::HOST0;
use super::ingress::drop_of;
use super::passage::{Assembled, Framed, Passage, Refusal};
use super::{Decision, Node};
use crate::element::{Output, Place};
use crate::fragment::{Gathering, Taken};
use crate::journey::{Fate, PortId, Step};
use crate::port::Buffer;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::ipv4::{Fragment, Header};
use crate::wire::{Packet, ethernet};

/// A fragment that waits for the others.
#[derive(Debug)]
pub(super) struct Waiting<B> {
    framed: Framed<B>,
    port: PortId,
}

impl<B: Buffer> Waiting<B> {
    fn ip(&self) -> &[u8] {
        self.framed.frame.bytes().get(ethernet::HEADER_LEN..).unwrap_or_default()
    }
}

impl<B: Buffer> Node<B> {
    /// Takes a fragment, padding cut off. With the last one the packet goes on, whole.
    pub(super) fn gather(
        &mut self,
        framed: Framed<B>,
        header: &Header,
        place: Place,
        now: Time,
        out: &mut Output<B>,
    ) {
        let waiting = Waiting { framed, port: place.port };
        let fragment = Fragment::of(waiting.ip());
        // What the node sends never meets what arrives (IP_DEFRAG_CONNTRACK_OUT and _IN).
        let user = u32::from(place.port == HOST0);
        match self.fragments.take(user, header, fragment, waiting, now) {
            Taken::Held => {}
            Taken::Lost(lost, reason) => {
                for waiting in lost {
                    self.lose(waiting.framed, reason, out);
                }
            }
            Taken::Complete(gathering) => self.go_on(gathering, place, now, out),
        }
    }

    /// The way of a packet that has become whole: that of its last fragment's port.
    fn go_on(
        &mut self,
        gathering: Gathering<Waiting<B>>,
        place: Place,
        now: Time,
        out: &mut Output<B>,
    ) {
        let count = u16::try_from(gathering.len()).unwrap_or(u16::MAX);
        let whole = gathering.whole(Waiting::ip);
        let parsed = whole.and_then(|whole| {
            let packet = Packet::parse(whole.bytes()).map_err(drop_of)?;
            Ok((whole, packet))
        });
        let (whole, packet) = match parsed {
            Ok(parsed) => parsed,
            Err(reason) => {
                return gathering.into_items().for_each(|w| self.lose(w.framed, reason, out));
            }
        };
        let (Some(first), others) = gathering.into_first() else { return };
        let spare = others.into_iter().map(|w| self.absorb(w.framed, out)).collect();
        let mut framed = first.framed;
        framed.step(Step::Gathered(count));
        let mut passage = Passage::new(framed, packet, Some(place));
        passage.whole = Some(Box::new(Assembled { whole, spare }));
        self.admit(passage, now, out);
    }

    /// Ends a fragment that has become part of another; its buffer is free.
    fn absorb(&mut self, framed: Framed<B>, out: &mut Output<B>) -> B {
        self.ledger.absorbed += 1;
        if let Some(mut hop) = framed.hop {
            hop.fate = Fate::Absorbed;
            out.journal.write(*hop);
        }
        framed.frame
    }

    /// Gives up on packets whose time is up. The sender is told by the node the packet was for,
    /// if the first fragment has come (ip_expire, spec FRAG-7).
    pub(super) fn expire_fragments(&mut self, now: Time, out: &mut Output<B>) {
        while let Some(gathering) = self.fragments.pop_due(now) {
            let (first, others) = gathering.into_first();
            for waiting in others {
                self.lose(waiting.framed, DropReason::FragmentTimeout, out);
            }
            if let Some(Waiting { framed, port }) = first {
                self.expire_first(framed, port, now, out);
            }
        }
    }

    fn expire_first(&mut self, framed: Framed<B>, port: PortId, now: Time, out: &mut Output<B>) {
        let ip = framed.frame.bytes().get(ethernet::HEADER_LEN..);
        let Some(packet) = ip.and_then(Packet::of_fragment) else {
            return self.lose(framed, DropReason::FragmentTimeout, out);
        };
        let mut p = Passage::new(framed, packet, Some(Place { port, queue: 0 }));
        // What the node sends came in by no device, so the kernel tells nobody.
        if port != HOST0 && self.route_input(&mut p) == Continue(Decision::Local) {
            self.refuse(&p, Refusal::ReassemblyTimeExceeded, now, out);
        }
        self.lose(p.framed, DropReason::FragmentTimeout, out);
    }
}
