//! One host's TCP/IP stack (smoltcp) and the Ethernet header its wire wants.
//!
//! A pod sends everything to its cali's MAC (its permanent neighbour 169.254.1.1), a node's own
//! stack to host0's, an outside host to the VPC's gateway; so no host ever asks by ARP.

use std::net::Ipv4Addr;
use std::time::Duration;

use datapath::lab::Lab;
use datapath::link::HostId;
use datapath::time::Time;
use datapath::vpc::OUTSIDE_MTU;
use datapath::wire::{Mac, Packet, Protocol, Transport, ethernet, icmpv4, ipv4};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::device::PacketQueues;

/// Next hop of every host: Terway's link-local one. Only its being set matters here.
const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// ICMP errors kept for whoever asks for them; the oldest makes room.
const ERRORS: usize = 64;

/// Addresses of a host and of the far end of its wire.
#[derive(Clone, Debug)]
struct Addresses {
    ips: Vec<Ipv4Addr>,
    mac: Mac,
    next_hop: Mac,
    mtu: u16,
}

impl Addresses {
    fn of(lab: &Lab, host: HostId) -> Option<Self> {
        Some(match host {
            HostId::Pod(pod) => {
                let pod = lab.pods.get(pod)?;
                Self { ips: vec![pod.ip], mac: pod.mac, next_hop: pod.cali_mac, mtu: pod.mtu }
            }
            HostId::NodeHost(node) => {
                let node = lab.nodes.get(node)?;
                let ip = lab.enis.get(node.primary)?.ip;
                let (mac, next_hop) = (node.host_mac, node.host0_mac);
                Self { ips: vec![ip], mac, next_hop, mtu: node.primary_mtu }
            }
            HostId::Outside(host) => {
                let host = lab.outside.get(host)?;
                let next_hop = lab.vpc.gateway_mac;
                Self { ips: host.ips.clone(), mac: host.mac, next_hop, mtu: OUTSIDE_MTU }
            }
        })
    }
}

/// An ICMP error about a TCP segment this host has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// Source port of the segment.
    pub from_port: u16,
    /// Where the segment went.
    pub to: (Ipv4Addr, u16),
}

/// A host's stack.
pub struct Stack {
    addresses: Addresses,
    device: PacketQueues,
    interface: Interface,
    /// The host's sockets.
    pub sockets: SocketSet<'static>,
    unreachable: Vec<Unreachable>,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Stack {
    /// The stack of a host of the lab, all of whose random numbers come from `seed`; `None` where
    /// the lab has no such host.
    #[must_use]
    pub fn new(lab: &Lab, host: HostId, seed: u64) -> Option<Self> {
        let addresses = Addresses::of(lab, host)?;
        let mut device = PacketQueues::new(addresses.mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        let ip = *addresses.ips.first()?;
        interface.update_ip_addrs(|own| {
            // An empty list has room for one.
            let _ = own.push(IpCidr::new(IpAddress::Ipv4(ip), 32));
        });
        // The interface takes packets for every address of the host, and `receive` lets no others
        // through: smoltcp's own list has room for two only. It wants a route by its own address
        // for that; where that leads does not matter on a medium without neighbours.
        let next_hop = if addresses.ips.len() > 1 { ip } else { NEXT_HOP };
        // An empty table has room for one.
        let _ = interface.routes_mut().add_default_ipv4_route(next_hop);
        interface.set_any_ip(addresses.ips.len() > 1);
        let sockets = SocketSet::new(Vec::new());
        Some(Self { addresses, device, interface, sockets, unreachable: Vec::new() })
    }

    /// The host's first address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.addresses.ips.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// The packet in a frame that reached the host, if the frame is for it.
    #[must_use]
    pub fn packet(&self, frame: &[u8]) -> Option<Packet<Ipv4Addr>> {
        let header = ethernet::Header::parse(frame)?;
        if header.dst != self.addresses.mac || header.ethertype != ethernet::IPV4 {
            return None;
        }
        let packet: Packet<Ipv4Addr> = Packet::parse(frame.get(ethernet::HEADER_LEN..)?).ok()?;
        self.addresses.ips.contains(&packet.tuple.dst).then_some(packet)
    }

    /// Gives the stack a frame whose packet is `packet`.
    pub fn receive(&mut self, frame: &[u8], packet: &Packet<Ipv4Addr>) {
        let bytes = frame.get(ethernet::HEADER_LEN..).unwrap_or_default();
        // What lies behind the packet is Ethernet's padding.
        let bytes = bytes.get(..usize::from(packet.total_len)).unwrap_or(bytes);
        self.note_error(packet, bytes);
        self.device.push(bytes);
    }

    /// smoltcp keeps ICMP errors from TCP sockets; a kernel ends a connection attempt by them.
    fn note_error(&mut self, packet: &Packet<Ipv4Addr>, bytes: &[u8]) {
        if !matches!(packet.transport, Transport::Icmp { kind: icmpv4::UNREACHABLE, .. }) {
            return;
        }
        let at = usize::from(packet.header_len) + icmpv4::HEADER_LEN;
        let Some(quoted) = bytes.get(at..) else { return };
        let Some([first, _, _, _, _, _, _, _, _, proto, .., a, b, c, d]) =
            quoted.first_chunk::<{ ipv4::HEADER_LEN }>()
        else {
            return;
        };
        let ports = quoted.get(usize::from(first & 0x0f) * 4..);
        if let Some([s0, s1, d0, d1]) = ports.and_then(<[u8]>::first_chunk::<4>)
            && Protocol(*proto) == Protocol::TCP
        {
            if self.unreachable.len() >= ERRORS {
                self.unreachable.remove(0);
            }
            self.unreachable.push(Unreachable {
                from_port: u16::from_be_bytes([*s0, *s1]),
                to: (Ipv4Addr::new(*a, *b, *c, *d), u16::from_be_bytes([*d0, *d1])),
            });
        }
    }

    /// Takes the ICMP errors that have come since the last call.
    pub fn take_unreachable(&mut self) -> Vec<Unreachable> {
        std::mem::take(&mut self.unreachable)
    }

    /// Lets the stack work on what has come and what is due.
    pub fn poll(&mut self, now: Time) {
        self.interface.poll(instant(now), &mut self.device, &mut self.sockets);
    }

    /// The next moment at which [`poll`](Self::poll) has something to do.
    pub fn poll_at(&mut self, now: Time) -> Option<Time> {
        let at = self.interface.poll_at(instant(now), &self.sockets)?;
        let micros = u64::try_from(at.total_micros()).unwrap_or(0);
        Some(Time::ZERO + Duration::from_micros(micros))
    }

    /// Sends an IP packet that no socket has made.
    pub fn inject(&mut self, packet: Vec<u8>) {
        self.device.inject(packet);
    }

    /// The oldest frame that waits to go on the wire.
    pub fn take_frame(&mut self) -> Option<Vec<u8>> {
        let packet = self.device.pop()?;
        let mut frame = vec![0; ethernet::HEADER_LEN];
        frame.extend_from_slice(&packet);
        let Addresses { mac: src, next_hop: dst, .. } = self.addresses;
        ethernet::Header { dst, src, ethertype: ethernet::IPV4 }.emit(&mut frame);
        Some(frame)
    }

    /// Interface and sockets, for a connection to be opened.
    pub fn parts(&mut self) -> (&mut Interface, &mut SocketSet<'static>) {
        (&mut self.interface, &mut self.sockets)
    }
}

/// smoltcp counts microseconds.
fn instant(now: Time) -> Instant {
    Instant::from_micros(i64::try_from(now.as_nanos() / 1_000).unwrap_or(i64::MAX))
}
