//! What the kernel counted on the links of a namespace.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use serde::{Deserialize, Serialize};

use super::connection::{self, Connection};
use super::error::NetError;
use super::namespace::{self, failed};

/// The counters of one link, the figures `ip -s link` shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStats {
    /// Packets that came in.
    pub rx_packets: u64,
    /// Packets that went out.
    pub tx_packets: u64,
    /// Bytes that came in, without the Ethernet checksum.
    pub rx_bytes: u64,
    /// Bytes that went out, without the Ethernet checksum.
    pub tx_bytes: u64,
    /// Packets dropped after they came in.
    pub rx_dropped: u64,
    /// Packets dropped instead of going out; of a veth, because the peer's ring was full.
    pub tx_dropped: u64,
    /// Bad packets that came in.
    pub rx_errors: u64,
    /// Packets that could not go out.
    pub tx_errors: u64,
}

/// The links of one namespace, by name.
pub type Links = BTreeMap<String, LinkStats>;

/// The counters of every link in `namespace`, `lo` included.
///
/// # Errors
/// When there is no such namespace or the kernel refuses.
pub fn read(namespace: &str) -> Result<Links, NetError> {
    Ok(read_all(&[namespace])?.remove(namespace).unwrap_or_default())
}

/// The counters of every link in each of `namespaces`, by namespace.
///
/// One thread visits them one after the other, so the figures are of about the same moment but
/// not of the same.
///
/// # Errors
/// When one of the namespaces does not exist or the kernel refuses.
pub fn read_all(
    namespaces: &[impl AsRef<str> + Sync],
) -> Result<BTreeMap<String, Links>, NetError> {
    namespace::on_own_thread(|| {
        let runtime = connection::runtime()?;
        let mut all = BTreeMap::new();
        for name in namespaces.iter().map(AsRef::as_ref) {
            namespace::enter(name)?;
            let connection =
                Connection::open(&runtime).map_err(|error| failed(name, "open netlink", error))?;
            let messages = connection.handle().link().get().execute();
            let messages: Vec<LinkMessage> = connection
                .wait(messages.boxed_local().try_collect())
                .map_err(|cause| failed(name, "read link counters", cause))?;
            all.insert(name.to_owned(), messages.iter().filter_map(counters).collect());
        }
        Ok(all)
    })
}

fn counters(message: &LinkMessage) -> Option<(String, LinkStats)> {
    let mut name = None;
    let mut counted = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(ifname) => name = Some(ifname.clone()),
            LinkAttribute::Stats64(stats) => {
                counted = Some(LinkStats {
                    rx_packets: stats.rx_packets,
                    tx_packets: stats.tx_packets,
                    rx_bytes: stats.rx_bytes,
                    tx_bytes: stats.tx_bytes,
                    rx_dropped: stats.rx_dropped,
                    tx_dropped: stats.tx_dropped,
                    rx_errors: stats.rx_errors,
                    tx_errors: stats.tx_errors,
                });
            }
            _ => {}
        }
    }
    name.zip(counted)
}
