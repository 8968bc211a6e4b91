//! Connection tracking: one entry a flow, which carries both NATs (kernel:
//! net/netfilter/nf_conntrack_core.c; spec CT).

mod tcp;

use std::net::Ipv4Addr;
use std::time::Duration;

use bitflags::bitflags;

pub use tcp::TcpState;

use super::flow_cache::LearnedPath;
use crate::table::{Direction, FlowTable, Handle, InsertError, Patrol};
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Packet, Protocol, Transport, Tuple, tcp::Flags};

/// UDP without an answer, in seconds (spec CT-14).
const UDP_UNREPLIED: u64 = 30;
/// UDP with packets both ways.
const UDP_STREAM: u64 = 120;
/// A UDP flow younger than this stays unreplied in its timeout.
const UDP_STREAM_AFTER: Duration = Duration::from_secs(2);
/// ICMP queries.
const ICMP: u64 = 30;
/// Everything else.
const GENERIC: u64 = 600;

bitflags! {
    /// What an entry has been through.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Status: u8 {
        /// A packet of the reply direction has passed.
        const SEEN_REPLY = 1;
        /// Not to be given up early.
        const ASSURED = 2;
        /// The source is translated: masquerade, or a moved port.
        const SRC_NAT = 4;
        /// A reset has ended it; it is found no more.
        const DYING = 8;
    }
}

/// One flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it has been through.
    pub status: Status,
    /// State of a TCP flow; `None` for other protocols.
    pub tcp: Option<TcpState>,
    /// When it ends unless a packet comes.
    pub deadline: Time,
    /// When its first packet came.
    pub created: Time,
    /// From which side the last segment was a reset.
    last_rst: Option<Direction>,
    /// Whether a side has closed in order.
    closing: bool,
}

impl Entry {
    /// The state's name as `conntrack -L` prints it; `None` for what is not TCP.
    #[must_use]
    pub fn state_name(&self) -> Option<&'static str> {
        self.tcp.map(TcpState::name)
    }
}

/// A flow whose first packet is still on its way; it enters the table when confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewFlow {
    /// The first packet as it came.
    pub original: Tuple<Ipv4Addr>,
    /// The answer as it will come; ipvs and masquerade change it.
    pub reply: Tuple<Ipv4Addr>,
    /// The entry to be.
    entry: Entry,
}

impl NewFlow {
    /// Notes that the source is translated.
    pub fn set_src_nat(&mut self) {
        self.entry.status |= Status::SRC_NAT;
    }
}

/// What conntrack knows of the packet at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// First packet of a flow.
    New(NewFlow),
    /// A packet of a flow in the table.
    Known(Handle, Direction),
    /// An ICMP error about a packet of a flow, which it does not renew; in which direction the
    /// answer to the quoted packet goes.
    Related(Handle, Direction),
    /// Belongs to no flow.
    Invalid,
    /// Kept out of conntrack by ipvs.
    Untracked,
}

/// The record of a flow: its entry, and the way its packets go, once learned.
#[derive(Debug)]
struct Flow {
    entry: Entry,
    original: Option<LearnedPath>,
    reply: Option<LearnedPath>,
}

impl Flow {
    const fn new(entry: Entry) -> Self {
        Self { entry, original: None, reply: None }
    }
}

/// The table of flows, bounded.
#[derive(Debug)]
pub struct Conntrack {
    flows: FlowTable<Tuple<Ipv4Addr>, Flow>,
    patrol: Patrol,
}

impl Conntrack {
    /// An empty table for `limit` flows; `seed` keys its hashes.
    #[must_use]
    pub fn new(limit: u32, seed: u64) -> Self {
        Self { flows: FlowTable::with_limit(limit, seed), patrol: Patrol::new(limit) }
    }

    /// Finds the packet's flow and moves its state, or begins a new one (nf_conntrack_in).
    pub fn track(&mut self, packet: &Packet<Ipv4Addr>, now: Time) -> Tracked {
        // A SYN that reopens a closed flow ends the old one and is looked at once more.
        for _ in 0..2 {
            let Some((handle, direction)) = self.find(&packet.tuple, now) else {
                return Self::begin(packet, now).map_or(Tracked::Invalid, Tracked::New);
            };
            match self.update(handle, direction, packet, now) {
                Update::Accept => return Tracked::Known(handle, direction),
                Update::Invalid => return Tracked::Invalid,
                Update::Reopen => self.remove(handle),
            }
        }
        Tracked::Invalid
    }

    /// Finds the flow of the packet that an ICMP error to `receiver` quotes
    /// (nf_conntrack_inet_error). It is told to the quoted packet's sender and to nobody else.
    pub fn relate(&mut self, quoted: &Tuple<Ipv4Addr>, receiver: Ipv4Addr, now: Time) -> Tracked {
        let found = quoted.inverse().and_then(|answer| self.find(&answer, now));
        match found.filter(|_| quoted.src == receiver) {
            Some((handle, direction)) => Tracked::Related(handle, direction),
            None => Tracked::Invalid,
        }
    }

    fn begin(packet: &Packet<Ipv4Addr>, now: Time) -> Option<NewFlow> {
        let (tcp, timeout) = match packet.transport {
            Transport::Tcp { flags, .. } => {
                let state = TcpState::first(flags)?;
                (Some(state), state.timeout())
            }
            Transport::Udp { .. } => (None, UDP_UNREPLIED),
            // An error belongs to the flow of the packet it quotes, or to none.
            Transport::Icmp { kind: 8 | 13 | 15 | 17, .. } => (None, ICMP),
            Transport::Icmp { .. } => return None,
            Transport::Other => (None, GENERIC),
        };
        Some(NewFlow {
            original: packet.tuple,
            reply: packet.tuple.inverse()?,
            entry: Entry {
                status: Status::empty(),
                tcp,
                deadline: now + Duration::from_secs(timeout),
                created: now,
                last_rst: None,
                closing: false,
            },
        })
    }

    fn update(
        &mut self,
        handle: Handle,
        direction: Direction,
        packet: &Packet<Ipv4Addr>,
        now: Time,
    ) -> Update {
        let Some(Flow { entry, .. }) = self.flows.get_mut(handle) else { return Update::Invalid };
        let timeout = match (entry.tcp, packet.transport) {
            (Some(_), Transport::Tcp { flags, .. }) => match entry.tcp_update(flags, direction) {
                TcpUpdate::Refresh(timeout) => timeout,
                TcpUpdate::Ignore => return Update::Accept,
                TcpUpdate::Invalid => return Update::Invalid,
                TcpUpdate::Reopen => return Update::Reopen,
            },
            (_, Transport::Udp { .. }) => entry.udp_timeout(now),
            (_, Transport::Icmp { .. }) => ICMP,
            _ => GENERIC,
        };
        entry.deadline = now + Duration::from_secs(timeout);
        if direction == Direction::Reply {
            entry.status |= Status::SEEN_REPLY;
        }
        Update::Accept
    }

    /// The living flow that has this tuple.
    pub fn find(&mut self, tuple: &Tuple<Ipv4Addr>, now: Time) -> Option<(Handle, Direction)> {
        let (handle, direction) = self.flows.find(tuple)?;
        if self.flows.get(handle)?.entry.lives(now) {
            return Some((handle, direction));
        }
        self.remove(handle);
        None
    }

    /// A flow's entry.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<&Entry> {
        self.flows.get(handle).map(|flow| &flow.entry)
    }

    /// Whether both sides have used the flow and it is not about to end.
    pub(super) fn is_established(&self, handle: Handle) -> bool {
        self.get(handle).is_some_and(Entry::is_established)
    }

    /// Keeps the way of a flow's packets in one direction.
    pub(super) fn learn(&mut self, handle: Handle, direction: Direction, path: LearnedPath) {
        if let Some(flow) = self.flows.get_mut(handle) {
            match direction {
                Direction::Original => flow.original = Some(path),
                Direction::Reply => flow.reply = Some(path),
            }
        }
    }

    /// The living, established flow that has this tuple, with the way learned for it.
    pub(super) fn learned(
        &self,
        tuple: &Tuple<Ipv4Addr>,
        now: Time,
    ) -> Option<((Handle, Direction), &LearnedPath)> {
        let (handle, direction) = self.flows.find(tuple)?;
        let flow = self.flows.get(handle)?;
        let path = match direction {
            Direction::Original => flow.original.as_ref(),
            Direction::Reply => flow.reply.as_ref(),
        };
        let holds = flow.entry.lives(now) && flow.entry.is_established();
        path.filter(|_| holds).map(|path| ((handle, direction), path))
    }

    /// Counts a plain packet into the established flow it belongs to.
    pub(super) fn pass(
        &mut self,
        (handle, direction): (Handle, Direction),
        packet: &Packet<Ipv4Addr>,
        now: Time,
    ) {
        // An acknowledgment, or a datagram, in an established flow is always accepted.
        let _ = self.update(handle, direction, packet, now);
    }

    /// A flow's original and reply tuple.
    #[must_use]
    pub fn tuples(&self, handle: Handle) -> Option<(Tuple<Ipv4Addr>, Tuple<Ipv4Addr>)> {
        self.flows.keys(handle).map(|(original, reply)| (*original, *reply))
    }

    /// Whether a flow other than the one at hand has this tuple.
    pub fn is_taken(&mut self, tuple: &Tuple<Ipv4Addr>, now: Time) -> bool {
        self.find(tuple, now).is_some()
    }

    /// Puts a new flow into the table, from where its next packets find it (spec CT-4).
    ///
    /// # Errors
    /// The reason for dropping the packet.
    pub fn confirm(&mut self, flow: &NewFlow, now: Time) -> Result<Handle, DropReason> {
        let handle = self.flows.insert(flow.original, flow.reply, Flow::new(flow.entry)).map_err(
            |e| match e {
                InsertError::Full => DropReason::FlowTableFull,
                InsertError::Clash(_) => DropReason::FlowClash,
            },
        )?;
        self.patrol.watch(handle.slot, flow.entry.deadline, now);
        Ok(handle)
    }

    /// Ends a flow.
    pub fn remove(&mut self, handle: Handle) {
        self.flows.remove(handle);
    }

    /// The next moment at which a flow may end.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        self.patrol.poll_at()
    }

    /// Removes flows past their deadline, at most `budget` looked at.
    pub fn expire(&mut self, now: Time, mut budget: usize) {
        while let Some(slot) = self.patrol.next_due(now, &mut budget) {
            let Some(handle) = self.flows.handle_at(slot) else { continue };
            match self.flows.get(handle) {
                Some(flow) if flow.entry.lives(now) => {
                    self.patrol.watch(slot, flow.entry.deadline, now);
                }
                _ => self.remove(handle),
            }
        }
    }

    /// Living flows with their tuples, in a fixed order.
    pub fn iter(
        &self,
        now: Time,
    ) -> impl Iterator<Item = (&Tuple<Ipv4Addr>, &Tuple<Ipv4Addr>, &Entry)> + '_ {
        self.flows
            .iter()
            .map(|(_, original, reply, flow)| (original, reply, &flow.entry))
            .filter(move |(.., entry)| entry.lives(now))
    }
}

/// What a packet does to its flow.
enum Update {
    Accept,
    Invalid,
    /// A SYN ends the closed flow and begins another.
    Reopen,
}

/// What a segment does to its flow.
enum TcpUpdate {
    /// The flow lives this many seconds more.
    Refresh(u64),
    /// Passes without changing anything.
    Ignore,
    Invalid,
    Reopen,
}

impl Entry {
    fn lives(&self, now: Time) -> bool {
        self.deadline > now && !self.status.contains(Status::DYING)
    }

    /// Whether both sides have used the flow and, of TCP, neither has begun to close it.
    fn is_established(&self) -> bool {
        self.status.contains(Status::SEEN_REPLY)
            && matches!(self.tcp, None | Some(TcpState::Established))
    }

    fn udp_timeout(&mut self, now: Time) -> u64 {
        let stream =
            self.status.contains(Status::SEEN_REPLY) && now > self.created + UDP_STREAM_AFTER;
        if !stream {
            return UDP_UNREPLIED;
        }
        self.status |= Status::ASSURED;
        UDP_STREAM
    }

    /// Moves the TCP state (nf_conntrack_tcp_packet, without the windows).
    fn tcp_update(&mut self, flags: Flags, direction: Direction) -> TcpUpdate {
        let Some(old) = self.tcp else { return TcpUpdate::Invalid };
        let new = match old.after(flags, direction) {
            tcp::Next::State(new) => new,
            tcp::Next::Ignore => return TcpUpdate::Ignore,
            tcp::Next::Invalid => return TcpUpdate::Invalid,
        };
        let reopens =
            new == TcpState::SynSent && matches!(old, TcpState::TimeWait | TcpState::Close);
        if reopens {
            let ended = self.closing || self.last_rst == Some(direction);
            return if ended { TcpUpdate::Reopen } else { TcpUpdate::Ignore };
        }
        let reset = flags.contains(Flags::RST);
        self.last_rst = reset.then_some(direction);
        if old != new && new == TcpState::FinWait {
            self.closing = true;
        }
        let seen_reply = self.status.contains(Status::SEEN_REPLY);
        if reset && !seen_reply {
            // The other side refused: the flow never was.
            self.status |= Status::DYING;
            return TcpUpdate::Ignore;
        }
        if new == TcpState::Established
            && seen_reply
            && matches!(old, TcpState::SynRecv | TcpState::Established)
        {
            self.status |= Status::ASSURED;
        }
        self.tcp = Some(new);
        TcpUpdate::Refresh(new.timeout())
    }
}

/// Whether the protocol has ports or an identifier that a clash of tuples can move.
#[must_use]
pub(super) const fn has_port(proto: Protocol) -> bool {
    matches!(proto, Protocol::TCP | Protocol::UDP | Protocol::ICMP)
}
