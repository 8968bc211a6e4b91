//! What Terway and kube-proxy do to a node, from the lab file to the lines of the tools they do
//! it with (spec ORA-3).

use std::fmt::{self, Display, Write};

use anyhow::Context;
use datapath::lab::Lab;
use datapath::node::ipvs::{
    Change, Destination, Persistence, ServiceKey, VirtualService, VirtualServices, changes,
};
use datapath::node::kube_proxy::Table;
use datapath::node::{NodeConfig, TRUNK_TABLE};
use datapath::wire::Protocol;

use super::settings::{sysctls, timeouts};
use crate::net::plan::Sysctl;

/// The lines that program one node, each text for one call of one tool. The links are there and
/// up before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Settings of the kernel.
    pub sysctls: Vec<Sysctl>,
    /// For `ip -batch`: addresses, routes, rules, neighbours, and kube-ipvs0 with every VIP.
    pub ip: String,
    /// For `tc -batch`: the trunk's filters.
    pub tc: String,
    /// For `ipset restore`: kube-proxy's sets.
    pub sets: String,
    /// For `iptables-legacy-restore`: kube-proxy's chains.
    pub rules: String,
    /// For `ipvsadm -R`: timeouts, virtual and real servers in order of addition (spec IPVS-9).
    pub servers: String,
}

impl Program {
    /// How node `node` of a lab is programmed.
    ///
    /// # Errors
    /// Where the lab has no such node.
    pub fn new(lab: &Lab, node: usize) -> anyhow::Result<Self> {
        let config = NodeConfig::new(lab, node, 1).context("the lab has no such node")?;
        Ok(Self {
            sysctls: sysctls(lab),
            ip: addresses_and_routes(lab, node, &config)?,
            tc: trunk_filters(lab, node),
            sets: config.kube_proxy.sets().to_string(),
            rules: [Table::Nat, Table::Filter].map(|t| config.kube_proxy.restore(t)).concat(),
            servers: timeouts(lab)
                + &calls(&changes(&VirtualServices::default(), &config.services)),
        })
    }

    /// The calls of tools, with what each reads, in order.
    pub(super) fn calls(&self) -> [(&'static [&'static str], &str); 5] {
        [
            (&["ip", "-batch", "-"], &self.ip),
            (&["tc", "-batch", "-"], &self.tc),
            (&["ipset", "restore"], &self.sets),
            (&["iptables-legacy-restore"], &self.rules),
            (&["ipvsadm", "-R"], &self.servers),
        ]
    }

    /// What makes a node of one lab one of the next, where only profile, switches and services
    /// differ. `services` are kube-proxy's calls to ipvs.
    ///
    /// # Errors
    /// Where one of the labs has no such node.
    pub fn change(
        before: &Lab,
        after: &Lab,
        node: usize,
        services: &[Change],
    ) -> anyhow::Result<Self> {
        let [old, new] = [Self::new(before, node)?, Self::new(after, node)?];
        let [set, to_set] = [timeouts(before), timeouts(after)];
        let tc = if old.tc == new.tc {
            String::new()
        } else {
            format!("qdisc del dev eth1 clsact\n{}", new.tc)
        };
        Ok(Self {
            sysctls: new.sysctls.into_iter().filter(|s| !old.sysctls.contains(s)).collect(),
            ip: differing(&old.ip, &new.ip),
            tc,
            sets: differing(&old.sets, &new.sets),
            rules: if old.rules == new.rules { String::new() } else { new.rules },
            servers: if set == to_set { String::new() } else { to_set } + &calls(services),
        })
    }
}

/// Shell commands that do the same on a node whose links are there and up.
impl Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Sysctl { path, value } in &self.sysctls {
            writeln!(f, "sysctl -w {path}={value}")?;
        }
        for (tool, text) in self.calls() {
            writeln!(f, "{} <<'END'\n{text}END", tool.join(" "))?;
        }
        Ok(())
    }
}

/// The lines that take back what is in `old` only, and those that are in `new` only.
fn differing(old: &str, new: &str) -> String {
    let mut text = String::new();
    for line in old.lines().filter(|line| !new.lines().any(|other| other == *line)) {
        // `-exist` belongs to additions; what is not there any more is as good as removed.
        let _ = writeln!(text, "{}", line.replacen("add ", "del ", 1));
    }
    for line in new.lines().filter(|line| !old.lines().any(|other| other == *line)) {
        let _ = writeln!(text, "{line}");
    }
    text
}

fn addresses_and_routes(lab: &Lab, node: usize, config: &NodeConfig) -> anyhow::Result<String> {
    let model = lab.nodes.get(node).context("the lab has no such node")?;
    let vswitch = |eni: usize| {
        let vswitch = lab.enis.get(eni).context("no such ENI")?.vswitch;
        lab.vpc.vswitches.get(vswitch).context("no such vSwitch")
    };
    let (subnet, trunk_subnet) = (vswitch(model.primary)?, vswitch(model.trunk)?);
    let ip = config.ip;
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{arguments}");
    };
    let length = subnet.cidr.prefix_len();
    line(format_args!("addr add {ip}/{length} brd {} dev eth0", subnet.cidr.broadcast()));
    line(format_args!("addr add {ip}/32 dev eth1"));
    line(format_args!("route add default via {} dev eth0", subnet.gateway()));
    let via = trunk_subnet.gateway();
    line(format_args!("route add default via {via} dev eth1 onlink table {TRUNK_TABLE}"));
    line(format_args!("link add kube-ipvs0 type dummy"));
    line(format_args!("link set kube-ipvs0 arp off"));
    for vip in config.services.vips() {
        line(format_args!("addr add {vip}/32 dev kube-ipvs0"));
    }
    for pod in lab.pods.iter().filter(|pod| pod.node == node) {
        let (ip, cali) = (pod.ip, &pod.cali);
        line(format_args!("route add {ip}/32 dev {cali} scope link"));
        line(format_args!("rule add to {ip} lookup main pref 512"));
        let iif = if lab.switches.from_rule_iif { format!("iif {cali} ") } else { String::new() };
        line(format_args!("rule add from {ip} {iif}lookup {TRUNK_TABLE} pref 2048"));
    }
    for (port, ip, mac) in &config.neighbours {
        let device = &config.interface(*port).context("no such interface")?.name;
        line(format_args!("neigh add {ip} dev {device} lladdr {mac} nud permanent"));
    }
    Ok(text)
}

/// The trunk's filters: any tag is popped, and a pod's VID is pushed by its source address.
fn trunk_filters(lab: &Lab, node: usize) -> String {
    let mut text = "qdisc add dev eth1 clsact\n\
        filter add dev eth1 ingress prio 20000 protocol 802.1Q u32 match u32 0 0 action vlan pop\n"
        .to_owned();
    for pod in lab.pods.iter().filter(|pod| pod.node == node && lab.switches.vlan_push) {
        let _ = writeln!(
            text,
            "filter add dev eth1 egress prio 50001 protocol ip u32 match ip src {}/32 \
             action vlan push id {} pipe",
            pod.ip,
            pod.vid.get()
        );
    }
    text
}

/// The calls to ipvs as `ipvsadm -R` reads them.
pub(super) fn calls(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        let _ = match change {
            Change::AddService(setup) => writeln!(text, "-A {}", service(setup)),
            Change::EditService(setup) => writeln!(text, "-E {}", service(setup)),
            Change::DeleteService(key) => writeln!(text, "-D {}", address(*key)),
            Change::AddDestination(key, real) => writeln!(text, "-a {}", server(*key, real)),
            Change::EditDestination(key, real) => writeln!(text, "-e {}", server(*key, real)),
            Change::DeleteDestination(key, (ip, port)) => {
                writeln!(text, "-d {} -r {ip}:{port}", address(*key))
            }
        };
    }
    text
}

fn address((proto, vip, port): ServiceKey) -> String {
    let flag = if proto == Protocol::UDP { "-u" } else { "-t" };
    format!("{flag} {vip}:{port}")
}

/// A virtual server with everything that can be set of it.
fn service(setup: &VirtualService) -> String {
    let scheduler = setup.scheduler.name();
    let mut text = format!("{} -s {scheduler}", address(setup.key()));
    if let Some(Persistence { timeout, mask }) = setup.persistence {
        let _ = write!(text, " -p {timeout} -M {mask}");
    }
    if setup.one_packet {
        text.push_str(" -o");
    }
    let flags = [("fallback", setup.flags.fallback), ("port", setup.flags.port)];
    let flags = flags.iter().filter(|(_, set)| *set);
    let flags: Vec<_> = flags.map(|(flag, _)| format!("{scheduler}-{flag}")).collect();
    if !flags.is_empty() {
        let _ = write!(text, " -b {}", flags.join(","));
    }
    text
}

/// A real server with everything that can be set of it.
fn server(key: ServiceKey, real: &Destination) -> String {
    let Destination { ip, port, weight, upper, lower } = real;
    let mut text = format!("{} -r {ip}:{port} -m -w {weight}", address(key));
    // What is not given is 0, in an edit too.
    if (*upper, *lower) != (0, 0) {
        let _ = write!(text, " -x {upper} -y {lower}");
    }
    text
}
