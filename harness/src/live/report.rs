//! The books of ports and wires: what the sockets, the kernel and both ends of every veth have
//! counted (spec LAW-3).

use std::collections::BTreeMap;

use anyhow::Context;
use datapath::counters::LedgerReport;
use datapath::lab::Lab;
use datapath::link::{Peer, Socket, peer_of};
use datapath::node::CacheCounters;
use datapath_io::{KernelCounters, LiveLink, QueueCounters};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::protocol::{FnatReport, Ledger};
use super::topology::{Places, STACK_IFNAME, host_namespace};
use crate::net::namespace;
use crate::net::stats::{self, LinkStats};

/// One port.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortReport {
    /// The element's name.
    pub element: String,
    /// The device.
    pub port: String,
    /// The device's namespace.
    pub namespace: String,
    /// Every queue.
    pub queues: Vec<QueueReport>,
    /// The device's own counters, as `ip -s link` shows them.
    pub link: LinkReport,
    /// The counters of the wire's other end where that is a host's stack.
    pub far: Option<LinkReport>,
}

/// One queue of a port, in frames.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueReport {
    /// Received by the datapath.
    pub rx: u64,
    /// Lost: a packet of several frames, and no memory to put them together in.
    pub rx_no_memory: u64,
    /// Handed to the kernel to send.
    pub tx: u64,
    /// Refused: too many on their way out.
    pub tx_full: u64,
    /// Refused: cannot be described, too long or too short.
    pub tx_invalid: u64,
    /// Refused: the device is gone.
    pub tx_gone: u64,
    /// Refused: no frame was free to copy it to, out of another memory or in pieces.
    pub tx_no_frame: u64,
    /// Sent after being copied from another memory; no loss.
    pub copied: u64,
    /// Descriptors to receive into that the kernel refused.
    pub rx_invalid: u64,
    /// Lost in the kernel: too long, or no buffer.
    pub rx_dropped: u64,
    /// Lost in the kernel: the datapath did not take them in time.
    pub rx_ring_full: u64,
    /// Times the kernel found no buffer; shown, never added up.
    pub rx_fill_ring_empty: u64,
    /// Everything the receiving veth dropped on this queue, the two losses above included.
    pub veth_drops: u64,
    /// Dropped by the XDP program: no socket.
    pub xdp_drops: u64,
}

impl QueueReport {
    /// Every loss that occurred, by name; a dash where none did.
    #[must_use]
    pub fn losses(&self) -> String {
        let all = [
            ("rx-no-memory", self.rx_no_memory),
            ("tx-full", self.tx_full),
            ("tx-invalid", self.tx_invalid),
            ("tx-gone", self.tx_gone),
            ("tx-no-frame", self.tx_no_frame),
            ("rx-dropped", self.rx_dropped),
            ("rx-ring-full", self.rx_ring_full),
            ("rx-invalid", self.rx_invalid),
            ("veth-drops", self.veth_drops),
            ("xdp-drops", self.xdp_drops),
        ];
        let lost: Vec<_> = all
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if lost.is_empty() { "-".into() } else { lost.join(", ") }
    }
}

/// A device's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkReport {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets dropped on receipt.
    pub rx_dropped: u64,
    /// Packets dropped on sending.
    pub tx_dropped: u64,
}

impl From<&LinkStats> for LinkReport {
    fn from(stats: &LinkStats) -> Self {
        Self {
            rx_packets: stats.rx_packets,
            tx_packets: stats.tx_packets,
            rx_dropped: stats.rx_dropped,
            tx_dropped: stats.tx_dropped,
        }
    }
}

/// What the forwarding thread alone can tell.
#[derive(Debug)]
pub struct Counted {
    elements: BTreeMap<String, LedgerReport>,
    flow_caches: BTreeMap<String, CacheCounters>,
    fnat: BTreeMap<String, FnatReport>,
    queues: Vec<(Socket, Vec<(QueueCounters, KernelCounters)>)>,
}

/// Reads what the forwarding thread has counted; runs on that thread.
#[must_use]
pub fn count(link: &LiveLink) -> Counted {
    let nodes = link.lab().nodes.iter().zip(link.nodes());
    let caches = nodes.map(|(named, node)| (named.name.clone(), node.cache_counters()));
    let nodes = link.lab().nodes.iter().zip(link.nodes());
    let fnat = nodes.filter(|(named, _)| !named.local_addresses.is_empty()).map(|(named, node)| {
        let local_addresses = node.ipvs().local_addresses().ports().collect();
        (named.name.clone(), FnatReport { local_addresses, toa: node.toa_counters() })
    });
    let mut counted = Counted {
        elements: BTreeMap::new(),
        flow_caches: caches.collect(),
        fnat: fnat.collect(),
        queues: Vec::new(),
    };
    for (id, element, ports) in link.elements() {
        let report = LedgerReport::new(element.ledger(), element.held());
        counted.elements.insert(id.name(link.lab()).to_owned(), report);
        for (number, port) in (0..).zip(ports) {
            let socket = Socket { element: id, port: datapath::journey::PortId(number) };
            let kernel = port.kernel_counters().unwrap_or_else(|error| {
                tracing::error!(port = port.name(), %error, "the kernel tells no statistics");
                Vec::new()
            });
            // Our own counters stand even where the kernel's cannot be had.
            let kernel = kernel.into_iter().chain(std::iter::repeat(KernelCounters::default()));
            let queues = port.counters().zip(kernel).collect();
            counted.queues.push((socket, queues));
        }
    }
    counted
}

/// Joins what the forwarding thread has counted with the counters of every veth.
///
/// # Errors
/// Where a namespace cannot be read.
pub fn ledger(
    lab: &Lab,
    places: &Places,
    counted: Counted,
    imbalances: Vec<String>,
) -> anyhow::Result<Ledger> {
    let Counted { elements, flow_caches, fnat, queues } = counted;
    let names: Vec<_> = places.topology.namespaces.iter().map(|n| n.name.clone()).collect();
    let links = stats::read_all(&names)?;
    let link = |namespace: &str, ifname: &str| {
        links.get(namespace).and_then(|l| l.get(ifname)).map(LinkReport::from)
    };
    let mut ports = Vec::new();
    for (socket, queues) in queues {
        let site = places.sites.iter().find(|site| site.socket == socket);
        let site = site.context("a port without a place")?;
        let veth = veth_counters(&site.namespace, &site.ifname)?;
        let far = match peer_of(lab, socket) {
            Some(Peer::Host(host)) => host_namespace(&places.name, lab, host)
                .and_then(|namespace| link(&namespace, STACK_IFNAME)),
            _ => None,
        };
        ports.push(PortReport {
            element: socket.element.name(lab).to_owned(),
            port: site.ifname.clone(),
            namespace: site.namespace.clone(),
            queues: (0..).zip(&queues).map(|(q, both)| queue_report(q, both, &veth)).collect(),
            link: link(&site.namespace, &site.ifname).unwrap_or_default(),
            far,
        });
    }
    Ok(Ledger { elements, flow_caches, fnat, ports, imbalances })
}

fn veth_counters(namespace: &str, ifname: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let read = namespace::run_in(namespace, || datapath_io::link::stats(ifname))?;
    Ok(read?.into_iter().collect())
}

fn queue_report(
    queue: u16,
    (own, kernel): &(QueueCounters, KernelCounters),
    veth: &BTreeMap<String, u64>,
) -> QueueReport {
    let veth = |what: &str| veth.get(&format!("rx_queue_{queue}_{what}")).copied().unwrap_or(0);
    QueueReport {
        rx: own.rx,
        rx_no_memory: own.rx_no_memory,
        tx: own.tx,
        tx_full: own.tx_full,
        tx_invalid: own.tx_invalid + kernel.tx_invalid,
        tx_gone: own.tx_gone,
        tx_no_frame: own.tx_no_frame,
        copied: own.copied,
        rx_invalid: kernel.rx_invalid,
        rx_dropped: kernel.rx_dropped,
        rx_ring_full: kernel.rx_ring_full,
        rx_fill_ring_empty: kernel.fill_empty,
        veth_drops: veth("drops"),
        xdp_drops: veth("xdp_drops"),
    }
}
