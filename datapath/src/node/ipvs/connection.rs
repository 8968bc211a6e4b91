//! What a connection is, or the template of a persistent client (kernel:
//! net/netfilter/ipvs/ip_vs_conn.c; spec IPVS-4, IPVS-8, IPVS-22).

use std::net::Ipv4Addr;

use super::{ServiceKey, State};
use crate::journey::Rewriter;
use crate::table::Handle;
use crate::time::Deadline;
use crate::wire::Tuple;

/// A connection of a virtual service, or a template: a client's affinity to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The client's packets as they come: client to virtual address. A template has the client's
    /// masked address and port 0.
    pub request: Tuple<Ipv4Addr>,
    /// Where they go: the destination's address and port.
    pub(super) destination: (Ipv4Addr, u16),
    /// In mode fnat, what they then come from.
    pub(super) local: Option<(Ipv4Addr, u16)>,
    /// Which of them tell the destination who the client is.
    pub toa: Toa,
    /// The slot of the destination, which counts the connection and stays as long as that does.
    pub server: u32,
    /// TCP state, or UDP; of a template, none or assured.
    pub state: State,
    /// When it ends unless a packet comes.
    pub deadline: Deadline,
    pub(super) role: Role,
}

/// What an entry of the table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It carries packets.
    Flow {
        /// Order of creation: of two connections with the same reply tuple the newer answers.
        serial: u32,
        /// The template it follows.
        template: Option<u32>,
    },
    /// It ties a client to a destination.
    Template {
        /// Connections that follow it.
        followers: u32,
        /// How long it lives after the last new one of them, in seconds.
        timeout: u32,
    },
}

impl Connection {
    /// The destination's address and port.
    #[must_use]
    pub const fn destination(&self) -> (Ipv4Addr, u16) {
        self.destination
    }

    /// The local address and port that stand in for the client in mode fnat.
    #[must_use]
    pub const fn local(&self) -> Option<(Ipv4Addr, u16)> {
        self.local
    }

    /// The client's packets as they leave: from it, or its local address, to the destination.
    #[must_use]
    pub const fn sent(&self) -> Tuple<Ipv4Addr> {
        let (dst, dst_port) = self.destination;
        let (src, src_port) = match self.local {
            Some(local) => local,
            None => (self.request.src, self.request.src_port),
        };
        Tuple { src, dst, src_port, dst_port, proto: self.request.proto }
    }

    /// What a journey calls the translation of requests.
    #[must_use]
    pub const fn sender(&self) -> Rewriter {
        if self.local.is_some() { Rewriter::IpvsFnat } else { Rewriter::IpvsDnat }
    }

    /// What a journey calls the translation of answers.
    #[must_use]
    pub const fn restorer(&self) -> Rewriter {
        if self.local.is_some() { Rewriter::IpvsUnFnat } else { Rewriter::IpvsUnDnat }
    }

    /// The answers as they come: destination to client, or its local address.
    #[must_use]
    pub const fn reply(&self) -> Tuple<Ipv4Addr> {
        self.sent().turned()
    }

    /// The answers as they leave: virtual address to client.
    #[must_use]
    pub const fn answer(&self) -> Tuple<Ipv4Addr> {
        self.request.turned()
    }

    /// What names the virtual service it was scheduled by.
    #[must_use]
    pub const fn service(&self) -> ServiceKey {
        (self.request.proto, self.request.dst, self.request.dst_port)
    }

    /// The virtual address and port.
    #[must_use]
    pub const fn vip(&self) -> (Ipv4Addr, u16) {
        (self.request.dst, self.request.dst_port)
    }

    /// Whether it is a template.
    #[must_use]
    pub const fn is_template(&self) -> bool {
        self.role.is_template()
    }

    /// Whether it is a template that nothing follows, nor has been answered of what did.
    pub(super) const fn is_idle_template(&self) -> bool {
        let assured = matches!(self.state, State::Assured);
        matches!(self.role, Role::Template { followers: 0, .. }) && !assured
    }

    /// Whether it follows a template.
    #[must_use]
    pub const fn is_persistent(&self) -> bool {
        matches!(self.role, Role::Flow { template: Some(_), .. })
    }
}

impl Role {
    pub(super) const fn is_template(&self) -> bool {
        matches!(self, Self::Template { .. })
    }

    /// Whether connections follow it; it does not end before they do.
    pub(super) const fn has_followers(&self) -> bool {
        matches!(self, Self::Template { followers: 1.., .. })
    }
}

/// Which of a connection's requests carry the client's address and port (spec FNAT-21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Toa {
    /// None.
    #[default]
    Never,
    /// The SYN; the destination has not answered yet.
    Syn,
    /// The SYN, and what acknowledges nothing beyond the destination's SYN: this number.
    Acknowledging(u32),
}

/// What makes a connection.
#[derive(Clone, Copy, Debug)]
pub struct NewConnection {
    /// The client's first packet.
    pub request: Tuple<Ipv4Addr>,
    /// Where the scheduler sends it.
    pub destination: (Ipv4Addr, u16),
    /// That destination.
    pub server: Handle,
    /// In mode fnat, what stands in for the client.
    pub local: Option<(Ipv4Addr, u16)>,
    /// Which requests tell the destination who the client is.
    pub toa: Toa,
}
