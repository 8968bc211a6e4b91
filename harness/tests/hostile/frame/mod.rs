//! Frames of any kind, at any port, at any time.

pub(crate) mod build;

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use datapath::element::{Element, Output, Place};
use datapath::journey::PortId;
use datapath::lab::{Lab, RpFilter, VipPing, load};
use datapath::link::{ElementId, Peer, Socket, peer_of, ports_of};
use datapath::node::Node;
use datapath::port::{Buffer, Heap};
use datapath::time::Time;
use datapath::vpc::Vpc;
use datapath::wire::arp::Arp;
use datapath::wire::{Mac, ethernet};
use etherparse::Ipv4HeaderSlice;

use build::Known;

/// Calls of `on_time` after which an element that still has something to do never ends.
const MOST_TIMERS: usize = 10_000;
/// Half of the time there is: at its end nothing can be due later.
const LATEST: u64 = u64::MAX / 2;
/// Frames on their way between two elements that a story remembers.
const MOST_AWAY: usize = 64;

/// Has the input tell a story of frames, waits and timers, and holds it against the laws: nothing
/// panics, every frame is accounted for, what leaves is sound, and timers come to an end
/// (spec LAW-2, LAW-9).
pub(crate) fn check(bytes: &[u8]) {
    // The story ends where the input does.
    let _ = story(&mut Unstructured::new(bytes));
}

fn story(u: &mut Unstructured<'_>) -> Result<()> {
    let mut world = World::new(lab(u)?);
    if u.arbitrary()? {
        world.out.journal.open(256);
    }
    while !u.is_empty() {
        match u.int_in_range(0..=9)? {
            0 => world.wait(nanos(u)?),
            1..=3 => world.arrive(),
            _ => {
                let (place, mac) = world.place(u)?;
                let number = u.int_in_range(1..=3)?;
                let frames = (0..number).map(|_| build::any(u, &world.known, mac));
                let frames = frames.collect::<Result<Vec<_>>>()?;
                world.put(place, &frames);
            }
        }
    }
    Ok(())
}

/// Mostly what timers are set to, now and then far away.
fn nanos(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.int_in_range(0..=9)? {
        0 => u.arbitrary()?,
        1..=4 => u64::from(u.arbitrary::<u16>()?) * 1_000_000_000,
        _ => u64::from(u.arbitrary::<u32>()?),
    })
}

/// A lab with small tables, in one of the three profiles, with any switches.
fn lab(u: &mut Unstructured<'_>) -> Result<Lab> {
    static LABS: OnceLock<Vec<Lab>> = OnceLock::new();
    let labs = LABS.get_or_init(|| {
        let of = |profile| {
            let text = include_str!("../../../../datapath/tests/common/lab.yaml");
            let limits = "limits: {flows: 16, sessions: 16, neighbours: 8, neighbourQueue: 4}";
            load(&format!("profile: {profile}\n{text}\n{limits}\n"), "lab.yaml").expect("a lab")
        };
        ["terway-1.3", "terway-1.4.0", "terway-1.4.2"].map(of).to_vec()
    });
    let mut lab = u.choose(labs)?.clone();
    let switches = &mut lab.switches;
    switches.vs_conntrack = u.arbitrary()?;
    switches.masquerade_all = u.arbitrary()?;
    switches.masquerade_random_fully = u.arbitrary()?;
    switches.strict_arp = u.arbitrary()?;
    switches.permanent_neighbours = u.arbitrary()?;
    switches.rp_filter = *u.choose(&[RpFilter::Off, RpFilter::Strict, RpFilter::Loose])?;
    switches.vip_ping = *u.choose(&[VipPing::Answer, VipPing::Reject])?;
    Ok(lab)
}

/// A place of an element, where a frame goes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Where {
    element: ElementId,
    place: Place,
}

/// The elements of a lab, driven by their three calls and by nothing else.
pub(crate) struct World {
    lab: Lab,
    known: Known,
    nodes: Vec<Node<Heap>>,
    vpc: Vpc<Heap>,
    out: Output<Heap>,
    now: Time,
    /// Frames that have left one element for another, oldest first.
    away: Vec<(Where, Vec<u8>)>,
}

impl World {
    pub(crate) fn new(lab: Lab) -> Self {
        let nodes = (0..lab.nodes.len()).map(|index| Node::new(&lab, index).expect("a node"));
        Self {
            nodes: nodes.collect(),
            vpc: Vpc::new(&lab),
            out: Output::default(),
            now: Time::ZERO,
            away: Vec::new(),
            known: Known::of(&lab),
            lab,
        }
    }

    /// Every place, with the MAC that frames to it carry.
    pub(crate) fn places(&self) -> Vec<(Where, Mac)> {
        let mut places = Vec::new();
        for element in ElementId::all(&self.lab) {
            for (port, queues) in ports_of(&self.lab, element) {
                let mac = match element {
                    ElementId::Vpc => self.lab.vpc.gateway_mac,
                    ElementId::Node(node) => {
                        self.nodes[node].config().interface(port).expect("an interface").mac
                    }
                };
                let at = |queue| (Where { element, place: Place { port, queue } }, mac);
                places.extend((0..queues).map(at));
            }
        }
        places
    }

    /// One of the places there are, or now and then one there is not.
    fn place(&self, u: &mut Unstructured<'_>) -> Result<(Where, Mac)> {
        let (mut at, mac) = *u.choose(&self.places())?;
        if u.ratio(1, 16)? {
            at.place = Place { port: PortId(u.arbitrary()?), queue: u.arbitrary()? };
        }
        Ok((at, mac))
    }

    /// Has an element process a batch.
    pub(crate) fn put(&mut self, at: Where, frames: &[Vec<u8>]) {
        self.out.blanks.resize_with(8, Heap::default);
        let mut batch = frames.iter().map(|frame| Heap::new(frame)).collect();
        let (now, element) = (self.now, at.element);
        match element {
            ElementId::Vpc => self.vpc.process(&mut batch, at.place, now, &mut self.out),
            ElementId::Node(node) => {
                self.nodes[node].process(&mut batch, at.place, now, &mut self.out);
            }
        }
        assert!(batch.is_empty(), "an element takes its whole batch");
        self.after(element);
    }

    /// Has the oldest frame that is away arrive at the far end of its wire.
    fn arrive(&mut self) {
        if !self.away.is_empty() {
            let (at, frame) = self.away.remove(0);
            self.put(at, &[frame]);
        }
    }

    /// Lets time pass; every element does what is due, and is done with it.
    pub(crate) fn wait(&mut self, nanos: u64) {
        self.now = Time::from_nanos(self.now.as_nanos().saturating_add(nanos).min(LATEST));
        for element in ElementId::all(&self.lab).collect::<Vec<_>>() {
            for turn in 0.. {
                assert!(turn < MOST_TIMERS, "timers of {element:?} do not end");
                self.out.blanks.resize_with(8, Heap::default);
                let now = self.now;
                let due = match element {
                    ElementId::Vpc => on_time(&mut self.vpc, now, &mut self.out),
                    ElementId::Node(node) => on_time(&mut self.nodes[node], now, &mut self.out),
                };
                self.after(element);
                if !due {
                    break;
                }
            }
        }
    }

    /// Looks at what a call has left behind.
    fn after(&mut self, id: ElementId) {
        let element: &dyn Element<Heap> = match id {
            ElementId::Vpc => &self.vpc,
            ElementId::Node(node) => &self.nodes[node],
        };
        let (ledger, held) = (element.ledger(), element.held());
        assert!(ledger.balances(held), "{id:?}: {ledger:?}, {held} held");
        for departure in std::mem::take(&mut self.out.departures) {
            let Place { port, queue } = departure.place;
            let known = ports_of(&self.lab, id).into_iter().find(|(known, _)| *known == port);
            let queues = known.expect("sent from a port that the element has").1;
            assert!(queue < queues, "sent from queue {queue} of {queues}");
            let bytes = departure.frame.bytes().to_vec();
            assert_sound(&bytes);
            let far = peer_of(&self.lab, Socket { element: id, port });
            if let Some(Peer::Socket(far)) = far
                && self.away.len() < MOST_AWAY
            {
                let place = Place { port: far.port, queue };
                self.away.push((Where { element: far.element, place }, bytes));
            }
        }
    }
}

/// Has an element do what is due; whether anything was.
fn on_time(element: &mut impl Element<Heap>, now: Time, out: &mut Output<Heap>) -> bool {
    let due = element.poll_at().is_some_and(|at| at <= now);
    element.on_time(now, out);
    due
}

/// A frame that leaves is ARP or IPv4 with at most one tag; its headers are whole and right and
/// nothing stands behind the packet.
fn assert_sound(frame: &[u8]) {
    let at = if ethernet::tag(frame).is_some() { 16 } else { 12 };
    let ethertype = frame.get(at..at + 2).expect("an Ethernet header");
    let payload = &frame[at + 2..];
    if ethertype == ethernet::ARP.to_be_bytes() {
        assert!(Arp::parse(payload).is_some(), "{payload:02x?}");
        return;
    }
    assert_eq!(ethertype, ethernet::IPV4.to_be_bytes(), "{frame:02x?}");
    let header = Ipv4HeaderSlice::from_slice(payload).expect("a header");
    assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
    assert_eq!(usize::from(header.total_len()), payload.len(), "{payload:02x?}");
}
