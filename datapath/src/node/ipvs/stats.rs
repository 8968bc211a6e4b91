//! What ipvs counts for `ipvsadm -Ln --stats` (kernel: net/netfilter/ipvs/ip_vs_core.c; spec
//! IPVS-81).

use std::ops::{AddAssign, SubAssign};

use crate::table::Direction;

/// Connections and packets of a virtual service or of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets of clients.
    pub in_packets: u64,
    /// Answers.
    pub out_packets: u64,
    /// Bytes of the clients' IP packets.
    pub in_bytes: u64,
    /// Bytes of the answers' IP packets.
    pub out_bytes: u64,
}

impl Stats {
    /// Counts a packet.
    pub(super) const fn count(&mut self, direction: Direction, bytes: u16) {
        let (packets, total) = match direction {
            Direction::Original => (&mut self.in_packets, &mut self.in_bytes),
            Direction::Reply => (&mut self.out_packets, &mut self.out_bytes),
        };
        *packets += 1;
        *total += bytes as u64;
    }
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.in_packets += other.in_packets;
        self.out_packets += other.out_packets;
        self.in_bytes += other.in_bytes;
        self.out_bytes += other.out_bytes;
    }
}

impl SubAssign for Stats {
    fn sub_assign(&mut self, other: Self) {
        self.connections -= other.connections;
        self.in_packets -= other.in_packets;
        self.out_packets -= other.out_packets;
        self.in_bytes -= other.in_bytes;
        self.out_bytes -= other.out_bytes;
    }
}
