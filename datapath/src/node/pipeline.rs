//! The journey of a packet through a node, on one screen.
//!
//! ```text
//!                 ┌ LOCAL_IN: ipvs schedules ─ LOCAL_OUT: looks up again ┐
//! PREROUTING ─ route ─ FORWARD: ipvs restores the VIP ───────────────────┴─ POSTROUTING ─ egress
//!                                            host0 ─ LOCAL_OUT ──────────┘
//! ```

use std::ops::ControlFlow::{self, Break, Continue};

use super::config::HOST0;
use super::conntrack::Tracked;
use super::kube_proxy::Chain;
use super::passage::{Passage, Stop};
use super::{Decision, Node};
use crate::journey::Hook;
use crate::port::Buffer;
use crate::time::Time;

/// The order of a node's hooks, as `explain` prints it and a test asserts it.
pub const HOOKS: [Hook; 7] = [
    Hook::Ingress,
    Hook::Prerouting,
    Hook::LocalIn,
    Hook::Forward,
    Hook::LocalOut,
    Hook::Postrouting,
    Hook::Egress,
];

impl<B: Buffer> Node<B> {
    /// Takes a parsed packet from ingress to the point where it leaves, or to where it stops.
    /// What comes from host0 was sent by the node itself: it enters at LOCAL_OUT (spec ING-10).
    pub(super) fn walk(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop> {
        if p.iif == Some(HOST0) {
            self.send_own(p, now)?;
        } else {
            self.prerouting(p, now)?;
            match self.route_input(p)? {
                Decision::Local => match self.local_in(p, now)? {
                    Local::Deliver => return self.deliver(p, now),
                    Local::SentByIpvs => self.local_out(p, now)?,
                },
                Decision::Forward => self.forward(p, now)?,
            }
        }
        self.postrouting(p, now)
    }

    /// What the node itself sends: LOCAL_OUT, and once more where ipvs takes it.
    fn send_own(&mut self, p: &mut Passage<B>, now: Time) -> ControlFlow<Stop> {
        self.route_output(p)?;
        self.local_out(p, now)?;
        let taken = self.ipvs_local_out(p, now)?;
        if taken == Local::SentByIpvs {
            self.local_out(p, now)?;
        }
        self.filter(p, Chain::Output)?;
        if taken == Local::Deliver && p.exit.is_none() {
            // It passes POSTROUTING and lo before INPUT, as the first packet of its flow still.
            let input = self.filter(p, Chain::Input);
            if let Tracked::New(flow) = p.tracked {
                self.confirm(p, &flow, now)?;
            }
            input?;
            return Break(self.answer_for_vip(p, now));
        }
        Continue(())
    }
}

/// Who has a packet for a local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// The node's own stack.
    Deliver,
    /// ipvs, which has translated it and sends it on.
    SentByIpvs,
}
