//! A hit: a packet goes the way that its flow has learned.

use super::super::Node;
use super::super::ingress::trim;
use super::LearnedPath;
use crate::element::Place;
use crate::port::Buffer;
use crate::time::Time;
use crate::wire::Plain;
use crate::wire::ethernet::HEADER_LEN;
use crate::wire::tcp::Flags;

impl<B: Buffer> Node<B> {
    /// Does to the packet of a frame what its flow's learned path says, where that holds for this
    /// packet at this moment, and says where it leaves. Otherwise nothing is changed, but that what
    /// lies behind the packet may be cut off. `hash` is that of the packet's tuple, `likely` the slot
    /// where its flow most likely is.
    #[inline(always)]
    pub(in crate::node) fn hit(
        &mut self,
        frame: &mut B,
        packet: &Plain,
        hash: u64,
        likely: Option<u32>,
        came: Place,
        now: Time,
    ) -> Option<Place> {
        if packet.ttl <= 1 || packet.flags.contains(Flags::SYN) {
            return None;
        }
        let (LearnedPath { path, connection }, mut flow) =
            self.conntrack.learned(hash, likely, &packet.tuple, now)?;
        let way = self.ways.get(path.way, self.neighbours.epoch())?;
        let connections = self.ipvs.connections();
        let holds = way.came == came
            && packet.total_len <= way.mtu
            && connections.is_unchanged(path.watch)
            && (way.within.is_none() || connections.lives(connection, now));
        trim(frame, packet.total_len);
        // Without room for a tag it is the walk's to drop.
        let room = way.link.room();
        if !holds || (room > 0 && !frame.grow_front(room)) {
            return None;
        }
        let bytes = frame.bytes_mut();
        let (link, ip) = bytes.split_at_mut_checked(HEADER_LEN + room)?;
        if !flow.renew(packet, ip, &self.config.switches.conntrack, now) {
            frame.shrink_front(room);
            return None;
        }
        let to = flow.destined();
        if let Some(direction) = way.within {
            self.ipvs.pass(connection, packet.flags, direction, packet.total_len, now);
        }
        way.link.put(link);
        // One for the node, however the packet goes (spec EGR-1).
        packet.forward(ip, &to, path.deltas);
        Some(way.exit)
    }
}
