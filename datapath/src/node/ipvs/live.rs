//! What ipvs has at work: virtual services with their destinations as they are now, and the
//! connections that count on them (kernel: net/netfilter/ipvs/ip_vs_ctl.c; spec IPVS).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::change::Change;
use super::connection::{Connection, ConnectionTable, NewConnection};
use super::scheduler::{Pool, Request, Scheduling};
use super::service::{Destination, ServiceKey, VirtualService};
use super::stats::Stats;
use crate::table::{Direction, Handle, Slab};
use crate::time::Time;
use crate::wire::{Tuple, tcp::Flags};

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

/// ipvs of one node.
#[derive(Debug)]
pub struct Ipvs {
    services: BTreeMap<ServiceKey, Service>,
    servers: Slab<Server>,
    /// Destinations that only connections still know.
    left: BTreeMap<(ServiceKey, (Ipv4Addr, u16)), Handle>,
    connections: ConnectionTable,
    /// Seeds the schedulers that draw.
    seed: u64,
}

impl Ipvs {
    /// Nothing yet, with room for `limit` connections; `seed` keys its hashes.
    #[must_use]
    pub fn new(limit: u32, seed: u64) -> Self {
        Self {
            services: BTreeMap::new(),
            servers: Slab::with_capacity(MOST_SERVERS),
            left: BTreeMap::new(),
            connections: ConnectionTable::new(limit, seed),
            seed,
        }
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
                    self.services.insert(service.setup.key(), service);
                }
                Change::EditService(setup) => self.edit_service(setup),
                Change::DeleteService(key) => self.delete_service(key),
                Change::AddDestination(key, destination) => self.add_server(key, destination),
                Change::EditDestination(key, destination) => self.edit_server(key, destination),
                Change::DeleteDestination(key, address) => self.delete_server(key, address),
            }
        }
    }

    fn edit_service(&mut self, setup: VirtualService) {
        let Some(service) = self.services.get_mut(&setup.key()) else { return };
        if service.setup.scheduler != setup.scheduler {
            let pool = Pool::new(&service.servers, &self.servers);
            service.scheduling = Scheduling::new(setup.scheduler, pool, self.seed);
        }
        service.setup = setup;
    }

    fn delete_service(&mut self, key: ServiceKey) {
        let Some(service) = self.services.remove(&key) else { return };
        for handle in service.servers {
            if let Some(server) = self.servers.get_mut(handle) {
                server.stats = Stats::default();
            }
            self.unlink(handle);
        }
    }

    fn add_server(&mut self, key: ServiceKey, destination: Destination) {
        let Some(service) = self.services.get_mut(&key) else { return };
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
        if let Some(service) = self.services.get_mut(&service) {
            service.scheduling.changed(Pool::new(&service.servers, &self.servers));
        }
    }

    fn delete_server(&mut self, key: ServiceKey, address: (Ipv4Addr, u16)) {
        let Some((service, handle)) = self.member(key, address) else { return };
        if let Some(service) = self.services.get_mut(&service)
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
        let service = self.services.get(&key)?;
        let is = |handle: &&Handle| {
            self.servers.get(**handle).is_some_and(|s| s.destination.address() == address)
        };
        service.servers.iter().find(is).map(|handle| (key, *handle))
    }

    /// Takes a destination out of its service; without connections it is gone.
    fn unlink(&mut self, handle: Handle) {
        if let Some(server) = self.servers.get_mut(handle) {
            server.linked = false;
            if server.active + server.inactive == 0 {
                self.servers.remove(handle);
            } else {
                self.left.insert((server.service, server.destination.address()), handle);
            }
        }
    }

    /// A virtual service.
    #[must_use]
    pub fn service(&self, key: ServiceKey) -> Option<&Service> {
        self.services.get(&key)
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

    /// The destination that the service's scheduler gives the first packet of a connection.
    pub fn schedule(
        &mut self,
        key: ServiceKey,
        packet: &Tuple<Ipv4Addr>,
        now: Time,
    ) -> Option<Handle> {
        let service = self.services.get_mut(&key)?;
        let request = Request { packet, flags: service.setup.flags, now };
        service.scheduling.pick(Pool::new(&service.servers, &self.servers), request)
    }

    /// Makes a connection to a destination; `None` where the table is full.
    pub fn connect(
        &mut self,
        request: Tuple<Ipv4Addr>,
        server: Handle,
        now: Time,
    ) -> Option<Handle> {
        let to = self.servers.get_mut(server)?;
        let destination = to.destination.address();
        let handle =
            self.connections.insert(NewConnection { request, destination, server }, now)?;
        // A connection is active from its first state on that is (`IP_VS_CONN_F_INACTIVE`).
        to.inactive += 1;
        to.gained();
        to.stats.connections += 1;
        Some(handle)
    }

    /// Moves a connection to the state that a packet with these TCP flags leads to and renews its
    /// time; its destination counts it accordingly.
    pub fn pass(&mut self, handle: Handle, flags: Flags, direction: Direction, now: Time) {
        let Some((server, was, is)) = self.connections.pass(handle, flags, direction, now) else {
            return;
        };
        if was != is
            && let Some(server) = self.servers.get_mut(server)
        {
            let (from, to) = match is {
                true => (&mut server.inactive, &mut server.active),
                false => (&mut server.active, &mut server.inactive),
            };
            *from -= 1;
            *to += 1;
        }
    }

    /// Counts a packet of a connection, of so many bytes, as long as its destination has a service.
    pub fn count(&mut self, handle: Handle, direction: Direction, bytes: u16) {
        let Some(connection) = self.connections.get(handle) else { return };
        if let Some(server) = self.servers.get_mut(connection.server)
            && server.linked
        {
            server.stats.count(direction, bytes);
        }
    }

    /// Ends a connection.
    pub fn disconnect(&mut self, handle: Handle) {
        if let Some(connection) = self.connections.remove(handle) {
            self.forget(&connection);
        }
    }

    /// Takes an ended connection out of its destination's count.
    fn forget(&mut self, connection: &Connection) {
        let Some(server) = self.servers.get_mut(connection.server) else { return };
        let count = match connection.state.is_active() {
            true => &mut server.active,
            false => &mut server.inactive,
        };
        *count -= 1;
        server.lost();
        if !server.linked && server.active + server.inactive == 0 {
            self.left.remove(&(server.service, server.destination.address()));
            self.servers.remove(connection.server);
        }
    }

    /// The next moment at which a connection may end.
    #[must_use]
    pub fn poll_at(&self) -> Option<Time> {
        self.connections.poll_at()
    }

    /// Ends connections past their deadline, at most `budget` looked at.
    pub fn expire(&mut self, now: Time, mut budget: usize) {
        while let Some(connection) = self.connections.next_ended(now, &mut budget) {
            self.forget(&connection);
        }
    }
}
