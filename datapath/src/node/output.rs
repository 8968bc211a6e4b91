//! Where a packet leaves the hooks: what is too large for its way is cut or refused, what came in
//! fragments leaves in fragments (kernel: net/ipv4/ip_output.c; spec FRAG-8 to FRAG-10).

use super::Node;
use super::config::HOST0;
use super::passage::{Assembled, Framed, Passage, Refusal};
use crate::element::Output;
use crate::fragment::Whole;
use crate::journey::{PortId, Step};
use crate::port::Buffer;
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Packet, ethernet};

impl<B: Buffer> Node<B> {
    /// Sends a packet that has passed its hooks: to the node's own stack where it has no exit.
    pub(super) fn output(&mut self, mut p: Passage<B>, now: Time, out: &mut Output<B>) {
        let mtu = self.mtu(p.exit.map_or(HOST0, |exit| exit.port));
        let assembled = match p.whole.take() {
            Some(assembled) => *assembled,
            None if p.packet.total_len <= mtu => return self.hand_on(p, now, out),
            None => Assembled { whole: Whole::new(p.ip().to_vec()), spare: Vec::new() },
        };
        // What is for the node itself has arrived: no device of a real node is left to refuse it.
        let largest = assembled.whole.largest();
        let uncut = p.packet.dont_fragment && largest.is_none_or(|largest| largest > mtu);
        if uncut && p.exit.is_some() {
            p.whole = Some(Box::new(assembled));
            // An answer of the node itself that cannot go is not answered in turn.
            if p.iif.is_some() {
                self.refuse(&p, Refusal::FragmentationNeeded(mtu), now, out);
            }
            return self.lose(p.framed, DropReason::MtuExceeded, out);
        }
        self.cut(p, assembled, mtu, now, out);
    }

    /// The MTU of a port.
    pub(super) fn mtu(&self, port: PortId) -> u16 {
        self.config.interface(port).map_or(u16::MAX, |interface| interface.mtu)
    }

    /// Sends a packet in pieces. The first takes the packet's own frame, the others the frames
    /// that its fragments came in, or blank ones; these count as made.
    fn cut(
        &mut self,
        mut p: Passage<B>,
        assembled: Assembled<B>,
        mtu: u16,
        now: Time,
        out: &mut Output<B>,
    ) {
        let Assembled { whole, mut spare } = assembled;
        let pieces = whole.pieces(mtu);
        p.step(Step::Cut(u16::try_from(pieces.len()).unwrap_or(u16::MAX)));
        let mut link = [0; ethernet::HEADER_LEN];
        for (to, from) in link.iter_mut().zip(p.framed.frame.bytes()) {
            *to = *from;
        }
        let recorded = out.journal.is_open();
        let (framed, common) = p.split();
        let mut own = Some(framed);
        for piece in pieces {
            let framed = own.take().or_else(|| {
                self.ledger.made += 1;
                let frame = spare.pop().or_else(|| out.blanks.pop())?;
                Some(Framed::made(frame, now, recorded))
            });
            let Some(mut framed) = framed else {
                self.ledger.dropped.add(DropReason::NoBuffer);
                continue;
            };
            if !piece.emit(&whole, &link, &mut framed.frame) {
                self.lose(framed, DropReason::NoBuffer, out);
                continue;
            }
            let len = framed.frame.bytes().len() - link.len();
            let total_len = u16::try_from(len).unwrap_or(u16::MAX);
            let packet = Packet { total_len, ..common.packet };
            self.hand_on(common.joined(framed, packet), now, out);
        }
    }

    /// Sends a packet that fits: to its neighbour, or by host0 to the node's own stack.
    fn hand_on(&mut self, p: Passage<B>, now: Time, out: &mut Output<B>) {
        if p.exit.is_some() {
            return self.leave(p, now, out);
        }
        let tuple = Some(p.packet.tuple);
        self.depart(p.framed, Self::host_place(), tuple, out);
    }
}
