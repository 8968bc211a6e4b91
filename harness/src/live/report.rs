//! The books of ports and wires: what the sockets, the kernel and both ends of every veth have
//! counted (spec LAW-3).

use std::collections::BTreeMap;

use anyhow::Context;
use datapath::counters::LedgerReport;
use datapath::lab::Lab;
use datapath::link::{ElementId, Peer, Socket, peer_of};
use datapath::node::CacheCounters;
use datapath_io::{FusedQueue, KernelCounters, LiveLink, PortView, QueueCounters, XskPort};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::protocol::{FnatReport, Ledger};
use super::topology::{Places, STACK_IFNAME, host_namespace, port_name};
use crate::net::namespace;
use crate::net::stats::{self, LinkStats, Links};

/// One port.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortReport {
    /// The element's name.
    pub element: String,
    /// The device.
    pub port: String,
    /// The device's namespace; `null` where the link is fused and has no device.
    pub namespace: Option<String>,
    /// Every queue.
    pub queues: Vec<QueueReport>,
    /// The device's own counters, as `ip -s link` shows them; of a fused link, what was handed over.
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
    /// Refused: too many waited at the other end of a fused link.
    pub handover_full: u64,
    /// Refused: cannot be described, too long or too short.
    pub tx_invalid: u64,
    /// Refused: the device is gone.
    pub tx_gone: u64,
    /// Refused: no frame was free to copy it to, out of another memory or in pieces.
    pub tx_no_frame: u64,
    /// Lost at a fused link: no frame was free to copy one of another memory to.
    pub handover_no_frame: u64,
    /// Sent, or received by a fused link, after being copied from another memory; no loss.
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
            ("handover-full", self.handover_full),
            ("tx-invalid", self.tx_invalid),
            ("tx-gone", self.tx_gone),
            ("tx-no-frame", self.tx_no_frame),
            ("handover-no-frame", self.handover_no_frame),
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

/// What a port has counted itself.
#[derive(Debug)]
enum PortCounts {
    Device(Vec<(QueueCounters, KernelCounters)>),
    Fused(Vec<FusedQueue>),
}

/// What the forwarder alone can tell.
#[derive(Debug)]
pub struct Counted {
    elements: BTreeMap<String, LedgerReport>,
    flow_caches: BTreeMap<String, CacheCounters>,
    fnat: BTreeMap<String, FnatReport>,
    ports: Vec<(Socket, PortCounts)>,
    imbalances: Vec<String>,
}

/// Reads what the forwarder has counted, and checks its books at this moment.
#[must_use]
pub fn count(link: &LiveLink) -> Counted {
    let mut counted = Counted {
        elements: BTreeMap::new(),
        flow_caches: BTreeMap::new(),
        fnat: BTreeMap::new(),
        ports: Vec::new(),
        imbalances: link.imbalances(),
    };
    for (number, node) in link.nodes() {
        let Some(named) = link.lab().nodes.get(number) else { continue };
        counted.flow_caches.insert(named.name.clone(), node.cache_counters());
        if !named.local_addresses.is_empty() {
            let local_addresses = node.ipvs().local_addresses().ports().collect();
            let fnat = FnatReport { local_addresses, toa: node.toa_counters() };
            counted.fnat.insert(named.name.clone(), fnat);
        }
    }
    if let Some(vpc) = link.vpc() {
        let name = ElementId::Vpc.name(link.lab()).to_owned();
        counted.flow_caches.insert(name, vpc.cache_counters());
    }
    for (id, element) in link.elements() {
        let report = LedgerReport::new(element.ledger(), element.held());
        counted.elements.insert(id.name(link.lab()).to_owned(), report);
        for (socket, port) in link.ports(id) {
            let counts = match port {
                PortView::Fused(queues) => PortCounts::Fused(queues),
                PortView::Device(port) => PortCounts::Device(device_counts(port)),
            };
            counted.ports.push((socket, counts));
        }
    }
    counted
}

fn device_counts(port: &XskPort<'_>) -> Vec<(QueueCounters, KernelCounters)> {
    let kernel = port.kernel_counters().unwrap_or_else(|error| {
        tracing::error!(port = port.name(), %error, "the kernel tells no statistics");
        Vec::new()
    });
    // Our own counters stand even where the kernel's cannot be had.
    let kernel = kernel.into_iter().chain(std::iter::repeat(KernelCounters::default()));
    port.counters().zip(kernel).collect()
}

/// Joins what the forwarder has counted with the counters of every veth. `earlier` are imbalances
/// found before.
///
/// # Errors
/// Where a namespace cannot be read.
pub fn ledger(
    lab: &Lab,
    places: &Places,
    counted: Counted,
    earlier: Vec<String>,
) -> anyhow::Result<Ledger> {
    let Counted { elements, flow_caches, fnat, ports: counts, imbalances: now } = counted;
    let names: Vec<_> = places.topology.namespaces.iter().map(|n| n.name.clone()).collect();
    let links = stats::read_all(&names)?;
    let mut ports = Vec::new();
    for (socket, counts) in counts {
        ports.push(match counts {
            PortCounts::Device(queues) => device_report(lab, places, &links, socket, &queues)?,
            PortCounts::Fused(queues) => fused_report(lab, socket, &queues),
        });
    }
    let imbalances = if earlier.is_empty() { now } else { earlier };
    Ok(Ledger { elements, flow_caches, fnat, ports, imbalances })
}

fn device_report(
    lab: &Lab,
    places: &Places,
    links: &BTreeMap<String, Links>,
    socket: Socket,
    queues: &[(QueueCounters, KernelCounters)],
) -> anyhow::Result<PortReport> {
    let link = |namespace: &str, ifname: &str| {
        links.get(namespace).and_then(|l| l.get(ifname)).map(LinkReport::from)
    };
    let site = places.sites.iter().find(|site| site.socket == socket);
    let site = site.context("a port without a place")?;
    let veth = veth_counters(&site.namespace, &site.ifname)?;
    let far = match peer_of(lab, socket) {
        Some(Peer::Host(host)) => host_namespace(&places.name, lab, host)
            .and_then(|namespace| link(&namespace, STACK_IFNAME)),
        _ => None,
    };
    Ok(PortReport {
        element: socket.element.name(lab).to_owned(),
        port: site.ifname.clone(),
        namespace: Some(site.namespace.clone()),
        queues: (0..).zip(queues).map(|(q, both)| queue_report(q, both, &veth)).collect(),
        link: link(&site.namespace, &site.ifname).unwrap_or_default(),
        far,
    })
}

/// The end of a fused link counts as a device would: what could not be handed over it has dropped
/// on sending.
fn fused_report(lab: &Lab, socket: Socket, queues: &[FusedQueue]) -> PortReport {
    let sum = |of: fn(&FusedQueue) -> u64| queues.iter().map(of).sum();
    PortReport {
        element: socket.element.name(lab).to_owned(),
        port: port_name(lab, socket),
        namespace: None,
        queues: queues
            .iter()
            .map(|queue| QueueReport {
                rx: queue.counters.rx,
                tx: queue.counters.tx,
                handover_full: queue.counters.full,
                handover_no_frame: queue.no_frame,
                copied: queue.copied,
                ..QueueReport::default()
            })
            .collect(),
        link: LinkReport {
            rx_packets: sum(|queue| queue.counters.rx),
            tx_packets: sum(|queue| queue.counters.tx),
            rx_dropped: sum(|queue| queue.no_frame),
            tx_dropped: sum(|queue| queue.counters.full),
        },
        far: None,
    }
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
        handover_full: 0,
        tx_invalid: own.tx_invalid + kernel.tx_invalid,
        tx_gone: own.tx_gone,
        tx_no_frame: own.tx_no_frame,
        handover_no_frame: 0,
        copied: own.copied,
        rx_invalid: kernel.rx_invalid,
        rx_dropped: kernel.rx_dropped,
        rx_ring_full: kernel.rx_ring_full,
        rx_fill_ring_empty: kernel.fill_empty,
        veth_drops: veth("drops"),
        xdp_drops: veth("xdp_drops"),
    }
}
