//! Holding a network that is up against its plan, and putting back what somebody has changed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use datapath_io::link::{self, Offload};
use futures_util::{Stream, StreamExt, TryStreamExt};
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp, XdpAttached};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};

use super::connection::{self, Connection};
use super::error::{NetError, Refusal};
use super::links;
use super::namespace::{self, failed};
use super::plan::{End, Mac, Namespace, Route, Sysctl, Topology, User, Veth};
use super::sysfs::{self, enter, own_mounts};

/// One thing that is not as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation<'t> {
    /// The namespace it is in.
    pub namespace: &'t str,
    /// The planned end it is about; none where it is about the namespace as a whole.
    pub end: Option<&'t End>,
    /// What it is.
    pub what: What,
}

/// What is not as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The namespace or the link is not there.
    Missing,
    /// The link is down.
    Down,
    /// The link has this Ethernet address.
    Mac(Mac),
    /// The link has this MTU.
    Mtu(u32),
    /// The link uses this many receive and transmit queues.
    Queues(u32, u32),
    /// The forwarder's end has no XDP program, or (true) one in the slow generic mode.
    Program(bool),
    /// An offload of a stack's end is on.
    Offload(Offload),
    /// The link lacks this address.
    Address(Ipv4Addr, u8),
    /// The link lacks this permanent neighbour.
    Neighbour(Ipv4Addr, Mac),
    /// The link lacks this route.
    Route(Route),
    /// A file in `/proc/sys` or `/sys` says `found`, not `planned`.
    Setting {
        /// The file.
        path: String,
        /// Its content.
        found: String,
        /// What it should say.
        planned: String,
    },
}

/// Everything in the namespaces of `topology` that is not as planned. What is there beside the
/// plan is nobody's business.
///
/// # Errors
/// When the kernel does not answer; a namespace or link that is missing is no error.
pub fn audit(topology: &Topology) -> Result<Vec<Deviation<'_>>, NetError> {
    namespace::on_own_thread(|| {
        let runtime = connection::runtime()?;
        own_mounts()?;
        let mut found = Vec::new();
        for planned in &topology.namespaces {
            let namespace = planned.name.as_str();
            if !namespace::exists(namespace) {
                found.push(Deviation { namespace, end: None, what: What::Missing });
                continue;
            }
            enter(namespace)?;
            let connection = Connection::open(&runtime)
                .map_err(|error| failed(namespace, "open netlink", error))?;
            let there = There::read(&connection)
                .map_err(|cause| failed(namespace, "read its links", cause))?;
            let settings = planned.sysctls.iter().filter_map(differs);
            found.extend(settings.map(|what| Deviation { namespace, end: None, what }));
            for (end, queues) in ends(topology, namespace) {
                let what = there.compare(planned, end, queues)?;
                found.extend(what.into_iter().map(|what| Deviation {
                    namespace,
                    end: Some(end),
                    what,
                }));
            }
        }
        Ok(found)
    })
}

/// The planned ends in a namespace, with their queues.
fn ends<'t>(topology: &'t Topology, namespace: &str) -> impl Iterator<Item = (&'t End, u16)> {
    let of = |link: &'t Veth| [(&link.a, link.queues), (&link.b, link.queues)];
    topology.links.iter().flat_map(of).filter(move |(end, _)| end.namespace == namespace)
}

impl Deviation<'_> {
    /// Makes it as planned again. What is missing altogether, the number of queues and an XDP
    /// program cannot be put back from here.
    ///
    /// # Errors
    /// When it is one of those, or the kernel refuses.
    pub fn put_back(&self) -> Result<(), NetError> {
        namespace::on_own_thread(|| {
            own_mounts()?;
            enter(self.namespace)?;
            match (&self.what, self.end) {
                (What::Setting { path, planned, .. }, _) => fs::write(path, planned)
                    .map_err(|error| failed(self.namespace, "change a setting", error)),
                (What::Offload(offload), Some(end)) => links::turn_off(end, *offload),
                (what, Some(end)) => {
                    let runtime = connection::runtime()?;
                    let put = || -> Result<(), Refusal> {
                        let connection = Connection::open(&runtime)?;
                        let index = if_nametoindex(end.ifname.as_str())?;
                        request(&connection, index, end, what)
                    };
                    put().map_err(|cause| links::failed(end, "put back", cause))
                }
                (_, None) => Err(failed(self.namespace, "put back", unsupported())),
            }
        })
    }
}

fn request(connection: &Connection<'_>, index: u32, end: &End, what: &What) -> Result<(), Refusal> {
    let link = || LinkUnspec::new_with_index(index);
    match what {
        What::Down => links::set_up(connection, index),
        What::Mac(_) => links::change(connection, link().address(end.mac.to_vec())),
        What::Mtu(_) => links::change(connection, link().mtu(end.mtu)),
        What::Address(address, prefix) => links::add_address(connection, index, *address, *prefix),
        What::Neighbour(address, mac) => links::put_neighbour(connection, index, *address, mac),
        What::Route(route) => links::put_route(connection, index, route),
        _ => Err(unsupported().into()),
    }
}

fn unsupported() -> io::Error {
    io::ErrorKind::Unsupported.into()
}

/// What is there in a namespace.
struct There {
    links: BTreeMap<String, LinkMessage>,
    addresses: Vec<AddressMessage>,
    neighbours: Vec<NeighbourMessage>,
    routes: Vec<RouteMessage>,
}

impl There {
    fn read(connection: &Connection<'_>) -> Result<Self, Refusal> {
        let handle = connection.handle();
        let every_route = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let links = all(connection, handle.link().get().execute())?;
        Ok(Self {
            links: links.into_iter().filter_map(|link| Some((name_of(&link)?, link))).collect(),
            addresses: all(connection, handle.address().get().execute())?,
            neighbours: all(connection, handle.neighbours().get().execute())?,
            routes: all(connection, handle.route().get(every_route).execute())?,
        })
    }

    /// What of `end`, which is in the calling thread's namespace, is not as planned; in an order
    /// in which it can be put back.
    fn compare(&self, planned: &Namespace, end: &End, queues: u16) -> Result<Vec<What>, NetError> {
        let Some(link) = self.links.get(&end.ifname) else { return Ok(vec![What::Missing]) };
        let index = link.header.index;
        let mut found = Vec::new();
        if end.up && !link.header.flags.contains(LinkFlags::Up) {
            found.push(What::Down);
        }
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::Address(mac) if mac[..] != end.mac => {
                    found.extend(mac[..].try_into().map(What::Mac));
                }
                LinkAttribute::Mtu(mtu) if *mtu != end.mtu => found.push(What::Mtu(*mtu)),
                _ => {}
            }
        }
        let refused =
            |error| links::failed(end, "read its settings", io::Error::other(error).into());
        if let Some(used) = link::channels(&end.ifname).map_err(refused)?
            && (used.rx, used.tx) != (queues.into(), queues.into())
        {
            found.push(What::Queues(used.rx, used.tx));
        }
        match end.user {
            User::Forwarder => found.extend(program(link)),
            User::Stack => {
                let on = link::offloads(&end.ifname).map_err(refused)?;
                found.extend(on.into_iter().map(What::Offload));
            }
            User::Nobody => {}
        }
        found.extend(self.lacking(index, end));
        found.extend(settings(planned, end, queues));
        Ok(found)
    }

    /// Addresses, neighbours and routes that a link lacks.
    fn lacking(&self, index: u32, end: &End) -> Vec<What> {
        let has_address = |address: Ipv4Addr, prefix: u8| {
            let wanted = AddressAttribute::Local(IpAddr::V4(address));
            self.addresses.iter().any(|message| {
                message.header.index == index
                    && message.header.prefix_len == prefix
                    && message.attributes.contains(&wanted)
            })
        };
        let has_neighbour = |address: Ipv4Addr, mac: &Mac| {
            let wanted = [
                NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
                NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
            ];
            self.neighbours.iter().any(|message| {
                message.header.ifindex == index
                    && message.header.state == NeighbourState::Permanent
                    && wanted.iter().all(|attribute| message.attributes.contains(attribute))
            })
        };
        let has_route = |route: &Route| {
            let wanted = links::route_message(route, index);
            self.routes.iter().any(|message| same_route(message, &wanted))
        };
        let addresses =
            end.addresses.iter().filter(|(address, prefix)| !has_address(*address, *prefix));
        let neighbours =
            end.neighbours.iter().filter(|(address, mac)| !has_neighbour(*address, mac));
        let routes = end.routes.iter().filter(|route| !has_route(route));
        let addresses = addresses.map(|(address, prefix)| What::Address(*address, *prefix));
        let neighbours = neighbours.map(|(address, mac)| What::Neighbour(*address, *mac));
        addresses.chain(neighbours).chain(routes.map(|route| What::Route(*route))).collect()
    }
}

/// Everything that a dump tells.
fn all<T>(
    connection: &Connection<'_>,
    dump: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, Refusal> {
    connection.wait(dump.boxed_local().try_collect())
}

fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

/// What is wrong with the XDP program of a forwarder's end.
fn program(link: &LinkMessage) -> Option<What> {
    let attached = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => xdp.iter().find_map(|attribute| match attribute {
            LinkXdp::Attached(attached) => Some(*attached),
            _ => None,
        }),
        _ => None,
    });
    match attached {
        Some(XdpAttached::Driver) => None,
        None | Some(XdpAttached::None) => Some(What::Program(false)),
        Some(_) => Some(What::Program(true)),
    }
}

/// The same table, destination, gateway, device and scope; what else the kernel tells of a route
/// nobody asked for.
fn same_route(there: &RouteMessage, wanted: &RouteMessage) -> bool {
    let (a, b) = (&there.header, &wanted.header);
    let asked = |attribute: &&RouteAttribute| {
        matches!(
            attribute,
            RouteAttribute::Destination(_) | RouteAttribute::Gateway(_) | RouteAttribute::Oif(_)
        )
    };
    let told: Vec<_> = there.attributes.iter().filter(asked).collect();
    let wanted_attributes: Vec<_> = wanted.attributes.iter().filter(asked).collect();
    (a.table, a.destination_prefix_length, a.scope)
        == (b.table, b.destination_prefix_length, b.scope)
        && told.len() == wanted_attributes.len()
        && wanted_attributes.iter().all(|attribute| told.contains(attribute))
}

/// Settings of an end: those its namespace has for new links, and nobody else's threads or CPUs
/// between the wire and the stack, as on every new link.
fn settings<'a>(planned: &'a Namespace, end: &'a End, queues: u16) -> impl Iterator<Item = What> {
    let governed = planned.sysctls.iter().filter_map(|sysctl| {
        let path = sysctl.path.replace("/conf/default/", &format!("/conf/{}/", end.ifname));
        (path != sysctl.path).then(|| Sysctl::new(path, sysctl.value.clone()))
    });
    let governed: Vec<_> = governed.filter_map(|sysctl| differs(&sysctl)).collect();
    let steering = (0..queues).map(|queue| format!("queues/rx-{queue}/rps_cpus"));
    let used = steering.chain(["threaded".to_owned()]).filter_map(move |setting| {
        let found = sysfs::read(&end.ifname, &setting).ok()?;
        let path = sysfs::file(&end.ifname, &setting).display().to_string();
        let unused = found.chars().all(|digit| matches!(digit, '0' | ','));
        (!unused).then(|| What::Setting { path, found, planned: "0".to_owned() })
    });
    governed.into_iter().chain(used)
}

/// A setting of the calling thread's namespace that is not as planned. A kernel without IPv6 has
/// no settings for it.
fn differs(sysctl: &Sysctl) -> Option<What> {
    let path = Path::new("/proc/sys").join(&sysctl.path);
    let found = fs::read_to_string(&path).ok()?.trim().to_owned();
    let (path, planned) = (path.display().to_string(), sysctl.value.clone());
    (found != planned).then_some(What::Setting { path, found, planned })
}
