//! Plays an instance on a datapath and keeps what is seen.

use std::time::Duration;

use datapath::lab::Lab;
use datapath::link::{Direction, HostId, Peer, peer_of};
use datapath::wire::ethernet;
use serde::{Deserialize, Serialize};

use super::bed::{Bed, CannotJudge, CaseDatapath, Crossing, Timed};
use super::file::{Close, Depth, Side, TableKind};
use super::flows::{Flows, Outgoing};
use super::frame::parts;
use super::instance::{Burst, Instance, Step};
use super::names::address_of;
use super::packet::Packet;
use super::spec::{Spec, What};
use crate::journey::Recording;

/// Connections of a burst whose packets are on their way at the same time.
const TOGETHER: u16 = 64;

/// Everything that was seen of an instance, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The steps.
    pub steps: Vec<Seen>,
    /// The datapath's own clock after each step of the timeline; empty where time passes only as
    /// the case says.
    pub clock: Vec<Duration>,
}

/// What came of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// Packets were sent, or time passed.
    Packets {
        /// What happened beside packets: `advance 60s`.
        title: Option<String>,
        /// What was sent.
        sent: Vec<Sent>,
        /// Every frame that crossed a port.
        crossings: Vec<Crossing>,
    },
    /// Who got each connection of a burst.
    Picks(String),
    /// A table of a node.
    Table {
        /// The node's name.
        node: String,
        /// Which table.
        table: String,
        /// Its entries.
        entries: Vec<Timed>,
        /// Whether they have a time.
        timed: bool,
    },
    /// What an element has dropped; `None` where the datapath cannot tell.
    Drops {
        /// Its name.
        element: String,
        /// `REASON COUNT` each.
        drops: Option<Vec<String>>,
    },
}

/// A packet that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Its number in the instance, which is its identification unless the case says otherwise.
    pub number: u16,
    /// Who sent it.
    pub from: HostId,
    /// Its bytes before it was cut into fragments; empty for a frame that stands as it is.
    pub packet: Vec<u8>,
    /// Its frames.
    pub frames: Vec<Vec<u8>>,
}

/// An instance that has been played.
#[derive(Debug)]
pub struct Played {
    /// What was seen.
    pub observation: Observation,
    /// The ways of the packets, where the datapath keeps them.
    pub recording: Option<Recording>,
}

/// Plays an instance.
///
/// # Errors
/// What kept it from being played; [`CannotJudge`] where the datapath has no means to.
pub fn play(datapath: &dyn CaseDatapath, instance: &Instance) -> anyhow::Result<Played> {
    play_by_clock(datapath, instance, &[])
}

/// Plays an instance with as much time passing in each of its steps as passed on a datapath with
/// this clock (spec ORA-8).
///
/// # Errors
/// As [`play`].
pub fn play_by_clock(
    datapath: &dyn CaseDatapath,
    instance: &Instance,
    clock: &[Duration],
) -> anyhow::Result<Played> {
    let bed = datapath.start(&instance.lab, &instance.lab_text)?;
    let mut player = Player {
        lab: instance.lab.clone(),
        instance,
        bed,
        flows: Flows::default(),
        number: 0,
        observation: Observation::default(),
    };
    let mut passed = Duration::ZERO;
    for (number, step) in instance.timeline.iter().enumerate() {
        let took = clock.get(number).map(|at| at.saturating_sub(passed));
        passed += took.unwrap_or_default();
        player.step(step, took)?;
        player.observation.clock.extend(player.bed.clock());
    }
    let Player { mut bed, observation, .. } = player;
    Ok(Played { observation, recording: bed.recording() })
}

struct Player<'a> {
    instance: &'a Instance,
    /// The lab as it is now.
    lab: Lab,
    bed: Box<dyn Bed>,
    flows: Flows,
    /// Packets sent so far.
    number: u16,
    observation: Observation,
}

impl Player<'_> {
    /// Plays a step, in as much time as it `took` elsewhere where that is said.
    fn step(&mut self, step: &Step, took: Option<Duration>) -> anyhow::Result<()> {
        let done = match step {
            Step::Advance(by) => return self.advance(*by, took.unwrap_or(*by)),
            Step::Packets(specs) => self.packets(specs).map(drop),
            Step::Open(syn) => self.open(syn),
            Step::Frames(frames) => self.frames(frames),
            Step::Burst(burst) => self.burst(burst),
            Step::Apply(lab, text) => {
                self.bed.apply(lab, text)?;
                self.lab = (**lab).clone();
                let title = Some("apply".to_owned());
                self.watched(title, Vec::new()).map(drop)
            }
            Step::Tables(node, kinds) => self.tables(*node, kinds),
            Step::Drops(elements) => {
                for element in elements {
                    let drops = match self.bed.drops(*element) {
                        Ok(drops) => Some(drops),
                        Err(error) if error.is::<CannotJudge>() => None,
                        Err(error) => return Err(error),
                    };
                    let element = element.name(&self.lab).to_owned();
                    self.observation.steps.push(Seen::Drops { element, drops });
                }
                Ok(())
            }
        };
        done?;
        took.map_or(Ok(()), |took| self.bed.advance(took))
    }

    /// Sends packets and keeps what came of them. The hosts that got one.
    fn packets(&mut self, specs: &[Spec]) -> anyhow::Result<Vec<HostId>> {
        let sent = specs.iter().map(|spec| self.send(spec)).collect::<anyhow::Result<Vec<_>>>()?;
        self.watched(None, sent.into_iter().flatten().collect())
    }

    /// Sends a packet; `None` for an answer to nothing.
    fn send(&mut self, spec: &Spec) -> anyhow::Result<Option<Sent>> {
        let made = self.flows.make(&self.lab, spec, self.number.wrapping_add(1));
        let Some(Outgoing { packet, frames }) = made else { return Ok(None) };
        self.number = self.number.wrapping_add(1);
        for frame in &frames {
            self.bed.send(spec.from, frame)?;
        }
        Ok(Some(Sent { number: self.number, from: spec.from, packet: packet.bytes(), frames }))
    }

    /// Waits for what comes of a step and keeps it. The hosts that got a packet, in order.
    fn watched(&mut self, title: Option<String>, sent: Vec<Sent>) -> anyhow::Result<Vec<HostId>> {
        let crossings = self.bed.settle()?;
        let reached = self.arrivals(&crossings).into_iter().map(|(host, _)| host).collect();
        self.observation.steps.push(Seen::Packets { title, sent, crossings });
        Ok(reached)
    }

    /// The IPv4 packets that reached hosts, which the hosts remember.
    fn arrivals(&mut self, crossings: &[Crossing]) -> Vec<(HostId, Packet)> {
        let mut arrived = Vec::new();
        for crossing in crossings.iter().filter(|c| c.direction == Direction::Out) {
            let Some(Peer::Host(host)) = peer_of(&self.lab, crossing.socket) else { continue };
            let Some(parts) = parts(&crossing.frame).filter(|p| p.ethertype == ethernet::IPV4)
            else {
                continue;
            };
            if let Some(packet) = Packet::read(parts.payload) {
                self.flows.arrive(host, &packet);
                arrived.push((host, packet));
            }
        }
        arrived
    }

    /// A handshake. It ends where nobody gets the SYN, or the client no answer.
    fn open(&mut self, syn: &Spec) -> anyhow::Result<()> {
        let reached = self.packets(std::slice::from_ref(syn))?;
        let Some(server) = reached.into_iter().find(|host| *host != syn.from) else {
            return Ok(());
        };
        let reached = self.packets(&[reply(server, "SA")])?;
        if reached.contains(&syn.from) {
            self.packets(&[reply(syn.from, "A")])?;
        }
        Ok(())
    }

    fn frames(&mut self, frames: &[(HostId, Vec<u8>)]) -> anyhow::Result<()> {
        let mut sent = Vec::new();
        for (from, frame) in frames {
            self.bed.send(*from, frame)?;
            self.number = self.number.wrapping_add(1);
            let parts = parts(frame).filter(|p| p.ethertype == ethernet::IPV4);
            let packet = parts.map(|parts| parts.payload.to_vec()).unwrap_or_default();
            let frames = vec![frame.clone()];
            sent.push(Sent { number: self.number, from: *from, packet, frames });
        }
        self.watched(None, sent).map(drop)
    }

    /// Lets time pass: as much as the case says, or really.
    fn advance(&mut self, said: Duration, really: Duration) -> anyhow::Result<()> {
        self.bed.advance(really)?;
        let title = format!("advance {}", humantime::format_duration(said));
        self.watched(Some(title), Vec::new()).map(drop)
    }

    fn tables(&mut self, node: usize, kinds: &[TableKind]) -> anyhow::Result<()> {
        let tables = self.bed.tables(node)?;
        let name = self.lab.nodes.get(node).map_or("?", |node| &node.name);
        for kind in kinds {
            let (entries, timed) = match kind {
                TableKind::Services => {
                    let asked = self.instance.destinations();
                    let each = tables.services.iter().filter(|entry| {
                        entry.split(' ').nth(1).is_some_and(|server| asked.contains(server))
                    });
                    (each.map(|entry| Timed { entry: entry.clone(), seconds: 0 }).collect(), false)
                }
                TableKind::Connections => (tables.connections.clone(), true),
                TableKind::Conntrack => (tables.conntrack.clone(), true),
            };
            let (node, table) = (name.to_owned(), kind.name().to_owned());
            self.observation.steps.push(Seen::Table { node, table, entries, timed });
        }
        Ok(())
    }

    /// Opens many connections. Where none is closed again many are on their way at once, which
    /// gives the same picks: their first packets still come one behind the other.
    fn burst(&mut self, burst: &Burst) -> anyhow::Result<()> {
        let mut picks = Vec::new();
        let together = if burst.close.is_some() { 1 } else { TOGETHER };
        for begin in (0..burst.count).step_by(together.into()) {
            let end = begin.saturating_add(together).min(burst.count);
            self.round(burst, begin..end, &mut picks)?;
        }
        let short = picks.iter().all(|pick| pick.len() == 1);
        let picks = picks.join(if short { "" } else { " " });
        self.observation.steps.push(Seen::Picks(picks));
        Ok(())
    }

    /// Opens the connections with these numbers.
    fn round(
        &mut self,
        burst: &Burst,
        numbers: std::ops::Range<u16>,
        picks: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let mut firsts = Vec::new();
        for number in numbers.clone() {
            let spec = burst.packet(number);
            firsts.extend(self.send(&spec)?.map(|sent| (spec, sent.number)));
        }
        let arrived = self.settled()?;
        let mut open = Vec::new();
        for (spec, id) in firsts {
            let mut got = arrived.iter().filter(|(host, p)| p.id == id && *host != spec.from);
            let server = got.next();
            picks.push(match server {
                Some((host, _)) => self.instance.names.of(*host).to_owned(),
                None if self.refused(&spec, &arrived) => "-".to_owned(),
                None => ".".to_owned(),
            });
            open.extend(server.map(|(host, packet)| (spec, *host, packet.clone())));
        }
        if burst.depth == Depth::Full {
            self.handshakes(&open)?;
        }
        let every = burst.close.map(|close| (close, numbers.end));
        if let Some((close, opened)) = every
            && opened % close.every == 0
        {
            for (spec, server, packet) in &open {
                self.close(close, spec, *server, packet)?;
            }
        }
        Ok(())
    }

    /// Whether the sender of a first packet was told that it will not be served.
    fn refused(&self, spec: &Spec, arrived: &[(HostId, Packet)]) -> bool {
        let own = spec.src.or_else(|| address_of(&self.lab, spec.from));
        arrived.iter().any(|(host, packet)| {
            let mine = *host == spec.from && Some(packet.dst) == own;
            let port = match packet.ports() {
                Some((_, to)) => Some(to),
                None => Packet::read(&packet.data).and_then(|quoted| Some(quoted.ports()?.0)),
            };
            mine && port == Some(spec.ports.0)
        })
    }

    /// The second and the third segment of every connection.
    fn handshakes(&mut self, open: &[(Spec, HostId, Packet)]) -> anyhow::Result<()> {
        for (_, server, packet) in open {
            self.send(&turned(*server, packet, "SA"))?;
        }
        self.settled()?;
        for (spec, ..) in open {
            self.send(&Spec { what: flags("A"), ..spec.clone() })?;
        }
        self.settled().map(drop)
    }

    fn close(
        &mut self,
        close: Close,
        spec: &Spec,
        server: HostId,
        packet: &Packet,
    ) -> anyhow::Result<()> {
        let client = |text| Spec { what: flags(text), ..spec.clone() };
        let server = |text| turned(server, packet, text);
        let segments = match close.by {
            Side::Client => [client("FA"), server("FA"), client("A")],
            Side::Server => [server("FA"), client("FA"), server("A")],
        };
        for segment in segments {
            self.send(&segment)?;
            self.settled()?;
        }
        Ok(())
    }

    /// What has reached hosts, of which nothing is kept.
    fn settled(&mut self) -> anyhow::Result<Vec<(HostId, Packet)>> {
        let crossings = self.bed.settle()?;
        Ok(self.arrivals(&crossings))
    }
}

fn flags(letters: &str) -> What {
    What::Tcp(super::packet::flags_of(letters).unwrap_or(0))
}

/// A segment in answer to what last reached a host.
fn reply(from: HostId, letters: &str) -> Spec {
    Spec { from, src: None, to: None, ports: (0, 0), what: flags(letters), settings: Vec::new() }
}

/// A segment of the host that got `packet`, in answer to that one.
fn turned(from: HostId, packet: &Packet, letters: &str) -> Spec {
    let (to, own) = packet.ports().unwrap_or_default();
    Spec { src: Some(packet.dst), to: Some(packet.src), ports: (own, to), ..reply(from, letters) }
}
