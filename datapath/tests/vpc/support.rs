//! A small VPC, frames for it, and a bench that checks the ledger after every frame.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::Ipv4Addr;

use datapath::element::{Element, Output, Place};
use datapath::journey::{Fate, Hop, PortId, Step};
use datapath::lab::Lab;
use datapath::lab::model::{
    ConntrackSwitches, Eni, EniKind, GroupKind, GroupRule, IpvsSwitches, KubeProxyVersion, Limits,
    Listener, LocalNoEndpoint, Node, Outside, Peer, Pod, Profile, RpFilter, SecurityGroup, Slb,
    Switches, VSwitch, VipPing, Vpc as VpcModel,
};
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::verdict::DropReason;
use datapath::vpc::Vpc;
use datapath::wire::{Mac, Protocol, Tuple, Vid};
use etherparse::{IpFragOffset, Ipv4Header};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

pub(crate) const GATEWAY: Mac = Mac([0xee, 0xff, 0xff, 0xff, 0xff, 0xff]);

// ENIs by index.
pub(crate) const ETH0_1: usize = 0;
pub(crate) const TRUNK_1: usize = 1;
pub(crate) const ETH0_2: usize = 2;
pub(crate) const TRUNK_2: usize = 3;
/// Node 1, VID 100.
pub(crate) const POD_A: usize = 4;
/// Node 2, VID 7, the other vSwitch.
pub(crate) const POD_B: usize = 5;
/// Node 2, VID 300.
pub(crate) const POD_C: usize = 6;
/// Node 1, VID 50.
pub(crate) const POD_D: usize = 7;

// Ports, as documented at `Ports`.
pub(crate) const P_ETH0_1: PortId = PortId(0);
pub(crate) const P_TRUNK_1: PortId = PortId(1);
pub(crate) const P_ETH0_2: PortId = PortId(2);
pub(crate) const P_TRUNK_2: PortId = PortId(3);
pub(crate) const P_OUTSIDE: PortId = PortId(4);
pub(crate) const P_HEALTH: PortId = PortId(5);

pub(crate) const IP: [Ipv4Addr; 8] = [
    Ipv4Addr::new(10, 0, 4, 20),
    Ipv4Addr::new(10, 0, 4, 120),
    Ipv4Addr::new(10, 0, 4, 244),
    Ipv4Addr::new(10, 0, 4, 144),
    Ipv4Addr::new(10, 0, 4, 27),
    Ipv4Addr::new(10, 0, 5, 35),
    Ipv4Addr::new(10, 0, 4, 31),
    Ipv4Addr::new(10, 0, 4, 28),
];
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub(crate) const HEALTH: Ipv4Addr = Ipv4Addr::new(100, 64, 3, 9);
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(47, 243, 87, 204);

pub(crate) const OPEN: usize = 0;

pub(crate) fn vid(id: u16) -> Vid {
    Vid::new(id).expect("a VID")
}

/// MAC of a node's eth0 (`kind` 0) or trunk (`kind` 1).
pub(crate) fn mac(node: u8, kind: u8) -> Mac {
    Mac([2, 0, 0, 0, node, kind])
}

pub(crate) fn outside_mac(host: u8) -> Mac {
    Mac([2, 0, 0, 1, 0, host])
}

pub(crate) fn rule(
    accept: bool,
    proto: Option<Protocol>,
    ports: Option<(u16, u16)>,
    peer: &str,
) -> GroupRule {
    let peer = Peer::Cidr(peer.parse().expect("a range"));
    GroupRule { accept, proto, ports, peer, priority: 1 }
}

pub(crate) fn anything() -> GroupRule {
    rule(true, None, None, "0.0.0.0/0")
}

pub(crate) fn group(id: &str, kind: GroupKind) -> SecurityGroup {
    SecurityGroup {
        id: id.to_owned(),
        kind,
        inner_accept: kind == GroupKind::Basic,
        ingress: Vec::new(),
        egress: Vec::new(),
    }
}

/// Two nodes with four pods, one SLB and two outside hosts; every ENI in the open group.
pub(crate) fn lab() -> Lab {
    let open = SecurityGroup { ingress: vec![anything()], ..group("sg-open", GroupKind::Basic) };
    Lab {
        profile: Profile::P1,
        switches: switches(),
        limits: Limits {
            flows: 16,
            sessions: 1024,
            neighbours: 16,
            neighbour_queue: 3,
            member_queue: 16,
            fragments: 64,
            link_queue: 256,
        },
        seed: 1,
        links: datapath::lab::Links::Wired,
        vpc: VpcModel {
            cidr: "10.0.0.0/16".parse().expect("a range"),
            gateway_mac: GATEWAY,
            decrement_ttl: false,
            vswitches: ["10.0.4.0/24", "10.0.5.0/24"]
                .iter()
                .map(|cidr| VSwitch {
                    id: format!("vsw-{cidr}"),
                    cidr: cidr.parse().expect("a range"),
                    zone: String::new(),
                })
                .collect(),
            routes: Vec::new(),
            groups: vec![open],
        },
        enis: enis(),
        nodes: vec![node(1, ETH0_1, TRUNK_1), node(2, ETH0_2, TRUNK_2)],
        pods: vec![
            pod(0, 0, POD_A, 100),
            pod(1, 1, POD_B, 7),
            pod(2, 1, POD_C, 300),
            pod(3, 0, POD_D, 50),
        ],
        services: Vec::new(),
        slbs: vec![slb()],
        outside: vec![
            Outside { name: "client".into(), ips: vec![CLIENT], mac: outside_mac(0) },
            Outside { name: "health".into(), ips: vec![HEALTH], mac: outside_mac(1) },
        ],
    }
}

fn switches() -> Switches {
    Switches {
        from_rule_iif: true,
        vlan_push: true,
        vs_conntrack: true,
        snat_reroute: true,
        cluster_cidr: None,
        masquerade_all: false,
        masquerade_random_fully: false,
        icmp_ratelimit_ms: 1000,
        local_no_endpoint: LocalNoEndpoint::Fail,
        vip_ping: VipPing::Answer,
        strict_arp: true,
        rp_filter: RpFilter::Off,
        permanent_neighbours: false,
        flow_cache: true,
        kube_proxy: KubeProxyVersion::V1_20,
        ipvs: IpvsSwitches::default(),
        conntrack: ConntrackSwitches::default(),
    }
}

fn enis() -> Vec<Eni> {
    let kinds = [
        (EniKind::Primary, 0),
        (EniKind::Trunk, 0),
        (EniKind::Primary, 1),
        (EniKind::Trunk, 1),
        (EniKind::Member { vid: vid(100), pod: 0 }, 0),
        (EniKind::Member { vid: vid(7), pod: 1 }, 1),
        (EniKind::Member { vid: vid(300), pod: 2 }, 1),
        (EniKind::Member { vid: vid(50), pod: 3 }, 0),
    ];
    kinds
        .iter()
        .zip(IP)
        .enumerate()
        .map(|(index, ((kind, node), ip))| Eni {
            id: format!("eni-{index}"),
            kind: *kind,
            node: *node,
            ip,
            mac: mac(*node as u8 + 1, u8::from(*kind != EniKind::Primary)),
            vswitch: usize::from(ip.octets()[2] == 5),
            groups: vec![OPEN],
            src_dst_check: false,
        })
        .collect()
}

fn node(number: u8, primary: usize, trunk: usize) -> Node {
    Node {
        name: format!("n{number}"),
        primary,
        trunk,
        primary_mtu: 1500,
        trunk_mtu: 1500,
        host0_mac: Mac([2, 1, 0, 0, 0, number]),
        host_mac: Mac([2, 2, 0, 0, 0, number]),
        local_addresses: Vec::new(),
        local_ports: (1025, 65_535),
    }
}

fn pod(index: usize, node: usize, member: usize, id: u16) -> Pod {
    Pod {
        name: format!("demo/pod{index}"),
        node,
        ip: IP[member],
        mac: Mac([2, 3, 0, 0, 0, index as u8]),
        cali: format!("cali{index}"),
        cali_mac: Mac([2, 4, 0, 0, 0, index as u8]),
        mtu: 1500,
        member,
        vid: vid(id),
    }
}

fn slb() -> Slb {
    let listener = |proto, port, backend_port, backends: &[usize]| Listener {
        proto,
        port,
        backend_port,
        backends: backends.to_vec(),
    };
    Slb {
        id: "lb-1".into(),
        vip: VIP,
        listeners: vec![
            listener(Protocol::TCP, 80, 8080, &[POD_B, POD_C, POD_D]),
            listener(Protocol::UDP, 53, 5353, &[POD_B]),
            listener(Protocol::TCP, 81, 8081, &[]),
        ],
    }
}

// Packets: bytes from the IP header on.

pub(crate) const SYN: u8 = 1;
pub(crate) const SYN_ACK: u8 = 2;
pub(crate) const ACK: u8 = 3;
pub(crate) const RST: u8 = 4;
pub(crate) const FIN: u8 = 5;

pub(crate) type Addr = (Ipv4Addr, u16);

pub(crate) fn tcp(src: Addr, dst: Addr, kind: u8) -> Vec<u8> {
    let b = PacketBuilder::ipv4(src.0.octets(), dst.0.octets(), 64).tcp(src.1, dst.1, 1000, 4096);
    let b = match kind {
        SYN => b.syn(),
        SYN_ACK => b.syn().ack(7),
        RST => b.rst(),
        FIN => b.fin().ack(7),
        _ => b.ack(7),
    };
    let mut bytes = Vec::new();
    b.write(&mut bytes, b"hello").expect("written");
    bytes
}

pub(crate) fn udp(src: Addr, dst: Addr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(src.0.octets(), dst.0.octets(), 64)
        .udp(src.1, dst.1)
        .write(&mut bytes, payload)
        .expect("written");
    bytes
}

pub(crate) fn ping(src: Ipv4Addr, dst: Ipv4Addr, id: u16, reply: bool) -> Vec<u8> {
    let b = PacketBuilder::ipv4(src.octets(), dst.octets(), 64);
    let b = if reply { b.icmpv4_echo_reply(id, 1) } else { b.icmpv4_echo_request(id, 1) };
    let mut bytes = Vec::new();
    b.write(&mut bytes, b"ping").expect("written");
    bytes
}

/// A port-unreachable error that quotes the first 28 bytes of `packet`.
pub(crate) fn unreachable(src: Ipv4Addr, dst: Ipv4Addr, packet: &[u8]) -> Vec<u8> {
    let kind = etherparse::Icmpv4Type::DestinationUnreachable(
        etherparse::icmpv4::DestUnreachableHeader::Port,
    );
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(src.octets(), dst.octets(), 64)
        .icmpv4(kind)
        .write(&mut bytes, &packet[..28])
        .expect("written");
    bytes
}

/// The packet in fragments of `size` bytes of payload, a multiple of eight.
pub(crate) fn cut(packet: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (header, payload) = Ipv4Header::from_slice(packet).expect("a header");
    let chunks = payload.chunks(size).enumerate().map(|(at, chunk)| {
        let mut header = header.clone();
        header.dont_fragment = false;
        header.more_fragments = (at + 1) * size < payload.len();
        let offset = u16::try_from(at * size / 8).expect("an offset");
        header.fragment_offset = IpFragOffset::try_new(offset).expect("an offset");
        header.total_len = u16::try_from(20 + chunk.len()).expect("a length");
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], chunk].concat()
    });
    chunks.collect()
}

/// A whole frame.
pub(crate) fn frame(
    dst: Mac,
    src: Mac,
    tag: Option<u16>,
    ethertype: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = [dst.0, src.0].concat();
    if let Some(id) = tag {
        bytes.extend([0x81, 0x00]);
        bytes.extend(id.to_be_bytes());
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// An IPv4 frame to the gateway.
pub(crate) fn ip_frame(tag: Option<u16>, packet: &[u8]) -> Vec<u8> {
    frame(GATEWAY, mac(1, 0), tag, 0x0800, packet)
}

/// What came out of the VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) port: PortId,
    pub(crate) queue: u16,
    pub(crate) bytes: Vec<u8>,
}

impl Seen {
    pub(crate) fn dst(&self) -> Mac {
        Mac(self.bytes[..6].try_into().expect("a header"))
    }

    pub(crate) fn src(&self) -> Mac {
        Mac(self.bytes[6..12].try_into().expect("a header"))
    }

    /// The tag control word.
    pub(crate) fn tag(&self) -> Option<u16> {
        let tagged = self.bytes[12..14] == [0x81, 0x00];
        tagged.then(|| u16::from_be_bytes([self.bytes[14], self.bytes[15]]))
    }

    /// What follows Ethernet header and tag.
    pub(crate) fn packet(&self) -> &[u8] {
        &self.bytes[if self.tag().is_some() { 18 } else { 14 }..]
    }
}

/// Addresses and ports of a packet; its IP, TCP, UDP and ICMP checksums must be right.
pub(crate) fn checked(packet: &[u8]) -> (Addr, Addr) {
    let sliced = SlicedPacket::from_ip(packet).expect("an IP packet");
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("not IPv4") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "IP checksum");
    let (src, dst) = (header.source.into(), header.destination.into());
    match sliced.transport.expect("a transport") {
        TransportSlice::Tcp(t) => {
            let h = t.to_header();
            let sum = h.calc_checksum_ipv4(&header, t.payload()).expect("a sum");
            assert_eq!(h.checksum, sum, "TCP checksum");
            ((src, h.source_port), (dst, h.destination_port))
        }
        TransportSlice::Udp(u) => {
            let h = u.to_header();
            if h.checksum != 0 {
                let sum = h.calc_checksum_ipv4(&header, u.payload()).expect("a sum");
                assert_eq!(h.checksum, sum, "UDP checksum");
            }
            ((src, h.source_port), (dst, h.destination_port))
        }
        other => panic!("unexpected {other:?}"),
    }
}

/// A VPC with an open journal.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) lab: Lab,
    pub(crate) vpc: Vpc<Heap>,
    pub(crate) out: Output<Heap>,
    pub(crate) now: Time,
    /// The hops of the last frame.
    pub(crate) hops: Vec<Hop>,
}

impl Bench {
    pub(crate) fn new(lab: Lab) -> Self {
        let out = Output { blanks: vec![Heap::default(); 4], ..Output::default() };
        Self { vpc: Vpc::new(&lab), lab, out, now: Time::from_secs(1), hops: Vec::new() }
    }

    /// Sends a frame in at `port`; what comes out.
    pub(crate) fn send(&mut self, port: PortId, frame: &[u8]) -> Vec<Seen> {
        self.out.journal.open(16);
        let mut batch = vec![Heap::new(frame)];
        self.vpc.process(&mut batch, Place { port, queue: 0 }, self.now, &mut self.out);
        assert!(batch.is_empty());
        assert!(self.vpc.ledger().balances(self.vpc.held()), "{:?}", self.vpc.ledger());
        self.hops = self.out.journal.close();
        self.out
            .departures
            .drain(..)
            .map(|d| Seen {
                port: d.place.port,
                queue: d.place.queue,
                bytes: d.frame.bytes().to_vec(),
            })
            .collect()
    }

    /// Sends a packet from ENI `eni`, as its node's profile would; what comes out.
    pub(crate) fn send_from(&mut self, eni: usize, packet: &[u8]) -> Vec<Seen> {
        let node = self.lab.enis[eni].node;
        let (port, tag) = match self.lab.enis[eni].kind {
            EniKind::Primary => (self.vpc.ports().port_of_primary(node), None),
            EniKind::Trunk => (self.vpc.ports().port_of_trunk(node), None),
            EniKind::Member { vid, .. } => (self.vpc.ports().port_of_trunk(node), Some(vid.get())),
        };
        self.send(port, &ip_frame(tag, packet))
    }

    /// The one frame that must come out.
    pub(crate) fn sent(&mut self, eni: usize, packet: &[u8]) -> Seen {
        let mut seen = self.send_from(eni, packet);
        assert_eq!(seen.len(), 1, "{:?}", self.hops);
        seen.remove(0)
    }

    /// Why the frame that must not come out was dropped.
    pub(crate) fn dropped(&mut self, eni: usize, packet: &[u8]) -> DropReason {
        let seen = self.send_from(eni, packet);
        assert!(seen.is_empty(), "{seen:?}");
        self.reason()
    }

    /// The one frame that must come out when the outside client sends.
    pub(crate) fn sent_outside(&mut self, packet: &[u8]) -> Seen {
        let mut seen = self.send(P_OUTSIDE, &ip_frame(None, packet));
        assert_eq!(seen.len(), 1, "{:?}", self.hops);
        seen.remove(0)
    }

    /// Why the outside client's frame was dropped.
    pub(crate) fn dropped_outside(&mut self, packet: &[u8]) -> DropReason {
        let seen = self.send(P_OUTSIDE, &ip_frame(None, packet));
        assert!(seen.is_empty(), "{seen:?}");
        self.reason()
    }

    /// Why the last frame was dropped, as its hop says; its counter must be above zero.
    pub(crate) fn reason(&self) -> DropReason {
        let Fate::Dropped(reason) = self.hops[0].fate else { panic!("{:?}", self.hops) };
        assert!(self.vpc.ledger().dropped.of(reason) > 0);
        reason
    }

    /// The steps of the last frame.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.hops[0].steps
    }

    /// Lets time pass without running timers.
    pub(crate) fn wait(&mut self, nanos: u64) {
        self.now = Time::from_nanos(self.now.as_nanos() + nanos);
    }

    /// Runs timers.
    pub(crate) fn tick(&mut self) {
        self.vpc.on_time(self.now, &mut self.out);
    }
}

pub(crate) fn tuple(proto: Protocol, src: Addr, dst: Addr) -> Tuple<Ipv4Addr> {
    Tuple { src: src.0, dst: dst.0, src_port: src.1, dst_port: dst.1, proto }
}

pub(crate) const SECOND: u64 = 1_000_000_000;
