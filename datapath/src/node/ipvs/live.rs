//! What ipvs has at work: virtual services with their destinations as they are now, and the
//! connections that count on them (kernel: net/netfilter/ipvs/ip_vs_ctl.c; spec IPVS).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::change::Change;
use super::connection::{Connection, NewConnection, Toa};
use super::connection_table::{ConnectionTable, Passed};
use super::defence::Defence;
use super::local_address::LocalAddresses;
use super::scheduler::{Pool, Request, Scheduling};
use super::service::{Destination, Persistence, ServiceKey, VirtualService, bits};
use super::stats::Stats;
use super::tcp_state::State;
use crate::lab::{IpvsSwitches, Scheduler};
use crate::table::{Direction, Handle, Slab};
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Plain, Protocol, Tuple, tcp::Flags};

/// Destinations of a node, those that only connections still know included (spec LAW-6).
const MOST_SERVERS: u32 = 2 * crate::lab::MOST_DESTINATIONS;

/// A destination at work. It outlives its place in the service for as long as connections know it,
/// and is the same again when it comes back before that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The virtual service it belongs to.
    pub service: ServiceKey,
    /// Address, weight and thresholds.
    pub destination: Destination,
    /// Connections in SYN_RECV, ESTABLISHED and the like.
    pub active: u32,
    /// All other connections.
    pub inactive: u32,
    /// Templates of persistent clients.
    pub persistent: u32,
    /// Whether its service has it.
    pub linked: bool,
    /// Whether it rests, having had as many connections as its upper threshold allows.
    pub overloaded: bool,
    /// Its weight, or the last one that was not 0.
    pub last_weight: u32,
    /// What it has counted while its service had it.
    pub stats: Stats,
}

/// A virtual service at work.
#[derive(Clone, Debug)]
pub struct Service {
    /// How it is set up; its list of destinations is how they were when it was added.
    pub setup: VirtualService,
    /// Its destinations in the kernel's order: the last one added is the first.
    pub servers: Vec<Handle>,
    scheduling: Scheduling,
    /// What destinations have counted that it has no longer.
    past: Stats,
}

impl Server {
    /// Whether nothing needs it any more.
    const fn is_unused(&self) -> bool {
        !self.linked && self.active + self.inactive + self.persistent == 0
    }

    /// Counts a packet of so many bytes, as long as its service has it.
    const fn count(&mut self, direction: Direction, bytes: u16) {
        if self.linked {
            self.stats.count(direction, bytes);
        }
    }

    /// The count that a connection is in.
    const fn count_of(&mut self, connection: &Connection) -> &mut u32 {
        if connection.is_template() {
            &mut self.persistent
        } else if connection.state.is_active() {
            &mut self.active
        } else {
            &mut self.inactive
        }
    }
}

impl Service {
    /// The destination that its scheduler gives the first packet of a connection.
    fn schedule(
        &mut self,
        servers: &Slab<Server>,
        packet: &Tuple<Ipv4Addr>,
        now: Time,
    ) -> Option<Handle> {
        let request = Request { packet, flags: self.setup.flags, now };
        self.scheduling.pick(Pool::new(&self.servers, servers), request)
    }
}

/// Whether a template's destination still takes its client's connections.
fn takes_followers(servers: &Slab<Server>, switches: &IpvsSwitches, server: Handle) -> bool {
    let quiescent = switches.expire_quiescent_template;
    servers.get(server).is_some_and(|s| s.linked && !(quiescent && s.destination.weight == 0))
}

/// What is to be done with a packet whose request has a connection already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) enum Reuse {
    /// The packet belongs to it.
    Keep,
    /// The connection ends; the packet may begin another.
    Anew,
    /// The packet is dropped: the destination is gone, the connection stays.
    Unavailable,
}

/// Why a packet begins no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) enum NotScheduled {
    /// The service has no destination for it.
    NoDestination,
    /// The connection table is full.
    Full,
}

/// A destination, and the template it comes from where the service is persistent; or why there is
/// none.
pub(in crate::node) type Picked = Result<(Handle, Option<Handle>), NotScheduled>;

/// ipvs of one node.
#[derive(Debug)]
pub struct Ipvs {
    /// By the bits of their keys, which have the order of the keys.
    services: BTreeMap<u64, Service>,
    servers: Slab<Server>,
    /// Destinations that only connections still know.
    left: BTreeMap<(ServiceKey, (Ipv4Addr, u16)), Handle>,
    pub(super) connections: ConnectionTable,
    pub(super) defence: Defence,
    local_addresses: LocalAddresses,
    /// Whether a service is in mode fnat.
    has_fnat: bool,
    /// Seeds the schedulers that draw.
    seed: u64,
    pub(super) switches: IpvsSwitches,
}

impl Ipvs {
    /// Nothing yet, with room for `limit` connections; `seed` keys its hashes.
    #[must_use]
    pub fn new(limit: u32, seed: u64, local_addresses: LocalAddresses) -> Self {
        Self {
            connections: ConnectionTable::new(limit, !local_addresses.is_empty(), seed),
            local_addresses,
            has_fnat: false,
            services: BTreeMap::new(),
            servers: Slab::with_capacity(MOST_SERVERS),
            left: BTreeMap::new(),
            defence: Defence::new(seed),
            seed,
            switches: IpvsSwitches::default(),
        }
    }

    /// Touches all memory of connections and of local addresses in use.
    pub fn populate(&mut self) {
        self.connections.populate();
        self.local_addresses.populate();
    }

    /// Sets the switches; timeouts hold from each connection's next packet on.
    pub const fn set(&mut self, switches: IpvsSwitches) {
        self.defence.set(switches.drops_always());
        self.switches = switches;
    }

    /// Makes the changes, in order.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            match change {
                Change::AddService(setup) => {
                    let none = Pool::new(&[], &self.servers);
                    let scheduling = Scheduling::new(setup.scheduler, none, self.seed);
                    let (servers, past) = (Vec::new(), Stats::default());
                    let service = Service { setup, servers, scheduling, past };
                    self.services.insert(bits(service.setup.key()), service);
                }
                Change::EditService(setup) => self.edit_service(setup),
                Change::DeleteService(key) => self.delete_service(key),
                Change::AddDestination(key, destination) => self.add_server(key, destination),
                Change::EditDestination(key, destination) => self.edit_server(key, destination),
                Change::DeleteDestination(key, address) => self.delete_server(key, address),
            }
        }
        self.has_fnat = false;
        let setups = self.services.values().map(|service| &service.setup);
        for (setup, fnat) in setups.filter_map(|setup| Some((setup, setup.fnat.as_ref()?))) {
            self.has_fnat = true;
            self.local_addresses.set_up(setup.key(), &fnat.local_addresses);
        }
    }

    fn edit_service(&mut self, setup: VirtualService) {
        let Some(service) = self.services.get_mut(&bits(setup.key())) else { return };
        if service.setup.scheduler != setup.scheduler {
            let pool = Pool::new(&service.servers, &self.servers);
            service.scheduling = Scheduling::new(setup.scheduler, pool, self.seed);
        }
        service.setup = setup;
    }

    fn delete_service(&mut self, key: ServiceKey) {
        let Some(service) = self.services.remove(&bits(key)) else { return };
        self.local_addresses.forget(key);
        for handle in service.servers {
            if let Some(server) = self.servers.get_mut(handle) {
                server.stats = Stats::default();
            }
            self.unlink(handle);
        }
    }

    fn add_server(&mut self, key: ServiceKey, destination: Destination) {
        let Some(service) = self.services.get_mut(&bits(key)) else { return };
        let handle = if let Some(handle) = self.left.remove(&(key, destination.address())) {
            let Some(server) = self.servers.get_mut(handle) else { return };
            server.last_weight = 0;
            server.set_up(destination);
            server.linked = true;
            service.past -= server.stats;
            handle
        } else {
            let server = Server {
                service: key,
                destination,
                active: 0,
                inactive: 0,
                persistent: 0,
                linked: true,
                overloaded: false,
                last_weight: destination.weight,
                stats: Stats::default(),
            };
            let Some(handle) = self.servers.insert(server) else { return };
            handle
        };
        service.servers.insert(0, handle);
        service.scheduling.joined(Pool::new(&service.servers, &self.servers));
    }

    fn edit_server(&mut self, key: ServiceKey, destination: Destination) {
        let Some((service, handle)) = self.member(key, destination.address()) else { return };
        if let Some(server) = self.servers.get_mut(handle) {
            server.set_up(destination);
        }
        if let Some(service) = self.services.get_mut(&bits(service)) {
            service.scheduling.changed(Pool::new(&service.servers, &self.servers));
        }
    }

    fn delete_server(&mut self, key: ServiceKey, address: (Ipv4Addr, u16)) {
        let Some((service, handle)) = self.member(key, address) else { return };
        if let Some(service) = self.services.get_mut(&bits(service))
            && let Some(place) = service.servers.iter().position(|other| *other == handle)
        {
            service.servers.remove(place);
            service.past += self.servers.get(handle).map_or(Stats::default(), |s| s.stats);
            service.scheduling.left(place, Pool::new(&service.servers, &self.servers));
        }
        self.unlink(handle);
    }

    /// A destination that a service has.
    fn member(&self, key: ServiceKey, address: (Ipv4Addr, u16)) -> Option<(ServiceKey, Handle)> {
        let service = self.services.get(&bits(key))?;
        let is = |handle: &&Handle| {
            self.servers.get(**handle).is_some_and(|s| s.destination.address() == address)
        };
        service.servers.iter().find(is).map(|handle| (key, *handle))
    }

    /// Takes a destination out of its service; without connections it is gone.
    fn unlink(&mut self, handle: Handle) {
        if let Some(server) = self.servers.get_mut(handle) {
            server.linked = false;
            if server.is_unused() {
                self.servers.remove(handle);
            } else {
                self.left.insert((server.service, server.destination.address()), handle);
            }
        }
    }

    /// A virtual service.
    #[must_use]
    pub fn service(&self, key: ServiceKey) -> Option<&Service> {
        self.services.get(&bits(key))
    }

    /// The virtual services, in order of their keys.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// A destination, also one that only connections still know.
    #[must_use]
    pub fn server(&self, handle: Handle) -> Option<&Server> {
        self.servers.get(handle)
    }

    /// What a virtual service has counted.
    #[must_use]
    pub fn stats(&self, service: &Service) -> Stats {
        let mut stats = service.past;
        let servers = service.servers.iter().filter_map(|handle| self.servers.get(*handle));
        servers.for_each(|server| stats += server.stats);
        stats
    }

    /// Its connections.
    #[must_use]
    pub const fn connections(&self) -> &ConnectionTable {
        &self.connections
    }

    /// Its local addresses, with their ports.
    #[must_use]
    pub const fn local_addresses(&self) -> &LocalAddresses {
        &self.local_addresses
    }

    /// What becomes of the connection when a packet comes that belongs to it, a segment with SYN
    /// where `opens` (ip_vs_in_hook; spec IPVS-19, IPVS-20).
    pub(in crate::node) fn reuse(&self, handle: Handle, opens: bool) -> Reuse {
        let Some(connection) = self.connections.get(handle) else { return Reuse::Keep };
        let Some(server) = self.servers.at(connection.server) else { return Reuse::Keep };
        let expires = self.switches.expire_nodest_conn;
        let closed = matches!(connection.state, State::TimeWait | State::Close);
        let reopened = self.switches.conn_reuse_mode != 0 && closed && !connection.is_persistent();
        match (server.linked, expires) {
            _ if opens && expires && server.destination.weight == 0 => Reuse::Anew,
            _ if opens && reopened => Reuse::Anew,
            (true, _) => Reuse::Keep,
            (false, true) => Reuse::Anew,
            (false, false) => Reuse::Unavailable,
        }
    }

    /// The destination of a client's new connection: that of its template where the service is
    /// persistent, one the scheduler picks otherwise (ip_vs_schedule, ip_vs_sched_persist).
    ///
    /// # Errors
    /// Why there is none.
    pub(in crate::node) fn pick(
        &mut self,
        key: ServiceKey,
        request: &Tuple<Ipv4Addr>,
        now: Time,
    ) -> Picked {
        let service = self.services.get_mut(&bits(key)).ok_or(NotScheduled::NoDestination)?;
        let Some(Persistence { timeout, mask }) = service.setup.persistence else {
            let server = service.schedule(&self.servers, request, now);
            return Ok((server.ok_or(NotScheduled::NoDestination)?, None));
        };
        let client = Tuple { src: request.src & mask, src_port: 0, ..*request };
        if let Some(template) = self.connections.find_template(&client, now)
            && let Some(slot) = self.connections.get(template).map(|c| c.server)
            && let Some(server) = self.servers.handle_at(slot)
        {
            if takes_followers(&self.servers, &self.switches, server) {
                return Ok((server, Some(template)));
            }
            self.connections.invalidate(template);
        }
        let server = service.schedule(&self.servers, request, now);
        let server = server.ok_or(NotScheduled::NoDestination)?;
        let to = self.servers.get_mut(server).ok_or(NotScheduled::NoDestination)?;
        let destination = to.destination.address();
        let (local, toa) = (None, Toa::Never);
        let new = NewConnection { request: client, destination, server, local, toa };
        let template = self.connections.insert_template(&new, timeout, now);
        let template = template.ok_or(NotScheduled::Full)?;
        to.persistent += 1;
        Ok((server, Some(template)))
    }

    /// The destination that the scheduler of a service alone picks for a client's new connection.
    #[inline(always)]
    pub(in crate::node) fn schedule(
        &mut self,
        key: ServiceKey,
        request: &Tuple<Ipv4Addr>,
        now: Time,
    ) -> Option<Handle> {
        self.services.get_mut(&bits(key))?.schedule(&self.servers, request, now)
    }

    /// Makes a connection to a destination, which follows `template`, in mode fnat from a
    /// local address and port. Its first packet, with these TCP flags, has yet to pass.
    ///
    /// # Errors
    /// Why there is no room for one.
    pub fn connect(
        &mut self,
        request: Tuple<Ipv4Addr>,
        flags: Flags,
        server: Handle,
        template: Option<Handle>,
        now: Time,
    ) -> Result<Handle, DropReason> {
        let to = self.servers.get(server).ok_or(DropReason::NoDestination)?;
        let (key, destination) = (to.service, to.destination.address());
        let service = if self.has_fnat { self.services.get(&bits(key)) } else { None };
        let setup = service.and_then(|s| Some((s.setup.scheduler, s.setup.fnat.as_ref()?)));
        let (mut local, mut toa) = (None, Toa::Never);
        if let Some((scheduler, fnat)) = setup {
            let in_turn = matches!(scheduler, Scheduler::Rr | Scheduler::Wrr);
            let taken = self.local_addresses.take(key, in_turn, destination);
            local = Some(taken.ok_or(DropReason::LocalPortsExhausted)?);
            if fnat.toa && request.proto == Protocol::TCP {
                toa = Toa::Syn;
            }
        }
        let new = NewConnection { request, destination, server, local, toa };
        // Where no template waits to hear of its first packet, it begins where that leads to: timers
        // look at it when they would look at one made by `connect_plain`.
        let mut state = State::of(request.proto);
        if template.is_none() {
            state = state.after(flags, Direction::Original);
        }
        let made = self.add(&new, (state, 0), template, now);
        if let (Err(_), Some(local)) = (made, local) {
            self.local_addresses.give_back(key, local, destination);
        }
        made
    }

    /// Makes a connection in mode nat to a destination, whose address it returns, and has its first
    /// packet pass.
    ///
    /// # Errors
    /// Why there is no room for one.
    #[inline(always)]
    pub(in crate::node) fn connect_plain(
        &mut self,
        packet: &Plain,
        server: Handle,
        now: Time,
    ) -> Result<(Ipv4Addr, u16), DropReason> {
        let to = self.servers.get(server).ok_or(DropReason::NoDestination)?;
        let destination = to.destination.address();
        let state = State::of(packet.tuple.proto).after(packet.flags, Direction::Original);
        let (request, local, toa) = (packet.tuple, None, Toa::Never);
        let new = NewConnection { request, destination, server, local, toa };
        self.add(&new, (state, 1), None, now)?;
        if let Some(to) = self.servers.get_mut(server) {
            to.count(Direction::Original, packet.total_len);
        }
        Ok(destination)
    }

    /// Stores a connection that is in a state and has had so many requests; its destination counts it.
    #[inline]
    fn add(
        &mut self,
        new: &NewConnection,
        (state, requests): (State, u8),
        template: Option<Handle>,
        now: Time,
    ) -> Result<Handle, DropReason> {
        let begun = (state, requests);
        let made = self.connections.insert(new, begun, template, &self.switches.timeouts, now);
        let handle = made.ok_or(DropReason::ConnectionTableFull)?;
        if let Some(to) = self.servers.get_mut(new.server) {
            // A connection is active from its first state on that is (`IP_VS_CONN_F_INACTIVE`).
            *(if state.is_active() { &mut to.active } else { &mut to.inactive }) += 1;
            to.gained();
            to.stats.connections += 1;
        }
        Ok(handle)
    }

    /// Notes the sequence number with which a connection's destination has answered a SYN, where
    /// requests are to tell it who the client is.
    pub fn answered(&mut self, handle: Handle, seq: u32) {
        if self.connections.get(handle).is_some_and(|c| c.toa != Toa::Never) {
            self.connections.set_toa(handle, Toa::Acknowledging(seq.wrapping_add(1)));
        }
    }

    /// Moves a connection to the state that a packet with these TCP flags, of so many bytes, leads to
    /// and renews its time; its destination counts both.
    #[inline(always)]
    pub fn pass(
        &mut self,
        handle: Handle,
        flags: Flags,
        direction: Direction,
        bytes: u16,
        now: Time,
    ) {
        let timeouts = &self.switches.timeouts;
        let passed = self.connections.pass(handle, flags, direction, timeouts, now);
        let Some(Passed { server, was_active, is_active }) = passed else { return };
        let Some(server) = self.servers.at_mut(server) else { return };
        if was_active != is_active {
            let (from, to) = match is_active {
                true => (&mut server.inactive, &mut server.active),
                false => (&mut server.active, &mut server.inactive),
            };
            *from -= 1;
            *to += 1;
        }
        server.count(direction, bytes);
    }

    /// Counts a packet about a connection, of so many bytes, that neither moves nor renews it.
    pub fn count(&mut self, handle: Handle, direction: Direction, bytes: u16) {
        let Some(connection) = self.connections.get(handle) else { return };
        if let Some(server) = self.servers.at_mut(connection.server) {
            server.count(direction, bytes);
        }
    }

    /// Ends a connection, which is returned.
    pub fn disconnect(&mut self, handle: Handle) -> Option<Connection> {
        let connection = self.connections.remove(handle)?;
        self.forget(&connection);
        Some(connection)
    }

    /// Takes an ended connection out of its destination's count.
    fn forget(&mut self, connection: &Connection) {
        if let Some(local) = connection.local() {
            let (service, destination) = (connection.service(), connection.destination());
            self.local_addresses.give_back(service, local, destination);
        }
        let Some(server) = self.servers.at_mut(connection.server) else { return };
        *server.count_of(connection) -= 1;
        server.lost();
        if server.is_unused() {
            self.left.remove(&(server.service, server.destination.address()));
            if let Some(handle) = self.servers.handle_at(connection.server) {
                self.servers.remove(handle);
            }
        }
    }

    /// Connections of a destination that a service has, templates left aside.
    #[must_use]
    pub fn in_use(&self, key: ServiceKey, address: (Ipv4Addr, u16)) -> Option<u32> {
        let (_, handle) = self.member(key, address)?;
        self.servers.get(handle).map(|server| server.active + server.inactive)
    }

    /// Whether a packet comes from a destination of some service.
    #[must_use]
    pub fn is_from_server(&self, packet: &Tuple<Ipv4Addr>) -> bool {
        self.servers.iter().any(|(_, server)| {
            server.linked
                && server.service.0 == packet.proto
                && server.destination.address() == (packet.src, packet.src_port)
        })
    }

    /// The connections that ended because their destinations are gone, where the switch
    /// expire_nodest_conn says so; their templates end with them
    /// (ip_vs_expire_nodest_conn_flush).
    #[must_use]
    pub fn flush(&mut self) -> Vec<Connection> {
        let gone = |server: u32| self.servers.at(server).is_none_or(|s| !s.linked);
        let orphaned = self.servers.iter().any(|(_, server)| !server.linked);
        if !self.switches.expire_nodest_conn || !orphaned {
            return Vec::new();
        }
        let all = self.connections.handles().filter(|(_, connection)| gone(connection.server));
        let (templates, flows): (Vec<_>, Vec<_>) =
            all.map(|(handle, c)| (handle, c.is_template())).partition(|(_, template)| *template);
        let mut ended = Vec::new();
        for (handle, _) in flows.into_iter().chain(templates) {
            ended.extend(self.disconnect(handle));
        }
        ended
    }

    /// The next moment at which a connection may end.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        [self.connections.poll_at(), self.defence.poll_at()].into_iter().flatten().min()
    }

    /// The next connection past its deadline, which has ended; `budget` says how many are looked
    /// at.
    pub fn next_ended(&mut self, now: Time, budget: &mut usize) -> Option<Connection> {
        let connection = self.connections.next_ended(now, budget)?;
        self.forget(&connection);
        Some(connection)
    }
}
