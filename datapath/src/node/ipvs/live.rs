//! What ipvs has at work: virtual services with their destinations as they are now, and the
//! connections that count on them (kernel: net/netfilter/ipvs/ip_vs_ctl.c; spec IPVS).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::change::Change;
use super::connection::{Connection, ConnectionTable, NewConnection, Toa};
use super::local_address::LocalAddresses;
use super::scheduler::Scheduling;
use super::service::{Destination, ServiceKey, VirtualService};
use crate::lab::Scheduler;
use crate::table::{Direction, Handle, Slab};
use crate::time::Time;
use crate::verdict::DropReason;
use crate::wire::{Protocol, Tuple, tcp::Flags};

/// Destinations of a node, those that only connections still know included (spec LAW-6).
const MOST_SERVERS: u32 = 65_536;

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
}

/// A virtual service at work.
#[derive(Clone, Debug)]
pub struct Service {
    /// How it is set up; its list of destinations is how they were when it was added.
    pub setup: VirtualService,
    /// Its destinations in the kernel's order: the last one added is the first.
    pub servers: Vec<Handle>,
    scheduling: Scheduling,
}

/// ipvs of one node.
#[derive(Debug)]
pub struct Ipvs {
    services: BTreeMap<ServiceKey, Service>,
    servers: Slab<Server>,
    connections: ConnectionTable,
    local_addresses: LocalAddresses,
}

impl Ipvs {
    /// Nothing yet, with room for `limit` connections; `seed` keys its hashes.
    #[must_use]
    pub fn new(limit: u32, seed: u64, local_addresses: LocalAddresses) -> Self {
        Self {
            local_addresses,
            services: BTreeMap::new(),
            servers: Slab::with_capacity(MOST_SERVERS),
            connections: ConnectionTable::new(limit, seed),
        }
    }

    /// Makes the changes, in order.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            match change {
                Change::AddService(setup) => {
                    let scheduling = Scheduling::new(setup.scheduler);
                    let service = Service { setup, servers: Vec::new(), scheduling };
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
            service.scheduling = Scheduling::new(setup.scheduler);
        }
        service.setup = setup;
        service.scheduling.changed(&service.servers, &self.servers);
    }

    fn delete_service(&mut self, key: ServiceKey) {
        let Some(service) = self.services.remove(&key) else { return };
        self.local_addresses.forget(key);
        for handle in service.servers {
            self.unlink(handle);
        }
    }

    fn add_server(&mut self, key: ServiceKey, destination: Destination) {
        let known = self.servers.iter().find(|(_, server)| {
            server.service == key && server.destination.address() == destination.address()
        });
        let known = known.map(|(handle, _)| handle);
        let Some(service) = self.services.get_mut(&key) else { return };
        let handle = if let Some(handle) = known {
            let Some(server) = self.servers.get_mut(handle) else { return };
            server.destination = destination;
            server.linked = true;
            handle
        } else {
            let (active, inactive, linked) = (0, 0, true);
            let server = Server { service: key, destination, active, inactive, linked };
            let Some(handle) = self.servers.insert(server) else { return };
            handle
        };
        service.servers.insert(0, handle);
        service.scheduling.changed(&service.servers, &self.servers);
    }

    fn edit_server(&mut self, key: ServiceKey, destination: Destination) {
        let Some((service, handle)) = self.member(key, destination.address()) else { return };
        if let Some(server) = self.servers.get_mut(handle) {
            server.destination = destination;
        }
        if let Some(service) = self.services.get_mut(&service) {
            service.scheduling.changed(&service.servers, &self.servers);
        }
    }

    fn delete_server(&mut self, key: ServiceKey, address: (Ipv4Addr, u16)) {
        let Some((service, handle)) = self.member(key, address) else { return };
        if let Some(service) = self.services.get_mut(&service) {
            service.scheduling.leaves(handle, &service.servers);
            service.servers.retain(|other| *other != handle);
            service.scheduling.changed(&service.servers, &self.servers);
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

    /// The destination that the service's scheduler gives the first packet of a connection.
    pub fn schedule(&mut self, key: ServiceKey, packet: &Tuple<Ipv4Addr>) -> Option<Handle> {
        let service = self.services.get_mut(&key)?;
        service.scheduling.pick(&service.servers, &self.servers, packet)
    }

    /// Makes a connection to a destination, in mode fnat from a local address and port.
    ///
    /// # Errors
    /// Why there is no room for one.
    pub fn connect(
        &mut self,
        request: Tuple<Ipv4Addr>,
        server: Handle,
        now: Time,
    ) -> Result<Handle, DropReason> {
        let to = self.servers.get_mut(server).ok_or(DropReason::NoDestination)?;
        let (key, destination) = (to.service, to.destination.address());
        let service = self.services.get(&key);
        let setup = service.and_then(|s| Some((s.setup.scheduler, s.setup.fnat.as_ref()?)));
        let (mut local, mut toa) = (None, Toa::Never);
        if let Some((scheduler, fnat)) = setup {
            let in_turn = scheduler == Scheduler::RoundRobin;
            let taken = &mut self.local_addresses;
            let taken = taken.take(key, &fnat.local_addresses, in_turn, destination);
            local = Some(taken.ok_or(DropReason::LocalPortsExhausted)?);
            if fnat.toa && request.proto == Protocol::TCP {
                toa = Toa::Syn;
            }
        }
        let new = NewConnection { request, destination, server, local, toa };
        let Some(handle) = self.connections.insert(new, now) else {
            if let Some(local) = local {
                self.local_addresses.give_back(key, local, destination);
            }
            return Err(DropReason::FlowTableFull);
        };
        // A connection is active from its first state on that is (`IP_VS_CONN_F_INACTIVE`).
        to.inactive += 1;
        Ok(handle)
    }

    /// Notes the sequence number with which a connection's destination has answered a SYN, where
    /// requests are to tell it who the client is.
    pub fn answered(&mut self, handle: Handle, seq: u32) {
        if self.connections.get(handle).is_some_and(|c| c.toa != Toa::Never) {
            self.connections.set_toa(handle, Toa::Acknowledging(seq.wrapping_add(1)));
        }
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

    /// Ends a connection.
    pub fn disconnect(&mut self, handle: Handle) {
        if let Some(connection) = self.connections.remove(handle) {
            self.forget(&connection);
        }
    }

    /// Takes an ended connection out of its destination's count.
    fn forget(&mut self, connection: &Connection) {
        if let Some(local) = connection.local() {
            let (service, destination) = (connection.service(), connection.destination());
            self.local_addresses.give_back(service, local, destination);
        }
        let Some(server) = self.servers.get_mut(connection.server) else { return };
        let count = match connection.state.is_active() {
            true => &mut server.active,
            false => &mut server.inactive,
        };
        *count -= 1;
        if !server.linked && server.active + server.inactive == 0 {
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
