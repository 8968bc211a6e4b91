//! What was seen, as text: the language of `expected.txt` (spec CASE-5 to CASE-8).

use std::collections::{BTreeMap, BTreeSet};

use datapath::link::{Direction, Socket};
use datapath::wire::arp::{Arp, Operation};
use datapath::wire::{Mac, ethernet};

use super::bed::Crossing;
use super::frame::{Parts, host_macs, macs, parts};
use super::instance::Instance;
use super::packet::{Body, Field, Packet};
use super::play::{Observation, Seen, Sent};

/// A line of an observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its words.
    pub text: String,
    /// The step it tells of, an index into [`Observation::steps`].
    pub step: usize,
}

/// The lines of an observation.
#[must_use]
pub fn render(instance: &Instance, observation: &Observation) -> Vec<Line> {
    let mut text = Text::new(instance);
    for (step, seen) in observation.steps.iter().enumerate() {
        text.step = step;
        text.seen(seen);
    }
    text.lines
}

/// A packet on its way through a step: where it was seen, in order.
struct Way<'a> {
    /// The packet that was sent; `None` for one that an element made.
    sent: Option<u16>,
    packet: Packet,
    hops: Vec<(&'a Crossing, Option<Packet>)>,
}

struct Text<'a> {
    instance: &'a Instance,
    ports: Ports,
    /// Packets that were sent, by number, and what they were when last seen.
    sent: BTreeMap<u16, (Packet, Vec<Field>)>,
    step: usize,
    lines: Vec<Line>,
}

impl<'a> Text<'a> {
    fn new(instance: &'a Instance) -> Self {
        let ports = Ports::new(instance);
        Self { instance, ports, sent: BTreeMap::new(), step: 0, lines: Vec::new() }
    }

    fn line(&mut self, text: impl Into<String>) {
        self.lines.push(Line { text: text.into(), step: self.step });
    }

    fn seen(&mut self, seen: &Seen) {
        match seen {
            Seen::Packets { title, sent, crossings } => {
                if let Some(title) = title {
                    self.line(title);
                }
                if title.is_none() && sent.is_empty() {
                    self.line("nothing to answer");
                }
                self.packets(sent, crossings);
            }
            Seen::Picks(picks) => self.line(format!("picks {picks}")),
            Seen::Table { node, table, entries, timed } => {
                self.line(format!("{table} {node}"));
                for entry in entries {
                    let time = if *timed { format!(" {}s", entry.seconds) } else { String::new() };
                    let text = self.ports.rename(&entry.entry);
                    self.line(format!("  {text}{time}"));
                }
            }
            Seen::Drops { element, drops } => {
                let drops = match drops {
                    None => NOT_JUDGED.to_owned(),
                    Some(drops) if drops.is_empty() => "none".to_owned(),
                    Some(drops) => drops.join(", "),
                };
                self.line(format!("{DROPS}{element}: {drops}"));
            }
        }
    }

    fn packets(&mut self, sent: &[Sent], crossings: &[Crossing]) {
        for one in sent {
            if let Some(packet) = Packet::read(&one.packet) {
                self.sent.insert(one.number, (packet, Vec::new()));
            }
        }
        let mut ways = self.ways(crossings);
        for one in sent {
            let at = ways.iter().position(|way| way.sent == Some(one.number));
            let way = at.map(|at| ways.remove(at));
            self.sent_line(one);
            match way {
                Some(way) => self.hops(way),
                None => self.line("  nothing"),
            }
        }
        for way in ways {
            if let Some(number) = way.sent {
                self.line(format!("{number} goes on"));
            }
            self.hops(way);
        }
    }

    /// Every frame that left an element, by the packet it is of. Of one packet they are in the
    /// order of its way, whatever other packets do (spec CASE-6).
    fn ways<'c>(&self, crossings: &'c [Crossing]) -> Vec<Way<'c>> {
        let mut ways: Vec<Way<'c>> = Vec::new();
        for crossing in crossings.iter().filter(|crossing| crossing.direction == Direction::Out) {
            let Some(parts) = parts(&crossing.frame) else { continue };
            if parts.ethertype == ethernet::ARP && !self.instance.arp {
                continue;
            }
            let ip = (parts.ethertype == ethernet::IPV4).then_some(parts.payload);
            let packet = ip.and_then(Packet::read);
            let sent = packet.as_ref().and_then(|packet| self.sent_as(packet));
            let same = |way: &&mut Way<'_>| match (&packet, sent) {
                (Some(_), Some(number)) => way.sent == Some(number),
                (Some(packet), None) => way.sent.is_none() && continues(&way.packet, packet),
                (None, _) => false,
            };
            match ways.iter_mut().find(same) {
                Some(way) => way.hops.push((crossing, packet)),
                None => {
                    let nothing = || Packet::new([0; 4].into(), [0; 4].into(), Body::Bare(0));
                    let of = packet.clone().unwrap_or_else(nothing);
                    ways.push(Way { sent, packet: of, hops: vec![(crossing, packet)] });
                }
            }
        }
        for way in &mut ways {
            let mut order: Vec<Socket> = Vec::new();
            for (crossing, _) in &way.hops {
                if !order.contains(&crossing.socket) {
                    order.push(crossing.socket);
                }
            }
            way.hops.sort_by_key(|(c, _)| order.iter().position(|socket| *socket == c.socket));
        }
        ways
    }

    /// The newest packet sent that this one is.
    fn sent_as(&self, packet: &Packet) -> Option<u16> {
        let same = |(_, (sent, _)): &(&u16, &(Packet, _))| continues(sent, packet);
        self.sent.iter().rev().find(same).map(|(number, _)| *number)
    }

    fn sent_line(&mut self, sent: &Sent) {
        let name = self.instance.names.of(sent.from);
        let usual = host_macs(&self.instance.lab, sent.from);
        let first = sent.frames.first().map(Vec::as_slice).unwrap_or_default();
        let parts = parts(first);
        let wire = parts.as_ref().map(|parts| wire_words(parts, usual)).unwrap_or_default();
        let Some((packet, _)) = self.sent.get(&sent.number) else {
            let text = parts.map_or_else(|| "a torn frame".to_owned(), |parts| stranger(&parts));
            return self.line(format!("{} {name}: {wire}{text}", sent.number));
        };
        let id =
            if packet.id == sent.number { String::new() } else { format!(" id={}", packet.id) };
        let pieces = sent.frames.len();
        let cut = if pieces > 1 { format!(" in {pieces} fragments") } else { String::new() };
        let fields = self.fields(&packet.clone());
        let text = words(&fields);
        if let Some((_, last)) = self.sent.get_mut(&sent.number) {
            *last = fields;
        }
        self.line(format!("{} {name}: {wire}{text}{id}{cut}", sent.number));
    }

    /// The lines of a packet's way: the first of a packet that an element made says it all, every
    /// other one what is different from the line before.
    fn hops(&mut self, way: Way<'_>) {
        let mut last = way.sent.and_then(|number| Some(self.sent.get(&number)?.1.clone()));
        for (crossing, packet) in way.hops {
            let lab = &self.instance.lab;
            let Some(parts) = parts(&crossing.frame) else { continue };
            let wire = wire_words(&parts, macs(lab, crossing.socket));
            let place = self.instance.names.place(lab, crossing.socket);
            let Some(packet) = packet else {
                self.line(format!("+ {place}: {wire}{}", stranger(&parts)));
                continue;
            };
            let fields = self.fields(&packet);
            let (begin, text) = match &last {
                None => ("+", words(&fields)),
                Some(last) => (" ", changes(last, &fields)),
            };
            last = Some(fields);
            self.line(format!("{begin} {place}: {wire}{text}").trim_end().to_owned());
        }
        if let (Some(number), Some(last)) = (way.sent, last)
            && let Some((_, known)) = self.sent.get_mut(&number)
        {
            *known = last;
        }
    }

    fn fields(&mut self, packet: &Packet) -> Vec<Field> {
        let mut fields = packet.fields();
        for (_, text) in &mut fields {
            *text = self.ports.rename(text);
        }
        fields
    }
}

/// How a line begins that only some datapaths can judge.
pub(super) const DROPS: &str = "drops ";
/// What such a line says where the datapath cannot.
pub(super) const NOT_JUDGED: &str = "not judged";

/// Whether a packet that was seen is this one, on its way: it has its identification and is of the
/// same kind. Neither translation nor forwarding changes those (spec CASE-6).
fn continues(sent: &Packet, seen: &Packet) -> bool {
    let kind = |packet: &Packet| match &packet.body {
        Body::Tcp(tcp) => (u16::from(tcp.flags), packet.data.len()),
        Body::Icmp { kind, .. } => (u16::from(kind.kind) << 8 | u16::from(kind.code), 0),
        Body::Udp { .. } | Body::Bare(_) => (0, packet.data.len()),
    };
    let pieces = [sent, seen].iter().any(|packet| packet.more || packet.offset > 0);
    sent.id == seen.id && sent.protocol() == seen.protocol() && (pieces || kind(sent) == kind(seen))
}

/// What is to be said of a frame's Ethernet header: MACs that are not those of its wire, tags.
fn wire_words(parts: &Parts<'_>, usual: Option<(Mac, Mac)>) -> String {
    let mut text = String::new();
    if usual != Some((parts.src, parts.dst)) {
        text += &format!("mac={}>{} ", parts.src, parts.dst);
    }
    for tag in &parts.tags {
        let (priority, vid) = (tag >> 12, tag & 0x0fff);
        let priority = if priority > 0 { format!("/{priority}") } else { String::new() };
        text += &format!("vlan={vid}{priority} ");
    }
    text
}

/// A frame that is no IPv4 packet.
fn stranger(parts: &Parts<'_>) -> String {
    match (parts.ethertype, Arp::parse(parts.payload)) {
        (ethernet::ARP, Some(arp)) if arp.operation == Operation::Request => {
            format!("arp who-has {} tell {}", arp.target_ip, arp.sender_ip)
        }
        (ethernet::ARP, Some(arp)) => {
            format!("arp {} is-at {} to {}", arp.sender_ip, arp.sender_mac, arp.target_ip)
        }
        (ethertype, _) => {
            let payload: String = parts.payload.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("ethertype={ethertype:#06x} {payload}")
        }
    }
}

fn words(fields: &[Field]) -> String {
    fields.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(" ")
}

/// The fields that are not as they were; those that are gone as `NAME=-`.
fn changes(before: &[Field], now: &[Field]) -> String {
    let gone = before.iter().filter(|(name, _)| !now.iter().any(|(other, _)| other == name));
    let gone = gone.map(|(name, _)| format!("{name}=-"));
    let new = now.iter().filter(|field| !before.contains(field)).map(|(_, text)| text.clone());
    new.chain(gone).collect::<Vec<_>>().join(" ")
}

/// Ports that are compared only by which are the same (spec CASE-8).
struct Ports {
    /// `None` where every port is compared as it is.
    known: Option<BTreeSet<u16>>,
    drawn: Vec<u16>,
}

impl Ports {
    fn new(instance: &Instance) -> Self {
        let known = instance.random_ports.then(|| {
            let services = instance.lab.services.iter().flat_map(|service| &service.ports);
            let mut known: BTreeSet<u16> =
                services.flat_map(|port| [port.port, port.target_port]).collect();
            known.extend(instance.said().flat_map(|spec| [spec.ports.0, spec.ports.1]));
            known
        });
        Self { known, drawn: Vec::new() }
    }

    /// A text with `~1`, `~2`, ... in place of drawn ports, in the order of their appearance.
    fn rename(&mut self, text: &str) -> String {
        let Some(known) = &self.known else { return text.to_owned() };
        let mut renamed = String::new();
        for (number, word) in text.split(' ').enumerate() {
            if number > 0 {
                renamed.push(' ');
            }
            let port = port_in(word).filter(|(_, port)| *port != 0 && !known.contains(port));
            let Some((at, port)) = port else {
                renamed += word;
                continue;
            };
            let drawn = self.drawn.iter().position(|known| *known == port).unwrap_or_else(|| {
                self.drawn.push(port);
                self.drawn.len() - 1
            });
            renamed += &format!("{}~{}", &word[..at], drawn + 1);
        }
        renamed
    }
}

/// The port at the end of `1.2.3.4:80`, `sport=80` or `dport=80`, and where it begins.
fn port_in(word: &str) -> Option<(usize, u16)> {
    let (before, port) = word.rsplit_once([':', '='])?;
    let address = before.trim_start_matches('[').parse::<std::net::Ipv4Addr>().is_ok();
    let named = matches!(before, "sport" | "dport");
    (address || named).then_some(())?;
    Some((before.len() + 1, port.parse().ok()?))
}
