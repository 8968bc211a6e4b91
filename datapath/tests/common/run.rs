//! The whole lab in memory, and what every wire carried, as text.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use datapath::lab::Lab;
use datapath::link::{Direction, HostId, MemoryLink};
use datapath::port::Buffer;
use datapath::time::Time;
use datapath::wire::{Mac, ethernet};

use super::{View, frame};

/// A lab with a record of its wires.
pub(crate) struct Run {
    pub(crate) link: MemoryLink,
    frames: Rc<RefCell<Vec<Vec<u8>>>>,
    names: BTreeMap<Mac, String>,
}

impl Run {
    pub(crate) fn new(lab: Lab) -> Self {
        let names = names(&lab);
        let frames = Rc::new(RefCell::new(Vec::new()));
        let mut link = MemoryLink::new(lab);
        let record = Rc::clone(&frames);
        link.watch(move |_, _, direction, frame| {
            let arp = ethernet::Header::parse(frame).is_some_and(|h| h.ethertype == ethernet::ARP);
            if direction == Direction::Out && !arp {
                record.borrow_mut().push(frame.to_vec());
            }
        });
        Self { link, frames, names }
    }

    /// A host sends a packet to its gateway: its cali veth, host0 or the VPC.
    pub(crate) fn send(&mut self, host: HostId, packet: &[u8]) {
        let lab = self.link.lab();
        let (dst, src) = match host {
            HostId::Pod(pod) => (lab.pods[pod].cali_mac, lab.pods[pod].mac),
            HostId::NodeHost(node) => (lab.nodes[node].host0_mac, lab.nodes[node].host_mac),
            HostId::Outside(host) => (lab.vpc.gateway_mac, lab.outside[host].mac),
        };
        assert!(self.link.send(host, &frame(dst, src, None, ethernet::IPV4, packet)));
        self.link.settle();
        assert!(self.link.balances(), "a ledger does not balance");
    }

    /// What every wire has carried since the last call, but ARP: `from > to [vid] packet`, each by
    /// the owner of its MAC.
    pub(crate) fn trace(&mut self) -> Vec<String> {
        let frames = self.frames.take();
        let line = |frame: &Vec<u8>| {
            let view = View::of(frame);
            let name = |mac: Mac| self.names.get(&mac).cloned().unwrap_or_else(|| mac.to_string());
            let tag = view.vid.map_or(String::new(), |vid| format!(" [{vid}]"));
            format!("{} > {}{tag} {view}", name(view.src_mac), name(view.dst_mac))
        };
        frames.iter().map(line).collect()
    }

    /// The packet that reached a host, and which; exactly one since the last call.
    pub(crate) fn delivered(&mut self) -> (HostId, View) {
        let delivery = self.link.take_delivery().expect("a delivery");
        assert!(self.link.take_delivery().is_none(), "more than one delivery");
        (delivery.host, View::of(delivery.frame.bytes()))
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, secs: u64) {
        let until = Time::from_nanos(self.link.now().as_nanos() + secs * 1_000_000_000);
        self.link.advance(until);
        assert!(self.link.balances(), "a ledger does not balance");
    }
}

/// Whose MAC each is.
fn names(lab: &Lab) -> BTreeMap<Mac, String> {
    let mut names = BTreeMap::from([(lab.vpc.gateway_mac, "gw".to_owned())]);
    for node in &lab.nodes {
        names.insert(lab.enis[node.primary].mac, format!("{}.eth0", node.name));
        names.insert(lab.enis[node.trunk].mac, format!("{}.eth1", node.name));
        names.insert(node.host0_mac, format!("{}.host0", node.name));
        names.insert(node.host_mac, format!("{}.host", node.name));
    }
    for pod in &lab.pods {
        names.insert(pod.mac, pod.name.trim_start_matches("t/").to_owned());
        names.insert(pod.cali_mac, pod.cali.clone());
    }
    names.extend(lab.outside.iter().map(|host| (host.mac, host.name.clone())));
    names
}
