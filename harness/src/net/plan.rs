//! What a lab's network is to look like: plain data that can be compared, printed and stored.

use std::collections::HashSet;
use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::error::NetError;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Longest name of a link the kernel takes (`IFNAMSIZ` less its terminating zero).
const IFNAME_MAX: usize = 15;

/// Namespaces and the veths between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The namespaces, made in this order.
    pub namespaces: Vec<Namespace>,
    /// The links. Both ends are in namespaces of this topology.
    pub links: Vec<Veth>,
}

/// One network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name, as `ip netns` shows it.
    pub name: String,
    /// Written before any link is made, so `.../conf/default/...` governs the links.
    pub sysctls: Vec<Sysctl>,
    /// Whether `lo` is set up, which also gives it 127.0.0.1.
    pub loopback: bool,
}

impl Namespace {
    /// A namespace as labs use it: loopback up, and IPv6 off so that the kernel sends nothing
    /// (neighbour and router solicitations) that the lab did not ask for.
    pub fn new(name: impl Into<String>) -> Self {
        let sysctls = ["all", "default"]
            .map(|which| Sysctl::new(format!("net/ipv6/conf/{which}/disable_ipv6"), "1"));
        Self { name: name.into(), sysctls: sysctls.into(), loopback: true }
    }
}

/// One kernel setting of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// The path below `/proc/sys`, for example `net/ipv4/ip_forward`.
    pub path: String,
    /// The value, as it is written to the file.
    pub value: String,
}

impl Sysctl {
    /// The setting of `path` to `value`.
    pub fn new(path: impl Into<String>, value: impl Into<String>) -> Self {
        Self { path: path.into(), value: value.into() }
    }
}

/// A pair of virtual Ethernet devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Veth {
    /// One end.
    pub a: End,
    /// The other end.
    pub b: End,
    /// Receive and transmit queues of each end. The ends must have the same number: a program is
    /// attached only where there are as many receive queues as the peer has transmit queues.
    pub queues: u16,
}

impl Veth {
    /// Both ends, the one the request is for first. The kernel takes a peer's index only if the
    /// link itself has one, so an end that asks for an index goes before one that does not.
    pub(super) fn in_order(&self) -> [&End; 2] {
        if self.a.ifindex.is_none() && self.b.ifindex.is_some() {
            [&self.b, &self.a]
        } else {
            [&self.a, &self.b]
        }
    }
}

/// Who takes and sends the frames of a link's end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    /// Nobody in particular.
    #[default]
    Nobody,
    /// An AF_XDP socket on each of its queues, which an XDP program hands every frame to.
    Forwarder,
    /// The stack of its namespace, towards a forwarder at the other end: its offloads are off, so
    /// that frames are whole, with real checksums and real tags (spec LAB-19, LAB-27).
    Stack,
}

/// One end of a [`Veth`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The namespace it is born in.
    pub namespace: String,
    /// Its name there.
    pub ifname: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Largest packet, without the Ethernet header.
    pub mtu: u32,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// Routes of the main table that leave through this end, added in this order.
    pub routes: Vec<Route>,
    /// Permanent neighbour entries.
    pub neighbours: Vec<(Ipv4Addr, Mac)>,
    /// The interface index to ask for; the kernel chooses where there is none.
    pub ifindex: Option<u32>,
    /// Whether it is set up. The kernel takes no route for a link that is down.
    pub up: bool,
    /// Who uses it.
    pub user: User,
}

impl End {
    /// An end that is up, with MTU 1500 and nothing else.
    pub fn new(namespace: impl Into<String>, ifname: impl Into<String>, mac: Mac) -> Self {
        Self {
            namespace: namespace.into(),
            ifname: ifname.into(),
            mac,
            mtu: 1500,
            addresses: Vec::new(),
            routes: Vec::new(),
            neighbours: Vec::new(),
            ifindex: None,
            up: true,
            user: User::Nobody,
        }
    }
}

/// One route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to; `None` is the default route.
    pub dst: Option<(Ipv4Addr, u8)>,
    /// The gateway.
    pub via: Option<Ipv4Addr>,
    /// Take the gateway to be on this link although no address of the link covers it.
    pub onlink: bool,
    /// Scope `link` instead of `global`: the destination itself is on this link. Not together
    /// with `via`, which the kernel refuses.
    pub scope_link: bool,
}

impl Route {
    /// `ip route add DST dev LINK scope link`.
    #[must_use]
    pub fn on_link(dst: Ipv4Addr, prefix: u8) -> Self {
        Self { dst: Some((dst, prefix)), via: None, onlink: false, scope_link: true }
    }

    /// `ip route add default via VIA dev LINK onlink`.
    #[must_use]
    pub fn default_via(via: Ipv4Addr) -> Self {
        Self { dst: None, via: Some(via), onlink: true, scope_link: false }
    }
}

/// As `ip route add` would be given it, without the link.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dst {
            Some((address, prefix)) => write!(f, "{address}/{prefix}")?,
            None => f.write_str("default")?,
        }
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if self.scope_link {
            f.write_str(" scope link")?;
        }
        if self.onlink {
            f.write_str(" onlink")?;
        }
        Ok(())
    }
}

impl Topology {
    /// Finds what the kernel would not refuse but take for something else, and what would escape
    /// from the directories written to. Everything besides is left to the kernel to judge.
    ///
    /// # Errors
    /// [`NetError::Invalid`] with the first such thing.
    pub fn check(&self) -> Result<(), NetError> {
        let mut names = HashSet::new();
        for namespace in &self.namespaces {
            check_namespace_name(&namespace.name)?;
            if !names.insert(namespace.name.as_str()) {
                return Err(invalid("namespace", &namespace.name, "is in the plan twice"));
            }
            for sysctl in &namespace.sysctls {
                check_sysctl(&sysctl.path)?;
            }
        }
        for link in &self.links {
            for end in [&link.a, &link.b] {
                check_ifname(&end.ifname)?;
                if !names.contains(end.namespace.as_str()) {
                    return Err(invalid("namespace", &end.namespace, "is not in the plan"));
                }
            }
            if link.queues == 0 {
                return Err(invalid("link", &link.a.ifname, "must have a queue"));
            }
        }
        Ok(())
    }
}

/// Whether `name` is one file below the directory of names, and not another file.
pub(super) fn check_namespace_name(name: &str) -> Result<(), NetError> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(invalid("namespace", name, "is not the name of a file"));
    }
    Ok(())
}

/// The kernel would take a `%d` for "the next free number", and an empty name for "choose one".
fn check_ifname(name: &str) -> Result<(), NetError> {
    if name.is_empty() || name.len() > IFNAME_MAX {
        return Err(invalid("link", name, "a name has 1 to 15 bytes"));
    }
    if name.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ':' | '%' | '\0')) {
        return Err(invalid("link", name, "a name has no space, '/', ':' or '%'"));
    }
    Ok(())
}

/// Only `net/` differs from namespace to namespace; anything else would change the machine.
fn check_sysctl(path: &str) -> Result<(), NetError> {
    if !path.starts_with("net/") || path.split('/').any(|part| part == "..") {
        return Err(invalid("sysctl", path, "is not below net/"));
    }
    Ok(())
}

pub(super) fn invalid(what: &'static str, name: &str, why: &'static str) -> NetError {
    NetError::Invalid { what, name: name.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Topology {
        let [a, b] = ["x-a", "x-b"].map(|name| End::new(name, "eth0", [2, 0, 0, 0, 0, 1]));
        Topology {
            namespaces: vec![Namespace::new("x-a"), Namespace::new("x-b")],
            links: vec![Veth { a, b, queues: 1 }],
        }
    }

    fn complaint(change: impl FnOnce(&mut Topology)) -> String {
        let mut plan = pair();
        change(&mut plan);
        plan.check().expect_err("the plan is wrong").to_string()
    }

    #[test]
    fn a_right_plan_passes_and_survives_json() {
        let plan = pair();
        plan.check().expect("nothing is wrong");
        let text = serde_json::to_string(&plan).expect("plain data");
        assert_eq!(serde_json::from_str::<Topology>(&text).expect("own output"), plan);
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        assert_eq!(
            complaint(|plan| plan.namespaces[0].name = "../x".into()),
            "namespace \"../x\": is not the name of a file"
        );
        assert!(complaint(|plan| plan.links[0].a.ifname = "eth%d".into()).contains("'%'"));
        assert!(complaint(|plan| plan.links[0].b.ifname = "a".repeat(16)).contains("1 to 15"));
        assert!(complaint(|plan| plan.links[0].b.namespace = "x-c".into()).contains("x-c"));
        assert!(complaint(|plan| plan.namespaces[1].name = "x-a".into()).contains("twice"));
        assert!(complaint(|plan| plan.links[0].queues = 0).contains("queue"));
        let escape = Sysctl::new("net/../kernel/panic", "1");
        assert!(complaint(|plan| plan.namespaces[0].sysctls.push(escape)).contains("net/"));
    }
}
