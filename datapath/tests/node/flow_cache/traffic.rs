//! Conversations, and what is said in them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::common::*;
use datapath::journey::PortId;
use datapath::node::{ETH0, ETH1};
use datapath::wire::tcp::Flags;
use datapath::wire::{Packet, Protocol};
use proptest::prelude::*;
use proptest::sample::select;

use super::changes::{Change, change};
use super::twins::Twins;

/// A conversation: the client's port and address, the server it asks, whether by UDP.
pub(super) type Ends = (PortId, Addr, Addr, bool);

/// In how many IP packets, and which, a packet comes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// Whole, and not to be fragmented.
    Whole,
    /// Whole, and a router may fragment it.
    Loose,
    /// In fragments with so many bytes of payload each.
    Cut(usize),
    /// In such fragments without the last one.
    Partial(usize),
}

/// One packet of a conversation.
#[derive(Clone, Debug)]
pub(super) struct Talk {
    /// The number of the conversation, of which there may be fewer.
    pub(super) flow: usize,
    /// The server says it.
    pub(super) back: bool,
    pub(super) flags: Flags,
    /// How far a segment lies from its flow's first, in sequence numbers and acknowledgments.
    pub(super) ahead: (u32, u32),
    pub(super) data: usize,
    pub(super) ttl: u8,
    /// It is an ICMP error of this type and code about what its sender has got last.
    pub(super) error: Option<(u8, u8)>,
    pub(super) form: Form,
    pub(super) damage: bool,
    pub(super) no_checksum: bool,
    /// It comes by another port, or by the trunk with another VID, than its kind usually does.
    pub(super) astray: bool,
}

impl Talk {
    /// An ordinary packet.
    pub(super) const fn plain(flow: usize, back: bool, flags: Flags) -> Self {
        Self {
            flow,
            back,
            flags,
            ahead: (0, 0),
            data: 5,
            ttl: 64,
            error: None,
            form: Form::Whole,
            damage: false,
            no_checksum: false,
            astray: false,
        }
    }

    /// The packet that says it, from one end to another.
    fn packet(&self, src: Addr, dst: Addr, is_udp: bool) -> Vec<u8> {
        let data = vec![7; self.data];
        if is_udp {
            let mut packet = udp(src, dst, &data);
            if self.no_checksum {
                packet[26..28].copy_from_slice(&[0, 0]);
            }
            return packet;
        }
        let answers = self.back && self.flags.contains(Flags::SYN);
        let flags = if answers { SYN_ACK } else { self.flags };
        let (seq, ack) = self.ahead;
        Segment { data, ..Segment::new(flags, 1_000 + seq, 1_001 + ack) }.packet(src, dst)
    }
}

/// What happens to the twins.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Packets arrive together.
    Batch {
        talks: Vec<Talk>,
        /// Frames with different VIDs come by one queue of the trunk, not each by its own.
        mixed: bool,
        /// The journals are open.
        watched: bool,
    },
    /// So many milliseconds pass; timers may be late.
    Wait(u64, bool),
    /// All neighbours have other MACs.
    NewMacs(u8),
    /// The lab changes.
    Change(Change),
}

/// A packet that someone has got, and the port by which it left for there.
type Heard = (PortId, Vec<u8>);

/// Conversations, and what client and server have heard last in each.
pub(super) struct Conversations {
    ends: Vec<Ends>,
    heard: Vec<[Option<Heard>; 2]>,
}

/// IP identifications from this one on name conversations, as the node's own packets' do not.
const FIRST_ID: u16 = 0x4000;

impl Conversations {
    /// Nobody has said anything yet.
    pub(super) fn new(ends: Vec<Ends>) -> Self {
        let heard = ends.iter().map(|_| [None, None]).collect();
        Self { ends, heard }
    }

    /// Every client begins, most servers answer, and the clients go on.
    pub(super) fn begin(&mut self, twins: &mut Twins) {
        for (back, flags) in [(false, SYN), (true, SYN), (false, ACK)] {
            let speaks = |flow: &usize| !back || flow % 4 != 3;
            let flows = (0..self.ends.len()).filter(speaks);
            let talks = flows.map(|flow| Talk::plain(flow, back, flags)).collect();
            self.play(twins, &Event::Batch { talks, mixed: false, watched: false });
        }
    }

    /// One event happens.
    pub(super) fn play(&mut self, twins: &mut Twins, event: &Event) {
        match event {
            Event::Wait(millis, timers) => twins.wait(*millis, *timers),
            Event::NewMacs(last) => twins.introduce(*last),
            Event::Change(change) => twins.change(change),
            Event::Batch { talks, mixed, watched } => {
                let mut batches = BTreeMap::<_, (_, Vec<_>)>::new();
                for talk in talks {
                    let (port, packets) = self.packets(talk);
                    for packet in packets {
                        let (place, frame) = twins.arrival(port, &packet, talk.astray);
                        let key = (place.port, if *mixed { 0 } else { place.queue });
                        batches.entry(key).or_insert((place, Vec::new())).1.push(frame);
                    }
                }
                for (place, frames) in batches.values() {
                    twins.put(*place, frames, *watched).iter().for_each(|sent| self.hear(sent));
                }
            }
        }
    }

    /// The packets that say something, and the port they come in by. An answer to nothing, or an
    /// error about nothing, is a packet of the client.
    fn packets(&self, talk: &Talk) -> (PortId, Vec<Vec<u8>>) {
        let flow = talk.flow % self.ends.len();
        let (from, client, server, is_udp) = self.ends[flow];
        let [by_client, by_server] = &self.heard[flow];
        let heard = if talk.back { by_server } else { by_client };
        let heard = heard.as_ref().and_then(|(port, packet)| {
            let tuple = Packet::parse(packet).ok()?.tuple;
            Some((answers_by(*port, tuple.src), tuple, packet))
        });
        let (port, packet) = match (heard, talk.error) {
            (Some((port, tuple, quoted)), Some(kind)) => {
                let quoted = &quoted[..quoted.len().min(28 + talk.data)];
                (port, error(tuple.dst, tuple.src, kind, 1_400, quoted))
            }
            (Some((port, tuple, _)), None) if talk.back => {
                let ends = ((tuple.dst, tuple.dst_port), (tuple.src, tuple.src_port));
                (port, talk.packet(ends.0, ends.1, is_udp))
            }
            _ => (from, talk.packet(client, server, is_udp)),
        };
        let id = FIRST_ID + 2 * flow as u16 + u16::from(talk.back);
        let mut packet = with_ip(packet, |ip| {
            ip.time_to_live = talk.ttl;
            ip.identification = id;
            ip.dont_fragment = matches!(talk.form, Form::Whole);
        });
        if talk.damage
            && let Some(last) = packet.last_mut()
        {
            *last ^= 0x40;
        }
        let packets = match talk.form {
            Form::Whole | Form::Loose => vec![packet],
            Form::Cut(size) => cut(&packet, size),
            Form::Partial(size) => {
                let mut fragments = cut(&packet, size);
                fragments.pop();
                fragments
            }
        };
        (port, packets)
    }

    /// Whoever a frame is for remembers the packet, if it belongs to a conversation.
    fn hear(&mut self, sent: &Seen) {
        let packet = packet_of(&sent.bytes);
        let Ok(Protocol::TCP | Protocol::UDP) = Packet::parse(packet).map(|p| p.tuple.proto) else {
            return;
        };
        let id = u16::from_be_bytes([packet[4], packet[5]]);
        let Some(id) = id.checked_sub(FIRST_ID) else { return };
        let listener = usize::from(id % 2 == 0);
        if let Some(heard) = self.heard.get_mut(usize::from(id / 2)) {
            heard[listener] = Some((sent.port, packet.to_vec()));
        }
    }
}

/// Where the answer to a packet that left by `port` comes in: by the trunk to a pod's own address.
fn answers_by(port: PortId, to: Ipv4Addr) -> PortId {
    match port {
        ETH0 | ETH1 if to == A || to == B => ETH1,
        ETH0 | ETH1 => ETH0,
        other => other,
    }
}

/// The port on which a server serves.
pub(super) fn served_at(server: Ipv4Addr, is_udp: bool) -> Addr {
    let port = match (server, is_udp) {
        (A | B | C | D, true) => 5_353,
        (A | B | C | D, false) => 8_080,
        (_, true) => 53,
        (_, false) => 80,
    };
    (server, port)
}

/// A few conversations may be any of these.
pub(super) fn ends() -> impl Strategy<Value = Ends> {
    let clients = vec![(CALI_A, A), (CALI_B, B), (HOST, N1), (ETH0, CLIENT), (ETH0, C)];
    let servers = vec![FAR, FAR_XIP, NEAR, NEAR_XIP, MANY, OWN, LOCAL_XIP, FNAT, B, C, D, A];
    prop_oneof![
        // Conversations that get into each other's way: one client port, one endpoint.
        1 => (Just((CALI_A, A)), select(vec![FAR, FAR_XIP, FNAT, C]), Just(40_001), any::<bool>()),
        1 => (select(clients), select(servers), select(vec![40_001, 8_080]), any::<bool>()),
        // Conversations that begin alike.
        3 => (
            select(vec![(CALI_A, A), (CALI_B, B)]),
            select(vec![FAR, FAR_XIP, NEAR_XIP, MANY]),
            prop_oneof![3 => 40_001..40_012_u16, 1 => select(vec![20, 5_353, 8_080])],
            any::<bool>()
        ),
    ]
    .prop_map(|((from, ip), server, source, is_udp)| {
        (from, (ip, source), served_at(server, is_udp), is_udp)
    })
}

/// So many conversations of two pods, most of them with pods, by both protocols.
pub(super) fn crowd(size: u16) -> Vec<Ends> {
    let server = |n| [C, D, C, D, C, D, C, D, FAR, MANY][usize::from(n) % 10];
    let each = (0..size).map(|n| {
        let (port, ip) = [(CALI_A, A), (CALI_B, B)][usize::from(n / 10) % 2];
        let (server, is_udp) = (server(n), n % 3 == 0);
        (port, (ip, 20_000 + n), served_at(server, is_udp), is_udp)
    });
    each.collect()
}

fn talk() -> impl Strategy<Value = Talk> {
    let flow = prop_oneof![1 => 0..3_usize, 2 => 0..1_000_usize];
    let flags = prop_oneof![
        8 => Just(ACK),
        2 => Just(SYN),
        1 => select(vec![FIN, RST, ACK | Flags::PSH, Flags::empty()]),
    ];
    let ttl = prop_oneof![16 => Just(64_u8), 1 => select(vec![1, 2])];
    let data = prop_oneof![8 => 0..20_usize, 1 => select(vec![1_390, 1_490])];
    // The windows of all segments are 4,096: most lie inside.
    let step = || prop_oneof![12 => 0..600_u32, 1 => select(vec![4_000, 5_000, 90_000, 1 << 31])];
    let kinds = vec![(3, 1), (3, 3), (3, 4), (11, 0)];
    let error = prop_oneof![24 => Just(None), 1 => select(kinds).prop_map(Some)];
    let form = prop_oneof![
        20 => Just(Form::Whole),
        2 => Just(Form::Loose),
        1 => select(vec![Form::Cut(8), Form::Cut(24), Form::Cut(800), Form::Partial(16)]),
    ];
    let rare = prop::bool::weighted;
    let said = (flow, any::<bool>(), flags, (step(), step()), data, ttl);
    (said, error, form, (rare(0.03), rare(0.05), rare(0.03))).prop_map(
        |((flow, back, flags, ahead, data, ttl), error, form, rare)| {
            let (damage, no_checksum, astray) = rare;
            let talk = Talk::plain(flow, back, flags);
            Talk { ahead, data, ttl, error, form, damage, no_checksum, astray, ..talk }
        },
    )
}

/// Anything that may happen.
pub(super) fn event() -> impl Strategy<Value = Event> {
    let few = prop::collection::vec(talk(), 1..4);
    let talks = prop_oneof![2 => few, 3 => prop::collection::vec(talk(), 1..=64)];
    let batch = (talks, any::<bool>(), prop::bool::weighted(0.05));
    let millis = select(vec![1, 900, 11_000, 31_000, 130_000, 310_000, 901_000]);
    prop_oneof![
        20 => batch.prop_map(|(talks, mixed, watched)| Event::Batch { talks, mixed, watched }),
        2 => (millis, any::<bool>()).prop_map(|(millis, timers)| Event::Wait(millis, timers)),
        1 => (1..4_u8).prop_map(Event::NewMacs),
        3 => change().prop_map(Event::Change),
    ]
}
