//! Mode fnat at the hooks: answers come to a local address of the node and go on to the client,
//! and requests tell the destination who that is (DPVS: src/ipvs/ip_vs_xmit.c,
//! ip_vs_proto_tcp.c; spec FNAT).

use std::ops::ControlFlow::{self, Continue};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Node;
use super::ipvs::{Connection, Toa};
use super::passage::{Passage, Stop};
use super::pipeline::Local;
use crate::journey::Step;
use crate::port::Buffer;
use crate::table::Handle;
use crate::wire::Transport;
use crate::wire::tcp::Flags;
use crate::wire::toa::{self, NoToa};

/// Segments that were to tell who their client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToaCounters {
    /// Segments that do.
    pub inserted: u64,
    /// Left out: the segment would be larger than the MTU, or came in fragments.
    pub too_large: u64,
    /// Left out: the segment's other options, or the buffer, have no room.
    pub no_room: u64,
}

impl<B: Buffer> Node<B> {
    /// An answer, or an error about a request, has what it came with back. Where that was for a
    /// local address it goes on to the client, as ipvs sends it; else, or where the client is the
    /// node, it has arrived.
    pub(super) fn go_on_to_client(
        &mut self,
        p: &mut Passage<B>,
        handle: Handle,
    ) -> ControlFlow<Stop, Local> {
        let connection = self.connections().get(handle);
        if connection.is_none_or(|connection| connection.local().is_none()) {
            return Continue(Local::Deliver);
        }
        self.route_output(p)?;
        if p.exit.is_none() {
            return Continue(Local::Deliver);
        }
        // What the node itself has made has not travelled yet.
        if p.iif.is_some() {
            Self::outlives_hop(p)?;
            p.decrement_ttl();
        }
        self.fits_exit(p, p.packet.total_len)?;
        Continue(Local::SentByIpvs)
    }

    /// Learns from a destination's SYN which requests are to tell it of the client, and makes room
    /// for that in what the client will send (spec FNAT-21, FNAT-24).
    pub(super) fn note_answer(
        &mut self,
        p: &mut Passage<B>,
        handle: Handle,
        connection: &Connection,
    ) {
        let opens = p.packet.tcp_flags().contains(Flags::SYN | Flags::ACK);
        if connection.toa == Toa::Never || !opens {
            return;
        }
        if let Transport::Tcp { seq, .. } = p.packet.transport {
            self.ipvs.answered(handle, seq);
        }
        let packet = p.packet;
        toa::lower_mss(p.ip_mut(), &packet);
    }

    /// Lets a request that is about to be sent tell the destination of its client, where the
    /// service wants that and the segment is one of those that do (spec FNAT-21 to FNAT-23).
    pub(super) fn tell_client(&mut self, p: &mut Passage<B>, connection: &Connection) {
        let flags = p.packet.tcp_flags();
        let opens = flags & (Flags::SYN | Flags::ACK) == Flags::SYN;
        if connection.local().is_some() && opens {
            let packet = p.packet;
            toa::blank_timestamps(p.ip_mut(), &packet);
        }
        let tells = match (connection.toa, p.packet.transport) {
            (Toa::Never, _) => return,
            (Toa::Acknowledging(first), Transport::Tcp { ack, .. }) if !opens => {
                ack == first && !flags.intersects(Flags::SYN | Flags::FIN | Flags::RST)
            }
            _ => opens,
        };
        // Which segments do is a matter of the walk.
        p.lesson = None;
        if !tells {
            return;
        }
        let client = (connection.request.src, connection.request.src_port);
        let mtu = p.exit.map_or(u16::MAX, |exit| self.mtu(exit.port));
        let inserted = match p.whole {
            Some(_) => Err(NoToa::TooLarge),
            None => toa::insert(&mut p.framed.frame, &mut p.packet, client, mtu),
        };
        let (counter, step) = match inserted {
            Ok(()) => (&mut self.toa.inserted, Step::ToaInserted(client.0, client.1)),
            Err(why @ NoToa::TooLarge) => (&mut self.toa.too_large, Step::ToaLeftOut(why)),
            Err(why) => (&mut self.toa.no_room, Step::ToaLeftOut(why)),
        };
        *counter += 1;
        p.step(step);
    }
}
