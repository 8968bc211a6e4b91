//! What kube-proxy would tell ipvs so that a node has the services of another lab: the calls that
//! `ipvsadm` makes with -A, -E, -D, -a, -e and -d. Every datapath makes the same calls in the same
//! order, the first time too (spec IPVS-9).

use std::net::Ipv4Addr;

use super::service::{Destination, ServiceKey, VirtualService, VirtualServices};

/// One call to ipvs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `-A`: a virtual service, without destinations yet.
    AddService(VirtualService),
    /// `-E`: its scheduler, flags or persistence.
    EditService(VirtualService),
    /// `-D`: it goes, with its destinations.
    DeleteService(ServiceKey),
    /// `-a`: a destination, which becomes the first of its service.
    AddDestination(ServiceKey, Destination),
    /// `-e`: its weight or thresholds.
    EditDestination(ServiceKey, Destination),
    /// `-d`: it takes nothing new; its connections know it still.
    DeleteDestination(ServiceKey, (Ipv4Addr, u16)),
}

impl Change {
    /// Whether it takes a destination away, whose connections may then end.
    #[must_use]
    pub const fn is_removal(&self) -> bool {
        matches!(self, Self::DeleteService(_) | Self::DeleteDestination(..))
    }
}

/// What leads from the services of one picture of a node to those of another: services that go,
/// then for each that stays or comes, in order of their keys, itself, its new and changed
/// destinations in order of addition, and those that go.
#[must_use]
pub fn changes(from: &VirtualServices, to: &VirtualServices) -> Vec<Change> {
    let gone = from.all().iter().filter(|old| to.get(old.key()).is_none());
    let mut changes: Vec<_> = gone.map(|old| Change::DeleteService(old.key())).collect();
    for new in to.all() {
        let key = new.key();
        let old = from.get(key);
        match old {
            None => changes.push(Change::AddService(new.clone())),
            Some(old) if !old.is_set_up_as(new) => changes.push(Change::EditService(new.clone())),
            Some(_) => {}
        }
        let before = old.map_or(&[][..], |old| &old.destinations);
        for destination in &new.destinations {
            match before.iter().find(|d| d.address() == destination.address()) {
                None => changes.push(Change::AddDestination(key, *destination)),
                Some(had) if had != destination => {
                    changes.push(Change::EditDestination(key, *destination));
                }
                Some(_) => {}
            }
        }
        let kept = |had: &Destination| {
            new.destinations.iter().any(|destination| destination.address() == had.address())
        };
        let left = before.iter().filter(|had| !kept(had));
        changes.extend(left.map(|had| Change::DeleteDestination(key, had.address())));
    }
    changes
}
