//! Whatever arrives: nothing panics, ledgers balance, checksums stay right; and masquerade
//! against a model.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use crate::common::*;
use datapath::journey::PortId;
use datapath::lab::Lab;
use datapath::link::{Direction, ElementId, MemoryLink, Socket, ports_of};
use datapath::node::ETH0;
use datapath::wire::tcp::Flags;
use datapath::wire::{Mac, ethernet};
use etherparse::Ipv4HeaderSlice;
use proptest::prelude::*;
use proptest::sample::select;

/// A frame, made from a sound one by damage.
#[derive(Clone, Debug)]
struct Input {
    socket: usize,
    to_it: bool,
    tags: Vec<u16>,
    packet: Vec<u8>,
    flips: Vec<(usize, u8)>,
    cut: Option<usize>,
    /// The IP header's checksum is made right again after the damage.
    mended: bool,
    padding: usize,
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        8 => select(vec![N1, N2, A, B, C, D, CLIENT, SLB]),
        6 => select(vec![FAR, FAR_XIP, NEAR, NEAR_XIP, MANY, OWN, EMPTY, LOCAL_XIP, SOME]),
        1 => any::<u32>().prop_map(Ipv4Addr::from),
    ]
}

fn end() -> impl Strategy<Value = Addr> {
    (address(), select(vec![53, 80, 81, 5353, 8080, 40_001, 40_002]))
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    let data = proptest::collection::vec(any::<u8>(), 0..40);
    let ttl = select(vec![0, 1, 2, 64, 255]);
    (end(), end(), 0..5_u8, any::<u8>(), data, ttl).prop_map(
        |(src, dst, kind, flags, data, ttl)| {
            let flags = select_flags(flags);
            let packet = match kind {
                0 | 1 => tcp_data(src, dst, flags, &data),
                2 => udp(src, dst, &data),
                3 => {
                    let mut packet = udp(src, dst, &data);
                    packet[26..28].copy_from_slice(&[0, 0]);
                    packet
                }
                _ if flags.contains(Flags::SYN) => ping(src.0, dst.0, src.1),
                _ => unreachable(src.0, dst.0, &tcp(dst, src, ACK)),
            };
            with_ttl(packet, ttl)
        },
    )
}

/// Mostly combinations that occur.
fn select_flags(n: u8) -> Flags {
    match n % 8 {
        0..=2 => SYN,
        3 => SYN_ACK,
        4 => ACK,
        5 => FIN,
        6 => RST,
        _ => Flags::from_bits_truncate(n >> 3),
    }
}

fn input() -> impl Strategy<Value = Input> {
    let tags = prop_oneof![
        2 => Just(Vec::new()),
        2 => proptest::collection::vec(select(vec![0, 101, 102, 201, 202, 4_095]), 1..3),
    ];
    let flips = prop_oneof![
        2 => Just(Vec::new()),
        1 => proptest::collection::vec((0..60_usize, any::<u8>()), 1..4),
    ];
    let cut = prop_oneof![4 => Just(None), 1 => (0..80_usize).prop_map(Some)];
    let packet = prop_oneof![
        8 => packet(),
        1 => proptest::collection::vec(any::<u8>(), 0..80),
    ];
    (0..64_usize, any::<u8>(), tags, packet, flips, cut, any::<bool>(), 0..8_usize).prop_map(
        |(socket, to_it, tags, packet, flips, cut, mended, padding)| {
            let to_it = to_it > 16;
            Input { socket, to_it, tags, packet, flips, cut, mended, padding }
        },
    )
}

impl Input {
    /// The packet with its damage.
    fn damaged(&self) -> Vec<u8> {
        let mut packet = self.packet.clone();
        for (at, bits) in &self.flips {
            if let Some(byte) = packet.get_mut(*at) {
                *byte ^= bits;
            }
        }
        if self.mended && packet.len() >= 20 {
            packet[10..12].copy_from_slice(&[0, 0]);
            let len = usize::from(packet[0] & 0x0f) * 4;
            let header = packet.get(..len).unwrap_or_default();
            let sum = datapath::wire::checksum::of(header);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        packet.extend(std::iter::repeat_n(0, self.padding));
        packet
    }

    /// The frame as it arrives with `mac` as its destination.
    fn frame(&self, mac: Mac) -> Vec<u8> {
        let dst = if self.to_it { mac } else { Mac([2, 7, 7, 7, 7, 7]) };
        let mut frame = [&dst.0[..], &[2, 8, 8, 8, 8, 8]].concat();
        for tag in &self.tags {
            frame.extend([0x81, 0x00]);
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(ethernet::IPV4.to_be_bytes());
        frame.extend(self.damaged());
        frame.truncate(self.cut.unwrap_or(frame.len()));
        frame
    }
}

/// Every port of every element, with the MAC that frames to it carry.
fn sockets(lab: &Lab) -> Vec<(Socket, Mac)> {
    let mut sockets = Vec::new();
    for element in ElementId::all(lab) {
        for (port, _) in ports_of(lab, element) {
            let mac = match element {
                ElementId::Vpc => lab.vpc.gateway_mac,
                ElementId::Node(node) => {
                    let config = datapath::node::NodeConfig::new(lab, node, 1).expect("a node");
                    config.interface(port).expect("an interface").mac
                }
            };
            sockets.push((Socket { element, port }, mac));
        }
    }
    sockets
}

/// The IPv4 packet in a frame with at most one tag.
fn packet_in(frame: &[u8]) -> Option<&[u8]> {
    let at = if ethernet::tag(frame).is_some() { 16 } else { 12 };
    (frame.get(at..at + 2)? == ethernet::IPV4.to_be_bytes()).then(|| &frame[at + 2..])
}

fn assert_sound(frame: &[u8], input_was_right: bool) {
    let Some(packet) = packet_in(frame) else { return };
    let header = Ipv4HeaderSlice::from_slice(packet).expect("a header");
    assert!(header_holds(header.slice()), "{packet:02x?}");
    assert_eq!(usize::from(header.total_len()), packet.len(), "no bytes behind the packet");
    assert!(!input_was_right || checksums_hold(packet), "{packet:02x?}");
}

fn any_lab() -> impl Strategy<Value = Lab> {
    let profile = select(vec!["terway-1.3", "terway-1.4.0", "terway-1.4.2"]);
    (profile, any::<bool>(), any::<bool>(), 0..3_u8).prop_map(|(profile, ct, random, rp)| {
        lab_with(&format!(
            "profile: {profile}\n\
             switches: {{vsConntrack: {ct}, masqueradeRandomFully: {random}, rpFilter: {rp}}}\n\
             limits: {{flows: 64, sessions: 64, neighbours: 16}}"
        ))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_frame_at_any_port_is_accounted_for_and_leaves_sound(
        lab in any_lab(),
        inputs in proptest::collection::vec((input(), 0..40_u64), 1..40),
    ) {
        let sockets = sockets(&lab);
        let mut link = MemoryLink::new(lab);
        let sent: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
        let record = Rc::clone(&sent);
        link.watch(move |_, _, direction, frame| {
            if direction == Direction::Out {
                record.borrow_mut().push(frame.to_vec());
            }
        });
        for (input, secs) in inputs {
            let (socket, mac) = sockets[input.socket % sockets.len()];
            link.arrive(socket, &input.frame(mac));
            link.settle();
            assert!(link.balances());
            let right = input.cut.is_none() && checksums_hold(&input.damaged());
            for frame in sent.take() {
                assert_sound(&frame, right);
            }
            link.advance(link.now() + std::time::Duration::from_secs(secs));
            assert!(link.balances());
            sent.take();
        }
        assert_eq!(link.lost(), 0);
    }

    #[test]
    fn any_bytes_at_any_port_are_accounted_for(
        frames in proptest::collection::vec(
            (0..64_usize, proptest::collection::vec(any::<u8>(), 0..120)),
            1..40,
        ),
    ) {
        let lab = lab_with("limits: {flows: 16, sessions: 16}");
        let sockets = sockets(&lab);
        let mut link = MemoryLink::new(lab);
        for (socket, mut bytes) in frames {
            let (socket, mac) = sockets[socket % sockets.len()];
            for (to, from) in bytes.iter_mut().zip(mac.0) {
                *to = from;
            }
            link.arrive(socket, &bytes);
            link.settle();
            assert!(link.balances());
        }
    }
}

/// Who begins a flow toward c.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Client {
    /// Pod a, through the external IP.
    A,
    /// Pod b, through the external IP.
    B,
    /// The node itself, straight.
    Node,
}

impl Client {
    fn place(self) -> (PortId, Ipv4Addr, Addr) {
        match self {
            Self::A => (CALI_A, A, (FAR_XIP, 53)),
            Self::B => (CALI_B, B, (FAR_XIP, 53)),
            Self::Node => (HOST, N1, (C, 5353)),
        }
    }
}

/// The class within which a port may move, as the kernel has them.
fn class(port: u16) -> std::ops::RangeInclusive<u16> {
    match port {
        0..=511 => 1..=511,
        512..=1023 => 512..=1023,
        _ => 1024..=65_535,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The model: a map from each living flow to the source it was given.
    #[test]
    fn masqueraded_flows_have_sources_of_their_own_and_get_their_answers(
        random in any::<bool>(),
        seed in any::<u32>(),
        steps in proptest::collection::vec(
            (
                select(vec![Client::A, Client::B, Client::Node]),
                select(vec![7, 80, 600, 1023, 1024, 40_001, 65_535]),
                any::<bool>(),
            ),
            1..60,
        ),
    ) {
        let mut bench = Bench::new(lab_with(&format!(
            "switches: {{masqueradeRandomFully: {random}}}\nlimits: {{flows: 64}}\nseed: {seed}"
        )));
        let mut model: BTreeMap<(Client, u16), Addr> = BTreeMap::new();
        for (client, port, answered) in steps {
            let (from, ip, to) = client.place();
            let sent = bench.sent(from, &udp((ip, port), to, b"?"));
            let view = sent.view();
            prop_assert_eq!((sent.port, view.dst), (ETH0, (C, 5353)));
            prop_assert_eq!(view.src.0, N1);
            prop_assert!(class(port).contains(&view.src.1), "{} became {}", port, view.src.1);
            match model.get(&(client, port)) {
                Some(known) => prop_assert_eq!(*known, view.src, "the choice is made once"),
                None => {
                    let taken = model.values().any(|source| *source == view.src);
                    prop_assert!(!taken, "two flows with the source {:?}", view.src);
                    model.insert((client, port), view.src);
                }
            }
            if answered {
                let back = bench.sent(ETH0, &udp((C, 5353), view.src, b"!"));
                prop_assert_eq!(back.port, from);
                prop_assert_eq!(back.view().tuple(), (to, (ip, port)));
            }
        }
        prop_assert_eq!(bench.flows().len(), model.len());
    }
}
