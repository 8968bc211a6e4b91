//! kube-proxy at work: what it tells ipvs when services and endpoints change, and later, when the
//! connections of removed endpoints have ended (kube-proxy: pkg/proxy/ipvs/proxier.go,
//! graceful_termination.go; spec IPVS-44 to IPVS-46).
//!
//! It only decides. Whoever has an ipvs, the model's or a kernel's, makes the changes, and says how
//! many connections a destination has.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::node::ipvs::{Change, Destination, ServiceKey, VirtualServices, changes};
use crate::time::Time;
use crate::wire::Protocol;

/// How often it looks whether a terminating destination can go, counted from its own start.
const CHECK: Duration = Duration::from_secs(60);

/// A destination of a service: its address and port.
type Address = (Ipv4Addr, u16);

/// kube-proxy's list of destinations that are to go, on one node.
#[derive(Debug, Default)]
pub struct GracefulTermination {
    /// Destinations with weight 0 whose connections have not ended.
    terminating: BTreeMap<(ServiceKey, Address), Destination>,
    /// When it looks at them next.
    check_at: Option<Time>,
}

impl GracefulTermination {
    /// The changes that lead from the services before to those that are wanted. A removed TCP
    /// destination that has connections, as `in_use` says, gets weight 0 and goes later. One that
    /// comes back before that is removed and added anew.
    pub fn sync(
        &mut self,
        before: &VirtualServices,
        after: &VirtualServices,
        now: Time,
        in_use: impl Fn(ServiceKey, Address) -> Option<u32>,
    ) -> Vec<Change> {
        let mut wanted = Vec::new();
        for change in changes(before, after) {
            match change {
                Change::DeleteService(key) => {
                    self.terminating.retain(|(service, _), _| *service != key);
                    wanted.push(change);
                }
                Change::AddDestination(key, destination) => {
                    let address = destination.address();
                    if self.terminating.remove(&(key, address)).is_some() {
                        wanted.push(Change::DeleteDestination(key, address));
                    }
                    wanted.push(change);
                }
                Change::DeleteDestination(key, address)
                    if key.0 == Protocol::TCP
                        && in_use(key, address).is_some_and(|connections| connections > 0) =>
                {
                    let had = before.get(key).and_then(|service| {
                        service.destinations.iter().find(|d| d.address() == address)
                    });
                    let Some(had) = had else { continue };
                    let drained = Destination { weight: 0, ..*had };
                    self.terminating.insert((key, address), drained);
                    wanted.push(Change::EditDestination(key, drained));
                }
                _ => wanted.push(change),
            }
        }
        self.plan(now);
        wanted
    }

    /// The changes that are due: terminating destinations go whose connections have ended.
    pub fn on_time(
        &mut self,
        now: Time,
        in_use: impl Fn(ServiceKey, Address) -> Option<u32>,
    ) -> Vec<Change> {
        if self.check_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let mut wanted = Vec::new();
        self.terminating.retain(|(key, address), _| match in_use(*key, *address) {
            Some(1..) => true,
            Some(0) => {
                wanted.push(Change::DeleteDestination(*key, *address));
                false
            }
            None => false,
        });
        self.check_at = None;
        self.plan(now);
        wanted
    }

    /// When [`on_time`](Self::on_time) next has something to look at.
    #[must_use]
    pub const fn poll_at(&self) -> Option<Time> {
        self.check_at
    }

    /// Sets the time of the next look.
    fn plan(&mut self, now: Time) {
        if self.terminating.is_empty() {
            self.check_at = None;
        } else if self.check_at.is_none() {
            let rounds = now.as_nanos() / CHECK.as_nanos() as u64;
            self.check_at = Some(Time::from_secs((rounds + 1) * CHECK.as_secs()));
        }
    }
}
