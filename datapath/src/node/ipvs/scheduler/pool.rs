//! The destinations that a scheduler chooses among.

use std::net::Ipv4Addr;

use crate::node::ipvs::live::Server;
use crate::table::{Handle, Slab};

/// The destinations of a service in the kernel's order: the last one added is the first.
#[derive(Clone, Copy, Debug)]
pub(in crate::node::ipvs) struct Pool<'a> {
    list: &'a [Handle],
    all: &'a Slab<Server>,
}

impl<'a> Pool<'a> {
    /// The destinations of `list`, which live in `all`.
    pub(in crate::node::ipvs) const fn new(list: &'a [Handle], all: &'a Slab<Server>) -> Self {
        Self { list, all }
    }

    /// How many there are.
    pub(super) const fn len(self) -> usize {
        self.list.len()
    }

    /// The destination at a place of the list.
    pub(super) fn at(self, place: usize) -> Option<(Handle, &'a Server)> {
        let handle = *self.list.get(place)?;
        Some((handle, self.all.get(handle)?))
    }

    /// A destination, also one that has left the service while connections know it.
    pub(super) fn server(self, handle: Handle) -> Option<&'a Server> {
        self.all.get(handle)
    }

    /// The destination of the service with this address.
    pub(super) fn find(self, address: (Ipv4Addr, u16)) -> Option<(Handle, &'a Server)> {
        self.iter().find(|(_, server)| server.destination.address() == address)
    }

    /// All of them, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = (Handle, &'a Server)> {
        self.list.iter().filter_map(move |handle| Some((*handle, self.all.get(*handle)?)))
    }

    /// Those that take new connections, in order.
    pub(super) fn open(self) -> impl Iterator<Item = (Handle, &'a Server)> {
        self.iter().filter(|(_, server)| server.is_open())
    }
}

/// The greatest common divisor of the weights that are not 0, and the largest of them; both 0
/// where there is none.
pub(super) fn step_and_largest(weights: impl Iterator<Item = u32>) -> (u32, u32) {
    weights.fold((0, 0), |(step, largest), weight| (gcd(step, weight), largest.max(weight)))
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
