//! The kernel as a router between the same veths: its addresses, routes, rules and translations
//! are put on the node's namespace by the tools, and taken off again.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use datapath::lab::Pod;
use datapath::node::TRUNK_TABLE;

use crate::bench::bed::{Bed, Device, PRIMARY, cali};
use crate::bench::clock::Clock;
use crate::bench::forwarder::{Kind, Peer, Row, Spread};
use crate::bench::frames::{Frames, Pair};
use crate::bench::machine::Cores;
use crate::kernel::tool;
use crate::net::plan::Sysctl;
use crate::net::{namespace, write_sysctl};

use super::napi::Placement;

/// Pods of a node with 200 rules, two each, those that are measured among them.
const PODS: u8 = 100;
const IP_BATCH: [&str; 3] = ["ip", "-batch", "-"];

/// A namespace that routes. All is as before once it is dropped, but that source validation stays
/// off, as Terway has it.
#[derive(Debug)]
pub struct Kernel {
    // Put back first: what it has set depends on the device's offloads.
    placement: Option<Placement>,
    namespace: String,
    /// What takes back what was done, in the order in which that was done.
    undo: Vec<(Vec<String>, String)>,
}

impl Kernel {
    /// Programs the node's namespace.
    ///
    /// # Errors
    /// Where a tool refuses; nothing is left then.
    pub fn start(row: Row, bed: &Bed, frames: &Frames, cores: Cores) -> anyhow::Result<Self> {
        let (pod, eth0) = (bed.near(cali(0))?, bed.near(PRIMARY)?);
        let namespace = pod.namespace.clone();
        let mut kernel = Self { placement: None, namespace, undo: Vec::new() };
        let pods = (0..bed.clients).map(|pod| bed.near(cali(pod)));
        let pods = pods.collect::<anyhow::Result<Vec<_>>>()?;
        kernel.forwards(&pods.iter().chain([&eth0]).collect::<Vec<_>>())?;
        let mut lines = routes(bed, frames, &pods, &eth0)?;
        match row.kind {
            Kind::Rules | Kind::Nat | Kind::Ipvs => lines += &rules(bed, &pods, &eth0, 0),
            Kind::Rules200 => lines += &rules(bed, &pods, &eth0, PODS),
            _ => {}
        }
        if row.kind == Kind::Ipvs {
            let _ = writeln!(lines, "addr add {}/32 dev lo", frames.pair()?.front.0);
        }
        kernel.run(&IP_BATCH, &lines, &IP_BATCH, &taken_back(&lines))?;
        match row.kind {
            Kind::Nat => kernel.run(
                &["nft", "-f", "-"],
                &translations(frames.pair()?),
                &["nft", "-f", "-"],
                "delete table ip trunkline\n",
            )?,
            Kind::Ipvs => {
                kernel.run(&["ipvsadm", "-R"], &servers(frames.pair()?), &["ipvsadm", "-C"], "")?;
            }
            _ => {}
        }
        if row.spread == Spread::Threaded {
            // A veth without XDP program has a NAPI while it merges what it receives.
            let merge = |state| ["ethtool", "-K", pod.ifname.as_str(), "gro", state];
            kernel.run(&merge("on"), "", &merge("off"), "")?;
        }
        kernel.placement = Some(Placement::new(pod, row.spread, cores.forwarder)?);
        Ok(kernel)
    }

    fn forwards(&self, devices: &[&Device]) -> anyhow::Result<()> {
        let off = |ifname: &str| Sysctl::new(format!("net/ipv4/conf/{ifname}/rp_filter"), "0");
        let mut settings = vec![off("all"), Sysctl::new("net/ipv4/ip_forward", "1")];
        settings.extend(devices.iter().map(|device| off(&device.ifname)));
        self.set(&settings)
    }

    fn set(&self, settings: &[Sysctl]) -> anyhow::Result<()> {
        let write = || settings.iter().try_for_each(|one| write_sysctl(&self.namespace, one));
        Ok(namespace::run_in(&self.namespace, write)??)
    }

    /// Has a tool do something, and remembers what takes it back.
    fn run(
        &mut self,
        tool: &[&str],
        text: &str,
        undo: &[&str],
        undo_text: &str,
    ) -> anyhow::Result<()> {
        // A batch may have been carried out in part.
        self.undo.push((undo.iter().map(ToString::to_string).collect(), undo_text.to_owned()));
        tool::run(&self.namespace, tool, text)?;
        Ok(())
    }
}

impl Peer for Kernel {
    fn clock(&self) -> Option<Clock> {
        self.placement.as_ref().and_then(Placement::clock)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.placement = None;
        for (tool, text) in self.undo.drain(..).rev() {
            let tool: Vec<_> = tool.iter().map(String::as_str).collect();
            if let Err(error) = tool::run(&self.namespace, &tool, &text) {
                tracing::warn!(%error, "something stays of the kernel's program");
            }
        }
        if let Err(error) = self.set(&[Sysctl::new("net/ipv4/ip_forward", "0")]) {
            tracing::warn!(%error, "the namespace goes on forwarding");
        }
    }
}

/// The lines for `ip -batch` that take back some others; the last first.
fn taken_back(lines: &str) -> String {
    lines.lines().rev().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{}", line.replacen(" add ", " del ", 1));
        text
    })
}

/// Addresses, routes and neighbours of a router between the pods and its gateway.
fn routes(bed: &Bed, frames: &Frames, pods: &[Device], eth0: &Device) -> anyhow::Result<String> {
    let (gateway, node_ip) = (bed.gateway(), frames.node_ip());
    let eth0 = &eth0.ifname;
    let mut text = String::new();
    writeln!(text, "addr add {node_ip}/32 dev {eth0}")?;
    writeln!(text, "route add default via {} dev {eth0} onlink", gateway.ip)?;
    writeln!(text, "neigh add {} dev {eth0} lladdr {} nud permanent", gateway.ip, gateway.mac)?;
    for (Pod { ip, mac, .. }, Device { ifname, .. }) in bed.lab.pods.iter().zip(pods) {
        writeln!(text, "route add {ip}/32 dev {ifname} scope link")?;
        writeln!(text, "neigh add {ip} dev {ifname} lladdr {mac} nud permanent")?;
    }
    Ok(text)
}

/// The rules of the lab's node as Terway writes them, two a pod, behind those of others where it is
/// to have at least so many pods. What they lead to leaves by eth0 here, so that every row has the
/// same wires.
fn rules(bed: &Bed, pods: &[Device], eth0: &Device, at_least: u8) -> String {
    let mut text = String::new();
    let mut rules = |ip: Ipv4Addr, iif: &str| {
        let _ = writeln!(text, "rule add to {ip} lookup main pref 512");
        let _ = writeln!(text, "rule add from {ip} iif {iif} lookup {TRUNK_TABLE} pref 2048");
    };
    for other in (1..=at_least).skip(pods.len()) {
        // Of the range for benchmarks, on veths that are not there.
        rules(Ipv4Addr::new(198, 18, 0, other), &format!("cali{other}"));
    }
    for (pod, device) in bed.lab.pods.iter().zip(pods) {
        rules(pod.ip, &device.ifname);
    }
    let via = bed.gateway().ip;
    let _ = writeln!(
        text,
        "route add default via {via} dev {} onlink table {TRUNK_TABLE}",
        eth0.ifname
    );
    text
}

/// The ruleset for `nft -f`: services by a map of verdicts, endpoints by numgen, and a masquerade
/// of what is marked, as kube-proxy's nftables mode writes them.
fn translations(Pair { front: (vip, port), backend: (backend, target), .. }: Pair) -> String {
    format!(
        "table ip trunkline {{
  chain endpoint-{port} {{
    meta mark set mark or 0x4000
    meta l4proto udp dnat to {backend}:{target}
  }}
  chain service-{port} {{
    numgen random mod 1 vmap {{ 0 : goto endpoint-{port} }}
  }}
  map services {{
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = {{ {vip} . udp . {port} : goto service-{port} }}
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat
    ip daddr . meta l4proto . th dport vmap @services
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    meta mark & 0x4000 == 0 return
    meta mark set mark xor 0x4000
    masquerade
  }}
}}
"
    )
}

/// What kube-proxy has ipvs know, as `ipvsadm -R` reads it.
fn servers(Pair { front: (vip, port), backend: (backend, target), .. }: Pair) -> String {
    format!("-A -u {vip}:{port} -s rr\n-a -u {vip}:{port} -r {backend}:{target} -m\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_last_is_taken_back_first() {
        let lines = "addr add 10.0.0.1/32 dev eth0\nrule add from 10.0.0.2 lookup 1 pref 5\n";
        let undo = "rule del from 10.0.0.2 lookup 1 pref 5\naddr del 10.0.0.1/32 dev eth0\n";
        assert_eq!(taken_back(lines), undo);
    }

    #[test]
    fn the_service_is_translated_to_its_endpoint() {
        let pair = Pair::of_tests();
        let text = translations(pair);
        assert!(text.contains("192.168.31.1 . udp . 53 : goto service-53"), "{text}");
        assert!(text.contains("dnat to 10.0.32.1:5353\n"), "{text}");
        let servers = servers(pair);
        assert_eq!(
            servers,
            "-A -u 192.168.31.1:53 -s rr\n-a -u 192.168.31.1:53 -r 10.0.32.1:5353 -m\n"
        );
    }
}
