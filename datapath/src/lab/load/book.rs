//! Every address and MAC the file gives, each with its owner: no two owners share one, but for
//! VIPs that may.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::report::Report;
use crate::lab::error::Position;
use crate::lab::file::{File, Interface};
use crate::lab::scalar::Scalar;
use crate::lab::written::Written;
use crate::wire::Mac;

/// Who uses an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    /// An ENI or an outside host.
    Host,
    /// A service's ClusterIP.
    ClusterIp,
    /// An external address of the service at this index.
    External(usize),
    /// A load balancer.
    Slb,
}

impl User {
    /// Whether both may use one address: services share one by port, and a load balancer's VIP is
    /// the external address of the services behind it.
    fn shares(self, other: Self) -> bool {
        match (self, other) {
            (Self::External(one), Self::External(another)) => one != another,
            (Self::External(_), Self::Slb) | (Self::Slb, Self::External(_)) => true,
            _ => false,
        }
    }
}

/// A use of a value, at a place in the file.
#[derive(Debug)]
struct Claim<T> {
    value: T,
    at: Position,
    user: User,
    owner: String,
}

/// The addresses and MACs that are taken.
#[derive(Debug)]
pub(super) struct Book {
    /// Addresses.
    pub(super) ips: BTreeSet<Ipv4Addr>,
    /// MACs.
    pub(super) macs: BTreeSet<Mac>,
}

impl Book {
    /// Collects what `file` gives and checks it for clashes. What cannot be read was noted where
    /// it belongs.
    pub(super) fn read(file: &File, gateway: Mac, report: &mut Report) -> Self {
        let mut claims = Claims::default();
        claims.of_machines(file);
        claims.of_services(file);
        if file.vpc.gateway_mac.is_none() {
            claims.mac_value(gateway, Position::START, "the VPC's gateway".to_owned());
        }
        claims.mac(file.vpc.gateway_mac.as_ref(), || "the VPC's gateway".to_owned());
        Self {
            ips: settle("address", claims.ips, report),
            macs: settle("MAC", claims.macs, report),
        }
    }
}

/// Notes every clash among `claims`; the values claimed.
fn settle<T>(what: &str, mut claims: Vec<Claim<T>>, report: &mut Report) -> BTreeSet<T>
where
    T: Ord + Copy + std::fmt::Display,
{
    claims.sort_by_key(|claim| claim.at);
    let mut users: BTreeMap<T, Vec<&Claim<T>>> = BTreeMap::new();
    for claim in &claims {
        let others = users.entry(claim.value).or_default();
        match others.iter().find(|other| !other.user.shares(claim.user)) {
            Some(other) => {
                let message =
                    format!("{what} `{}` is given twice: it is {}'s", claim.value, other.owner);
                let help = match other.at {
                    Position::START => "that is the default".to_owned(),
                    at => format!("the first is at line {}", at.line),
                };
                report.add_help(claim.at, message, help);
            }
            None => others.push(claim),
        }
    }
    users.into_keys().collect()
}

/// The claims of a file.
#[derive(Debug, Default)]
struct Claims {
    ips: Vec<Claim<Ipv4Addr>>,
    macs: Vec<Claim<Mac>>,
}

impl Claims {
    fn of_machines(&mut self, file: &File) {
        for node in &file.nodes {
            let name = &node.name.text;
            self.interface(&node.eth0, &format!("eth0 of node `{name}`"));
            if let Some(trunk) = &node.trunk {
                self.interface(trunk, &format!("trunk of node `{name}`"));
            }
            for ip in &node.local_addresses {
                self.ip(Some(ip), User::Host, || format!("local address of node `{name}`"));
            }
        }
        for pod in &file.pods {
            let owner = || format!("pod `{}`", pod.name.text);
            self.ip(pod.ip.as_ref(), User::Host, owner);
            self.mac(pod.mac.as_ref(), owner);
            let veth = || format!("host-side veth of pod `{}`", pod.name.text);
            self.mac(pod.cali_mac.as_ref(), veth);
        }
        for host in &file.outside {
            let owner = || format!("outside host `{}`", host.name.text);
            for ip in &host.ips {
                self.ip(Some(ip), User::Host, owner);
            }
            self.mac(host.mac.as_ref(), owner);
        }
    }

    fn of_services(&mut self, file: &File) {
        for (index, service) in file.services.items.iter().enumerate() {
            let owner = || format!("service `{}`", service.name.text);
            self.ip(service.cluster_ip.as_ref(), User::ClusterIp, owner);
            for ip in service.external_ips.items.iter().chain(&service.load_balancer) {
                self.ip(Some(ip), User::External(index), owner);
            }
        }
        for slb in &file.slbs {
            self.ip(Some(&slb.vip), User::Slb, || format!("load balancer `{}`", slb.id.text));
        }
    }

    fn interface(&mut self, interface: &Interface, owner: &str) {
        self.ip(interface.ip.as_ref(), User::Host, || owner.to_owned());
        self.mac(interface.mac.as_ref(), || owner.to_owned());
    }

    fn ip(&mut self, ip: Option<&Written<Ipv4Addr>>, user: User, owner: impl FnOnce() -> String) {
        let Some(written) = ip else { return };
        let Ok(value) = Ipv4Addr::read(&written.text) else { return };
        self.ips.push(Claim { value, at: written.at, user, owner: owner() });
    }

    fn mac(&mut self, mac: Option<&Written<Mac>>, owner: impl FnOnce() -> String) {
        let Some(written) = mac else { return };
        let Ok(value) = Mac::read(&written.text) else { return };
        self.mac_value(value, written.at, owner());
    }

    fn mac_value(&mut self, value: Mac, at: Position, owner: String) {
        self.macs.push(Claim { value, at, user: User::Host, owner });
    }
}
