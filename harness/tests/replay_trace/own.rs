//! What the nodes of a trace sent themselves.
//!
//! A node's own packet is first seen where it leaves, translated. What it was before is told by the
//! node's conntrack table, which stands in `NAME.state` beside the trace under the heading
//! `## NODE conntrack -L`.

use std::net::Ipv4Addr;
use std::path::Path;

use datapath::lab::Lab;
use datapath::wire::{Mac, Packet, Tuple, ZeroChecksum, ethernet};

/// A line of `conntrack -L`: the packet that began the flow, and its answer.
struct Line {
    original: (Ipv4Addr, Ipv4Addr, u16, u16),
    answer: (Ipv4Addr, Ipv4Addr, u16, u16),
}

/// The conntrack tables of a trace's nodes, by the nodes' names.
pub(super) struct Tables(Vec<(String, Line)>);

impl Tables {
    /// The tables beside the trace `file`; none where there is no such file.
    pub(super) fn beside(file: &Path) -> Self {
        let text = std::fs::read_to_string(file.with_extension("state")).unwrap_or_default();
        let mut node = None;
        let mut lines = Vec::new();
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                node = heading.strip_suffix(" conntrack -L").map(str::to_owned);
            } else if let Some(node) = &node {
                lines.extend(Line::read(line).map(|line| (node.clone(), line)));
            }
        }
        Self(lines)
    }

    /// The frame as node number `node` itself sent it, if `frame`, which left it, is one that its
    /// conntrack says was the node's own.
    pub(super) fn before_nat(&self, lab: &Lab, node: usize, frame: &[u8]) -> Option<Vec<u8>> {
        let mut frame = frame.to_vec();
        let mut packet = Packet::parse(frame.get(ethernet::HEADER_LEN..)?).ok()?;
        let own = lab.enis[lab.nodes[node].primary].ip;
        let Tuple { src, dst, src_port, dst_port, .. } = packet.tuple;
        let (_, line) = self.0.iter().find(|(name, line)| {
            *name == lab.nodes[node].name && line.answer == (dst, src, dst_port, src_port)
        })?;
        let (client, vip, _, port) = line.original;
        // The node's own sender address is chosen for a local route: the VIP itself (spec EXC-2).
        if src != own || client != vip {
            return None;
        }
        let ip = &mut frame[ethernet::HEADER_LEN..];
        let to = Tuple { dst: vip, dst_port: port, ..packet.tuple };
        packet.rewrite(ip, to, ZeroChecksum::Keep);
        // ipvs has taken one (spec IPVS-25).
        ip[8] += 1;
        ip[10..12].copy_from_slice(&[0, 0]);
        let sum = datapath::wire::checksum::of(&ip[..20]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let (to, from): (Mac, Mac) = (lab.nodes[node].host0_mac, lab.nodes[node].host_mac);
        ethernet::set_macs(&mut frame, to, from);
        Some(frame)
    }
}

impl Line {
    fn read(line: &str) -> Option<Self> {
        let values = |key: &str| {
            let words = line.split_whitespace().filter_map(move |word| word.split_once('='));
            let key = key.to_owned();
            words.filter(move |(k, _)| *k == key).map(|(_, value)| value.to_owned())
        };
        let side = |nth: usize| {
            let address = |key| values(key).nth(nth)?.parse().ok();
            let port = |key| values(key).nth(nth)?.parse().ok();
            Some((address("src")?, address("dst")?, port("sport")?, port("dport")?))
        };
        Some(Self { original: side(0)?, answer: side(1)? })
    }
}
